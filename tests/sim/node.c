#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster.h"
#include "cluster/node/founding.h"

#define WALL_START_MS 1767225600000u /* 2026-01-01: any time will do */
#define SEGMENT_BYTES (64u << 10)    /* the smallest: segments end often */
#define ELECTION_MS   300u
#define HEARTBEAT_MS  60u
#define COMMIT_MS     5u /* the applier commits at least this often while it is busy */

static struct sim_world *world_of(const struct sim_node *node)
{
    return &node->cluster->world;
}

static unsigned long long id_of(const struct sim_node *node)
{
    return (unsigned long long)node->id;
}

/* ---- Queues ---- */

static void queue_put(struct sim_queue *queue, struct kt_task *task)
{
    task->next = NULL;
    if (queue->last)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
}

static void queue_put_first(struct sim_queue *queue, struct kt_task *task)
{
    task->next = queue->first;
    queue->first = task;
    if (!queue->last)
        queue->last = task;
}

static struct kt_task *queue_take(struct sim_queue *queue)
{
    struct kt_task *task = queue->first;
    if (task) {
        queue->first = task->next;
        if (!queue->first)
            queue->last = NULL;
    }
    return task;
}

static struct kt_log_write *write_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_log_write, task) : NULL;
}

static struct kt_apply_batch *batch_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_apply_batch, task) : NULL;
}

static struct kt_log_read *fetch_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_log_read, task) : NULL;
}

/* ---- Clocks and turns ---- */

kt_time_ms sim_node_clock(const struct sim_node *node)
{
    return node->clock_base + world_of(node)->now / 1000;
}

kt_time_ms sim_node_wall(const struct sim_node *node)
{
    return (kt_time_ms)((int64_t)(WALL_START_MS + world_of(node)->now / 1000) + node->wall_offset_ms);
}

void sim_node_enter(struct sim_node *node)
{
    kt_replica_tick(node->replica, sim_node_clock(node));
}

static void node_tick(struct sim_event *event)
{
    struct sim_node *node = event->node;
    if (node->tick_at == event->at || node->tick_at <= world_of(node)->now)
        node->tick_at = 0;
    sim_node_enter(node);
    sim_node_turn(node);
}

static void arm_tick(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    kt_time_ms deadline = kt_replica_deadline(node->replica), clock = sim_node_clock(node);
    sim_us at = world->now + 1000;
    if (deadline > clock)
        at = (deadline - node->clock_base) * 1000;
    /* Timers are never early and sometimes late. */
    at += sim_below(world, SIM_CLOCKS, 1000);
    if (node->tick_at != 0 && node->tick_at <= at)
        return;
    node->tick_at = at;
    sim_schedule(world, at - world->now, node, node_tick, NULL);
}

/* The end of a turn of the replica's loop. */
static void node_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    node->turn_due = false;
    sim_node_enter(node);
    kt_replica_flush(node->replica);
    kt_replica_status(node->replica, &node->status);
    sim_check_status(node);
    if (world_of(node)->failed)
        return;
    sim_faults_noticed(node);
    arm_tick(node);
}

void sim_node_turn(struct sim_node *node)
{
    if (node->turn_due || node->dying)
        return;
    node->turn_due = true;
    sim_schedule(world_of(node), sim_below(world_of(node), SIM_CLOCKS, 30), node, node_turn, NULL);
}

void sim_node_received(struct sim_node *node, kt_node_id from, struct kt_slice frame)
{
    sim_note(world_of(node), node->id, "receive", from, frame.len, 0);
    sim_node_enter(node);
    kt_replica_received(node->replica, from, frame);
    sim_node_turn(node);
}

void sim_node_connected(struct sim_node *node, kt_node_id peer)
{
    sim_note(world_of(node), node->id, "connected", peer, 0, 0);
    sim_node_enter(node);
    kt_replica_connected(node->replica, peer);
    sim_node_turn(node);
}

void sim_node_disconnected(struct sim_node *node, kt_node_id peer)
{
    sim_note(world_of(node), node->id, "disconnected", peer, 0, 0);
    sim_node_enter(node);
    kt_replica_disconnected(node->replica, peer);
    sim_node_turn(node);
}

/* ---- Virtual log writer: cluster/log/log_writer.c without its thread ---- */

static void doom_comes(struct sim_event *event)
{
    struct sim_node *node = event->data;
    if (node->up && node->life == event->number)
        sim_faults_crash(node, true);
}

/* The log failed: so it must if the disk was to end, and the node ends too; else it is a fault of the log. */
static void log_failed(struct sim_node *node, const char *what, enum kt_code code)
{
    struct sim_world *world = world_of(node);
    sim_note(world, node->id, what, (uint64_t)code, 0, 0);
    if (!node->doomed)
        sim_fail(world, "node %llu: %s: %s", id_of(node), what, kt_code_name(code));
    else if (node->up && !node->doom_came)
        sim_schedule(world, 0, NULL, doom_comes, node)->number = node->life;
    node->doom_came = true;
}

static void writer_done(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct kt_log_write *write;
    sim_node_enter(node);
    while ((write = write_take(&node->completed)) != NULL) {
        write->code = KT_OK;
        kt_replica_persisted(node->replica, write);
    }
    sim_node_turn(node);
}

static void writer_complete(struct sim_node *node)
{
    struct kt_task *task;
    while ((task = queue_take(&node->group)) != NULL)
        queue_put(&node->completed, task);
    sim_schedule(world_of(node), sim_below(world_of(node), SIM_DISK, 50), node, writer_done, NULL);
}

static void writer_start(struct sim_event *event);

static void writer_sync(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    enum kt_code code = kt_wal_sync(node->wal);
    if (code != KT_OK) {
        log_failed(node, "sync failed", code);
        return;
    }
    sim_check_synced(node);
    sim_note(world, node->id, "synced", kt_wal_last(node->wal), 0, 0);
    writer_complete(node);
    node->writer_busy = false;
    if (node->writes.first) {
        node->writer_busy = true;
        sim_schedule(world, 0, node, writer_start, NULL);
        return;
    }
    code = kt_wal_prepare(node->wal);
    if (code != KT_OK && code != KT_DISK_FULL)
        log_failed(node, "preparing a segment failed", code);
}

static void full_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    sim_note(world_of(node), node->id, event->number ? "disk full" : "disk not full", 0, 0, 0);
    sim_node_enter(node);
    kt_replica_disk_full(node->replica, event->number != 0);
    sim_node_turn(node);
}

/* One write, whole. True if the next may follow; else *full says whether to wait for room. */
static bool write_one(struct sim_node *node, struct kt_log_write *write, bool *full)
{
    enum kt_code code = KT_OK;
    if (write->votes) {
        sim_check_voting(node, write->term, write->vote);
        code = kt_wal_vote(node->wal, write->term, write->vote);
        if (code == KT_OK)
            sim_check_voted(node, write->term, write->vote);
    }
    if (code == KT_OK && write->count)
        code = kt_wal_append(node->wal, write->entries, write->count);
    *full = code == KT_DISK_FULL;
    if (!*full)
        sim_check_appended(node, write->count);
    queue_put(code == KT_OK ? &node->group : &node->refused, &write->task);
    if (code != KT_OK && !*full)
        log_failed(node, "writing failed", code);
    return code == KT_OK;
}

static void tell_full(struct sim_node *node, bool full)
{
    if (full == node->said_full)
        return;
    node->said_full = full;
    sim_schedule(world_of(node), sim_below(world_of(node), SIM_DISK, 50), node, full_told, NULL)->number = full;
}

/*
 * Everything that waits is written as one group, then synced. A vote is synced by itself before anything goes on, which
 * takes its time as well: it begins a group, once that time has passed.
 */
static void writer_start(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    sim_us latency = sim_latency(world, SIM_DISK, node->sync_low, node->sync_high) * node->slow_disk;
    struct kt_log_write *write;
    bool full = false;
    while ((write = write_take(&node->writes)) != NULL) {
        if (write->votes && (node->group.first || !node->vote_due)) {
            queue_put_first(&node->writes, &write->task);
            break;
        }
        node->vote_due = false;
        if (!write_one(node, write, &full)) {
            queue_put_first(&node->writes, queue_take(&node->refused));
            if (!full)
                return;
            break;
        }
    }
    tell_full(node, full);
    if (node->group.first) {
        latency += node->stall;
        node->stall = 0;
        if (node->cluster->options.plant == SIM_PLANT_EARLY_ACK)
            writer_complete(node);
        sim_schedule(world, latency, node, writer_sync, NULL);
    } else if (full) {
        sim_schedule(world, SIM_MS(sim_between(world, SIM_DISK, 20, 100)), node, writer_start, NULL);
    } else {
        node->vote_due = true;
        sim_schedule(world, latency, node, writer_start, NULL);
    }
}

static void host_persist(void *data, struct kt_log_write *write)
{
    struct sim_node *node = data;
    queue_put(&node->writes, &write->task);
    if (node->dying)
        return;
    sim_check_handed(node, write->entries, write->count);
    if (!node->writer_busy) {
        node->writer_busy = true;
        sim_schedule(world_of(node), sim_between(world_of(node), SIM_DISK, 2, 40), node, writer_start, NULL);
    }
}

/* ---- Virtual log reader ---- */

static void fetch_done(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct kt_log_read *read = fetch_take(&node->fetches);
    read->count = 0;
    read->code = kt_wal_read(node->wal, read->first, read->last, read->bytes, read->entries, KT_LOG_READ_ENTRIES_MAX,
                             &read->count);
    sim_note(world_of(node), node->id, "fetched", read->first, read->count, (uint64_t)read->code);
    sim_node_enter(node);
    kt_replica_fetched(node->replica, read);
    sim_node_turn(node);
}

static void host_fetch(void *data, struct kt_log_read *read)
{
    struct sim_node *node = data;
    queue_put(&node->fetches, &read->task);
    /* The same for all of a node, so that they end in the order in which they began. */
    if (!node->dying)
        sim_schedule(world_of(node), 50 * node->slow_disk, node, fetch_done, NULL);
}

/* ---- Virtual applier: cluster/node/applier.c without its thread ---- */

static void applier_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct kt_apply_batch *batch = batch_take(&node->applied);
    sim_node_enter(node);
    kt_replica_applied(node->replica, batch);
    sim_node_turn(node);
}

static void visible_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    sim_node_enter(node);
    kt_replica_visible(node->replica, event->number);
    sim_node_turn(node);
}

static void save_copy(struct sim_node *node)
{
    FILE *file = fopen(node->path, "rb");
    KT_CHECK(file && fseek(file, 0, SEEK_END) == 0);
    size_t len = (size_t)ftell(file);
    node->saved = kt_realloc(node->saved, len);
    KT_CHECK(fseek(file, 0, SEEK_SET) == 0 && fread(node->saved, 1, len, file) == len);
    node->saved_len = len;
    fclose(file);
}

static void restore_copy(struct sim_node *node)
{
    FILE *file = fopen(node->path, "wb");
    KT_CHECK(file && fwrite(node->saved, 1, node->saved_len, file) == node->saved_len);
    KT_CHECK(fclose(file) == 0);
}

static void applier_commit(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    if (kt_state_visible(node->state) == kt_state_applied(node->state).index)
        return;
    enum kt_code code = kt_state_commit(node->state);
    if (code != KT_OK) {
        sim_fail(world, "node %llu: committing the state failed: %s", id_of(node), kt_code_name(code));
        return;
    }
    node->committed_at = world->now;
    kt_index visible = kt_state_visible(node->state);
    sim_note(world, node->id, "visible", visible, 0, 0);
    if (sim_below(world, SIM_APPLY, 256) == 0)
        save_copy(node);
    sim_schedule(world, sim_below(world, SIM_APPLY, 60), node, visible_told, NULL)->number = visible;
}

static void commit_turn(struct sim_event *event)
{
    event->node->commit_due = false;
    applier_commit(event->node);
}

/* When to commit: a reader waits, or nothing is left to do, or it is time. */
static void applier_rest(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    kt_index applied = kt_state_applied(node->state).index, visible = kt_state_visible(node->state);
    if (applied == visible || node->commit_due)
        return;
    bool asked = node->wanted > visible && node->wanted <= applied;
    if (asked || world->now >= node->committed_at + SIM_MS(COMMIT_MS)) {
        applier_commit(node);
    } else if (!node->batches.first) {
        node->commit_due = true;
        sim_schedule(world, sim_below(world, SIM_APPLY, 3000), node, commit_turn, NULL);
    }
}

static bool apply_item(struct sim_node *node, struct kt_apply_item *item)
{
    struct kt_reply unwanted;
    struct kt_reply *reply = item->wanted ? &item->reply : &unwanted;
    struct kt_error error;
    struct kt_slice bytes = item->entry.type == KT_ENTRY_COMMAND ? item->entry.data : kt_slice(NULL, 0);
    struct kt_state_position before = kt_state_applied(node->state);
    uint8_t changed[256];
    if (item->entry.index != before.index + 1) {
        sim_fail(world_of(node), "node %llu is given entry %llu to apply, its state stands at %llu", id_of(node),
                 (unsigned long long)item->entry.index, (unsigned long long)before.index);
        return false;
    }
    if (node->cluster->options.plant == SIM_PLANT_DRIFT && node->number == 0 && bytes.len > 64 &&
        bytes.len <= sizeof(changed) && sim_below(world_of(node), SIM_APPLY, 50) == 0) {
        memcpy(changed, bytes.data, bytes.len);
        changed[bytes.len - 1] ^= 1;
        bytes.data = changed;
    }
    kt_reply_init(&unwanted);
    enum kt_code code = kt_state_apply(node->state, item->entry.index, item->entry.term, bytes, reply, &error);
    if (code != KT_OK)
        sim_fail(world_of(node), "node %llu cannot apply entry %llu: %s", id_of(node),
                 (unsigned long long)item->entry.index, error.text);
    else
        sim_check_applied(node, &item->entry, reply, kt_state_applied(node->state));
    kt_reply_release(&unwanted);
    return code == KT_OK && !world_of(node)->failed;
}

static void applier_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    struct kt_apply_batch *batch = batch_take(&node->batches);
    bool well = true;
    for (size_t i = 0; i < batch->count && well; i++)
        well = apply_item(node, &batch->items[i]);
    queue_put(&node->applied, &batch->task);
    sim_schedule(world, sim_below(world, SIM_APPLY, 60), node, applier_told, NULL);
    node->applier_busy = false;
    if (!well)
        return;
    applier_rest(node);
    if (node->batches.first) {
        size_t next = KT_CONTAINER(node->batches.first, struct kt_apply_batch, task)->count;
        node->applier_busy = true;
        sim_schedule(world, node->apply_us * next, node, applier_turn, NULL);
    }
}

static void host_apply(void *data, struct kt_apply_batch *batch)
{
    struct sim_node *node = data;
    queue_put(&node->batches, &batch->task);
    if (!node->dying && !node->applier_busy) {
        node->applier_busy = true;
        sim_us latency = sim_between(world_of(node), SIM_APPLY, 2, 60) + node->apply_us * batch->count;
        sim_schedule(world_of(node), latency, node, applier_turn, NULL);
    }
}

static void wanted_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    node->wanted = KT_MAX(node->wanted, event->number);
    applier_rest(node);
}

static void host_want(void *data, kt_index index)
{
    struct sim_node *node = data;
    if (!node->dying)
        sim_schedule(world_of(node), sim_below(world_of(node), SIM_APPLY, 40), node, wanted_turn, NULL)->number = index;
}

/* ---- The rest of the host ---- */

static bool host_send(void *data, kt_node_id to, struct kt_buf *frame)
{
    struct sim_node *node = data;
    if (node->dying) {
        kt_buf_release(frame);
        return false;
    }
    return sim_network_send(&node->cluster->network, node->number, (unsigned)to - 1, frame);
}

static kt_time_ms host_wall(void *data)
{
    return sim_node_wall(data);
}

static void host_fatal(void *data, enum kt_code code, const char *text)
{
    struct sim_node *node = data;
    if (!node->dying)
        sim_fail(world_of(node), "node %llu gave up: %s: %s", id_of(node), kt_code_name(code), text);
}

static void host_changed(void *data)
{
    struct sim_node *node = data;
    sim_node_turn(node);
}

/* ---- Life ---- */

void sim_node_init(struct sim_node *node, struct sim_cluster *cluster, unsigned number)
{
    struct sim_world *world = &cluster->world;
    memset(node, 0, sizeof(*node));
    node->cluster = cluster;
    node->number = number;
    node->id = number + 1;
    node->disk = kt_memory_disk_create(cluster->options.seed * 31 + number);
    node->slow_disk = 1;
    node->sync_low = sim_between(world, SIM_DISK, 30, 500);
    node->sync_high = node->sync_low + sim_between(world, SIM_DISK, 100, 10000);
    node->apply_us = sim_between(world, SIM_APPLY, 1, 30);
    node->wall_offset_ms = (int64_t)sim_below(world, SIM_CLOCKS, 4000) - 2000;
    snprintf(node->path, sizeof(node->path), "%s/state-%u", cluster->options.folder, number + 1);
}

static void remove_state(const struct sim_node *node)
{
    char lock[sizeof(node->path) + 8];
    snprintf(lock, sizeof(lock), "%s-lock", node->path);
    unlink(node->path);
    unlink(lock);
}

void sim_node_release(struct sim_node *node)
{
    sim_node_crash(node, false);
    remove_state(node);
    kt_memory_disk_free(node->disk);
    kt_free(node->saved);
}

static kt_term boot_term_of(void *data, kt_index index)
{
    struct sim_node *node = data;
    return kt_wal_term(node->wal, index);
}

static enum kt_code boot_read(void *data, struct kt_log_read *read)
{
    struct sim_node *node = data;
    read->count = 0;
    read->code = kt_wal_read(node->wal, read->first, read->last, read->bytes, read->entries, KT_LOG_READ_ENTRIES_MAX,
                             &read->count);
    return read->code;
}

static bool boot_log(struct sim_node *node, const struct kt_member *members, struct kt_wal_found *found)
{
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(node->disk), .segment_bytes = SEGMENT_BYTES};
    struct kt_error error;
    enum kt_code code = kt_wal_open(&options, &node->wal, found, &error);
    if (code != KT_OK) {
        node->wal = NULL;
        sim_note_text(world_of(node), node->id, error.text);
        log_failed(node, error.text, code);
        return false;
    }
    bool empty = found->last == 0;
    sim_check_recovered(node, found, node->power_lost);
    code = kt_founding_write(node->wal, members, node->cluster->options.nodes, found, &error);
    if (code != KT_OK) {
        log_failed(node, error.text, code);
        return false;
    }
    if (empty) {
        sim_check_founded(node);
        sim_check_voting(node, found->term, found->vote);
        sim_check_voted(node, found->term, found->vote);
    }
    return !world_of(node)->failed;
}

static bool boot_state(struct sim_node *node)
{
    struct kt_state_options options = {
        .store = {.path = node->path, .bytes_max = 64u << 20, .volatile_data = true},
    };
    struct kt_error error;
    if (kt_state_open(&options, &node->state, &error) != KT_OK) {
        sim_fail(world_of(node), "node %llu cannot open its state: %s", id_of(node), error.text);
        return false;
    }
    return true;
}

void sim_node_boot(struct sim_node *node)
{
    static const char *const addresses[SIM_NODES_MAX] = {"a:1", "b:1", "c:1", "d:1", "e:1"};
    struct sim_world *world = world_of(node);
    struct kt_member members[SIM_NODES_MAX];
    struct kt_wal_found found;
    struct kt_error error;

    KT_CHECK(!node->up);
    for (unsigned i = 0; i < node->cluster->options.nodes; i++)
        members[i] = (struct kt_member){.id = i + 1, .address = addresses[i]};
    sim_note(world, node->id, "boot", node->life, 0, 0);
    node->clock_base = sim_between(world, SIM_CLOCKS, 1, 100000000);
    node->wanted = 0;
    node->committed_at = world->now;
    node->tick_at = 0;
    memset(&node->status, 0, sizeof(node->status));
    if (!boot_log(node, members, &found) || !boot_state(node))
        return;
    struct kt_state_position position = kt_state_applied(node->state);
    node->boot_applied = position.index;
    if (node->cluster->options.plant == SIM_PLANT_LOST_VOTE)
        found.vote = 0;
    struct kt_replica_options options = {
        .self = node->id,
        .members = members,
        .member_count = node->cluster->options.nodes,
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .random_seed = kt_random_next(&world->random[SIM_CLOCKS]),
        .now_ms = sim_node_clock(node),
        .log = found,
        .applied = position.index,
        .applied_term = position.term,
        .host = {.data = node,
                 .send = host_send,
                 .persist = host_persist,
                 .fetch = host_fetch,
                 .apply = host_apply,
                 .want = host_want,
                 .wall = host_wall,
                 .fatal = host_fatal,
                 .changed = host_changed},
        .term_of = boot_term_of,
        .read = boot_read,
    };
    enum kt_code code = kt_replica_create(&options, &node->replica, &error);
    if (code != KT_OK) {
        sim_fail(world, "node %llu cannot start: %s", id_of(node), error.text);
        return;
    }
    node->up = true;
    sim_node_turn(node);
}

/* What the host holds goes back, so that its owner can free it; nothing that the replica does now has an effect. */
static void give_back(struct sim_node *node)
{
    bool again = true;
    while (again) {
        struct kt_log_write *write;
        struct kt_log_read *fetch;
        struct kt_apply_batch *batch;
        again = false;
        while ((write = write_take(&node->completed)) || (write = write_take(&node->group)) ||
               (write = write_take(&node->writes))) {
            write->code = KT_OK;
            kt_replica_persisted(node->replica, write);
            again = true;
        }
        while ((fetch = fetch_take(&node->fetches))) {
            fetch->count = 0;
            fetch->code = KT_NOT_FOUND;
            kt_replica_fetched(node->replica, fetch);
            again = true;
        }
        while ((batch = batch_take(&node->applied)) || (batch = batch_take(&node->batches))) {
            kt_replica_applied(node->replica, batch);
            again = true;
        }
    }
}

void sim_node_crash(struct sim_node *node, bool power)
{
    struct sim_world *world = world_of(node);
    sim_note(world, node->id, power ? "power loss" : "crash", node->life, 0, 0);
    node->life++;
    node->up = false;
    node->dying = true;
    node->paused_until = 0;
    node->power_lost = power;
    if (node->replica) {
        give_back(node);
        kt_replica_free(node->replica);
        node->replica = NULL;
    }
    if (node->state) {
        kt_state_close(node->state);
        node->state = NULL;
    }
    if (node->wal) {
        kt_wal_close(node->wal);
        node->wal = NULL;
    }
    node->dying = false;
    node->vote_due = node->turn_due = node->said_full = node->writer_busy = node->applier_busy = node->commit_due =
        false;
    sim_network_down(&node->cluster->network, node->number, power);
    node->doomed = node->doom_came = false;
    kt_memory_disk_stop_at(node->disk, 0);
    if (!power) {
        kt_memory_disk_kill(node->disk);
    } else {
        kt_memory_disk_crash(node->disk);
        if (node->saved && sim_chance(world, SIM_DISK, 50)) {
            restore_copy(node);
            node->cluster->counts.restored++;
        }
    }
}

void sim_node_pause(struct sim_node *node, sim_us span)
{
    struct sim_world *world = world_of(node);
    node->paused_until = KT_MAX(node->paused_until, world->now + span);
    sim_note(world, node->id, "pause", span, 0, 0);
}

void sim_node_disk_full(struct sim_node *node, bool full)
{
    sim_note(world_of(node), node->id, full ? "disk fills" : "disk has room", 0, 0, 0);
    node->disk_full = full;
    kt_memory_disk_space(node->disk, full ? 0 : UINT64_MAX);
}

void sim_node_doom(struct sim_node *node, uint64_t n)
{
    sim_note(world_of(node), node->id, "doom", n, 0, 0);
    node->doomed = n != 0;
    kt_memory_disk_stop_at(node->disk, n);
}
