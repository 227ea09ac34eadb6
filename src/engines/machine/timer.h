/*
 * Timers: a transition with "after_ms" or "after_ctx" is taken by itself when its time has come.
 *
 * When an instance enters a state, every transition with a timer that leaves this state sets it: after_ms that long
 * after the entry, after_ctx at the Unix time in milliseconds that the context holds (after the merge; a member that is
 * missing or no time sets none), but not sooner than MACHINE_TIMER_MS_MIN from now. Leaving the state ends its timers;
 * an event that leads back to the same state leaves it and enters it again.
 *
 * The timers that run stand in the instance's record, and each has one row in machine.timer, which is in the order of
 * the due times. The leader proposes machine.fire when the first is due. What fires follows from the rows and the
 * entry's time alone: the instance takes the transition, if its guard holds, and the row goes in either case. So a
 * timer fires once, however often firing is proposed and by whomever.
 */
#ifndef KT_ENGINES_MACHINE_TIMER_H
#define KT_ENGINES_MACHINE_TIMER_H

#include "engines/machine/instance.h"

/* Fills the instance's timers for the state and context that it has. Its definition is compiled. Any thread. */
void timers_set(const struct compiled *compiled, struct instance *instance, kt_time_ms entered_ms, kt_time_ms now_ms);
/* Writes: the rows of before (NULL: none) go, those of after (NULL: none) come. */
KT_MUST_USE enum kt_code timers_replace(struct machine *machine, struct kt_txn *txn, const struct instance *before,
                                        const struct instance *after, struct kt_slice id);
/*
 * The leader's part of the background work: appends machine.fire if a timer is due at now, and lowers *next_ms to when
 * to ask again. Any thread.
 */
KT_MUST_USE enum kt_code timers_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms,
                                     struct kt_buf *op, kt_time_ms *next_ms);

#endif
