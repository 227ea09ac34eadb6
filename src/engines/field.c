#include "engines/field.h"

#include <inttypes.h>

#include "base/check.h"
#include "wire/json.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* No field can be longer than the frame that brought it; canonical text of JSON can be longer than what was read. */
#define FIELD_JSON_BYTES_MAX (32u << 20)
/* Bytes of a slice that a description shows: a line of a log printer stays readable. */
#define FIELD_SHOWN_MAX 64

static void *member_of(const struct kt_field *field, void *value)
{
    return (char *)value + field->offset;
}

static const void *member_in(const struct kt_field *field, const void *value)
{
    return (const char *)value + field->offset;
}

static uint64_t given_of(const void *value)
{
    uint64_t given;

    memcpy(&given, value, sizeof(given));
    return given;
}

/* The bits that the rows of a struct can set. */
static uint64_t rows_of(const struct kt_struct *type)
{
    KT_CHECK(type->count <= 64);
    return type->count == 64 ? UINT64_MAX : (UINT64_C(1) << type->count) - 1;
}

static bool is_slice(enum kt_field_type type)
{
    return type == KT_FIELD_TEXT || type == KT_FIELD_BYTES || type == KT_FIELD_JSON || type == KT_FIELD_JSON_OBJECT;
}

static enum kt_code missing(const struct kt_field *field, struct kt_error *error)
{
    return kt_error_set(error, KT_BAD_REQUEST, "missing field '%s'", field->name);
}

static enum kt_code must_be(const struct kt_field *field, const char *what, struct kt_error *error)
{
    return kt_error_set(error, KT_BAD_REQUEST, "field '%s' must be %s", field->name, what);
}

static enum kt_code check_limits(const struct kt_field *field, const void *value, struct kt_error *error)
{
    const void *member = member_in(field, value);

    if (is_slice(field->type)) {
        size_t len = ((const struct kt_slice *)member)->len;

        if (len == 0 && (field->flags & KT_FIELD_NON_EMPTY))
            return kt_error_set(error, KT_BAD_REQUEST, "field '%s' must not be empty", field->name);
        if (field->max && len > field->max)
            return kt_error_set(error, KT_BAD_REQUEST, "field '%s' is %zu bytes, the limit is %" PRIu64, field->name,
                                len, field->max);
    } else if (field->type == KT_FIELD_U64) {
        uint64_t number = *(const uint64_t *)member;

        if (field->max && number > field->max)
            return kt_error_set(error, KT_BAD_REQUEST, "field '%s' is %" PRIu64 ", the limit is %" PRIu64, field->name,
                                number, field->max);
    } else if (field->type == KT_FIELD_I64) {
        int64_t number = *(const int64_t *)member;

        if (field->max && number > 0 && (uint64_t)number > field->max)
            return kt_error_set(error, KT_BAD_REQUEST, "field '%s' is %" PRId64 ", the limit is %" PRIu64, field->name,
                                number, field->max);
    }
    return KT_OK;
}

enum kt_code kt_struct_check(const struct kt_struct *type, const void *value, struct kt_error *error)
{
    for (size_t i = 0; i < type->count; i++) {
        const struct kt_field *field = &type->fields[i];
        enum kt_code code;

        if (!((given_of(value) >> i) & 1u)) {
            if (field->flags & KT_FIELD_REQUIRED)
                return missing(field, error);
            continue;
        }
        code = check_limits(field, value, error);
        if (code)
            return code;
    }
    return KT_OK;
}

/* Canonical text of a JSON value, in the arena. */
static enum kt_code take_json(const struct kt_field *field, const struct kt_json *json, struct kt_arena *arena,
                              struct kt_slice *out, struct kt_error *error)
{
    struct kt_buf text;
    enum kt_code code;

    kt_buf_init(&text, FIELD_JSON_BYTES_MAX);
    kt_json_print(json, (field->flags & KT_FIELD_SORTED) != 0, &text);
    code = kt_buf_code(&text);
    if (code == KT_OK)
        *out = kt_arena_dup(arena, kt_buf_slice(&text));
    else if (code == KT_TOO_LARGE)
        code = kt_error_set(error, KT_BAD_REQUEST, "field '%s' is too large, the limit is %u bytes", field->name,
                            FIELD_JSON_BYTES_MAX);
    else
        code = kt_error_set(error, code, "no memory for field '%s'", field->name);
    kt_buf_release(&text);
    return code;
}

static enum kt_code take(const struct kt_field *field, const struct kt_json *json, struct kt_arena *arena, void *out,
                         struct kt_error *error)
{
    void *member = member_of(field, out);

    switch (field->type) {
    case KT_FIELD_TEXT:
        if (!kt_json_is(json, KT_JSON_STRING))
            return must_be(field, "a string", error);
        /* The tree is the caller's and may go before the arena does. */
        *(struct kt_slice *)member = kt_arena_dup(arena, kt_json_string_plain(json, arena));
        return KT_OK;
    case KT_FIELD_BYTES:
        return must_be(field, "left out: bytes cannot be given in JSON", error);
    case KT_FIELD_JSON_OBJECT:
        if (!kt_json_is(json, KT_JSON_OBJECT))
            return must_be(field, "an object", error);
        return take_json(field, json, arena, member, error);
    case KT_FIELD_JSON:
        return take_json(field, json, arena, member, error);
    case KT_FIELD_U64:
        return kt_json_u64(json, member) ? KT_OK : must_be(field, "a non-negative integer", error);
    case KT_FIELD_I64:
        return kt_json_i64(json, member) ? KT_OK : must_be(field, "an integer", error);
    case KT_FIELD_BOOL:
        if (!kt_json_is(json, KT_JSON_BOOL))
            return must_be(field, "a boolean", error);
        *(bool *)member = kt_json_bool(json);
        return KT_OK;
    }
    return must_be(field, "of a known type", error);
}

enum kt_code kt_struct_from_json(const struct kt_struct *type, const struct kt_json *json, struct kt_arena *arena,
                                 void *out, struct kt_error *error)
{
    uint64_t given = 0;

    memset(out, 0, type->size);

    if (json && !kt_json_is(json, KT_JSON_OBJECT) && !kt_json_is(json, KT_JSON_NULL))
        return kt_error_set(error, KT_BAD_REQUEST, "parameters must be an object");
    for (size_t i = 0; i < type->count; i++) {
        const struct kt_field *field = &type->fields[i];
        const struct kt_json *member = kt_json_get(json, field->name);
        enum kt_code code;

        if (!member || kt_json_is(member, KT_JSON_NULL)) {
            if (field->flags & KT_FIELD_REQUIRED)
                return missing(field, error);
            continue;
        }
        code = take(field, member, arena, out, error);
        if (code)
            return code;
        code = check_limits(field, out, error);
        if (code)
            return code;
        given |= UINT64_C(1) << i;
    }
    memcpy(out, &given, sizeof(given));
    return KT_OK;
}

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)((value >> 1) ^ (0 - (value & 1)));
}

void kt_struct_encode(const struct kt_struct *type, const void *value, struct kt_buf *out)
{
    uint64_t given = given_of(value);

    KT_CHECK((given & ~rows_of(type)) == 0);
    kt_write_varint(out, given);
    for (size_t i = 0; i < type->count; i++) {
        const struct kt_field *field = &type->fields[i];
        const void *member = member_in(field, value);

        if (!((given >> i) & 1u))
            continue;
        switch (field->type) {
        case KT_FIELD_TEXT:
        case KT_FIELD_BYTES:
        case KT_FIELD_JSON:
        case KT_FIELD_JSON_OBJECT:
            kt_write_string(out, *(const struct kt_slice *)member);
            break;
        case KT_FIELD_U64:
            kt_write_varint(out, *(const uint64_t *)member);
            break;
        case KT_FIELD_I64:
            kt_write_varint(out, zigzag(*(const int64_t *)member));
            break;
        case KT_FIELD_BOOL:
            kt_buf_append_u8(out, *(const bool *)member);
            break;
        }
    }
}

enum kt_code kt_struct_decode(const struct kt_struct *type, struct kt_slice bytes, void *out)
{
    struct kt_reader reader;
    uint64_t given;

    memset(out, 0, type->size);
    kt_reader_init(&reader, bytes);
    given = kt_read_varint(&reader);
    if (given & ~rows_of(type))
        return KT_CORRUPT;
    for (size_t i = 0; i < type->count; i++) {
        const struct kt_field *field = &type->fields[i];
        void *member = member_of(field, out);

        if (!((given >> i) & 1u)) {
            if (field->flags & KT_FIELD_REQUIRED)
                return KT_CORRUPT;
            continue;
        }
        switch (field->type) {
        case KT_FIELD_TEXT:
        case KT_FIELD_BYTES:
        case KT_FIELD_JSON:
        case KT_FIELD_JSON_OBJECT:
            *(struct kt_slice *)member = kt_read_string(&reader);
            break;
        case KT_FIELD_U64:
            *(uint64_t *)member = kt_read_varint(&reader);
            break;
        case KT_FIELD_I64:
            *(int64_t *)member = unzigzag(kt_read_varint(&reader));
            break;
        case KT_FIELD_BOOL: {
            uint8_t byte = kt_read_u8(&reader);

            if (byte > 1)
                return KT_CORRUPT;
            *(bool *)member = byte;
            break;
        }
        }
    }
    if (!kt_reader_done(&reader))
        return KT_CORRUPT;
    memcpy(out, &given, sizeof(given));
    return KT_OK;
}

static void describe_bytes(struct kt_slice bytes, struct kt_buf *out)
{
    const unsigned char *at = bytes.data;
    size_t shown = KT_MIN(bytes.len, (size_t)FIELD_SHOWN_MAX);

    kt_buf_append_u8(out, '"');
    for (size_t i = 0; i < shown; i++) {
        if (at[i] == '"' || at[i] == '\\')
            kt_buf_printf(out, "\\%c", at[i]);
        else if (at[i] < 0x20 || at[i] >= 0x7f)
            kt_buf_printf(out, "\\x%02x", at[i]);
        else
            kt_buf_append_u8(out, at[i]);
    }
    kt_buf_append_u8(out, '"');
    if (shown < bytes.len)
        kt_buf_printf(out, "...(%zu bytes)", bytes.len);
}

void kt_struct_describe(const struct kt_struct *type, const void *value, struct kt_buf *out)
{
    uint64_t given = given_of(value);
    const char *space = "";

    for (size_t i = 0; i < type->count; i++) {
        const struct kt_field *field = &type->fields[i];
        const void *member = member_in(field, value);

        if (!((given >> i) & 1u))
            continue;
        kt_buf_printf(out, "%s%s=", space, field->name);
        space = " ";
        switch (field->type) {
        case KT_FIELD_TEXT:
        case KT_FIELD_BYTES:
        case KT_FIELD_JSON:
        case KT_FIELD_JSON_OBJECT:
            describe_bytes(*(const struct kt_slice *)member, out);
            break;
        case KT_FIELD_U64:
            kt_buf_printf(out, "%" PRIu64, *(const uint64_t *)member);
            break;
        case KT_FIELD_I64:
            kt_buf_printf(out, "%" PRId64, *(const int64_t *)member);
            break;
        case KT_FIELD_BOOL:
            kt_buf_append_text(out, *(const bool *)member ? "true" : "false");
            break;
        }
    }
}
