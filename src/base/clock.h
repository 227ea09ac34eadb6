/* Clocks. Code that the simulator runs never calls these: it is given the time. Any thread. */
#ifndef KT_BASE_CLOCK_H
#define KT_BASE_CLOCK_H

#include "base/types.h"

/* Monotonic, milliseconds / microseconds from an arbitrary start. */
kt_time_ms kt_clock_ms(void);
uint64_t kt_clock_us(void);
/* Since the Unix epoch. */
kt_time_ms kt_clock_wall_ms(void);
/* "2025-03-01T08:00:00.123Z" of a wall time; writes 25 bytes with the NUL. */
void kt_time_text(kt_time_ms wall_ms, char out[25]);

#endif
