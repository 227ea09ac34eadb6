/*
 * JSON (RFC 8259), strictly read and exactly written. The only includer of cJSON.h is json.c.
 *
 * Text from outside becomes a tree (kt_json_parse): the grammar, UTF-8, escapes, lone surrogates, numbers that overflow
 * a double and the nesting depth are checked before cJSON sees it; of duplicate keys the last wins. Integers of the
 * int64 and uint64 range keep every digit and stay apart from floating-point numbers (1 is not 1.0).
 *
 * Canonical text is what the engines store and compare: what kt_json_print writes. Compact; numbers are plain integers
 * or shortest round-trip doubles that always carry '.' or an exponent (1.0, 100.0, -0.0, 1.8446744073709552e19);
 * strings with the shortest escapes (\" \\ \b \f \n \r \t, \u00xx for other control characters), everything else raw
 * UTF-8; members in the order of the tree, or sorted bytewise by key. Two equal strings have equal canonical text. The
 * iterators at the end walk canonical text without building anything.
 *
 * Any thread; a tree has one owner.
 */
#ifndef KT_WIRE_JSON_H
#define KT_WIRE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define KT_JSON_DEPTH_MAX 128 /* arrays and objects inside each other; recursion is bounded by it */
/* Values in one document. A value of two bytes ("0,") becomes a node of some eighty: a tree stays near 100 MiB. */
#define KT_JSON_NODES_MAX (1024 * 1024)

enum kt_json_kind {
    KT_JSON_NULL,
    KT_JSON_BOOL,
    KT_JSON_NUMBER,
    KT_JSON_STRING,
    KT_JSON_ARRAY,
    KT_JSON_OBJECT,
};

/* A node of a tree; opaque (a cJSON item inside). */
struct kt_json;

/*
 * Parses one document; surrounding white space is allowed, anything else behind it is not. On failure KT_BAD_REQUEST
 * with a sentence and a byte position (counted from 0) in the error, KT_TOO_LARGE (more than KT_JSON_NODES_MAX values,
 * or 2 GiB of text) or KT_NO_MEMORY, and *out is NULL. A key that comes again replaces the value of the first and keeps
 * its place.
 */
KT_MUST_USE enum kt_code kt_json_parse(struct kt_slice text, struct kt_json **out, struct kt_error *error);
/* Frees a whole tree; NULL is fine. */
void kt_json_free(struct kt_json *json);
/* Parses into a tree that dies with the arena. */
KT_MUST_USE enum kt_code kt_json_parse_in(struct kt_arena *arena, struct kt_slice text, struct kt_json **out,
                                          struct kt_error *error);

enum kt_json_kind kt_json_kind(const struct kt_json *json);
/* The member of an object by its name (the last one of duplicates), or NULL, also when json is no object or NULL. */
struct kt_json *kt_json_get(const struct kt_json *json, const char *name);
/* First child of an array or object, next sibling; NULL at the end. */
struct kt_json *kt_json_first(const struct kt_json *json);
struct kt_json *kt_json_next(const struct kt_json *json);
size_t kt_json_count(const struct kt_json *json);
/* The key of an object's member in the form of kt_json_string. */
struct kt_slice kt_json_key(const struct kt_json *member);

bool kt_json_is(const struct kt_json *json, enum kt_json_kind kind); /* false for NULL */
bool kt_json_bool(const struct kt_json *json);                       /* false unless the literal true */
/* Exact conversions: false if the node is not an integer literal (1.0 is none) or does not fit. */
bool kt_json_i64(const struct kt_json *json, int64_t *out);
bool kt_json_u64(const struct kt_json *json, uint64_t *out);
/* Any number as a double. */
bool kt_json_double(const struct kt_json *json, double *out);
/*
 * The bytes of a string, borrowed from the tree. The character U+0000 is represented in the tree as the two bytes C0
 * 80, which valid UTF-8 cannot contain; kt_json_string_plain writes the real bytes.
 */
struct kt_slice kt_json_string(const struct kt_json *json);
struct kt_slice kt_json_string_plain(const struct kt_json *json, struct kt_arena *arena);

/* Appends the canonical text of a node. sorted: objects at every level ordered bytewise by key. */
void kt_json_print(const struct kt_json *json, bool sorted, struct kt_buf *out);

/*
 * Writing canonical text directly. The caller writes commas and brackets through these, so the result is well formed if
 * the calls are: begin, key + value ..., end. Text arguments are plain UTF-8 (a NUL byte is written as \u0000, and so
 * are the bytes C0 80 that stand for it in a tree); bytes that are no UTF-8 are replaced by U+FFFD each. A double that
 * is not finite, which JSON cannot say, is written as null.
 */
struct kt_json_writer {
    struct kt_buf *out;
    bool comma; /* the next value or key is not the first of its container */
};

void kt_json_writer_init(struct kt_json_writer *writer, struct kt_buf *out);
void kt_json_begin_object(struct kt_json_writer *writer);
void kt_json_end_object(struct kt_json_writer *writer);
void kt_json_begin_array(struct kt_json_writer *writer);
void kt_json_end_array(struct kt_json_writer *writer);
void kt_json_put_key(struct kt_json_writer *writer, const char *key);
void kt_json_put_key_slice(struct kt_json_writer *writer, struct kt_slice key);
void kt_json_put_text(struct kt_json_writer *writer, const char *text);
void kt_json_put_string(struct kt_json_writer *writer, struct kt_slice text);
void kt_json_put_u64(struct kt_json_writer *writer, uint64_t value);
void kt_json_put_i64(struct kt_json_writer *writer, int64_t value);
void kt_json_put_double(struct kt_json_writer *writer, double value);
void kt_json_put_bool(struct kt_json_writer *writer, bool value);
void kt_json_put_null(struct kt_json_writer *writer);
/* A value that is canonical text already. */
void kt_json_put_raw(struct kt_json_writer *writer, struct kt_slice text);
/* key and value at once. */
void kt_json_put_text_member(struct kt_json_writer *writer, const char *key, const char *value);
void kt_json_put_string_member(struct kt_json_writer *writer, const char *key, struct kt_slice value);
void kt_json_put_u64_member(struct kt_json_writer *writer, const char *key, uint64_t value);
void kt_json_put_bool_member(struct kt_json_writer *writer, const char *key, bool value);
void kt_json_put_raw_member(struct kt_json_writer *writer, const char *key, struct kt_slice value);

/*
 * Walking canonical text (written by this module, so trusted). Total all the same: on anything unexpected the iterator
 * ends. A member's key is the inside of its quotes as written (escapes kept: equal keys have equal bytes).
 */
struct kt_json_iter {
    const char *at, *end;
};

/* Over the members of an object or the elements of an array; of anything else it is empty. */
void kt_json_iter_init(struct kt_json_iter *iter, struct kt_slice canonical);
/* The next member (key set) or element (key empty); false at the end. Both slices point into the text. */
bool kt_json_iter_next(struct kt_json_iter *iter, struct kt_slice *key, struct kt_slice *value);
/* The value of one member of an object; false if there is none or it is no object. key as the iterator gives it. */
bool kt_json_member(struct kt_slice canonical, struct kt_slice key, struct kt_slice *value);
enum kt_json_kind kt_json_text_kind(struct kt_slice canonical);
/* The double nearest to a number's text; no locale. */
double kt_json_text_double(struct kt_slice canonical);

#endif
