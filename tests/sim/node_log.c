/* The virtual log writer (cluster/log/log_writer.c without its thread) and the virtual log reader. */
#include "node_internal.h"

#include "base/check.h"

static void doom_comes(struct sim_event *event)
{
    struct sim_node *node = event->data;
    if (node->up && node->life == event->number)
        sim_faults_crash(node, true);
}

void sim_node_log_failed(struct sim_node *node, const char *what, enum kt_code code)
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
        sim_node_log_failed(node, "sync failed", code);
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
        sim_node_log_failed(node, "preparing a segment failed", code);
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
        sim_node_log_failed(node, "writing failed", code);
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

void sim_node_persist(void *data, struct kt_log_write *write)
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

void sim_node_fetch(void *data, struct kt_log_read *read)
{
    struct sim_node *node = data;
    queue_put(&node->fetches, &read->task);
    /* The same for all of a node, so that they end in the order in which they began. */
    if (!node->dying)
        sim_schedule(world_of(node), 50 * node->slow_disk, node, fetch_done, NULL);
}
