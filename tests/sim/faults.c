#include "faults.h"

#include "base/check.h"
#include "cluster.h"

#define KEEP_BYTES (4u << 20) /* of the log, once all is calm: nobody has to fetch a state because of some entries */

enum fault {
    FAULT_CRASH,
    FAULT_POWER,
    FAULT_DOOM,      /* the power goes in the middle of a disk operation to come */
    FAULT_ALL_POWER, /* of several nodes at once */
    FAULT_ISOLATE,
    FAULT_SPLIT,
    FAULT_ONE_WAY,
    FAULT_BREAK,
    FAULT_PAUSE,
    FAULT_SLOW_DISK,
    FAULT_FULL_DISK,
    FAULT_ODD,  /* wall clock jumps, planned hand-over */
    FAULT_SYNC, /* one fails */
    FAULT_WIPE,
    FAULT_FLIP,
    FAULT_ALTER,
    FAULT_KINDS
};

_Static_assert(FAULT_KINDS == sizeof((struct sim_faults){0}.weights) / sizeof(unsigned), "a weight for each");

void sim_faults_init(struct sim_faults *faults, struct sim_cluster *cluster)
{
    static const unsigned usual[FAULT_KINDS] = {10, 12, 6, 3, 12, 8, 8, 10, 10, 6, 5, 10, 4, 6, 6, 6};
    struct sim_world *world = &cluster->world;
    memset(faults, 0, sizeof(*faults));
    faults->cluster = cluster;
    faults->pause = SIM_MS(sim_between(world, SIM_FAULTS, 150, 1500));
    faults->bias = (unsigned)sim_below(world, SIM_FAULTS, 60);
    /* Each run leaves out some kinds and prefers others: rare meetings become likely in some run. */
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        faults->weights[i] = usual[i] * (unsigned)sim_below(world, SIM_FAULTS, 4);
}

static struct sim_world *world_of(struct sim_faults *faults)
{
    return &faults->cluster->world;
}

static uint64_t dice(struct sim_faults *faults, uint64_t low, uint64_t high)
{
    return sim_between(world_of(faults), SIM_FAULTS, low, high);
}

/* Mostly short, sometimes long. */
static sim_us some_span(struct sim_faults *faults, unsigned low_ms, unsigned high_ms)
{
    return sim_latency(world_of(faults), SIM_FAULTS, SIM_MS(low_ms), SIM_MS(high_ms));
}

/* ---- Crashes ---- */

static void restart(struct sim_event *event)
{
    struct sim_node *node = event->data;
    if (node->up || node->life != event->number)
        return;
    sim_node_boot(node);
    /* Power that goes while the log recovers. */
    if (!node->up && !node->cluster->world.failed)
        sim_faults_crash(node, true);
}

void sim_faults_crash(struct sim_node *node, bool power)
{
    struct sim_faults *faults = &node->cluster->faults;
    if (node->cluster->world.failed)
        return;
    node->cluster->counts.crashes++;
    if (power)
        node->cluster->counts.power_losses++;
    sim_node_crash(node, power);
    sim_us down = faults->on ? some_span(faults, 5, 4000) : 0;
    sim_schedule(world_of(faults), down, NULL, restart, node)->number = node->life;
}

/* ---- Partitions ---- */

static void burst(struct sim_event *event)
{
    struct sim_faults *faults = event->data;
    sim_clients_poke(&faults->cluster->clients);
}

/* Requests go on coming, also to whoever is cut off. */
static void bursts(struct sim_faults *faults, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        sim_schedule(world_of(faults), SIM_MS(i * 5), NULL, burst, faults);
}

static void heal(struct sim_event *event);

static void cut(struct sim_faults *faults, unsigned a, unsigned b, bool both)
{
    sim_network_block(&faults->cluster->network, a, b, true);
    if (both)
        sim_network_block(&faults->cluster->network, b, a, true);
}

static void isolate(struct sim_event *event)
{
    struct sim_faults *faults = event->data;
    unsigned node = (unsigned)event->number;
    if (!faults->on)
        return;
    faults->cluster->counts.partitions++;
    for (unsigned peer = 0; peer < faults->cluster->options.nodes; peer++)
        if (peer != node)
            cut(faults, node, peer, true);
    bursts(faults, 3);
    sim_schedule(world_of(faults), SIM_MS(dice(faults, 350, 1000)), NULL, heal, faults);
}

/*
 * Two leaders at once: the old one keeps touch with everybody but the new one, over fresh connections, in which nothing
 * of its past waits to be refused. For a moment nobody has told it that it is deposed; what it answers then must be
 * right.
 */
static void keep_apart(struct sim_faults *faults, unsigned old, unsigned new)
{
    struct sim_network *network = &faults->cluster->network;
    for (unsigned peer = 0; peer < faults->cluster->options.nodes; peer++) {
        if (peer == old)
            continue;
        sim_network_break(network, old, peer);
        sim_network_block(network, old, peer, peer == new);
        sim_network_block(network, peer, old, peer == new);
        if (peer != new)
            sim_network_connect(network, old, peer);
    }
    sim_schedule(world_of(faults), some_span(faults, 50, 1000), NULL, heal, faults);
    bursts(faults, 12);
}

static void heal(struct sim_event *event)
{
    struct sim_faults *faults = event->data;
    sim_network_heal(&faults->cluster->network);
}

static void partition(struct sim_faults *faults, unsigned node, enum fault fault)
{
    unsigned nodes = faults->cluster->options.nodes;
    uint64_t side = fault == FAULT_ISOLATE ? 1u << node : dice(faults, 1, (1u << nodes) - 2);
    faults->cluster->counts.partitions++;
    bursts(faults, (unsigned)dice(faults, 0, 4));
    for (unsigned a = 0; a < nodes; a++) {
        for (unsigned b = 0; b < nodes; b++) {
            bool apart = (side >> a & 1) && !(side >> b & 1);
            if (fault == FAULT_ONE_WAY)
                apart = a != b && (a == node || b == node) && sim_chance(world_of(faults), SIM_FAULTS, 40);
            if (apart)
                cut(faults, a, b, fault != FAULT_ONE_WAY);
        }
    }
    /* Half of them are just long enough for a new leader, and for the old one to come back with what it alone has. */
    sim_us span =
        sim_chance(world_of(faults), SIM_FAULTS, 50) ? SIM_MS(dice(faults, 300, 1200)) : some_span(faults, 20, 4000);
    sim_schedule(world_of(faults), span, NULL, heal, faults);
}

/* ---- Disks and clocks ---- */

static void disk_better(struct sim_event *event)
{
    struct sim_node *node = event->data;
    node->slow_disk = 1;
    node->disk_low = false;
    if (node->disk_full)
        sim_node_disk_full(node, false);
}

static void disk_worse(struct sim_faults *faults, struct sim_node *node, bool full)
{
    if (full) {
        faults->cluster->counts.full_disks++;
        node->disk_low = sim_chance(world_of(faults), SIM_FAULTS, 50);
        if (!node->disk_low || sim_chance(world_of(faults), SIM_FAULTS, 50))
            sim_node_disk_full(node, true);
    } else {
        faults->cluster->counts.slow_disks++;
        node->slow_disk = (unsigned)dice(faults, 2, 100);
        node->stall = sim_chance(world_of(faults), SIM_FAULTS, 60) ? SIM_MS(dice(faults, 300, 2500)) : 0;
        sim_note(world_of(faults), node->id, "slow disk", node->slow_disk, node->stall, 0);
        /* Cut off with writes under way, it comes back to entries that replace them. */
        if (sim_chance(world_of(faults), SIM_FAULTS, 60))
            sim_schedule(world_of(faults), SIM_MS(dice(faults, 0, 30)), NULL, isolate, faults)->number = node->number;
    }
    sim_schedule(world_of(faults), some_span(faults, 50, 3000), NULL, disk_better, node);
}

static void odd(struct sim_faults *faults, struct sim_node *node)
{
    if (sim_chance(world_of(faults), SIM_FAULTS, 50)) {
        faults->cluster->counts.clock_jumps++;
        node->wall_offset_ms += (int64_t)dice(faults, 0, 20000) - 10000;
        return;
    }
    if (sim_node_runs(node) && node->paused_until <= world_of(faults)->now) {
        faults->cluster->counts.resigns++;
        sim_note(world_of(faults), node->id, "resign", 0, 0, 0);
        sim_node_enter(node);
        kt_replica_resign(node->replica);
        sim_node_turn(node);
    }
}

/* ---- Damage at rest ---- */

/*
 * At most one node at a time, and only while all others are whole and voters: what is lost here is never the last copy
 * of anything. That stays so until the node is a voter again itself.
 */
static void harm(struct sim_faults *faults, struct sim_node *node, enum fault fault)
{
    struct sim_cluster *cluster = faults->cluster;
    if (!sim_check_whole(cluster))
        return;
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        cluster->nodes[i].harm = SIM_WHOLE;
    if (fault == FAULT_WIPE) {
        sim_harm_wipe(node);
    } else if (fault == FAULT_FLIP && sim_harm_flip(node)) {
        /* A start finds it, if no reader does. */
        sim_node_end_soon(node, some_span(faults, 0, 3000), sim_chance(world_of(faults), SIM_FAULTS, 50));
    } else if (fault == FAULT_ALTER) {
        sim_harm_alter(node);
    }
}

/* ---- The schedule ---- */

static unsigned leader_now(struct sim_faults *faults)
{
    unsigned found = (unsigned)dice(faults, 0, faults->cluster->options.nodes - 1);
    for (unsigned i = 0; i < faults->cluster->options.nodes; i++)
        if (faults->cluster->nodes[i].up && faults->cluster->nodes[i].status.role == KT_LEADER)
            found = i;
    return found;
}

static enum fault some_fault(struct sim_faults *faults)
{
    unsigned total = 0;
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        total += faults->weights[i];
    unsigned choice = (unsigned)sim_below(world_of(faults), SIM_FAULTS, total);
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        if (choice < faults->weights[i])
            return (enum fault)i;
        choice -= faults->weights[i];
    }
    return FAULT_BREAK;
}

static void inject(struct sim_faults *faults, unsigned number)
{
    struct sim_cluster *cluster = faults->cluster;
    struct sim_node *node = &cluster->nodes[number];
    enum fault fault = some_fault(faults);
    switch (fault) {
    case FAULT_CRASH:
    case FAULT_POWER:
        if (node->up)
            sim_faults_crash(node, fault == FAULT_POWER);
        break;
    case FAULT_DOOM:
        sim_node_doom(node, dice(faults, 1, 12));
        break;
    case FAULT_ALL_POWER:
        for (unsigned i = 0; i < cluster->options.nodes; i++)
            if (cluster->nodes[i].up && sim_chance(&cluster->world, SIM_FAULTS, 70))
                sim_faults_crash(&cluster->nodes[i], true);
        break;
    case FAULT_ISOLATE:
    case FAULT_SPLIT:
    case FAULT_ONE_WAY:
        partition(faults, number, fault);
        break;
    case FAULT_BREAK:
        cluster->counts.breaks++;
        sim_network_break(&cluster->network, number,
                          (number + (unsigned)dice(faults, 1, cluster->options.nodes - 1)) % cluster->options.nodes);
        break;
    case FAULT_PAUSE:
        cluster->counts.pauses++;
        if (node->up)
            sim_node_pause(node, some_span(faults, 10, 3000));
        break;
    case FAULT_SLOW_DISK:
    case FAULT_FULL_DISK:
        disk_worse(faults, node, fault == FAULT_FULL_DISK);
        break;
    case FAULT_ODD:
        odd(faults, node);
        break;
    case FAULT_SYNC:
        cluster->counts.sync_failures++;
        sim_node_fail_sync(node, (unsigned)dice(faults, 1, 20));
        break;
    case FAULT_WIPE:
    case FAULT_FLIP:
    case FAULT_ALTER:
        harm(faults, node, fault);
        break;
    case FAULT_KINDS:
        break;
    }
}

static void scheduled(struct sim_event *event)
{
    struct sim_faults *faults = event->data;
    unsigned nodes = faults->cluster->options.nodes;
    if (!faults->on)
        return;
    /* Half of them hit the leader. */
    unsigned number =
        sim_chance(world_of(faults), SIM_FAULTS, 50) ? leader_now(faults) : (unsigned)dice(faults, 0, nodes - 1);
    inject(faults, number);
    sim_schedule(world_of(faults), 1 + sim_below(world_of(faults), SIM_FAULTS, faults->pause * 2), NULL, scheduled,
                 faults);
}

static void at_once(struct sim_event *event)
{
    struct sim_faults *faults = event->data;
    if (faults->on)
        inject(faults, (unsigned)event->number);
}

/* With so many percent chance something happens to the node, or to some other, in the next moments. */
static void soon(struct sim_faults *faults, unsigned number, unsigned percent)
{
    if (!sim_chance(world_of(faults), SIM_FAULTS, percent))
        return;
    if (sim_chance(world_of(faults), SIM_FAULTS, 30))
        number = (unsigned)dice(faults, 0, faults->cluster->options.nodes - 1);
    sim_schedule(world_of(faults), some_span(faults, 0, 12), NULL, at_once, faults)->number = number;
}

/* Whether this node's view of the members is another than before. */
static bool members_changed(struct sim_faults *faults, const struct sim_node *node)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < node->status.peer_count; i++)
        hash = (hash ^ node->status.peers[i].member) * 0x9e3779b97f4a7c15u + node->status.peers[i].voter;
    bool changed = faults->members[node->number] != hash;
    faults->members[node->number] = hash;
    return changed;
}

void sim_faults_noticed(struct sim_node *node)
{
    struct sim_faults *faults = &node->cluster->faults;
    enum kt_role role = node->status.role, before = faults->role[node->number];
    bool serving = node->status.serving, served = faults->serving[node->number];
    faults->role[node->number] = role;
    faults->serving[node->number] = serving;
    if (members_changed(faults, node) && faults->on)
        soon(faults, node->number, faults->bias);
    if (!faults->on || (role == before && serving == served))
        return;
    sim_note(world_of(faults), node->id, "role", role, serving, node->status.term);
    for (unsigned i = 0; role == KT_LEADER && i < faults->cluster->options.nodes; i++) {
        struct sim_node *other = &faults->cluster->nodes[i];
        if (other != node && other->up && other->status.role == KT_LEADER && other->status.term < node->status.term &&
            sim_chance(world_of(faults), SIM_FAULTS, 40))
            keep_apart(faults, i, node->number);
    }
    if (role == KT_LEADER && sim_chance(world_of(faults), SIM_FAULTS, 50))
        sim_schedule(world_of(faults), sim_below(world_of(faults), SIM_FAULTS, 2000), NULL, burst, faults);
    soon(faults, node->number, faults->bias);
}

void sim_faults_at_founding(struct sim_node *node)
{
    struct sim_faults *faults = &node->cluster->faults;
    if (!faults->on || !sim_chance(world_of(faults), SIM_FAULTS, 10))
        return;
    /* A power cut while it begins: it meets several at different steps. */
    for (unsigned i = 0; i < faults->cluster->options.nodes; i++)
        if (sim_chance(world_of(faults), SIM_FAULTS, 70))
            sim_node_doom(&faults->cluster->nodes[i], dice(faults, 1, 12));
}

void sim_faults_at_transfer(struct sim_node *node)
{
    struct sim_faults *faults = &node->cluster->faults;
    if (faults->on)
        soon(faults, sim_chance(world_of(faults), SIM_FAULTS, 70) ? node->number : node->transfer.from, faults->bias);
}

void sim_faults_start(struct sim_faults *faults)
{
    faults->on = true;
    sim_schedule(world_of(faults), sim_below(world_of(faults), SIM_FAULTS, faults->pause), NULL, scheduled, faults);
}

void sim_faults_end(struct sim_faults *faults)
{
    struct sim_cluster *cluster = faults->cluster;
    faults->on = false;
    sim_note(world_of(faults), 0, "faults end", 0, 0, 0);
    sim_network_heal(&cluster->network);
    for (unsigned i = 0; i < cluster->options.nodes; i++) {
        struct sim_node *node = &cluster->nodes[i];
        node->slow_disk = 1;
        node->stall = 0; /* pauses run out by themselves */
        node->disk_low = false;
        node->log_keep = KEEP_BYTES;
        if (!node->doom_came)
            sim_node_doom(node, 0);
        if (node->disk_full)
            sim_node_disk_full(node, false);
        if (!node->doom_came)
            sim_node_fail_sync(node, 0);
        if (!node->up)
            sim_node_boot(node);
    }
}
