/*
 * The replica's thread: one loop with the peer connections, a timer for the replica's deadline, and a mailbox for
 * everything that comes from other threads. After each bunch of events the replica is flushed once, so that what
 * arrived together goes out together.
 *
 * Stopping: leadership is handed over (for a while), the transport closes, what is with the log writer, the applier and
 * the pool comes back, the replica answers what is left and is freed, the loop ends.
 */
#include "cluster/node/cluster.h"

#include <stdio.h>
#include <string.h>

#include <uv.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "cluster/node/applier.h"
#include "cluster/node/founding.h"
#include "cluster/transport/transport.h"

/* A peer connection is tried again after this pause. */
#define RECONNECT_MS 100u
/* A connection that does not move for so many election timeouts is dead. */
#define DEAD_ELECTIONS 3u
/* Background work of the engines is asked for this often, and so long after the last one at the earliest: an engine
 * that always has something leaves the applier to the others in between. */
#define ENGINES_MS       1000u
#define ENGINES_PAUSE_MS 10u
/* How often slow things are looked at: a stalled disk, a hand-over under way. */
#define WATCH_MS 50u
/* A sync that takes longer makes a leader hand over; one that takes this long ends the process: the disk is gone. */
#define SYNC_SLOW_US 1000000u
#define SYNC_DEAD_US 30000000u
/* Deadline of operations that the engines propose. */
#define ENGINE_DEADLINE_MS 5000u

enum phase { RUNNING, RESIGNING, CLOSING, DRAINING, ENDED };

struct kt_cluster {
    struct kt_cluster_options options;
    char *name, *listen, *folder;
    struct kt_member *members;

    struct kt_disk *disk;
    struct kt_wal *wal;
    struct kt_log_writer *writer;
    struct kt_applier *applier;
    struct kt_transport *transport;
    struct kt_replica *replica;

    pthread_t thread;
    bool started;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t deadline, watch, tick_timer;
    struct kt_mailbox mailbox;

    enum phase phase;
    kt_time_ms now_ms; /* the replica's clock */
    struct kt_task stop_task;
    kt_time_ms stop_by;
    unsigned writes, batches, fetches; /* with other threads */
    atomic_bool full;

    uv_work_t tick_work;
    bool ticking;
    enum kt_code tick_code;
    kt_time_ms tick_wall_ms, tick_next_ms; /* the last one, and when it wants the next one, by the wall clock */
    kt_time_ms tick_at_ms;                 /* the next one, by the replica's clock */
    struct kt_proposal tick;

    pthread_mutex_t follow_lock;
    void (*told)(void *data, kt_index visible);
    void *told_data;

    pthread_mutex_t status_lock;
    struct kt_replica_status status;
    bool status_changed;
    kt_time_ms status_ms;
};

/* ---- The replica's host ---- */

static bool host_send(void *data, kt_node_id to, struct kt_buf *frame)
{
    struct kt_cluster *cluster = data;
    if (cluster->transport == NULL || cluster->phase > RESIGNING) {
        kt_buf_release(frame);
        return false;
    }
    return kt_transport_send(cluster->transport, to, frame);
}

static struct kt_cluster *cluster_of_loop(uv_loop_t *loop)
{
    return KT_CONTAINER(loop, struct kt_cluster, loop);
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
    read->code = kt_wal_read(cluster->wal, read->first, read->last, read->bytes, read->entries, KT_LOG_READ_ENTRIES_MAX,
                             &read->count);
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

static void batch_applied(void *data, struct kt_apply_batch *batch)
{
    struct kt_cluster *cluster = data;
    cluster->batches--;
    kt_replica_applied(cluster->replica, batch);
}

static void state_visible(void *data, kt_index index)
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

static kt_term boot_term(void *data, kt_index index)
{
    struct kt_cluster *cluster = data;
    return kt_wal_term(cluster->wal, index);
}

static enum kt_code boot_read(void *data, struct kt_log_read *read)
{
    struct kt_cluster *cluster = data;
    return kt_wal_read(cluster->wal, read->first, read->last, read->bytes, read->entries, KT_LOG_READ_ENTRIES_MAX,
                       &read->count);
}

/* ---- What other modules tell, on the loop ---- */

/*
 * Every event must find the replica's clock at the present: waiting for events takes longer than a heartbeat when
 * nobody calls, and an election timer that is restarted with the time before the wait is over too early.
 */
static void advance_clock(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms();

    if (cluster->replica == NULL || now == cluster->now_ms)
        return;
    cluster->now_ms = now;
    kt_replica_tick(cluster->replica, now);
}

static void peer_received(void *data, kt_node_id from, struct kt_slice frame)
{
    struct kt_cluster *cluster = data;
    if (cluster->phase > RESIGNING)
        return;
    advance_clock(cluster);
    kt_replica_received(cluster->replica, from, frame);
}

static void peer_connected(void *data, kt_node_id peer)
{
    struct kt_cluster *cluster = data;
    kt_info("replica", "connected to node %llu", (unsigned long long)peer);
    if (cluster->phase > RESIGNING)
        return;
    advance_clock(cluster);
    kt_replica_connected(cluster->replica, peer);
}

static void peer_disconnected(void *data, kt_node_id peer)
{
    struct kt_cluster *cluster = data;
    kt_info("replica", "lost node %llu", (unsigned long long)peer);
    if (cluster->phase > RESIGNING)
        return;
    advance_clock(cluster);
    kt_replica_disconnected(cluster->replica, peer);
}

/* On the log writer's thread. */
static void writer_failed(void *data, enum kt_code code, const char *text)
{
    (void)data;
    kt_fatal("log", "%s (%s)", text, kt_code_text(code));
}

static void writer_full(void *data, bool full)
{
    struct kt_cluster *cluster = data;
    if (full)
        kt_fail("log", "the disk is full: writes wait until there is room");
    else
        kt_info("log", "the disk has room again");
    atomic_store(&cluster->full, full);
}

/* ---- The loop ---- */

static void publish_status(struct kt_cluster *cluster)
{
    kt_time_ms now = kt_clock_ms();

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
    advance_clock(cluster);
    if (now >= kt_replica_deadline(cluster->replica))
        kt_replica_tick(cluster->replica, now);
    kt_replica_flush(cluster->replica);
    publish_status(cluster);
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
    advance_clock(cluster);
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
        kt_state_tick(cluster->options.state, cluster->tick_wall_ms, &cluster->tick.op, &cluster->tick_next_ms);
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

/* ---- Stopping ---- */

static void close_handles(struct kt_cluster *cluster)
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
    kt_log_writer_stop(cluster->writer);
    kt_applier_stop(cluster->applier);
    kt_mailbox_drain(&cluster->mailbox);
    kt_applier_free(cluster->applier);
    kt_replica_free(cluster->replica);
    cluster->replica = NULL;
    close_handles(cluster);
}

static void transport_closed(void *data)
{
    struct kt_cluster *cluster = data;
    cluster->transport = NULL;
    cluster->phase = DRAINING;
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
    case RUNNING:
    case CLOSING:
    case ENDED:
        break;
    case RESIGNING:
        publish_status(cluster);
        if (cluster->status.role == KT_LEADER && has_successor(cluster) && now < cluster->stop_by) {
            kt_replica_resign(cluster->replica);
            break;
        }
        cluster->phase = CLOSING;
        kt_transport_close(cluster->transport, transport_closed, cluster);
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
    kt_replica_resign(cluster->replica);
}

static void watch_sync(struct kt_cluster *cluster)
{
    uint64_t busy = kt_log_writer_busy_us(cluster->writer);

    if (busy > SYNC_DEAD_US && !atomic_load(&cluster->full))
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
        kt_replica_disk_full(cluster->replica, atomic_load(&cluster->full));
        watch_sync(cluster);
        maybe_tick(cluster, now);
    }
    stop_step(cluster, now);
}

static void *run(void *data)
{
    struct kt_cluster *cluster = data;

    pthread_setname_np(pthread_self(), "replica");
    uv_run(&cluster->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- Opening ---- */

static enum kt_code open_log(struct kt_cluster *cluster, struct kt_wal_found *found, struct kt_error *error)
{
    size_t length = strlen(cluster->folder) + sizeof "/log";
    char *folder = kt_alloc(length);
    struct kt_wal_options options = {.segment_bytes = cluster->options.segment_bytes};
    int number = 0;
    enum kt_code code;

    snprintf(folder, length, "%s/log", cluster->folder);
    code = kt_disk_open(folder, &cluster->disk, &number);
    if (code != KT_OK)
        kt_error_errno(error, code, number, "cannot open the log folder %s", folder);
    kt_free(folder);
    if (code != KT_OK)
        return code;
    options.disk = cluster->disk;
    code = kt_wal_open(&options, &cluster->wal, found, error);
    if (code != KT_OK)
        return code;
    return kt_founding_write(cluster->wal, cluster->members, cluster->options.member_count, found, error);
}

static enum kt_code open_replica(struct kt_cluster *cluster, const struct kt_wal_found *found, struct kt_error *error)
{
    struct kt_state_position position = kt_state_applied(cluster->options.state);
    struct kt_replica_options options = {
        .self = cluster->options.self,
        .members = cluster->members,
        .member_count = cluster->options.member_count,
        .election_ms = cluster->options.election_ms,
        .heartbeat_ms = cluster->options.heartbeat_ms,
        .random_seed = kt_random_system(),
        .now_ms = kt_clock_ms(),
        .log = *found,
        .applied = position.index,
        .applied_term = position.term,
        .host = {.data = cluster,
                 .send = host_send,
                 .persist = host_persist,
                 .fetch = host_fetch,
                 .apply = host_apply,
                 .want = host_want,
                 .wall = host_wall,
                 .fatal = host_fatal,
                 .changed = host_changed},
        .term_of = boot_term,
        .read = boot_read,
    };
    return kt_replica_create(&options, &cluster->replica, error);
}

static enum kt_code open_transport(struct kt_cluster *cluster, struct kt_error *error)
{
    struct kt_peer peers[KT_PEERS_MAX];
    struct kt_transport_options options = {
        .loop = &cluster->loop,
        .self = cluster->options.self,
        .listen = cluster->listen,
        .cluster = cluster->name,
        .peers = peers,
        .reconnect_ms = RECONNECT_MS,
        .dead_ms = DEAD_ELECTIONS * cluster->options.election_ms,
        .received = peer_received,
        .connected = peer_connected,
        .disconnected = peer_disconnected,
        .data = cluster,
    };

    for (size_t i = 0; i < cluster->options.member_count; i++) {
        const struct kt_member *member = &cluster->members[i];
        if (member->id != cluster->options.self)
            peers[options.peer_count++] = (struct kt_peer){.id = member->id, .address = member->address};
    }
    return kt_transport_open(&options, &cluster->transport, error);
}

static void open_loop(struct kt_cluster *cluster)
{
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

static void release(struct kt_cluster *cluster)
{
    if (cluster->wal != NULL)
        kt_wal_close(cluster->wal);
    if (cluster->disk != NULL)
        kt_disk_close(cluster->disk);
    kt_mailbox_release(&cluster->mailbox);
    pthread_mutex_destroy(&cluster->status_lock);
    pthread_mutex_destroy(&cluster->follow_lock);
    for (size_t i = 0; i < cluster->options.member_count; i++)
        kt_free((char *)(uintptr_t)cluster->members[i].address);
    kt_free(cluster->members);
    kt_free(cluster->name);
    kt_free(cluster->listen);
    kt_free(cluster->folder);
    kt_free(cluster);
}

static struct kt_cluster *create(const struct kt_cluster_options *options)
{
    struct kt_cluster *cluster = kt_zalloc(sizeof *cluster);

    cluster->options = *options;
    cluster->name = kt_text_dup(options->name);
    cluster->listen = kt_text_dup(options->listen);
    cluster->folder = kt_text_dup(options->folder);
    cluster->members = kt_zalloc(options->member_count * sizeof *cluster->members + 1);
    for (size_t i = 0; i < options->member_count; i++) {
        cluster->members[i].id = options->members[i].id;
        cluster->members[i].address = kt_text_dup(options->members[i].address);
    }
    cluster->options.members = cluster->members;
    pthread_mutex_init(&cluster->status_lock, NULL);
    pthread_mutex_init(&cluster->follow_lock, NULL);
    kt_mailbox_init(&cluster->mailbox, wake_loop, cluster);
    return cluster;
}

static void start_threads(struct kt_cluster *cluster)
{
    struct kt_log_writer_options writer = {
        .wal = cluster->wal, .mailbox = &cluster->mailbox, .fail = writer_failed, .full = writer_full, .data = cluster};
    struct kt_applier_options applier = {.state = cluster->options.state,
                                         .mailbox = &cluster->mailbox,
                                         .applied = batch_applied,
                                         .visible = state_visible,
                                         .data = cluster};
    KT_CHECK(kt_log_writer_start(&writer, &cluster->writer) == KT_OK);
    cluster->applier = kt_applier_start(&applier);
}

/* A loop whose start failed is run until its handles are gone. */
static void abandon(struct kt_cluster *cluster)
{
    if (cluster->transport != NULL) {
        cluster->phase = CLOSING;
        kt_transport_close(cluster->transport, transport_closed, cluster);
        while (cluster->transport != NULL)
            uv_run(&cluster->loop, UV_RUN_ONCE);
    }
    while (cluster->writes > 0 || cluster->batches > 0) {
        uv_run(&cluster->loop, UV_RUN_ONCE);
    }
    kt_log_writer_stop(cluster->writer);
    kt_applier_stop(cluster->applier);
    kt_mailbox_drain(&cluster->mailbox);
    kt_applier_free(cluster->applier);
    kt_replica_free(cluster->replica);
    cluster->replica = NULL;
    close_handles(cluster);
    uv_run(&cluster->loop, UV_RUN_DEFAULT);
    KT_CHECK(uv_loop_close(&cluster->loop) == 0);
    release(cluster);
}

enum kt_code kt_cluster_open(const struct kt_cluster_options *options, struct kt_cluster **out, struct kt_error *error)
{
    struct kt_cluster *cluster;
    struct kt_wal_found found;
    enum kt_code code;

    *out = NULL;
    if (options->member_count > KT_PEERS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "a cluster has at most %u members, not %zu", KT_PEERS_MAX,
                            options->member_count);
    cluster = create(options);
    code = open_log(cluster, &found, error);
    if (code != KT_OK) {
        release(cluster);
        return code;
    }
    open_loop(cluster);
    start_threads(cluster);
    code = open_replica(cluster, &found, error);
    if (code == KT_OK)
        code = open_transport(cluster, error);
    if (code != KT_OK) {
        abandon(cluster);
        return code;
    }
    publish_status(cluster);
    KT_CHECK(pthread_create(&cluster->thread, NULL, run, cluster) == 0);
    *out = cluster;
    return KT_OK;
}

void kt_cluster_close(struct kt_cluster *cluster, unsigned wait_ms)
{
    cluster->stop_by = kt_clock_ms() + wait_ms;
    kt_mailbox_post(&cluster->mailbox, &cluster->stop_task, stop_asked);
    pthread_join(cluster->thread, NULL);
    KT_CHECK(uv_loop_close(&cluster->loop) == 0);
    release(cluster);
}

/* ---- Requests ---- */

static void propose(struct kt_task *task)
{
    struct kt_proposal *proposal = KT_CONTAINER(task, struct kt_proposal, task);
    struct kt_cluster *cluster = proposal->owner;

    if (cluster->phase == RUNNING && cluster->replica != NULL) {
        kt_replica_propose(cluster->replica, proposal);
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

    if (cluster->phase == RUNNING && cluster->replica != NULL) {
        kt_replica_read(cluster->replica, read);
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

void kt_cluster_status(struct kt_cluster *cluster, struct kt_replica_status *status)
{
    pthread_mutex_lock(&cluster->status_lock);
    *status = cluster->status;
    pthread_mutex_unlock(&cluster->status_lock);
}

void kt_cluster_log_usage(struct kt_cluster *cluster, uint64_t *bytes, unsigned *segments)
{
    kt_wal_usage(cluster->wal, bytes, segments);
}

void kt_cluster_log_io(struct kt_cluster *cluster, struct kt_disk_counters *counters)
{
    kt_disk_counters(cluster->disk, counters);
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
    kt_applier_prompt(cluster->applier, prompt);
}
