/* The program's log: a line is made on the stack and leaves in one write, so lines of threads never mix. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text_internal.h"

/* Below PIPE_BUF (4096), up to which the kernel writes to a pipe in one piece. Longer lines are cut. */
#define LINE_BYTES_MAX 2048

/* sysexits.h EX_SOFTWARE: service managers tell it from a signal and from a refused configuration. */
#define FATAL_STATUS 70

static _Atomic int level_min = KT_LOG_INFO;
static atomic_bool sink_set;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two below, and serialises the calls */
static void (*sink_call)(void *data, const char *line);
static void *sink_data;

void kt_log_level_set(enum kt_log_level level)
{
    atomic_store_explicit(&level_min, level, memory_order_relaxed);
}

void kt_log_sink(void (*sink)(void *data, const char *line), void *data)
{
    pthread_mutex_lock(&sink_lock);
    sink_call = sink;
    sink_data = data;
    atomic_store(&sink_set, sink != NULL);
    pthread_mutex_unlock(&sink_lock);
}

/* Makes the line, without newline but with room for one; returns its length. */
static size_t line_format(char line[LINE_BYTES_MAX], enum kt_log_level level, const char *component, const char *format,
                          va_list args)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    char time[25];
    size_t room = LINE_BYTES_MAX - 1;
    kt_time_text(kt_clock_wall_ms(), time);
    int n = snprintf(line, room, "%s %s %.64s: ", time, names[level], component);
    size_t len = n > 0 ? (size_t)n : 0;
    n = vsnprintf(line + len, room - len, format, args);
    if (n >= 0 && (size_t)n < room - len)
        len += (size_t)n;
    else if (n >= 0)
        len = text_whole(line, room - 1);
    /* One event is one line, whatever text came into it. */
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    }
    line[len] = '\0';
    return len;
}

static void line_write(char line[LINE_BYTES_MAX], size_t len)
{
    line[len++] = '\n';
    for (size_t at = 0; at < len;) {
        ssize_t n = write(STDERR_FILENO, line + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody reads the log: there is no place left to say so */
        at += (size_t)n;
    }
}

static bool line_to_sink(const char *line)
{
    if (!atomic_load(&sink_set))
        return false;
    pthread_mutex_lock(&sink_lock);
    bool taken = sink_call != NULL;
    if (taken)
        sink_call(sink_data, line);
    pthread_mutex_unlock(&sink_lock);
    return taken;
}

void kt_log_write(enum kt_log_level level, const char *component, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&level_min, memory_order_relaxed))
        return;
    char line[LINE_BYTES_MAX];
    int saved = errno; /* callers log between a failure and looking at its errno */
    va_list args;
    va_start(args, format);
    size_t len = line_format(line, level, component, format, args);
    va_end(args);
    if (!line_to_sink(line))
        line_write(line, len);
    errno = saved;
}

void kt_fatal(const char *component, const char *format, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    size_t len = line_format(line, KT_LOG_ERROR, component, format, args);
    va_end(args);
    /* Never through a sink, whose lock the dying thread may hold. */
    line_write(line, len);
    _exit(FATAL_STATUS);
}
