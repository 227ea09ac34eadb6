/* Canonical JSON text: of trees, and written directly. The only place that decides how a value looks. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "wire/json.h"
#include "wire/json_internal.h"

/* Members sorted on the stack, per level of nesting; larger objects take memory for it. */
#define MEMBERS_ON_STACK 32

/* One byte below 0x20, quote or backslash, by its shortest escape. */
static void append_escape(struct kt_buf *out, uint8_t byte)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_names[] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    if (short_names[byte])
        kt_buf_append(out, (char[]){'\\', short_names[byte]}, 2);
    else
        kt_buf_append(out, (char[]){'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]}, 6);
}

static void append_string(struct kt_buf *out, struct kt_slice text)
{
    const char *at = text.len ? text.data : "", *end = at + text.len;
    kt_buf_append_u8(out, '"');
    while (at < end) {
        /* Text that stands for itself is appended in the longest runs that there are. */
        const char *from = at;
        size_t step;
        do {
            at += json_plain_run(at, end);
            step = at < end ? json_utf8_len(at, end) : 0;
            at += step;
        } while (step);
        kt_buf_append(out, from, (size_t)(at - from));
        if (at == end)
            break;
        uint8_t byte = (uint8_t)*at;
        if (byte < 0x80) {
            append_escape(out, byte);
            at++;
        } else if (byte == 0xc0 && end - at >= 2 && (uint8_t)at[1] == 0x80) {
            append_escape(out, 0);
            at += 2;
        } else {
            kt_buf_append_text(out, "\xef\xbf\xbd");
            at++;
        }
    }
    kt_buf_append_u8(out, '"');
}

static void append_u64(struct kt_buf *out, bool negative, uint64_t magnitude)
{
    char text[1 + JSON_NUMBER_BYTES];
    text[0] = '-';
    size_t len = json_u64_write(magnitude, text + 1);
    kt_buf_append(out, text + !negative, len + negative);
}

static void append_i64(struct kt_buf *out, int64_t value)
{
    append_u64(out, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static void append_double(struct kt_buf *out, double value)
{
    char text[JSON_NUMBER_BYTES];
    if (isfinite(value))
        kt_buf_append(out, text, json_double_write(value, text));
    else
        kt_buf_append_text(out, "null");
}

static void append_number(struct kt_buf *out, const struct kt_json *json)
{
    uint64_t natural;
    int64_t integer;
    double value = 0.0;
    if (kt_json_u64(json, &natural))
        append_u64(out, false, natural);
    else if (kt_json_i64(json, &integer))
        append_i64(out, integer);
    else if (kt_json_double(json, &value))
        append_double(out, value);
}

/* Bytewise, where C0 80 counts as the zero byte that it stands for. */
static int compare_keys(const void *a, const void *b)
{
    struct kt_slice one = kt_json_key(*(const struct kt_json *const *)a);
    struct kt_slice two = kt_json_key(*(const struct kt_json *const *)b);
    const uint8_t *x = one.data, *y = two.data;
    size_t common = KT_MIN(one.len, two.len);
    for (size_t i = 0; i < common; i++) {
        if (x[i] != y[i])
            return x[i] == 0xc0 ? -1 : y[i] == 0xc0 ? 1 : x[i] - y[i];
    }
    return (one.len > two.len) - (one.len < two.len);
}

static void append_value(struct kt_buf *out, const struct kt_json *json, bool sorted);

static void append_member(struct kt_buf *out, const struct kt_json *member, bool first, bool sorted)
{
    if (!first)
        kt_buf_append_u8(out, ',');
    append_string(out, kt_json_key(member));
    kt_buf_append_u8(out, ':');
    append_value(out, member, sorted);
}

static void append_sorted_members(struct kt_buf *out, const struct kt_json *object)
{
    const struct kt_json *on_stack[MEMBERS_ON_STACK], **members = on_stack;
    size_t count = kt_json_count(object), at = 0;
    if (count > MEMBERS_ON_STACK) {
        members = kt_try_alloc(count * sizeof(const struct kt_json *));
        if (!members) {
            out->code = KT_NO_MEMORY;
            return;
        }
    }
    for (const struct kt_json *member = kt_json_first(object); member; member = kt_json_next(member))
        members[at++] = member;
    qsort(members, count, sizeof(*members), compare_keys);
    for (size_t i = 0; i < count; i++)
        append_member(out, members[i], i == 0, true);
    if (members != on_stack)
        kt_free(members);
}

/* Recursion is bounded: only the parser makes trees, and it bounds their depth. */
static void append_value(struct kt_buf *out, const struct kt_json *json, bool sorted)
{
    const struct kt_json *first = kt_json_first(json);
    switch (kt_json_kind(json)) {
    case KT_JSON_NULL:
        kt_buf_append(out, "null", 4);
        break;
    case KT_JSON_BOOL:
        kt_buf_append_text(out, kt_json_bool(json) ? "true" : "false");
        break;
    case KT_JSON_NUMBER:
        append_number(out, json);
        break;
    case KT_JSON_STRING:
        append_string(out, kt_json_string(json));
        break;
    case KT_JSON_ARRAY:
        kt_buf_append_u8(out, '[');
        for (const struct kt_json *element = first; element; element = kt_json_next(element)) {
            if (element != first)
                kt_buf_append_u8(out, ',');
            append_value(out, element, sorted);
        }
        kt_buf_append_u8(out, ']');
        break;
    case KT_JSON_OBJECT:
        kt_buf_append_u8(out, '{');
        if (sorted && kt_json_count(json) > 1) {
            append_sorted_members(out, json);
        } else {
            for (const struct kt_json *member = first; member; member = kt_json_next(member))
                append_member(out, member, member == first, sorted);
        }
        kt_buf_append_u8(out, '}');
        break;
    }
}

void kt_json_print(const struct kt_json *json, bool sorted, struct kt_buf *out)
{
    append_value(out, json, sorted);
}

void kt_json_writer_init(struct kt_json_writer *writer, struct kt_buf *out)
{
    *writer = (struct kt_json_writer){.out = out, .comma = false};
}

/* Before a value or key; what follows it is not the first of its container any more. */
static struct kt_buf *next_value(struct kt_json_writer *writer)
{
    if (writer->comma)
        kt_buf_append_u8(writer->out, ',');
    writer->comma = true;
    return writer->out;
}

static void begin(struct kt_json_writer *writer, uint8_t bracket)
{
    kt_buf_append_u8(next_value(writer), bracket);
    writer->comma = false;
}

static void end(struct kt_json_writer *writer, uint8_t bracket)
{
    kt_buf_append_u8(writer->out, bracket);
    writer->comma = true;
}

void kt_json_begin_object(struct kt_json_writer *writer)
{
    begin(writer, '{');
}

void kt_json_end_object(struct kt_json_writer *writer)
{
    end(writer, '}');
}

void kt_json_begin_array(struct kt_json_writer *writer)
{
    begin(writer, '[');
}

void kt_json_end_array(struct kt_json_writer *writer)
{
    end(writer, ']');
}

void kt_json_put_key(struct kt_json_writer *writer, const char *key)
{
    kt_json_put_key_slice(writer, kt_slice_text(key));
}

void kt_json_put_key_slice(struct kt_json_writer *writer, struct kt_slice key)
{
    append_string(next_value(writer), key);
    kt_buf_append_u8(writer->out, ':');
    writer->comma = false;
}

void kt_json_put_text(struct kt_json_writer *writer, const char *text)
{
    append_string(next_value(writer), kt_slice_text(text));
}

void kt_json_put_string(struct kt_json_writer *writer, struct kt_slice text)
{
    append_string(next_value(writer), text);
}

void kt_json_put_u64(struct kt_json_writer *writer, uint64_t value)
{
    append_u64(next_value(writer), false, value);
}

void kt_json_put_i64(struct kt_json_writer *writer, int64_t value)
{
    append_i64(next_value(writer), value);
}

void kt_json_put_double(struct kt_json_writer *writer, double value)
{
    append_double(next_value(writer), value);
}

void kt_json_put_bool(struct kt_json_writer *writer, bool value)
{
    kt_buf_append_text(next_value(writer), value ? "true" : "false");
}

void kt_json_put_null(struct kt_json_writer *writer)
{
    kt_buf_append_text(next_value(writer), "null");
}

void kt_json_put_raw(struct kt_json_writer *writer, struct kt_slice text)
{
    kt_buf_append_slice(next_value(writer), text);
}

void kt_json_put_text_member(struct kt_json_writer *writer, const char *key, const char *value)
{
    kt_json_put_key(writer, key);
    kt_json_put_text(writer, value);
}

void kt_json_put_string_member(struct kt_json_writer *writer, const char *key, struct kt_slice value)
{
    kt_json_put_key(writer, key);
    kt_json_put_string(writer, value);
}

void kt_json_put_u64_member(struct kt_json_writer *writer, const char *key, uint64_t value)
{
    kt_json_put_key(writer, key);
    kt_json_put_u64(writer, value);
}

void kt_json_put_bool_member(struct kt_json_writer *writer, const char *key, bool value)
{
    kt_json_put_key(writer, key);
    kt_json_put_bool(writer, value);
}

void kt_json_put_raw_member(struct kt_json_writer *writer, const char *key, struct kt_slice value)
{
    kt_json_put_key(writer, key);
    kt_json_put_raw(writer, value);
}
