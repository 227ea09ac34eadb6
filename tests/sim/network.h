/*
 * The simulated network: one connection per pair of nodes, frames whole and in order in each direction, as
 * cluster/transport promises and no more.
 *
 * A direction may be blocked (a black hole): its frames wait, and go on when the block ends in time, as retransmission
 * makes it; after dead_ms with something waiting the connection breaks instead. A broken connection loses what was
 * under way, save a prefix that had arrived; each end learns of it at a time of its own. Nodes that can reach each
 * other in both directions connect again after a pause.
 */
#ifndef KT_SIM_NETWORK_H
#define KT_SIM_NETWORK_H

#include "base/buf.h"
#include "world.h"

#define SIM_NODES_MAX 5

struct sim_frame {
    struct kt_buf bytes;
    sim_us at; /* earliest arrival */
};

/* From one node to another. */
struct sim_way {
    struct sim_network *network;
    unsigned from, to;
    bool blocked;
    sim_us waiting_since; /* when the first of what waits behind a block was to arrive; 0: nothing waits */
    struct sim_frame *frames;
    size_t head, count, cap;
    bool pumping;   /* an event for the first frame is scheduled */
    sim_us last_at; /* arrival of the last frame sent: the next is never earlier */
};

/* One node's view of its connection to another. */
struct sim_end {
    uint64_t connection; /* the one it uses; 0: none */
};

struct sim_network {
    struct sim_world *world;
    struct sim_node *nodes;
    unsigned count;
    struct sim_way ways[SIM_NODES_MAX][SIM_NODES_MAX];
    struct sim_end ends[SIM_NODES_MAX][SIM_NODES_MAX];  /* [node][peer] */
    uint64_t connections[SIM_NODES_MAX][SIM_NODES_MAX]; /* [smaller][larger]: number of the connection, 0: none */
    uint64_t number;
    sim_us latency_low, latency_high;
    sim_us dead;      /* a connection with data under way and no progress breaks after this */
    sim_us reconnect; /* pause between attempts to connect */
    uint64_t frames_sent, frames_lost, breaks;
};

void sim_network_init(struct sim_network *network, struct sim_world *world, struct sim_node *nodes, unsigned count);
void sim_network_release(struct sim_network *network);

/* Takes the contents. False if the sender has no connection and the frame was dropped. Nodes are 0-based here. */
bool sim_network_send(struct sim_network *network, unsigned from, unsigned to, struct kt_buf *frame);
/* The node's process is gone. silent: its machine too, so nobody is told until it is missed. */
void sim_network_down(struct sim_network *network, unsigned node, bool silent);
void sim_network_block(struct sim_network *network, unsigned from, unsigned to, bool blocked);
/* Breaks a connection that both ends think is fine. */
void sim_network_break(struct sim_network *network, unsigned a, unsigned b);
/* They connect now instead of at their next attempt, if they can. */
void sim_network_connect(struct sim_network *network, unsigned a, unsigned b);
void sim_network_heal(struct sim_network *network);
/* The periodic attempts to connect begin. */
void sim_network_start(struct sim_network *network);

#endif
