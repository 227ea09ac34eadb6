/* What the replica acts through in kontikid, and what the transport and the log writer tell. On the loop unless it says
 * so. */
#include "cluster/node/runtime_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

bool runtime_send(void *data, kt_node_id to, struct kt_buf *frame)
{
    struct kt_cluster *cluster = data;
    if (cluster->transport == NULL || cluster->phase > RESIGNING) {
        kt_buf_release(frame);
        return false;
    }
    return kt_transport_send(cluster->transport, to, frame);
}

static void write_done(struct kt_log_write *write)
{
    struct kt_cluster *cluster = write->owner;
    cluster->writes--;
    kt_replica_persisted(cluster->replica, write);
}

static void host_persist(void *data, struct kt_log_write *write)
{
    struct kt_cluster *cluster = data;
    write->owner = cluster;
    write->done = write_done;
    cluster->writes++;
    kt_log_writer_submit(cluster->writer, write);
}

struct fetch_work {
    uv_work_t work;
    struct kt_log_read *read;
};

static void fetch_run(uv_work_t *work)
{
    struct fetch_work *fetch = KT_CONTAINER(work, struct fetch_work, work);
    struct kt_cluster *cluster = cluster_of_loop(work->loop);
    struct kt_log_read *read = fetch->read;
    read->code = kt_wal_read(cluster->boot->wal, read->first, read->last, read->bytes, read->entries,
                             KT_LOG_READ_ENTRIES_MAX, &read->count);
}

static void fetch_done(uv_work_t *work, int status)
{
    struct fetch_work *fetch = KT_CONTAINER(work, struct fetch_work, work);
    struct kt_cluster *cluster = cluster_of_loop(work->loop);
    (void)status;
    cluster->fetches--;
    kt_replica_fetched(cluster->replica, fetch->read);
    kt_free(fetch);
}

static void host_fetch(void *data, struct kt_log_read *read)
{
    struct kt_cluster *cluster = data;
    struct fetch_work *fetch = kt_zalloc(sizeof *fetch);
    fetch->read = read;
    cluster->fetches++;
    KT_CHECK(uv_queue_work(&cluster->loop, &fetch->work, fetch_run, fetch_done) == 0);
}

static void host_apply(void *data, struct kt_apply_batch *batch)
{
    struct kt_cluster *cluster = data;
    cluster->batches++;
    kt_applier_submit(cluster->applier, batch);
}

void runtime_batch_applied(void *data, struct kt_apply_batch *batch)
{
    struct kt_cluster *cluster = data;
    cluster->batches--;
    kt_replica_applied(cluster->replica, batch);
}

void runtime_state_visible(void *data, kt_index index)
{
    struct kt_cluster *cluster = data;
    void (*told)(void *data, kt_index visible);
    void *told_data;

    if (cluster->replica != NULL)
        kt_replica_visible(cluster->replica, index);
    pthread_mutex_lock(&cluster->follow_lock);
    told = cluster->told;
    told_data = cluster->told_data;
    pthread_mutex_unlock(&cluster->follow_lock);
    if (told != NULL)
        told(told_data, index);
}

static void host_want(void *data, kt_index index)
{
    struct kt_cluster *cluster = data;
    kt_applier_want(cluster->applier, index);
}

static kt_time_ms host_wall(void *data)
{
    (void)data;
    return kt_clock_wall_ms();
}

static void host_fatal(void *data, enum kt_code code, const char *text)
{
    (void)data;
    kt_fatal("replica", "%s (%s)", text, kt_code_text(code));
}

static void host_changed(void *data)
{
    struct kt_cluster *cluster = data;
    cluster->status_changed = true;
}

/* ---- What other modules tell, on the loop ---- */

void runtime_peer_received(void *data, kt_node_id from, struct kt_slice frame)
{
    struct kt_cluster *cluster = data;
    if (cluster->phase == FOUNDING)
        kt_founding_received(cluster->founding, from, frame);
    if (cluster->phase == FOUNDING || cluster->phase > RESIGNING)
        return;
    runtime_advance_clock(cluster);
    kt_replica_received(cluster->replica, from, frame);
}

void runtime_peer_connected(void *data, kt_node_id peer)
{
    struct kt_cluster *cluster = data;
    kt_info("replica", "connected to node %llu", (unsigned long long)peer);
    if (cluster->phase == FOUNDING)
        kt_founding_connected(cluster->founding, peer);
    if (cluster->phase == FOUNDING || cluster->phase > RESIGNING)
        return;
    runtime_advance_clock(cluster);
    kt_replica_connected(cluster->replica, peer);
}

void runtime_peer_disconnected(void *data, kt_node_id peer)
{
    struct kt_cluster *cluster = data;
    kt_info("replica", "lost node %llu", (unsigned long long)peer);
    if (cluster->phase == FOUNDING)
        kt_founding_disconnected(cluster->founding, peer);
    if (cluster->phase == FOUNDING || cluster->phase > RESIGNING)
        return;
    runtime_advance_clock(cluster);
    kt_replica_disconnected(cluster->replica, peer);
}

/* On the log writer's thread. */
void runtime_writer_failed(void *data, enum kt_code code, const char *text)
{
    (void)data;
    kt_fatal("log", "%s (%s)", text, kt_code_text(code));
}

void runtime_writer_full(void *data, bool full)
{
    struct kt_cluster *cluster = data;
    if (full)
        kt_fail("log", "the disk is full: writes wait until there is room");
    else
        kt_info("log", "the disk has room again");
    atomic_store(&cluster->log_full, full);
}

/* On the applier's thread. */
void runtime_applier_full(void *data, bool full)
{
    struct kt_cluster *cluster = data;
    if (full)
        kt_fail("store", "the state cannot grow: what is committed waits until there is room");
    else
        kt_info("store", "the state has room again");
    atomic_store(&cluster->state_full, full);
}

/* ---- Another node's state ---- */

static void transferred(void *data, enum kt_code code, uint64_t bytes)
{
    struct kt_cluster *cluster = data;
    struct kt_error error = {0};

    cluster->transferring = false;
    cluster->fetches--;
    if (code != KT_OK) {
        kt_warn("replica", "fetching the state failed after %llu bytes: %s", (unsigned long long)bytes,
                kt_code_text(code));
        return;
    }
    kt_info("replica", "the state is here bytes=%llu: this node starts again from it", (unsigned long long)bytes);
    if (kt_boot_adopt(cluster->boot, &error) != KT_OK)
        kt_fatal("replica", "%s", error.text);
    cluster->options.ended(cluster->options.data, KT_ENDED_ADOPTS);
}

static void host_fetch_state(void *data, kt_node_id from, kt_index index)
{
    struct kt_cluster *cluster = data;
    char path[4096];

    if (cluster->transferring || cluster->phase != RUNNING)
        return;
    snprintf(path, sizeof path, "%s/incoming.part", cluster->boot->folder);
    remove(path);
    if (!kt_transfer_fetch(cluster->transport, from, path, transferred, cluster))
        return;
    cluster->transferring = true;
    cluster->fetches++;
    kt_info("replica", "fetches the state of node %llu, to entry %llu at least", (unsigned long long)from,
            (unsigned long long)index);
}

static void host_end(void *data, enum kt_end why, const char *text)
{
    struct kt_cluster *cluster = data;
    struct kt_error error = {0};

    kt_fail("replica", "%s", text);
    if (why == KT_END_DIVERGED && kt_boot_condemn(cluster->boot, &error) != KT_OK)
        kt_fatal("replica", "%s", error.text);
    cluster->options.ended(cluster->options.data, why == KT_END_DIVERGED ? KT_ENDED_DIVERGED : KT_ENDED_REPLACED);
}

void runtime_host(struct kt_cluster *cluster, struct kt_replica_host *host)
{
    *host = (struct kt_replica_host){
        .data = cluster,
        .send = runtime_send,
        .persist = host_persist,
        .fetch = host_fetch,
        .apply = host_apply,
        .want = host_want,
        .wall = host_wall,
        .fatal = host_fatal,
        .changed = host_changed,
        .fetch_state = host_fetch_state,
        .end = host_end,
    };
}
