/*
 * The simulated clients. Each is connected to one node at a time and keeps some requests under way there, in order;
 * when the node dies, what was under way is unknown to it, and it turns to another node. Every answer goes into a
 * history.
 */
#ifndef KT_SIM_CLIENTS_H
#define KT_SIM_CLIENTS_H

#include "cluster/node/replica.h"
#include "history.h"

#define SIM_CLIENTS_MAX 8

struct sim_cluster;

enum sim_op_kind { SIM_SET, SIM_GET, SIM_PUT_MACHINE, SIM_CREATE, SIM_STEP, SIM_COUNT };

/* A request under way. */
struct sim_op {
    struct kt_list link; /* of all that are under way */
    struct sim_cluster *cluster;
    struct sim_client *client;
    enum sim_op_kind kind;
    struct sim_history *history; /* NULL: of no item */
    size_t record;
    uint64_t value;
    unsigned node;
    uint64_t life;          /* of the node when it was sent there */
    kt_time_ms deadline_ms; /* from when it reaches the node */
    kt_index floor;         /* what was acknowledged before it began */
    bool calm;              /* it was sent when nothing was wrong any more: it must succeed */
    sim_us invoked;
    bool submitted; /* the replica has it */
    bool again;     /* planted: when its outcome is unknown it is sent as another request */
    struct kt_proposal proposal;
    struct kt_read read;
};

struct sim_client {
    struct sim_cluster *cluster;
    unsigned number;
    unsigned node;
    uint64_t life;  /* of the node it is connected to */
    unsigned depth; /* requests under way at most */
    unsigned under_way;
    sim_us pause;       /* between requests, on average */
    sim_us last_submit; /* its requests reach the node in order */
    bool turn_due;
    bool machine_put; /* the machine definition is known to be there */
    bool machine_asked;
    struct sim_history *owned; /* its register, and its counter */
    struct sim_history *counter;
    bool stopping; /* nothing new but its last write */
    bool finished; /* its last write is acknowledged */
};

struct sim_clients {
    struct sim_client clients[SIM_CLIENTS_MAX];
    unsigned count;
    struct sim_history **histories;
    size_t history_count, history_cap;
    struct sim_history *shared[2]; /* in use now */
    struct kt_list ops;
    uint64_t next_value;
    unsigned bulky; /* percent of writes that are large */
};

void sim_clients_init(struct sim_clients *clients, struct sim_cluster *cluster);
void sim_clients_release(struct sim_clients *clients);
void sim_clients_start(struct sim_clients *clients);
/* A moment worth of requests: each client sends one now. */
void sim_clients_poke(struct sim_clients *clients);
/* Each client ends with one write that is acknowledged. */
void sim_clients_stop(struct sim_clients *clients);
bool sim_clients_finished(const struct sim_clients *clients);
/* Reads every item once, through nodes in turn. Finished when nothing is under way. */
void sim_clients_read_all(struct sim_clients *clients);
unsigned sim_clients_under_way(const struct sim_clients *clients);
/* Judges the histories. */
void sim_clients_check(struct sim_clients *clients);

#endif
