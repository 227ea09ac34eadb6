#include "node.h"

#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster/node/founding.h"
#include "node_internal.h"

#define WALL_START_MS 1767225600000u /* 2026-01-01: any time will do */
#define SEGMENT_BYTES (64u << 10)    /* the smallest: segments end often */
#define ELECTION_MS   300u
#define HEARTBEAT_MS  60u

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
        sim_node_log_failed(node, error.text, code);
        return false;
    }
    bool empty = found->last == 0;
    sim_check_recovered(node, found, node->power_lost);
    code = kt_founding_write(node->wal, members, node->cluster->options.nodes, found, &error);
    if (code != KT_OK) {
        sim_node_log_failed(node, error.text, code);
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
                 .persist = sim_node_persist,
                 .fetch = sim_node_fetch,
                 .apply = sim_node_apply,
                 .want = sim_node_want,
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
            sim_node_restore(node);
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
