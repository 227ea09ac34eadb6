/*
 * Operations and queries of the simulator's clients, made as the dispatcher makes them: through the commands' prepare
 * and query. Three things are stored: registers (kv), counters (instances of a machine that is a ring of states), and
 * the machine itself. Names are texts, values are numbers.
 */
#ifndef KT_SIM_WORKLOAD_H
#define KT_SIM_WORKLOAD_H

#include "base/buf.h"
#include "engines/reply.h"
#include "engines/state.h"

#define SIM_RING 128u /* states of the machine: a counter is unambiguous below this */

#define SIM_PADDING_MAX 30000u /* a segment of the log takes two of these */

/* Each fills op with an encoded operation. They cannot fail: the parameters are good. padding: bytes beside the value.
 */
void sim_make_set(struct kt_state *state, const char *key, uint64_t value, size_t padding, struct kt_buf *op);
void sim_make_machine(struct kt_state *state, struct kt_buf *op);
void sim_make_counter(struct kt_state *state, const char *name, struct kt_buf *op);
void sim_make_step(struct kt_state *state, const char *name, uint64_t number, struct kt_buf *op);
/* The count after the step that a reply tells of; false if it tells of none. */
bool sim_step_count(const struct kt_reply *reply, uint64_t *count);

/* Look at the state as visible now. 0 for what is not there. A failure that is no absence is returned. */
KT_MUST_USE enum kt_code sim_look_register(struct kt_state *state, const char *key, kt_time_ms wall_ms,
                                           uint64_t *value);
KT_MUST_USE enum kt_code sim_look_counter(struct kt_state *state, const char *name, kt_time_ms wall_ms, uint64_t *count,
                                          bool *found);

#endif
