/* What the files of the key-value engine share. */
#ifndef KT_ENGINES_KV_KV_INTERNAL_H
#define KT_ENGINES_KV_KV_INTERNAL_H

#include "engines/kv/kv.h"
#include "engines/kv/kv_table.h"
#include "engines/registry.h"

#define KT_KV_OP_PUT    KT_OP_CODE(KT_ENGINE_KV, 1)
#define KT_KV_OP_DELETE KT_OP_CODE(KT_ENGINE_KV, 2)
#define KT_KV_OP_EXPIRE KT_OP_CODE(KT_ENGINE_KV, 3)

/* Entries that one kv.expire removes: some milliseconds of the applier's time. */
#define KT_KV_EXPIRE_MAX 1000
/* Expired entries that a write with an expiry takes away with it: more than it adds, so that they never pile up. */
#define KT_KV_EXPIRE_WITH_PUT 2

/* The engine's state. */
struct kt_kv {
    struct kt_kv_table table;
};

/* Body of kv.expire. */
struct kt_kv_expire {
    uint64_t given;
    uint64_t cutoff_ms; /* entries that expired up to this wall time may go */
};

/* A command's or operation's fields are the first so many members of struct kt_kv_params. */
#define KT_KV_FIELDS_KEYS    2
#define KT_KV_FIELDS_KEY     3
#define KT_KV_FIELDS_SET     4
#define KT_KV_FIELDS_SET_TTL 5
#define KT_KV_FIELD(member, kind, option, limit, text)                                                                 \
    {                                                                                                                  \
        .name = #member, .type = (kind), .offset = offsetof(struct kt_kv_params, member), .flags = (option),           \
        .max = (limit), .doc = (text)                                                                                  \
    }

#define KT_KV_OP_COUNT      3
#define KT_KV_COMMAND_COUNT 6
extern const struct kt_op_kind *const kt_kv_ops[KT_KV_OP_COUNT];
extern const struct kt_command *const kt_kv_commands[KT_KV_COMMAND_COUNT];
extern const struct kt_struct kt_kv_put_body;
extern const struct kt_struct kt_kv_delete_body;
extern const struct kt_struct kt_kv_expire_body;

/* kt_kv_collection_check, with the collection's number. */
KT_MUST_USE enum kt_code kt_kv_collection_find(struct kt_slice database, struct kt_slice collection, uint32_t *id);
/* Nanoseconds since the epoch; the end of time (2262) if it is past that. */
int64_t kt_kv_ns(kt_time_ms wall_ms);
/* An entry is gone at its expiry, not after it. */
bool kt_kv_expired(int64_t expires_at_ns, kt_time_ms now_ms);

#endif
