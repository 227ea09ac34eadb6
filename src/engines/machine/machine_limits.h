/* The ceilings of the state-machine engine, each with its reason. Values above them are answered with an error. */
#ifndef KT_ENGINES_MACHINE_LIMITS_H
#define KT_ENGINES_MACHINE_LIMITS_H

#include <stdint.h>

/* Machine and state names are store keys, raw, behind a prefix of at most 8 bytes: LMDB's keys end at 511 bytes. */
#define MACHINE_NAME_BYTES_MAX 480u
/* Instance ids, events, event ids and idempotency keys: generous for people and programs, small in every record. */
#define MACHINE_ID_BYTES_MAX 1024u
/* A version is read as a signed 32-bit integer by existing clients. */
#define MACHINE_VERSION_MAX 2147483647u

/* A definition is one log entry, and is compiled on the applier's thread when it is first used. */
#define MACHINE_DEFINITION_BYTES_MAX (1u << 20)
#define MACHINE_STATES_MAX           10000u
#define MACHINE_TRANSITIONS_MAX      10000u
/* (source, transition) pairs: what the compiled form has one row for. */
#define MACHINE_SOURCES_MAX 100000u

/* A guard is read by people; the bound keeps its compiled form small. */
#define MACHINE_GUARD_BYTES_MAX 4096u
/* Parentheses and negations inside each other: the parser's recursion is bounded by it. */
#define MACHINE_GUARD_DEPTH_MAX 64u
/* Bytes of context that the guards of one event may look at: about a tenth of a second of the applier's time. */
#define MACHINE_GUARD_WORK_BYTES_MAX (256ull << 20)

/* A context travels in answers and pushed events of at most 16 MiB, with something beside it. */
#define MACHINE_CTX_BYTES_MAX (8u << 20)

/* Instances in one page of a list: what existing clients are told by the handshake. */
#define MACHINE_LIST_DEFAULT 100u
#define MACHINE_LIST_MAX     1000u

/* Timers that one state may set: they stand in the instance's record, which every event reads. */
#define MACHINE_TIMERS_MAX 16u
/* A timer's delay. The shortest keeps a machine that goes round by itself from filling the log; the longest is a
   century, which keeps due times exact in every client's numbers. */
#define MACHINE_TIMER_MS_MIN 100u
#define MACHINE_TIMER_MS_MAX (UINT64_C(100) * 366 * 24 * 60 * 60 * 1000)
/* Timers that one machine.fire takes, and the bytes of their contexts after which it takes no more: some milliseconds
   of the applier's time. */
#define MACHINE_FIRE_MAX   100u
#define MACHINE_FIRE_BYTES (16u << 20)

/* Operations in one batch: what existing clients are told. All of it is one entry's work for the applier. */
#define MACHINE_BATCH_MAX 100u
/* Results of a batch; an answer of 16 MiB must hold them and what is around them. */
#define MACHINE_BATCH_REPLY_BYTES_MAX (15u << 20)

/* A migration's mapping is read again with every step. */
#define MACHINE_MIGRATION_BYTES_MAX   (1u << 20)
#define MACHINE_MIGRATION_MEMBERS_MAX 1000u
/* Migrations remembered: the oldest that is over makes room for a new one. */
#define MACHINE_MIGRATIONS_MAX 100u
/* Instances that one step looks at, and the bytes of their contexts after which it ends: a few milliseconds of the
   applier's time, with which all other requests share it. */
#define MACHINE_MIGRATION_STEP_MAX   200u
#define MACHINE_MIGRATION_STEP_BYTES (4u << 20)
/* Instances that a migration could not move, listed by name; more are counted. */
#define MACHINE_MIGRATION_LEFT_MAX 10000u
/* How long what a migration changed is kept unless it is confirmed before, in replicated time: a week. */
#define MACHINE_MIGRATION_KEPT_MS (7ull * 24 * 60 * 60 * 1000)

/* Compiled definitions in memory, by number and by the bytes of their compiled forms. */
#define MACHINE_CACHE_ENTRIES_MAX 1024u
#define MACHINE_CACHE_BYTES_MAX   (64u << 20)

/* How long a repeated request gets its first answer, in replicated time. */
#define MACHINE_REPLY_LIFETIME_MS (24ull * 60 * 60 * 1000)
/* Answers that one machine.forget removes: a few milliseconds of the applier's time. */
#define MACHINE_FORGET_MAX 1000u
/* Answers that keeping a new one removes: more than one, so that the number of expired ones falls under any load. */
#define MACHINE_FORGET_INLINE 2u
/* Keys sharing one 128-bit hash: one in practice, a few if somebody looks for collisions. */
#define MACHINE_REPLY_BUCKET_MAX 16u
/* Changes that one machine.trim removes: a few milliseconds of the applier's time. */
#define MACHINE_TRIM_MAX 4096u
/*
 * What COMPACT keeps of the change log, with and without force: subscribers that are not behind have seen older
 * changes, and one that moves to another node still finds where it was.
 */
#define MACHINE_COMPACT_KEEP_MS       60000u
#define MACHINE_COMPACT_FORCE_KEEP_MS 2000u
/* COMPACT counts in pieces of this size, since existing clients think of files. */
#define MACHINE_COMPACT_SEGMENT_BYTES (64ull << 20)

/* The result of WAL_READ: a message of 16 MiB less its envelope. */
#define MACHINE_WAL_PAGE_BYTES_MAX ((16u << 20) - (64u << 10))
/* By which a record's text can be larger than the record: its names with every byte escaped. */
#define MACHINE_WAL_RECORD_EXTRA (64u << 10)
/* Names in one list of a watch's filter, and what they may hold together: each is compared with every event. */
#define MACHINE_FILTER_NAMES_MAX 1000u
#define MACHINE_FILTER_BYTES_MAX (64u << 10)

/* Long instance ids sharing one 128-bit hash: the probe is one byte. */
#define MACHINE_PROBES_MAX 256u

#endif
