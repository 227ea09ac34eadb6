/*
 * Encoded values of revision A: one type byte and what follows it, all integers big-endian.
 *
 *    0 empty    1 bool     2 byte    3 uint16   4 uint32   5 uint64   6 int16   7 int32   8 int64
 *    9 float32 10 float64 11 binary 12 string (u32 length, bytes)
 *   13 list    item type, u16 count, u32 payload length, items; every item carries its own type byte
 *   14 map     value type, u16 count, u32 payload length, pairs of a string value and a value
 *
 * Reading is tolerant where the protocol's clients need it: a payload length must lie inside the buffer but the items
 * are walked by their own sizes. Writing is canonical: exact payload lengths, of duplicate map keys the last one only,
 * item type 0 for an empty list or map, any true-ish byte but 1 of a bool as 0. Bit patterns of floats pass unchanged.
 *
 * No state, any thread, total over any bytes.
 */
#ifndef KT_ENGINES_KV_KV_VALUE_H
#define KT_ENGINES_KV_KV_VALUE_H

#include "base/buf.h"
#include "base/error.h"

#define KT_KV_DEPTH_MAX 64 /* lists and maps inside each other; recursion is bounded by it */

enum kt_kv_type {
    KT_KV_TYPE_EMPTY,
    KT_KV_TYPE_BOOL,
    KT_KV_TYPE_BYTE,
    KT_KV_TYPE_UINT16,
    KT_KV_TYPE_UINT32,
    KT_KV_TYPE_UINT64,
    KT_KV_TYPE_INT16,
    KT_KV_TYPE_INT32,
    KT_KV_TYPE_INT64,
    KT_KV_TYPE_FLOAT32,
    KT_KV_TYPE_FLOAT64,
    KT_KV_TYPE_BINARY,
    KT_KV_TYPE_STRING,
    KT_KV_TYPE_LIST,
    KT_KV_TYPE_MAP,
};

/*
 * Finds the end of the value that bytes begin with: len gets its size, what follows is not looked at. A payload length
 * that is larger than its items reaches into the size, so that the value cut out of its surroundings is still one, of
 * the same size. Failures are KT_BAD_REQUEST with the text "payload too short", "invalid type" or "nesting too deep".
 */
KT_MUST_USE enum kt_code kt_kv_value_scan(struct kt_slice bytes, size_t *len, struct kt_error *error);
/*
 * Appends the canonical form of the value that bytes begin with; it is never longer than the original. Failures as of
 * kt_kv_value_scan, KT_NO_MEMORY, and what the buffer says.
 */
KT_MUST_USE enum kt_code kt_kv_value_canonical(struct kt_slice bytes, struct kt_buf *out, struct kt_error *error);

#endif
