/* The host of a simulated node's replica: log writer, log reader and applier without their threads. */
#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster.h"
#include "cluster/node/applier.h"
#include "cluster/node/peer_frame.h"

#define LOW_AFTER_MS 700  /* between a disk that is not full any more and one that has enough room */
#define COMMIT_MS    5u   /* the applier commits at least this often while it is busy */
#define MARK_MS      100u /* the log writer notes how far the log is synced after so long without work */
#define RECORD_MAX   80u  /* bytes that a record has around its payload, at most, with a truncation before it */

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

/* ---- Virtual log writer: cluster/log/log_writer.c without its thread ---- */

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

/* An idle moment: what was synced is noted, and the next segment made ready. */
static void writer_idle(struct sim_event *event)
{
    struct sim_node *node = event->node;
    enum kt_code code = KT_OK;
    if (node->writer_busy || event->number != kt_wal_last(node->wal))
        return;
    code = kt_wal_mark(node->wal);
    if (code != KT_OK)
        sim_node_failed(node, "marking the log failed", code);
}

/* Segments that a write of the group makes superfluous. */
static enum kt_code writer_trim(struct sim_node *node)
{
    kt_index index = 0;
    for (struct kt_task *task = node->group.first; task; task = task->next)
        index = KT_MAX(index, KT_CONTAINER(task, struct kt_log_write, task)->trim);
    if (index == 0)
        return KT_OK;
    sim_check_trimming(node, index);
    node->cluster->counts.trims++;
    return kt_wal_trim(node->wal, index);
}

static void writer_sync(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    enum kt_code code = kt_wal_sync(node->wal);
    if (code != KT_OK) {
        sim_node_failed(node, "sync failed", code);
        return;
    }
    sim_check_synced(node);
    node->recent_bytes = node->group_bytes;
    node->group_bytes = 0;
    code = writer_trim(node);
    if (code != KT_OK) {
        sim_node_failed(node, "trimming failed", code);
        return;
    }
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
        sim_node_failed(node, "preparing a segment failed", code);
    sim_schedule(world, SIM_MS(MARK_MS), node, writer_idle, NULL)->number = kt_wal_last(node->wal);
}

static void full_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    sim_note(world_of(node), node->id, event->number ? "disk full" : "disk not full", 0, 0, 0);
    sim_node_enter(node);
    kt_replica_disk_full(node->replica, event->number != 0);
    sim_node_turn(node);
}

static void low_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    bool low = event->number != 0;
    if (!sim_node_runs(node) || (!low && node->disk_full))
        return; /* or it filled up again meanwhile */
    sim_note(world_of(node), node->id, low ? "disk low" : "disk not low", 0, 0, 0);
    sim_node_enter(node);
    kt_replica_disk_low(node->replica, low);
    sim_node_turn(node);
}

/* A disk is low before it is full, and for a while after. */
void sim_node_tell_low(struct sim_node *node, bool low)
{
    if (node->up)
        sim_schedule(world_of(node), low ? 0 : SIM_MS(LOW_AFTER_MS), node, low_told, NULL)->number = low;
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
    if (code == KT_OK && write->count) {
        code = kt_wal_append(node->wal, write->entries, write->count);
        for (size_t i = 0; i < write->count; i++)
            node->group_bytes += write->entries[i].data.len + RECORD_MAX;
    }
    *full = code == KT_DISK_FULL;
    if (!*full)
        sim_check_appended(node, write->count);
    queue_put(code == KT_OK ? &node->group : &node->refused, &write->task);
    if (code != KT_OK && !*full)
        sim_node_failed(node, "writing failed", code);
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

/* What a power loss may bring back. */
static void save_copy(struct sim_node *node)
{
    const char *path = sim_folder_path(node->folder, "state.mdb");
    FILE *file = fopen(path, "rb");
    KT_CHECK(file && fseek(file, 0, SEEK_END) == 0);
    size_t len = (size_t)ftell(file);
    node->saved = kt_realloc(node->saved, len);
    KT_CHECK(fseek(file, 0, SEEK_SET) == 0 && fread(node->saved, 1, len, file) == len);
    node->saved_len = len;
    node->saved_index = kt_state_visible(node->state);
    node->saved_whole = node->harm != SIM_ALTERED;
    snprintf(node->saved_path, sizeof(node->saved_path), "%s", path);
    fclose(file);
}

void sim_host_synced_state(struct sim_node *node)
{
    if (node->saved && node->saved_index < kt_state_visible(node->state))
        save_copy(node);
}

void sim_host_commit(struct sim_node *node)
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
    sim_host_commit(event->node);
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
        sim_host_commit(node);
    } else if (!node->batches.first) {
        node->commit_due = true;
        sim_schedule(world, sim_below(world, SIM_APPLY, 3000), node, commit_turn, NULL);
    }
}

/* One entry, through the code that the applier's thread runs, so that the state can be looked at behind it. */
static bool apply_item(struct sim_node *node, struct kt_apply_batch *whole, struct kt_apply_item *item)
{
    struct kt_apply_batch one = {.items = item, .count = 1};
    struct kt_error error;
    kt_index before = kt_state_applied(node->state).index;
    bool wanted = item->wanted;
    if (item->entry.index != before + 1) {
        sim_fail(world_of(node), "node %llu is given entry %llu to apply, its state stands at %llu", id_of(node),
                 (unsigned long long)item->entry.index, (unsigned long long)before);
        return false;
    }
    item->wanted = true;
    enum kt_code code = kt_apply_batch(node->state, &one, &error);
    item->wanted = wanted;
    if (code != KT_OK)
        sim_fail(world_of(node), "node %llu cannot apply entry %llu: %s", id_of(node),
                 (unsigned long long)item->entry.index, error.text);
    else
        sim_check_applied(node, &item->entry, &item->reply, kt_state_applied(node->state));
    if (one.check_index != 0) {
        whole->check_index = one.check_index;
        whole->check_hash = one.check_hash;
    }
    return code == KT_OK && !world_of(node)->failed;
}

static void applier_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    struct kt_apply_batch *batch = batch_take(&node->batches);
    bool well = true;
    for (size_t i = 0; i < batch->count && well; i++)
        well = apply_item(node, batch, &batch->items[i]);
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
    sim_check_sent(node, kt_buf_slice(frame));
    return sim_network_send(&node->cluster->network, node->number, (unsigned)to - 1, frame);
}

static kt_time_ms host_wall(void *data)
{
    return sim_node_wall(data);
}

/* The log cannot be read, perhaps because of a bit that was flipped: the process ends, and the next start finds out. */
static void host_fatal(void *data, enum kt_code code, const char *text)
{
    struct sim_node *node = data;
    if (node->dying)
        return;
    sim_note_text(world_of(node), node->id, text);
    if (code == KT_CORRUPT && node->harm == SIM_FLIPPED)
        sim_node_end_soon(node, 0, false);
    else if (!node->doom_came)
        sim_fail(world_of(node), "node %llu gave up: %s: %s", id_of(node), kt_code_name(code), text);
}

/* As runtime_host.c: a diverged state is condemned, then the process ends. */
static void host_end(void *data, enum kt_end why, const char *text)
{
    struct sim_node *node = data;
    struct kt_error error;
    if (node->dying)
        return;
    sim_note_text(world_of(node), node->id, text);
    sim_check_ended(node, why, text);
    if (why == KT_END_DIVERGED) {
        enum kt_code code = kt_boot_condemn(&node->boot, &error);
        if (code != KT_OK) {
            sim_node_failed(node, error.text, code);
            return;
        }
        node->condemned = true;
    }
    sim_node_end_soon(node, sim_below(world_of(node), SIM_CLOCKS, SIM_MS(20)), false);
}

static void host_fetch_state(void *data, kt_node_id from, kt_index index)
{
    struct sim_node *node = data;
    if (!node->dying)
        sim_transfer_start(node, (unsigned)from - 1, index);
}

static void host_changed(void *data)
{
    struct sim_node *node = data;
    sim_node_turn(node);
}

/* What the host holds goes back, so that its owner can free it; nothing that the replica does now has an effect. */
void sim_host_give_back(struct sim_node *node)
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

void sim_host_fill(struct sim_node *node, struct kt_replica_host *host)
{
    *host = (struct kt_replica_host){.data = node,
                                     .send = host_send,
                                     .persist = host_persist,
                                     .fetch = host_fetch,
                                     .apply = host_apply,
                                     .want = host_want,
                                     .wall = host_wall,
                                     .fatal = host_fatal,
                                     .changed = host_changed,
                                     .fetch_state = host_fetch_state,
                                     .end = host_end};
}
