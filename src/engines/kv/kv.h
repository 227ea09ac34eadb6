/*
 * The key-value engine: collections of byte-string keys with typed values that may expire.
 *
 * Values are kept as canonical bytes of encoding revision A (kv_value.h). A key is any bytes up to KT_KV_KEY_MAX, the
 * empty key among them. An entry whose expiry has come is gone for every command at once; its bytes go later, by the
 * replicated operation kv.expire.
 *
 * Sources: the key-value protocol's documents, revision A, sections on commands, values and expiry. Two rules are ours:
 * an entry is gone at its expiry, not after it; and an expired entry is left out of every answer.
 */
#ifndef KT_ENGINES_KV_KV_H
#define KT_ENGINES_KV_KV_H

#include "engines/engine.h"

#define KT_KV_KEY_MAX  65535u /* bytes: the protocol's 16-bit length */
#define KT_KV_NAME_MAX 65535u /* bytes of a database's or collection's name: the same */
/* Bytes of a value or of a list of keys: what still fits into a 16 MiB frame with every header around it. */
#define KT_KV_VALUE_MAX (KT_REPLY_BYTES_MAX - 64)
#define KT_KV_KEYS_MAX  65535u /* keys in one answer: the 16-bit count of a revision A list */

extern const struct kt_engine kt_kv_engine;

/*
 * Parameters of every kv command. A command looks at the members it knows; the others may stay zero:
 *
 *   kv.keys                        database, collection
 *   kv.get, kv.exists, kv.delete   and key
 *   kv.set                         and value
 *   kv.set_ttl                     and expires_at_ns
 *
 * given has the bits below set for the members that are filled.
 */
struct kt_kv_params {
    uint64_t given;
    struct kt_slice database;
    struct kt_slice collection;
    struct kt_slice key;
    struct kt_slice value; /* exactly one encoded value of revision A */
    int64_t expires_at_ns; /* since the Unix epoch */
};

#define KT_KV_DATABASE      1u
#define KT_KV_COLLECTION    2u
#define KT_KV_KEY           4u
#define KT_KV_VALUE         8u
#define KT_KV_EXPIRES_AT    16u
#define KT_KV_GIVEN_KEYS    (KT_KV_DATABASE | KT_KV_COLLECTION)
#define KT_KV_GIVEN_KEY     (KT_KV_GIVEN_KEYS | KT_KV_KEY)
#define KT_KV_GIVEN_SET     (KT_KV_GIVEN_KEY | KT_KV_VALUE)
#define KT_KV_GIVEN_SET_TTL (KT_KV_GIVEN_SET | KT_KV_EXPIRES_AT)

/*
 * Whether key-value commands may be used on a collection: KT_OK, KT_COLLECTION_NOT_FOUND or KT_WRONG_ENGINE. The engine
 * asks this itself; a protocol that must answer these before it complains about a payload asks it first. Any thread.
 */
KT_MUST_USE enum kt_code kt_kv_collection_check(struct kt_slice database, struct kt_slice collection);

#endif
