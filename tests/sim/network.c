#include "network.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "node.h"

void sim_network_init(struct sim_network *network, struct sim_world *world, struct sim_node *nodes, unsigned count)
{
    memset(network, 0, sizeof(*network));
    network->world = world;
    network->nodes = nodes;
    network->count = count;
    network->latency_low = sim_between(world, SIM_NETWORK, 20, 400);
    network->latency_high = network->latency_low + sim_between(world, SIM_NETWORK, 50, 8000);
    network->dead = SIM_MS(sim_between(world, SIM_NETWORK, 300, 1500));
    network->reconnect = SIM_MS(sim_between(world, SIM_NETWORK, 20, 200));
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            network->ways[from][to].network = network;
            network->ways[from][to].from = from;
            network->ways[from][to].to = to;
        }
    }
}

static uint64_t *connection_of(struct sim_network *network, unsigned a, unsigned b)
{
    return &network->connections[KT_MIN(a, b)][KT_MAX(a, b)];
}

/* What was under way is lost. */
static void way_clear(struct sim_way *way)
{
    while (way->count > 0) {
        kt_buf_release(&way->frames[way->head].bytes);
        way->head = (way->head + 1) % way->cap;
        way->count--;
        way->network->frames_lost++;
    }
    way->waiting_since = 0;
}

void sim_network_release(struct sim_network *network)
{
    for (unsigned from = 0; from < network->count; from++) {
        for (unsigned to = 0; to < network->count; to++) {
            way_clear(&network->ways[from][to]);
            kt_free(network->ways[from][to].frames);
        }
    }
}

static void frame_free(struct sim_event *event)
{
    struct kt_buf *frame = event->data;
    kt_buf_release(frame);
    kt_free(frame);
}

/* The frame is in the receiver's hands; it may be paused, or dead by now. */
static void frame_arrived(struct sim_event *event)
{
    struct kt_buf *frame = event->data;
    sim_node_received(event->node, (kt_node_id)event->number + 1, kt_buf_slice(frame));
    frame_free(event);
}

static void way_pump(struct sim_way *way);

static void way_turn(struct sim_event *event)
{
    struct sim_way *way = event->data;
    way->pumping = false;
    way_pump(way);
}

/* Hands over what has arrived, and waits for the next. */
static void way_pump(struct sim_way *way)
{
    struct sim_world *world = way->network->world;
    while (way->count > 0 && !way->pumping) {
        struct sim_frame *frame = &way->frames[way->head];
        if (way->blocked) {
            if (!way->waiting_since)
                way->waiting_since = KT_MAX(frame->at, world->now);
            return;
        }
        if (frame->at > world->now) {
            way->pumping = true;
            sim_schedule(world, frame->at - world->now, NULL, way_turn, way);
            return;
        }
        struct kt_buf *bytes = kt_alloc(sizeof(*bytes));
        *bytes = frame->bytes;
        way->head = (way->head + 1) % way->cap;
        way->count--;
        /* An event of the receiver: it waits while the node is paused, and dies with it. */
        struct sim_event *event = sim_schedule(world, 0, &way->network->nodes[way->to], frame_arrived, bytes);
        event->number = way->from;
        event->drop = frame_free;
    }
}

bool sim_network_send(struct sim_network *network, unsigned from, unsigned to, struct kt_buf *frame)
{
    struct sim_world *world = network->world;
    network->frames_sent++;
    uint64_t connection = network->ends[from][to].connection;
    if (connection == 0 || connection != *connection_of(network, from, to)) {
        kt_buf_release(frame);
        network->frames_lost++;
        return false;
    }
    struct sim_way *way = &network->ways[from][to];
    if (way->count == way->cap) {
        size_t cap = way->cap ? way->cap * 2 : 16;
        struct sim_frame *frames = kt_alloc(cap * sizeof(*frames));
        for (size_t i = 0; i < way->count; i++)
            frames[i] = way->frames[(way->head + i) % way->cap];
        kt_free(way->frames);
        way->frames = frames;
        way->cap = cap;
        way->head = 0;
    }
    sim_note(world, from + 1, "send", to + 1, frame->len, kt_crc32c(0, frame->data, frame->len));
    struct sim_frame *slot = &way->frames[(way->head + way->count) % way->cap];
    kt_buf_init(&slot->bytes, frame->max);
    kt_buf_take(frame, &slot->bytes);
    sim_us arrival = world->now + sim_latency(world, SIM_NETWORK, network->latency_low, network->latency_high);
    if (sim_below(world, SIM_NETWORK, 1000) == 0)
        arrival += SIM_MS(sim_between(world, SIM_NETWORK, 5, 60)); /* a lost packet is sent again */
    way->last_at = slot->at = KT_MAX(arrival, way->last_at);
    way->count++;
    way_pump(way);
    return true;
}

/* One end notices that its connection is gone. */
static void end_closed(struct sim_network *network, unsigned node, unsigned peer)
{
    if (network->ends[node][peer].connection == 0)
        return;
    network->ends[node][peer].connection = 0;
    sim_node_disconnected(&network->nodes[node], peer + 1);
}

struct notice {
    struct sim_network *network;
    unsigned node, peer;
    uint64_t connection;
};

static void notice_free(struct sim_event *event)
{
    kt_free(event->data);
}

static void notice_closed(struct sim_event *event)
{
    struct notice *notice = event->data;
    /* A connection made meanwhile may have told this end already. */
    if (notice->network->ends[notice->node][notice->peer].connection == notice->connection)
        end_closed(notice->network, notice->node, notice->peer);
    kt_free(notice);
}

static void notice_opened(struct sim_event *event)
{
    struct notice *notice = event->data;
    struct sim_network *network = notice->network;
    if (*connection_of(network, notice->node, notice->peer) == notice->connection) {
        end_closed(network, notice->node, notice->peer);
        network->ends[notice->node][notice->peer].connection = notice->connection;
        sim_node_connected(&network->nodes[notice->node], notice->peer + 1);
    }
    kt_free(notice);
}

static void notify(struct sim_network *network, unsigned node, unsigned peer, uint64_t connection, sim_us delay,
                   void (*run)(struct sim_event *event))
{
    struct notice *notice = kt_alloc(sizeof(*notice));
    *notice = (struct notice){.network = network, .node = node, .peer = peer, .connection = connection};
    struct sim_event *event = sim_schedule(network->world, delay, &network->nodes[node], run, notice);
    event->drop = notice_free;
}

/* The connection is no more: what has arrived by now is read, what is under way is lost. */
static void connection_lost(struct sim_network *network, unsigned a, unsigned b, sim_us notice_a, sim_us notice_b)
{
    uint64_t *connection = connection_of(network, a, b);
    if (*connection == 0)
        return;
    network->breaks++;
    sim_note(network->world, 0, "connection lost", a + 1, b + 1, *connection);
    way_clear(&network->ways[a][b]);
    way_clear(&network->ways[b][a]);
    uint64_t number = *connection;
    *connection = 0;
    if (network->nodes[a].up)
        notify(network, a, b, number, notice_a, notice_closed);
    if (network->nodes[b].up)
        notify(network, b, a, number, notice_b, notice_closed);
}

void sim_network_break(struct sim_network *network, unsigned a, unsigned b)
{
    sim_us late = SIM_MS(sim_below(network->world, SIM_NETWORK, 20));
    connection_lost(network, a, b, sim_below(network->world, SIM_NETWORK, 2000), late);
}

void sim_network_down(struct sim_network *network, unsigned node, bool silent)
{
    struct sim_world *world = network->world;
    for (unsigned peer = 0; peer < network->count; peer++) {
        if (peer == node)
            continue;
        network->ends[node][peer].connection = 0;
        bool unseen = silent || network->ways[node][peer].blocked;
        sim_us late = unseen ? network->dead : sim_latency(world, SIM_NETWORK, 50, 5000);
        connection_lost(network, node, peer, 0, late);
    }
}

void sim_network_block(struct sim_network *network, unsigned from, unsigned to, bool blocked)
{
    struct sim_way *way = &network->ways[from][to];
    if (way->blocked == blocked)
        return;
    way->blocked = blocked;
    sim_note(network->world, 0, blocked ? "block" : "unblock", from + 1, to + 1, way->count);
    if (!blocked) {
        way->waiting_since = 0;
        way_pump(way);
    }
}

void sim_network_heal(struct sim_network *network)
{
    for (unsigned from = 0; from < network->count; from++)
        for (unsigned to = 0; to < network->count; to++)
            sim_network_block(network, from, to, false);
}

/* A connection is made: the two ends hear of it at slightly different times, and frames that wait come after. */
static void connect_pair(struct sim_network *network, unsigned a, unsigned b)
{
    struct sim_world *world = network->world;
    uint64_t number = ++network->number;
    *connection_of(network, a, b) = number;
    sim_note(world, 0, "connection made", a + 1, b + 1, number);
    sim_us late_a = sim_latency(world, SIM_NETWORK, network->latency_low, network->latency_high);
    sim_us late_b = sim_latency(world, SIM_NETWORK, network->latency_low, network->latency_high);
    network->ways[a][b].last_at = world->now + late_b;
    network->ways[b][a].last_at = world->now + late_a;
    notify(network, a, b, number, late_a, notice_opened);
    notify(network, b, a, number, late_b, notice_opened);
}

void sim_network_connect(struct sim_network *network, unsigned a, unsigned b)
{
    bool open = !network->ways[a][b].blocked && !network->ways[b][a].blocked;
    if (open && network->nodes[a].up && network->nodes[b].up && *connection_of(network, a, b) == 0)
        connect_pair(network, a, b);
}

/* Looks after one pair: connects it, or gives up a connection that is stuck. */
static void pair_turn(struct sim_event *event)
{
    struct sim_network *network = event->data;
    struct sim_world *world = network->world;
    unsigned a = (unsigned)event->number / SIM_NODES_MAX, b = (unsigned)event->number % SIM_NODES_MAX;
    struct sim_way *there = &network->ways[a][b], *back = &network->ways[b][a];
    if (*connection_of(network, a, b) == 0) {
        sim_network_connect(network, a, b);
    } else {
        bool there_dead = there->waiting_since && world->now > there->waiting_since + network->dead;
        bool back_dead = back->waiting_since && world->now > back->waiting_since + network->dead;
        sim_us reset = sim_latency(world, SIM_NETWORK, network->latency_low, network->latency_high);
        /* The sender misses its acknowledgements first; the other end hears of it if it can be reached. */
        if (there_dead)
            connection_lost(network, a, b, 0, there->blocked ? network->dead : reset);
        else if (back_dead)
            connection_lost(network, a, b, back->blocked ? network->dead : reset, 0);
    }
    sim_us pause = network->reconnect + sim_below(world, SIM_NETWORK, network->reconnect / 2 + 1);
    sim_schedule(world, pause, NULL, pair_turn, network)->number = event->number;
}

void sim_network_start(struct sim_network *network)
{
    for (unsigned a = 0; a < network->count; a++) {
        for (unsigned b = a + 1; b < network->count; b++) {
            sim_us first = sim_below(network->world, SIM_NETWORK, SIM_MS(30));
            sim_schedule(network->world, first, NULL, pair_turn, network)->number = a * SIM_NODES_MAX + b;
        }
    }
}
