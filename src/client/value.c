/* Encoded values of the key-value protocol, revision A, for people. The server's own scanner is in the engine. */
#include "client/client_internal.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "wire/json.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define VALUE_DEPTH_MAX     64 /* lists and maps inside each other; what the server accepts */
#define STRING_HEADER_BYTES 5u

enum value_type {
    VALUE_EMPTY,
    VALUE_BOOL,
    VALUE_BYTE,
    VALUE_UINT16,
    VALUE_UINT32,
    VALUE_UINT64,
    VALUE_INT16,
    VALUE_INT32,
    VALUE_INT64,
    VALUE_FLOAT32,
    VALUE_FLOAT64,
    VALUE_BINARY,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_MAP
};

enum kt_code kontiki_value_string(const void *text, size_t len, void **value, size_t *value_len)
{
    *value = NULL;
    *value_len = 0;
    if (len > KONTIKI_FRAME_BYTES_MAX)
        return KT_TOO_LARGE;
    uint8_t *bytes = kt_try_alloc(STRING_HEADER_BYTES + len);
    if (!bytes)
        return KT_NO_MEMORY;
    bytes[0] = VALUE_STRING;
    kt_put_be32(bytes + 1, (uint32_t)len);
    if (len > 0)
        memcpy(bytes + STRING_HEADER_BYTES, text, len);
    *value = bytes;
    *value_len = STRING_HEADER_BYTES + len;
    return KT_OK;
}

static bool put_value(struct kt_reader *in, struct kt_json_writer *out, unsigned depth);

static void put_float(struct kt_json_writer *out, double value)
{
    /* JSON has no words for these. */
    if (value != value)
        kt_json_put_text(out, "NaN");
    else if (value - value != 0)
        kt_json_put_text(out, value > 0 ? "Infinity" : "-Infinity");
    else
        kt_json_put_double(out, value);
}

static void put_binary(struct kt_json_writer *out, struct kt_slice bytes)
{
    char *digits = kt_alloc(2 * bytes.len + 1);
    kt_hex(bytes.data, bytes.len, digits);
    kt_json_put_text(out, digits);
    kt_free(digits);
}

static bool put_list(struct kt_reader *in, struct kt_json_writer *out, unsigned depth)
{
    kt_read_u8(in);
    unsigned count = kt_read_be16(in);
    kt_read_be32(in);
    kt_json_begin_array(out);
    for (; count > 0; count--) {
        if (!put_value(in, out, depth + 1))
            return false;
    }
    kt_json_end_array(out);
    return true;
}

static bool put_map(struct kt_reader *in, struct kt_json_writer *out, unsigned depth)
{
    kt_read_u8(in);
    unsigned count = kt_read_be16(in);
    kt_read_be32(in);
    kt_json_begin_object(out);
    for (; count > 0; count--) {
        if (kt_read_u8(in) != VALUE_STRING)
            return false;
        kt_json_put_key_slice(out, kt_read_bytes(in, kt_read_be32(in)));
        if (!kt_reader_ok(in) || !put_value(in, out, depth + 1))
            return false;
    }
    kt_json_end_object(out);
    return true;
}

static bool put_value(struct kt_reader *in, struct kt_json_writer *out, unsigned depth)
{
    union {
        uint32_t u32;
        uint64_t u64;
        float f32;
        double f64;
    } bits;
    if (depth > VALUE_DEPTH_MAX || kt_buf_code(out->out) != KT_OK)
        return false;
    switch (kt_read_u8(in)) {
    case VALUE_EMPTY:
        kt_json_put_null(out);
        break;
    case VALUE_BOOL:
        kt_json_put_bool(out, kt_read_u8(in) == 1);
        break;
    case VALUE_BYTE:
        kt_json_put_u64(out, kt_read_u8(in));
        break;
    case VALUE_UINT16:
        kt_json_put_u64(out, kt_read_be16(in));
        break;
    case VALUE_UINT32:
        kt_json_put_u64(out, kt_read_be32(in));
        break;
    case VALUE_UINT64:
        kt_json_put_u64(out, kt_read_be64(in));
        break;
    case VALUE_INT16:
        kt_json_put_i64(out, (int16_t)kt_read_be16(in));
        break;
    case VALUE_INT32:
        kt_json_put_i64(out, (int32_t)kt_read_be32(in));
        break;
    case VALUE_INT64:
        kt_json_put_i64(out, (int64_t)kt_read_be64(in));
        break;
    case VALUE_FLOAT32:
        bits.u32 = kt_read_be32(in);
        put_float(out, (double)bits.f32);
        break;
    case VALUE_FLOAT64:
        bits.u64 = kt_read_be64(in);
        put_float(out, bits.f64);
        break;
    case VALUE_BINARY:
        put_binary(out, kt_read_bytes(in, kt_read_be32(in)));
        break;
    case VALUE_STRING:
        kt_json_put_string(out, kt_read_bytes(in, kt_read_be32(in)));
        break;
    case VALUE_LIST:
        return put_list(in, out, depth) && kt_reader_ok(in);
    case VALUE_MAP:
        return put_map(in, out, depth) && kt_reader_ok(in);
    default:
        return false;
    }
    return kt_reader_ok(in);
}

/* A String or Binary on its own stands without quotes. */
static bool put_plain(struct kt_slice value, struct kt_buf *out)
{
    struct kt_reader in;
    kt_reader_init(&in, value);
    unsigned type = kt_read_u8(&in);
    if (type != VALUE_STRING && type != VALUE_BINARY)
        return false;
    struct kt_slice bytes = kt_read_bytes(&in, kt_read_be32(&in));
    if (!kt_reader_done(&in))
        return false;
    if (type == VALUE_STRING) {
        kt_buf_append_slice(out, bytes);
    } else {
        uint8_t *room = kt_buf_reserve(out, 2 * bytes.len + 1);
        if (room) {
            kt_hex(bytes.data, bytes.len, (char *)room);
            out->len += 2 * bytes.len;
        }
    }
    return true;
}

enum kt_code kontiki_value_text(const void *value, size_t value_len, char **text, size_t *len)
{
    struct kt_slice bytes = kt_slice(value, value_len);
    struct kt_json_writer writer;
    struct kt_reader in;
    struct kt_buf out;
    *text = NULL;
    *len = 0;
    /* A control character takes six bytes of JSON; nothing grows more. */
    kt_buf_init(&out, 6 * (size_t)KONTIKI_FRAME_BYTES_MAX);
    bool good = put_plain(bytes, &out);
    if (!good) {
        kt_json_writer_init(&writer, &out);
        kt_reader_init(&in, bytes);
        good = put_value(&in, &writer, 0) && kt_reader_done(&in);
    }
    enum kt_code code = kt_buf_code(&out) != KT_OK ? kt_buf_code(&out) : good ? KT_OK : KT_BAD_REQUEST;
    if (code == KT_OK) {
        *text = kt_slice_dup_text(kt_buf_slice(&out));
        *len = out.len;
    }
    kt_buf_release(&out);
    return code;
}
