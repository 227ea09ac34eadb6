/*
 * What the clients did and saw, and whether a register or a counter that takes effect one operation at a time, each
 * between its invocation and its return, can explain it (linearizability; Herlihy and Wing, 1990).
 *
 * Three shapes, each judged on its own item, which is enough because linearizability is local:
 *  - an owned register has one writer, which gives it rising versions, and many readers: then every read can be judged
 *    exactly from the writes around it and the reads before it;
 *  - a shared register has many writers of unique values, so that every read names its write, and zones decide (Gibbons
 * and Korach, 1997); test_history.c holds that against a search over all orders;
 *  - a counter has one stepper: every step tells the count it made.
 */
#ifndef KT_SIM_HISTORY_H
#define KT_SIM_HISTORY_H

#include "world.h"

#define SIM_SHARED_OPS 150u /* operations on one shared register, then a fresh one: judging stays cheap */

enum sim_item_kind { SIM_OWNED, SIM_SHARED, SIM_COUNTER };

enum sim_outcome { SIM_PENDING, SIM_DONE, SIM_NOT_DONE, SIM_UNKNOWN };

/* One operation on an item. */
struct sim_record {
    bool write;
    uint64_t value; /* written, read, or the count that a step made */
    sim_us invoked, returned;
    enum sim_outcome outcome;
};

struct sim_history {
    enum sim_item_kind kind;
    char name[24];
    struct sim_record *records; /* in order of invocation */
    size_t count, cap;
    uint64_t last; /* value given to the last write */
    bool retired;  /* nobody writes it any more */
    bool created;  /* a counter that is known to exist */
    bool ready;    /* a counter whose creation was asked for */
};

/* Returns the position of the new record. */
size_t sim_history_begin(struct sim_history *history, bool write, uint64_t value, sim_us now);
void sim_history_end(struct sim_history *history, size_t at, enum sim_outcome outcome, uint64_t value, sim_us now);

/* False, with a sentence in why, if no order explains the history. */
bool sim_history_check(const struct sim_history *history, char *why, size_t why_len);

#endif
