/* The scalars and the borrowed bytes that everything else speaks of. No thread, no allocation. */
#ifndef KT_BASE_TYPES_H
#define KT_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kontiki/code.h"

typedef uint64_t kt_index;   /* position of an entry in the raft log; the WAL offset that clients see; 0 is none */
typedef uint64_t kt_term;    /* raft term */
typedef uint64_t kt_node_id; /* 1..65535, unique in the cluster; 0 is none */
typedef uint64_t kt_time_ms; /* milliseconds: of a clock.h clock, or since the Unix epoch where the name says wall */

#define KT_NODE_ID_MAX 65535u

/* Borrowed bytes: never owned, valid as long as their owner says. */
struct kt_slice {
    const void *data;
    size_t len;
};

static inline struct kt_slice kt_slice(const void *data, size_t len)
{
    return (struct kt_slice){.data = data, .len = len};
}

/* The bytes of a C string, without its NUL. */
static inline struct kt_slice kt_slice_text(const char *text)
{
    return kt_slice(text, strlen(text));
}

static inline bool kt_slice_equal(struct kt_slice a, struct kt_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool kt_slice_is(struct kt_slice a, const char *text)
{
    return kt_slice_equal(a, kt_slice_text(text));
}

/* Bytewise order, a shorter one before its extensions: <0, 0, >0. */
static inline int kt_slice_compare(struct kt_slice a, struct kt_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

#define KT_COUNT(array)                     (sizeof(array) / sizeof((array)[0]))
#define KT_CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define KT_MIN(a, b)                        ((a) < (b) ? (a) : (b))
#define KT_MAX(a, b)                        ((a) > (b) ? (a) : (b))
#define KT_PRINTF(text, first)              __attribute__((format(printf, text, first)))

#endif
