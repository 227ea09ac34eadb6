/*
 * A log entry as everything around the raft core sees it, and the shared memory that payloads live in. A chunk holds
 * the payloads of one or more entries and is counted: replica, log writer, applier and reader each hold a reference
 * while they need it, so a payload is copied once, when it arrives.
 */
#ifndef KT_CLUSTER_LOG_ENTRY_H
#define KT_CLUSTER_LOG_ENTRY_H

#include <stdatomic.h>

#include "base/types.h"

/* As raft's entry types: stored in the log, never renumbered. */
enum kt_entry_type { KT_ENTRY_COMMAND = 1, KT_ENTRY_BARRIER = 2, KT_ENTRY_CHANGE = 3 };

#define KT_ENTRY_BYTES_MAX ((16u << 20) + 4096u) /* the largest frame of any protocol, and its operation header */

struct kt_chunk {
    atomic_uint refs;
    size_t len;
    uint8_t data[];
};

struct kt_entry {
    kt_index index;
    kt_term term;
    enum kt_entry_type type;
    struct kt_slice data;   /* inside the chunk */
    struct kt_chunk *chunk; /* one reference is held for this entry; NULL if data is empty */
};

/* One reference, the caller's. Never NULL. */
struct kt_chunk *kt_chunk_create(size_t len);
/* Any thread. */
void kt_chunk_acquire(struct kt_chunk *chunk);
void kt_chunk_drop(struct kt_chunk *chunk); /* NULL is fine */

#endif
