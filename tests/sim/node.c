#include "node.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/plant.h"
#include "cluster.h"

#define WALL_START_MS 1767225600000u /* 2026-01-01: any time will do */
#define ELECTION_MS   300u
#define HEARTBEAT_MS  60u
#define WATCH_MS      50u /* slow things are looked at, as cluster.c does */

static struct sim_world *world_of(const struct sim_node *node)
{
    return &node->cluster->world;
}

static unsigned long long id_of(const struct sim_node *node)
{
    return (unsigned long long)node->id;
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

bool sim_node_runs(const struct sim_node *node)
{
    return node->up && node->replica != NULL;
}

void sim_node_enter(struct sim_node *node)
{
    if (node->replica)
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
    if (node->turn_due || node->dying || !node->replica)
        return;
    node->turn_due = true;
    sim_schedule(world_of(node), sim_below(world_of(node), SIM_CLOCKS, 30), node, node_turn, NULL);
}

/* ---- The network ---- */

void sim_node_received(struct sim_node *node, kt_node_id from, struct kt_slice frame)
{
    sim_note(world_of(node), node->id, "receive", from, frame.len, 0);
    if (node->founding) {
        kt_founding_received(node->founding, from, frame);
        return;
    }
    sim_node_enter(node);
    kt_replica_received(node->replica, from, frame);
    sim_node_turn(node);
}

void sim_node_connected(struct sim_node *node, kt_node_id peer)
{
    sim_note(world_of(node), node->id, "connected", peer, 0, 0);
    node->peers |= 1ull << peer;
    if (node->founding) {
        kt_founding_connected(node->founding, peer);
        return;
    }
    sim_node_enter(node);
    kt_replica_connected(node->replica, peer);
    sim_node_turn(node);
}

void sim_node_disconnected(struct sim_node *node, kt_node_id peer)
{
    sim_note(world_of(node), node->id, "disconnected", peer, 0, 0);
    node->peers &= ~(1ull << peer);
    if (node->founding) {
        kt_founding_disconnected(node->founding, peer);
        return;
    }
    sim_node_enter(node);
    kt_replica_disconnected(node->replica, peer);
    sim_node_turn(node);
}

/* ---- What cluster.c looks at from time to time: the disk, and whether the log can be trimmed ---- */

static void trim_ready(struct sim_event *event)
{
    struct sim_node *node = event->node;
    kt_index durable = (kt_index)(uintptr_t)event->data;
    if (!KT_PLANTED("trim-unsynced"))
        sim_host_synced_state(node);
    sim_node_enter(node);
    if (durable > 1)
        kt_replica_trim(node->replica, durable, KT_MIN(event->number, durable - 1));
    sim_node_turn(node);
}

static void trim_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    sim_node_enter(node);
    kt_replica_disk_low(node->replica, node->disk_low);
    sim_node_turn(node);
    kt_index to = kt_wal_trim_point(node->wal, node->log_keep);
    if (to != 0) {
        sim_us latency = sim_latency(world, SIM_DISK, node->sync_low, node->sync_high) * node->slow_disk;
        void *durable = (void *)(uintptr_t)kt_state_visible(node->state);
        sim_schedule(world, latency, node, trim_ready, durable)->number = to;
    }
    sim_schedule(world, node->trim_pause, node, trim_turn, NULL);
}

/* ---- Coming up ---- */

static const struct kt_member members[SIM_NODES_MAX] = {
    {.id = 1, .address = "a:1"}, {.id = 2, .address = "b:1"}, {.id = 3, .address = "c:1"},
    {.id = 4, .address = "d:1"}, {.id = 5, .address = "e:1"},
};

void sim_node_init(struct sim_node *node, struct sim_cluster *cluster, unsigned number)
{
    struct sim_world *world = &cluster->world;
    char place[200];
    memset(node, 0, sizeof(*node));
    node->cluster = cluster;
    node->number = number;
    node->id = number + 1;
    snprintf(place, sizeof(place), "%s/node-%u", cluster->options.folder, number + 1);
    node->folder = sim_folder_create(world, place, cluster->options.seed * 31 + number * 1000);
    node->slow_disk = 1;
    node->sync_low = sim_between(world, SIM_DISK, 30, 500);
    node->sync_high = node->sync_low + sim_between(world, SIM_DISK, 100, 10000);
    node->apply_us = sim_between(world, SIM_APPLY, 1, 30);
    node->log_keep = cluster->log_keep;
    node->trim_pause = SIM_MS(sim_between(world, SIM_DISK, 100, 1000));
    node->wall_offset_ms = (int64_t)sim_below(world, SIM_CLOCKS, 4000) - 2000;
}

void sim_node_release(struct sim_node *node)
{
    sim_node_crash(node, false);
    sim_folder_free(node->folder);
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

static void boot_replica(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    struct kt_state_position position = kt_state_applied(node->state);
    struct kt_state_members known = kt_state_members(node->state);
    struct kt_error error;
    struct kt_replica_options options = {
        .self = node->id,
        .member = node->boot.member,
        .members = members,
        .member_count = node->cluster->options.nodes,
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .random_seed = kt_random_next(&world->random[SIM_CLOCKS]),
        .now_ms = sim_node_clock(node),
        .log = node->boot.found,
        .state = {.index = position.index,
                  .term = position.term,
                  .configuration_index = known.index,
                  .configuration = known.configuration,
                  .founding = known.founding},
        .term_of = boot_term_of,
        .read = boot_read,
    };
    sim_host_fill(node, &options.host);
    enum kt_code code = kt_replica_create(&options, &node->replica, &error);
    if (code != KT_OK) {
        if (code == KT_CORRUPT && node->harm == SIM_FLIPPED)
            sim_node_end_soon(node, 0, false);
        else
            sim_fail(world, "node %llu cannot start: %s", id_of(node), error.text);
        return;
    }
    for (unsigned i = 0; i < node->cluster->options.nodes; i++)
        if (node->peers >> (i + 1) & 1)
            kt_replica_connected(node->replica, i + 1);
    sim_schedule(world, node->trim_pause, node, trim_turn, NULL);
    sim_node_turn(node);
}

static bool founding_send(void *data, kt_node_id to, struct kt_buf *frame)
{
    struct sim_node *node = data;
    return sim_network_send(&node->cluster->network, node->number, (unsigned)to - 1, frame);
}

/* As runtime_start.c. */
static void found_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    struct kt_error error;
    enum kt_founding_outcome outcome = kt_founding_outcome(node->founding);
    if (outcome == KT_FOUNDING_WAITS) {
        if (world->now >= node->greeted_at + SIM_MS(KT_FOUNDING_MS)) {
            node->greeted_at = world->now;
            kt_founding_tick(node->founding);
        }
        sim_schedule(world, SIM_MS(WATCH_MS), node, found_turn, NULL);
        return;
    }
    sim_note(world, node->id, outcome == KT_FOUNDING_FOUNDED ? "founded" : "joins", 0, 0, 0);
    sim_check_founding(node, outcome == KT_FOUNDING_FOUNDED);
    sim_faults_at_founding(node);
    enum kt_code code = kt_founding_settle(node->founding, &node->boot, &error);
    if (code != KT_OK) {
        sim_node_failed(node, error.text, code);
        return;
    }
    sim_check_founded(node);
    node->recent_bytes = SIM_SEGMENT_BYTES; /* the founding entry is the last one synced */
    kt_founding_free(node->founding);
    node->founding = NULL;
    boot_replica(node);
}

static void boot_founding(struct sim_node *node)
{
    struct kt_founding_options options = {.self = node->id,
                                          .member = node->boot.member,
                                          .members = members,
                                          .member_count = node->cluster->options.nodes,
                                          .send = founding_send,
                                          .data = node};
    node->founding = kt_founding_create(&options);
    node->greeted_at = 0;
    sim_schedule(world_of(node), SIM_MS(WATCH_MS), node, found_turn, NULL);
}

static bool boot_data(struct sim_node *node)
{
    struct kt_boot_options options = {
        .folder = "data",
        .self = node->id,
        .segment_bytes = SIM_SEGMENT_BYTES,
        .state = {.store = {.bytes_max = 64u << 20, .volatile_data = true}},
        .disks = sim_folder_disks(node->folder),
        .seed = kt_random_next(&world_of(node)->random[SIM_CLOCKS]) | 1,
    };
    struct kt_error error;
    /* Data that is there and whole must be reached without any room. */
    bool plain = node->cluster->check.books[node->number].stored && sim_folder_has(node->folder, "log") &&
                 !node->condemned && !node->adopting && node->harm != SIM_FLIPPED;
    enum kt_code code = kt_boot(&options, &node->boot, &error);
    if (code == KT_DISK_FULL && plain)
        sim_fail(world_of(node), "node %llu does not start on a full disk: %s", id_of(node), error.text);
    if (code != KT_OK) {
        sim_node_failed(node, error.text, code);
        return false;
    }
    const char *path = sim_folder_path(node->folder, "state.mdb");
    node->adopted = node->adopting && strcmp(node->state_path, path) != 0;
    snprintf(node->state_path, sizeof(node->state_path), "%s", path);
    node->wal = node->boot.wal;
    node->state = node->boot.state;
    KT_CHECK(kt_store_space(kt_state_store(node->state), "machine.instance", &node->instances, &error) == KT_OK);
    sim_check_booted(node);
    return !world_of(node)->failed;
}

void sim_node_boot(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    KT_CHECK(!node->up);
    sim_note(world, node->id, "boot", node->life, 0, 0);
    node->clock_base = sim_between(world, SIM_CLOCKS, 1, 100000000);
    node->wanted = 0;
    node->committed_at = world->now;
    node->tick_at = 0;
    node->peers = 0;
    node->group_bytes = node->recent_bytes = 0;
    memset(&node->status, 0, sizeof(node->status));
    if (!boot_data(node))
        return;
    node->boot_applied = kt_state_applied(node->state).index;
    node->up = true;
    if (node->boot.founded)
        boot_replica(node);
    else
        boot_founding(node);
}

/* ---- The end ---- */

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
        sim_host_give_back(node);
        kt_replica_free(node->replica);
        node->replica = NULL;
    }
    kt_founding_free(node->founding);
    node->founding = NULL;
    kt_boot_close(&node->boot);
    node->state = NULL;
    node->wal = NULL;
    node->dying = false;
    node->transfer.under_way = false;
    node->vote_due = node->turn_due = node->said_full = node->writer_busy = node->applier_busy = node->commit_due =
        false;
    sim_network_down(&node->cluster->network, node->number, power);
    node->write_failed = node->doom_came;
    node->doomed = node->doom_came = node->sync_fails = false;
    sim_folder_crash(node->folder, power);
    if (power && node->saved && sim_folder_has(node->folder, "state.mdb") &&
        strcmp(node->saved_path, sim_folder_path(node->folder, "state.mdb")) == 0 && sim_chance(world, SIM_DISK, 50)) {
        FILE *file = fopen(node->saved_path, "wb");
        KT_CHECK(file && fwrite(node->saved, 1, node->saved_len, file) == node->saved_len);
        KT_CHECK(fclose(file) == 0);
        node->cluster->counts.restored++;
        /* What was altered since is gone with it, unless it is in entries that were applied behind it. */
        if (node->harm == SIM_ALTERED && node->saved_whole && !node->condemned) {
            node->harm = SIM_WHOLE;
            node->diverged_at = 0;
        }
    }
}

static void end_comes(struct sim_event *event)
{
    struct sim_node *node = event->data;
    if (node->up && node->life == event->number / 2)
        sim_faults_crash(node, event->number % 2 != 0);
}

void sim_node_end_soon(struct sim_node *node, sim_us delay, bool power)
{
    sim_schedule(world_of(node), delay, NULL, end_comes, node)->number = node->life * 2 + power;
}

void sim_node_failed(struct sim_node *node, const char *what, enum kt_code code)
{
    struct sim_world *world = world_of(node);
    sim_note_text(world, node->id, what);
    sim_note(world, node->id, "failed", (uint64_t)code, 0, 0);
    bool excused = node->doomed || node->sync_fails || (code == KT_DISK_FULL && node->disk_full);
    if (!excused)
        sim_fail(world, "node %llu: %s: %s", id_of(node), what, kt_code_name(code));
    else if (node->up && !node->doom_came)
        sim_node_end_soon(node, 0, node->doomed);
    node->doom_came = true;
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
    sim_node_tell_low(node, full);
    sim_folder_full(node->folder, full);
}

void sim_node_doom(struct sim_node *node, uint64_t n)
{
    struct kt_memory_disk *log = sim_folder_log(node->folder);
    sim_note(world_of(node), node->id, "doom", n, 0, 0);
    node->doomed = n != 0;
    sim_folder_stop_at(node->folder, n);
    /* One of them comes first, and takes the other with it. */
    if (log)
        kt_memory_disk_stop_at(log, n ? sim_between(world_of(node), SIM_DISK, 1, n) : 0);
}

void sim_node_fail_sync(struct sim_node *node, unsigned n)
{
    struct kt_memory_disk *log = sim_folder_log(node->folder);
    if (!log)
        return;
    sim_note(world_of(node), node->id, "sync will fail", n, 0, 0);
    node->sync_fails = n != 0;
    kt_memory_disk_fail_sync(log, n);
}
