/*
 * The replica's thread: one loop with the peer connections, a timer for the replica's deadline, and a mailbox for
 * everything that comes from other threads. After each bunch of events the replica is flushed once, so that what
 * arrived together goes out together.
 *
 * Stopping: leadership is handed over (for a while), the transport closes, what is with the log writer, the applier and
 * the pool comes back, the replica answers what is left and is freed, the loop ends.
 */
#include "cluster/node/runtime_internal.h"

#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

/* ---- The loop ---- */

/*
 * Every event must find the replica's clock at the present: waiting for events takes longer than a heartbeat when
 * nobody calls, and an election timer that is restarted with the time before the wait is over too early.
 */
void runtime_advance_clock(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms();

    if (cluster->replica == NULL || now == cluster->now_ms)
        return;
    cluster->now_ms = now;
    kt_replica_tick(cluster->replica, now);
}

void runtime_publish_status(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms();

    if (cluster->replica == NULL)
        return;
    if (!cluster->status_changed && now < cluster->status_ms + 5)
        return;
    cluster->status_changed = false;
    cluster->status_ms = now;
    pthread_mutex_lock(&cluster->status_lock);
    kt_replica_status(cluster->replica, &cluster->status);
    /* Addresses must outlive the replica: the members' texts are this object's. */
    for (size_t i = 0; i < cluster->status.peer_count; i++)
        for (size_t j = 0; j < cluster->options.member_count; j++)
            if (cluster->members[j].id == cluster->status.peers[i].id)
                cluster->status.peers[i].address = cluster->members[j].address;
    pthread_mutex_unlock(&cluster->status_lock);
}

static void deadline_passed(uv_timer_t *timer)
{
    (void)timer; /* the flush below ticks */
}

static void turn(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms(), deadline;

    if (cluster->replica == NULL)
        return;
    runtime_advance_clock(cluster);
    if (now >= kt_replica_deadline(cluster->replica))
        kt_replica_tick(cluster->replica, now);
    kt_replica_flush(cluster->replica);
    runtime_publish_status(cluster);
    deadline = kt_replica_deadline(cluster->replica);
    uv_update_time(&cluster->loop);
    uv_timer_start(&cluster->deadline, deadline_passed, deadline > now ? deadline - now : 0, 0);
}

static void before_poll(uv_prepare_t *prepare)
{
    turn(cluster_of_loop(prepare->loop));
}

static void after_poll(uv_check_t *check)
{
    struct kt_cluster *cluster = cluster_of_loop(check->loop);
    if (cluster->replica != NULL)
        kt_replica_flush(cluster->replica);
}

static void mail(uv_async_t *async)
{
    struct kt_cluster *cluster = cluster_of_loop(async->loop);
    runtime_advance_clock(cluster);
    kt_mailbox_drain(&cluster->mailbox);
}

static void wake_loop(void *data)
{
    struct kt_cluster *cluster = data;
    uv_async_send(&cluster->async);
}

/* ---- Background work of the engines: proposed by the leader ---- */

static void maybe_tick(struct kt_cluster *cluster, kt_time_ms now);

static void tick_due(uv_timer_t *timer)
{
    struct kt_cluster *cluster = cluster_of_loop(timer->loop);

    if (cluster->phase == RUNNING)
        maybe_tick(cluster, kt_clock_ms());
}

/* The next one at its time; the watch is there for what changes meanwhile. */
static void tick_later(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms(), at = KT_MAX(cluster->tick_at_ms, now + ENGINES_PAUSE_MS);

    cluster->tick_at_ms = at;
    uv_update_time(&cluster->loop);
    uv_timer_start(&cluster->tick_timer, tick_due, at - now, 0);
}

static void tick_done(struct kt_proposal *proposal)
{
    struct kt_cluster *cluster = KT_CONTAINER(proposal, struct kt_cluster, tick);
    kt_buf_release(&cluster->tick.op);
    kt_reply_release(&cluster->tick.reply);
    cluster->ticking = false;
    if (cluster->phase == RUNNING)
        tick_later(cluster);
}

static void tick_run(uv_work_t *work)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);
    cluster->tick_wall_ms = kt_clock_wall_ms();
    cluster->tick_code =
        kt_state_tick(cluster->boot->state, cluster->tick_wall_ms, &cluster->tick.op, &cluster->tick_next_ms);
}

static void tick_ready(uv_work_t *work, int status)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);
    (void)status;
    cluster->fetches--;
    if (cluster->tick_code == KT_OK)
        cluster->tick_at_ms = kt_clock_ms() + (cluster->tick_next_ms - cluster->tick_wall_ms);
    if (cluster->tick_code != KT_OK || cluster->tick.op.len == 0 || cluster->phase != RUNNING) {
        tick_done(&cluster->tick);
        return;
    }
    cluster->tick.deadline_ms = kt_clock_ms() + ENGINE_DEADLINE_MS;
    cluster->tick.done = tick_done;
    kt_replica_propose(cluster->replica, &cluster->tick);
}

static void maybe_tick(struct kt_cluster *cluster, kt_time_ms now)
{
    if (cluster->ticking || now < cluster->tick_at_ms || !cluster->status.serving)
        return;
    cluster->ticking = true;
    cluster->tick_at_ms = now + ENGINES_MS;
    kt_buf_init(&cluster->tick.op, KT_ENTRY_BYTES_MAX);
    kt_reply_init(&cluster->tick.reply);
    cluster->fetches++;
    KT_CHECK(uv_queue_work(&cluster->loop, &cluster->tick_work, tick_run, tick_ready) == 0);
}

/* ---- Trimming the log ---- */

/* The state first: what it shows now is on the disk when the sync returns. */
static void trim_run(uv_work_t *work)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);

    cluster->trim_durable = kt_state_visible(cluster->boot->state);
    cluster->trim_code = kt_store_sync(kt_state_store(cluster->boot->state));
}

static void trim_ready(uv_work_t *work, int status)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);

    (void)status;
    cluster->fetches--;
    cluster->trimming = false;
    if (cluster->trim_code != KT_OK)
        kt_fatal("store", "cannot sync the state: %s", kt_code_text(cluster->trim_code));
    if (cluster->phase == RUNNING && cluster->trim_durable > 1)
        kt_replica_trim(cluster->replica, cluster->trim_durable, KT_MIN(cluster->trim_to, cluster->trim_durable - 1));
}

static void maybe_trim(struct kt_cluster *cluster, kt_time_ms now)
{
    if (cluster->trimming || now < cluster->trimmed_ms + TRIM_MS)
        return;
    cluster->trimmed_ms = now;
    cluster->trim_to = kt_wal_trim_point(cluster->boot->wal, cluster->options.log_keep_bytes);
    if (cluster->trim_to == 0)
        return;
    cluster->trimming = true;
    cluster->fetches++;
    KT_CHECK(uv_queue_work(&cluster->loop, &cluster->trim_work, trim_run, trim_ready) == 0);
}

/* ---- Stopping ---- */

void runtime_close_handles(struct kt_cluster *cluster)
{
    cluster->phase = ENDED;
    uv_close((uv_handle_t *)&cluster->async, NULL);
    uv_close((uv_handle_t *)&cluster->prepare, NULL);
    uv_close((uv_handle_t *)&cluster->check, NULL);
    uv_close((uv_handle_t *)&cluster->deadline, NULL);
    uv_close((uv_handle_t *)&cluster->watch, NULL);
    uv_close((uv_handle_t *)&cluster->tick_timer, NULL);
}

static void drain(struct kt_cluster *cluster)
{
    if (cluster->writes > 0 || cluster->batches > 0 || cluster->fetches > 0)
        return;
    runtime_release_replica(cluster);
    runtime_early_sweep(cluster, 0, true);
    runtime_close_handles(cluster);
}

void runtime_transport_closed(void *data)
{
    struct kt_cluster *cluster = data;
    cluster->transport = NULL;
    cluster->phase = DRAINING;
    /* What waits for room on a full disk would wait for ever. */
    if (cluster->writer != NULL)
        kt_log_writer_hurry(cluster->writer);
    if (cluster->applier != NULL)
        kt_applier_hurry(cluster->applier);
}

/* Somebody is there to hand leadership to. Alone, there is nothing to wait for. */
static bool has_successor(const struct kt_cluster *cluster)
{
    for (size_t i = 0; i < cluster->status.peer_count; i++) {
        const struct kt_peer_status *peer = &cluster->status.peers[i];
        if (peer->id != cluster->status.self && peer->voter && peer->connected)
            return true;
    }
    return false;
}

static void stop_step(struct kt_cluster *cluster, kt_time_ms now)
{
    switch (cluster->phase) {
    case FOUNDING:
    case RUNNING:
    case CLOSING:
    case ENDED:
        break;
    case RESIGNING:
        runtime_publish_status(cluster);
        if (cluster->replica != NULL && cluster->status.role == KT_LEADER && has_successor(cluster) &&
            now < cluster->stop_by) {
            kt_replica_resign(cluster->replica);
            break;
        }
        cluster->phase = CLOSING;
        kt_transport_close(cluster->transport, runtime_transport_closed, cluster);
        break;
    case DRAINING:
        drain(cluster);
        break;
    }
}

static void stop_asked(struct kt_task *task)
{
    struct kt_cluster *cluster = KT_CONTAINER(task, struct kt_cluster, stop_task);
    cluster->phase = RESIGNING;
    uv_timer_set_repeat(&cluster->watch, 5);
    uv_timer_again(&cluster->watch);
    if (cluster->replica != NULL)
        kt_replica_resign(cluster->replica);
}

static void watch_sync(struct kt_cluster *cluster)
{
    uint64_t busy = kt_log_writer_busy_us(cluster->writer);

    if (busy > SYNC_DEAD_US && !atomic_load(&cluster->log_full))
        kt_fatal("log", "a write to the log has not finished for %u seconds: the disk does not answer",
                 SYNC_DEAD_US / 1000000);
    if (busy > SYNC_SLOW_US && cluster->status.role == KT_LEADER)
        kt_replica_resign(cluster->replica);
}

static void watch(uv_timer_t *timer)
{
    struct kt_cluster *cluster = cluster_of_loop(timer->loop);
    kt_time_ms now = kt_clock_ms();

    if (cluster->phase == RUNNING) {
        runtime_space_step(cluster, now);
        watch_sync(cluster);
        maybe_tick(cluster, now);
        maybe_trim(cluster, now);
    } else if (cluster->phase == FOUNDING) {
        runtime_found_step(cluster, now);
    }
    stop_step(cluster, now);
}

void *runtime_run(void *data)
{
    struct kt_cluster *cluster = data;

    pthread_setname_np(pthread_self(), "replica");
    uv_run(&cluster->loop, UV_RUN_DEFAULT);
    return NULL;
}

void kt_cluster_close(struct kt_cluster *cluster, unsigned wait_ms)
{
    cluster->stop_by = kt_clock_ms() + wait_ms;
    kt_mailbox_post(&cluster->mailbox, &cluster->stop_task, stop_asked);
    pthread_join(cluster->thread, NULL);
    runtime_release(cluster);
}

void runtime_open_loop(struct kt_cluster *cluster)
{
    kt_mailbox_init(&cluster->mailbox, wake_loop, cluster);
    KT_CHECK(uv_loop_init(&cluster->loop) == 0);
    KT_CHECK(uv_async_init(&cluster->loop, &cluster->async, mail) == 0);
    uv_prepare_init(&cluster->loop, &cluster->prepare);
    uv_check_init(&cluster->loop, &cluster->check);
    uv_timer_init(&cluster->loop, &cluster->deadline);
    uv_timer_init(&cluster->loop, &cluster->watch);
    uv_timer_init(&cluster->loop, &cluster->tick_timer);
    uv_prepare_start(&cluster->prepare, before_poll);
    uv_check_start(&cluster->check, after_poll);
    uv_timer_start(&cluster->watch, watch, WATCH_MS, WATCH_MS);
}

/* ---- Requests ---- */

static void propose(struct kt_task *task)
{
    struct kt_proposal *proposal = KT_CONTAINER(task, struct kt_proposal, task);
    struct kt_cluster *cluster = proposal->owner;

    if (cluster->phase == RUNNING) {
        kt_replica_propose(cluster->replica, proposal);
        return;
    }
    if (cluster->phase == FOUNDING) {
        kt_list_append(&cluster->early_proposals, &proposal->link);
        return;
    }
    kt_reply_fail(&proposal->reply, KT_SHUTTING_DOWN, "%s", kt_code_text(KT_SHUTTING_DOWN));
    proposal->done(proposal);
}

void kt_cluster_propose(struct kt_cluster *cluster, struct kt_proposal *proposal)
{
    proposal->owner = cluster;
    kt_mailbox_post(&cluster->mailbox, &proposal->task, propose);
}

static void read_asked(struct kt_task *task)
{
    struct kt_read *read = KT_CONTAINER(task, struct kt_read, task);
    struct kt_cluster *cluster = read->owner;

    if (cluster->phase == RUNNING) {
        kt_replica_read(cluster->replica, read);
        return;
    }
    if (cluster->phase == FOUNDING) {
        kt_list_append(&cluster->early_reads, &read->link);
        return;
    }
    read->code = KT_SHUTTING_DOWN;
    read->done(read);
}

void kt_cluster_read(struct kt_cluster *cluster, struct kt_read *read)
{
    read->owner = cluster;
    kt_mailbox_post(&cluster->mailbox, &read->task, read_asked);
}

/* ---- Certificates ---- */

struct tls_change {
    struct kt_task task;
    struct kt_cluster *cluster;
    struct kt_tls_context *tls;
};

static void change_tls(struct kt_task *task)
{
    struct tls_change *change = KT_CONTAINER(task, struct tls_change, task);

    if (change->cluster->phase == FOUNDING || change->cluster->phase == RUNNING)
        kt_transport_set_tls(change->cluster->transport, change->tls);
    kt_tls_context_drop(change->tls);
    kt_free(change);
}

void kt_cluster_set_tls(struct kt_cluster *cluster, struct kt_tls_context *tls)
{
    struct tls_change *change = kt_zalloc(sizeof *change);

    change->cluster = cluster;
    change->tls = kt_tls_context_acquire(tls);
    kt_mailbox_post(&cluster->mailbox, &change->task, change_tls);
}

void kt_cluster_status(struct kt_cluster *cluster, struct kt_replica_status *status)
{
    pthread_mutex_lock(&cluster->status_lock);
    *status = cluster->status;
    pthread_mutex_unlock(&cluster->status_lock);
}

void kt_cluster_log_usage(struct kt_cluster *cluster, uint64_t *bytes, unsigned *segments)
{
    kt_wal_usage(cluster->boot->wal, bytes, segments);
}

void kt_cluster_log_io(struct kt_cluster *cluster, struct kt_disk_counters *counters)
{
    kt_disk_counters(cluster->boot->disk, counters);
}

void kt_cluster_follow(struct kt_cluster *cluster, void (*told)(void *data, kt_index visible), void *data)
{
    pthread_mutex_lock(&cluster->follow_lock);
    cluster->told = told;
    cluster->told_data = data;
    pthread_mutex_unlock(&cluster->follow_lock);
}

void kt_cluster_prompt(struct kt_cluster *cluster, bool prompt)
{
    pthread_mutex_lock(&cluster->follow_lock);
    cluster->prompt = prompt;
    if (cluster->applier != NULL)
        kt_applier_prompt(cluster->applier, prompt);
    pthread_mutex_unlock(&cluster->follow_lock);
}
