/*
 * The program's own log: one line per event on stderr, "2025-03-01T08:00:00.123Z INFO replica: message key=value".
 * Log once, where the decision is made; never a secret or a user's value. Any thread; a line is written whole.
 */
#ifndef KT_BASE_LOG_H
#define KT_BASE_LOG_H

#include "base/types.h"

enum kt_log_level { KT_LOG_DEBUG, KT_LOG_INFO, KT_LOG_WARN, KT_LOG_ERROR };

/* Lines below the level are dropped. Default KT_LOG_INFO. */
void kt_log_level_set(enum kt_log_level level);
/* Where lines go instead of stderr; line has no newline. NULL: stderr again. */
void kt_log_sink(void (*sink)(void *data, const char *line), void *data);
void kt_log_write(enum kt_log_level level, const char *component, const char *format, ...) KT_PRINTF(3, 4);

#define kt_debug(...) kt_log_write(KT_LOG_DEBUG, __VA_ARGS__)
#define kt_info(...)  kt_log_write(KT_LOG_INFO, __VA_ARGS__)
#define kt_warn(...)  kt_log_write(KT_LOG_WARN, __VA_ARGS__)
#define kt_fail(...)  kt_log_write(KT_LOG_ERROR, __VA_ARGS__)

/* Writes the line and ends the process at once (_exit, status 70, no handlers): for a node that cannot go on. */
_Noreturn void kt_fatal(const char *component, const char *format, ...) KT_PRINTF(2, 3);

#endif
