/*
 * The simulated world: one virtual clock, one queue of events, chance from one seed, and the trace of all that
 * happened.
 *
 * Events run in the order of (virtual time, order of scheduling), on one thread. Nothing in here or above reads a real
 * clock, so a seed repeats a run bit for bit; the trace hash proves it. Every concern draws from a generator of its
 * own, so that a change in one (say, one more client) does not shift the choices of the others.
 */
#ifndef KT_SIM_WORLD_H
#define KT_SIM_WORLD_H

#include "base/random.h"
#include "base/types.h"

typedef uint64_t sim_us; /* microseconds of virtual time since the run began */

#define SIM_MS(ms) ((sim_us)(ms)*1000)

/* Who draws random numbers. */
enum sim_concern { SIM_NETWORK, SIM_DISK, SIM_APPLY, SIM_FAULTS, SIM_CLIENTS, SIM_CLOCKS, SIM_CONCERNS };

struct sim_node;

struct sim_event {
    sim_us at;
    uint64_t order;
    struct sim_node *node; /* NULL: nobody's. Else it runs when this node is not paused, in the life it was made for. */
    uint64_t life;
    void (*run)(struct sim_event *event);
    void (*drop)(struct sim_event *event); /* instead of run, when the node's life is over; may be NULL */
    void *data;
    uint64_t number;
};

struct sim_world {
    sim_us now;
    uint64_t order;
    struct sim_event **heap;
    size_t count, cap;
    struct kt_random random[SIM_CONCERNS];

    uint64_t seed;
    uint64_t steps;
    uint64_t trace_hash;
    bool trace; /* print it as well */

    bool failed;
    char failure[1024]; /* the first one */
};

void sim_world_init(struct sim_world *world, uint64_t seed, bool trace);
/* Drops the events that are left. */
void sim_world_release(struct sim_world *world);

/* The event runs after delay; node may be NULL. The fields may be filled in until the world goes on. */
struct sim_event *sim_schedule(struct sim_world *world, sim_us delay, struct sim_node *node,
                               void (*run)(struct sim_event *event), void *data);
/* Runs the next event, if there is one before end; false if not (the clock is at end then) or after a failure. */
bool sim_step(struct sim_world *world, sim_us end);

/* 0 <= result < bound; 0 for a bound of 0. */
uint64_t sim_below(struct sim_world *world, enum sim_concern concern, uint64_t bound);
/* low <= result <= high. */
uint64_t sim_between(struct sim_world *world, enum sim_concern concern, uint64_t low, uint64_t high);
/* True in `percent` of a hundred cases. */
bool sim_chance(struct sim_world *world, enum sim_concern concern, unsigned percent);
/* Mostly near low, seldom up to high: as latencies are. */
sim_us sim_latency(struct sim_world *world, enum sim_concern concern, sim_us low, sim_us high);

/* One line of the trace: what happened, to which node (0: none), and numbers that tell it apart. */
void sim_note(struct sim_world *world, kt_node_id node, const char *what, uint64_t a, uint64_t b, uint64_t c);
/* A line of text in the trace. */
void sim_note_text(struct sim_world *world, kt_node_id node, const char *text);

/* A check failed: the run ends after this event. Only the first is kept. */
void sim_fail(struct sim_world *world, const char *format, ...) KT_PRINTF(2, 3);

#endif
