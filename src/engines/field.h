/*
 * The members of a parameter or operation struct, described once: decoding from JSON by name, encoding to and decoding
 * from our own binary form (log entries), and printing for people all read the same rows.
 *
 * A described struct starts with "uint64_t given;": bit i is set when row i was given. Slices are borrowed from what
 * was decoded. Binary form: varint of given, then the given fields in row order: integers as varint (signed: zigzag),
 * bool as one byte, slices as varint length and bytes. Unknown bits are an error: a newer record is not half
 * understood.
 */
#ifndef KT_ENGINES_FIELD_H
#define KT_ENGINES_FIELD_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

struct kt_json;

enum kt_field_type {
    KT_FIELD_TEXT,        /* struct kt_slice: UTF-8; a JSON string */
    KT_FIELD_BYTES,       /* struct kt_slice: any bytes; not available in JSON */
    KT_FIELD_JSON,        /* struct kt_slice: canonical JSON text of any value */
    KT_FIELD_JSON_OBJECT, /* the same, an object */
    KT_FIELD_U64,         /* uint64_t; a JSON integer */
    KT_FIELD_I64,         /* int64_t */
    KT_FIELD_BOOL,        /* bool */
};

#define KT_FIELD_REQUIRED  1u /* absent (or null in JSON) is KT_BAD_REQUEST "missing field 'name'" */
#define KT_FIELD_NON_EMPTY 2u /* a slice of no bytes is refused */
#define KT_FIELD_SORTED    4u /* JSON text with its keys sorted */

struct kt_field {
    const char *name;
    enum kt_field_type type;
    size_t offset; /* of the member in the struct */
    unsigned flags;
    uint64_t max; /* of an integer its value, of a slice its bytes; 0 is no limit of its own */
    const char *doc;
};

struct kt_struct {
    const struct kt_field *fields;
    size_t count; /* at most 64 */
    size_t size;  /* sizeof the struct */
};

#define KT_STRUCT(type, rows)                                                                                          \
    {                                                                                                                  \
        .fields = (rows), .count = KT_COUNT(rows), .size = sizeof(type)                                                \
    }
#define KT_GIVEN(value, row) (((value)->given >> (row)) & 1u)

/* From a JSON object (NULL or null: no members). Slices live in the arena. Unknown members are ignored. */
KT_MUST_USE enum kt_code kt_struct_from_json(const struct kt_struct *type, const struct kt_json *json,
                                             struct kt_arena *arena, void *out, struct kt_error *error);
/* Limits and required fields of a struct filled by hand (a binary protocol). */
KT_MUST_USE enum kt_code kt_struct_check(const struct kt_struct *type, const void *value, struct kt_error *error);
void kt_struct_encode(const struct kt_struct *type, const void *value, struct kt_buf *out);
/* Total: any bytes are safe. KT_CORRUPT if they are not exactly one struct. Slices are borrowed from bytes. */
KT_MUST_USE enum kt_code kt_struct_decode(const struct kt_struct *type, struct kt_slice bytes, void *out);
/* name=value name="text" ... for people. */
void kt_struct_describe(const struct kt_struct *type, const void *value, struct kt_buf *out);

#endif
