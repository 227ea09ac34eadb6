/*
 * Bytes to messages and back. A message is a frame (an 18-byte header, CRC-32C of the payload, an extension that is
 * skipped) or a line; its first byte tells which, so one stream may mix them (rstmdb.md 1.1 to 1.6). Frames that are
 * sent carry flags 0x0001 and their checksum, always.
 */
#include "gateway/proto_rcp/rcp_internal.h"

#include "base/clock.h"
#include "base/hash.h"
#include "wire/writer.h"

#define FLAG_CRC       0x0001u
#define FLAGS_RESERVED 0xFFF0u
#define VERSION        1u

static const char magic[4] = {'R', 'C', 'P', 'X'};

static uint16_t get_be16(const uint8_t *from)
{
    return (uint16_t)((unsigned)from[0] << 8 | from[1]);
}

static enum kt_code split_frame(struct kt_slice in, struct rcp_message *message, struct kt_error *error)
{
    const uint8_t *header = in.data;
    unsigned version, flags;
    uint32_t payload_len;
    size_t offset;

    message->encoding = RCP_FRAME;
    if (memcmp(header, magic, KT_MIN(in.len, sizeof(magic))) != 0)
        return kt_error_set(error, KT_BAD_FRAME, "bad magic");
    if (in.len < RCP_HEADER_BYTES)
        return KT_MORE;
    version = get_be16(header + 4);
    flags = get_be16(header + 6);
    payload_len = kt_get_be32(header + 10);
    offset = RCP_HEADER_BYTES + (size_t)get_be16(header + 8);
    if (version != VERSION)
        return kt_error_set(error, KT_BAD_VERSION, "frame version %u is not supported, only %u is", version, VERSION);
    if (flags & FLAGS_RESERVED)
        return kt_error_set(error, KT_BAD_FRAME, "reserved flag bits are set: 0x%04x", flags);
    if (payload_len > RCP_PAYLOAD_MAX)
        return kt_error_set(error, KT_BAD_FRAME, "payload is %u bytes, the limit is %u", (unsigned)payload_len,
                            RCP_PAYLOAD_MAX);
    if (in.len < offset || in.len - offset < payload_len)
        return KT_MORE;
    message->payload = kt_slice(header + offset, payload_len);
    message->used = offset + payload_len;
    if ((flags & FLAG_CRC) && kt_crc32c(0, message->payload.data, payload_len) != kt_get_be32(header + 14))
        return kt_error_set(error, KT_BAD_FRAME, "checksum of the payload does not match");
    return KT_OK;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static enum kt_code split_line(struct kt_slice in, size_t *scanned, struct rcp_message *message, struct kt_error *error)
{
    const uint8_t *line = in.data;
    const uint8_t *end;
    size_t len;

    message->encoding = RCP_LINE;
    /* Only what is new is searched: a long line that arrives in many pieces is looked at once. */
    end = *scanned < in.len ? memchr(line + *scanned, '\n', in.len - *scanned) : NULL;
    if (!end) {
        *scanned = in.len;
        if (in.len > RCP_PAYLOAD_MAX)
            return kt_error_set(error, KT_BAD_FRAME, "line is longer than %u bytes", RCP_PAYLOAD_MAX);
        return KT_MORE;
    }
    *scanned = 0;
    len = (size_t)(end - line);
    if (len > RCP_PAYLOAD_MAX)
        return kt_error_set(error, KT_BAD_FRAME, "line is longer than %u bytes", RCP_PAYLOAD_MAX);
    message->used = len + 1;
    while (len > 0 && is_space(line[len - 1]))
        len--;
    message->payload = kt_slice(line, len);
    return KT_OK;
}

enum kt_code rcp_split(struct kt_slice in, enum rcp_encoding fallback, size_t *scanned, struct rcp_message *message,
                       struct kt_error *error)
{
    uint8_t first;

    *message = (struct rcp_message){.encoding = fallback};
    if (in.len == 0)
        return KT_MORE;
    first = *(const uint8_t *)in.data;
    if (first == (uint8_t)magic[0])
        return split_frame(in, message, error);
    if (first == '{' || is_space(first))
        return split_line(in, scanned, message, error);
    return kt_error_set(error, KT_BAD_FRAME, "bad magic");
}

static enum kt_code read_id(const struct kt_json *member, struct kt_buf *id, struct kt_error *error)
{
    int64_t i64;
    uint64_t u64;

    if (kt_json_is(member, KT_JSON_NULL))
        return KT_OK;
    if (kt_json_is(member, KT_JSON_STRING)) {
        if (kt_json_string(member).len > RCP_ID_BYTES_MAX)
            return kt_error_set(error, KT_BAD_REQUEST, "field 'id' is longer than %u bytes", RCP_ID_BYTES_MAX);
    } else if (!kt_json_i64(member, &i64) && !kt_json_u64(member, &u64)) {
        return kt_error_set(error, KT_BAD_REQUEST, "field 'id' must be a string or an integer");
    }
    kt_json_print(member, false, id);
    return KT_OK;
}

static struct kt_slice trace_of(const struct kt_json *member)
{
    struct kt_slice trace;

    if (!kt_json_is(member, KT_JSON_STRING))
        return kt_slice(NULL, 0);
    trace = kt_json_string(member);
    /* C0 80 stands for U+0000 in a tree; such an id is replaced like one that is too long. */
    if (trace.len > RCP_TRACE_BYTES_MAX || (trace.len && memchr(trace.data, 0xC0, trace.len)))
        return kt_slice(NULL, 0);
    return trace;
}

enum kt_code rcp_envelope_read(const struct kt_json *json, struct rcp_envelope *envelope, struct kt_buf *id,
                               struct kt_error *error)
{
    const struct kt_json *member;
    enum kt_code code;

    *envelope = (struct rcp_envelope){.params = NULL};
    if (!kt_json_is(json, KT_JSON_OBJECT))
        return kt_error_set(error, KT_BAD_REQUEST, "a request must be an object");
    envelope->trace = trace_of(kt_json_get(kt_json_get(json, "meta"), "trace_id"));
    if (envelope->trace.len == 0)
        envelope->trace = trace_of(kt_json_get(json, "trace_id"));

    member = kt_json_get(json, "id");
    if (member) {
        code = read_id(member, id, error);
        if (code != KT_OK)
            return code;
    }
    member = kt_json_get(json, "op");
    if (!member)
        return kt_error_set(error, KT_BAD_REQUEST, "missing field 'op'");
    if (!kt_json_is(member, KT_JSON_STRING))
        return kt_error_set(error, KT_BAD_REQUEST, "field 'op' must be a string");
    envelope->op = kt_json_string(member);

    member = kt_json_get(json, "params");
    if (!member || kt_json_is(member, KT_JSON_NULL))
        return KT_OK;
    if (!kt_json_is(member, KT_JSON_OBJECT))
        return kt_error_set(error, KT_BAD_REQUEST, "field 'params' must be an object");
    envelope->params = member;
    return KT_OK;
}

static void begin_message(struct kt_buf *out, enum rcp_encoding encoding)
{
    static const uint8_t header[RCP_HEADER_BYTES] = {'R', 'C', 'P', 'X', 0, VERSION, 0, FLAG_CRC};

    kt_buf_clear(out);
    if (encoding == RCP_FRAME)
        kt_buf_append(out, header, sizeof(header));
}

/* Begins an answer in an empty buffer. */
static void begin(struct kt_buf *out, const struct rcp_head *head)
{
    begin_message(out, head->encoding);
    kt_buf_append_text(out, "{\"type\":\"response\",\"id\":");
    if (head->id.len > 0)
        kt_buf_append_slice(out, head->id);
    else
        kt_buf_append_text(out, "\"\"");
}

static void put_meta(struct kt_buf *out, const struct rcp_head *head, const struct rcp_meta *meta)
{
    struct kt_json_writer writer;
    char time[25];

    kt_time_text(meta->wall_ms, time);
    kt_buf_append_text(out, ",\"meta\":");
    kt_json_writer_init(&writer, out);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "server_time", time);
    kt_json_put_bool_member(&writer, "leader", meta->leads);
    if (meta->wal_offset != 0)
        kt_json_put_u64_member(&writer, "wal_offset", meta->wal_offset);
    if (head->trace.len > 0)
        kt_json_put_string_member(&writer, "trace_id", head->trace);
    kt_json_end_object(&writer);
}

/* Closes the message. false: it is larger than any client accepts, or the buffer failed. */
static bool end(struct kt_buf *out, enum rcp_encoding encoding)
{
    size_t header = encoding == RCP_FRAME ? RCP_HEADER_BYTES : 0;

    kt_buf_append_u8(out, '}');
    if (kt_buf_code(out) != KT_OK || out->len - header > RCP_PAYLOAD_MAX)
        return false;
    if (encoding == RCP_FRAME) {
        size_t payload_len = out->len - header;

        kt_put_be32(out->data + 10, (uint32_t)payload_len);
        kt_put_be32(out->data + 14, kt_crc32c(0, out->data + header, payload_len));
    } else {
        kt_buf_append_u8(out, '\n');
    }
    return true;
}

void rcp_write_result(struct kt_buf *out, const struct rcp_head *head, const struct rcp_meta *meta,
                      struct kt_slice result)
{
    begin(out, head);
    kt_buf_append_text(out, ",\"status\":\"ok\",\"result\":");
    kt_buf_append_slice(out, result);
    put_meta(out, head, meta);
    if (!end(out, head->encoding)) {
        struct rcp_failure failure = {.code = "INTERNAL_ERROR",
                                      .message = "the result does not fit one message; ask for less",
                                      .details = kt_slice_text("{\"reason\":\"too_large\"}")};

        rcp_write_failure(out, head, meta, &failure);
    }
}

void rcp_write_failure(struct kt_buf *out, const struct rcp_head *head, const struct rcp_meta *meta,
                       const struct rcp_failure *failure)
{
    struct kt_json_writer writer;

    begin(out, head);
    kt_buf_append_text(out, ",\"status\":\"error\",\"error\":");
    kt_json_writer_init(&writer, out);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "code", failure->code);
    kt_json_put_text_member(&writer, "message", failure->message);
    kt_json_put_bool_member(&writer, "retryable", failure->retryable);
    if (failure->details.len > 0)
        kt_json_put_raw_member(&writer, "details", failure->details);
    kt_json_end_object(&writer);
    put_meta(out, head, meta);
    if (!end(out, head->encoding) && failure->details.len > 0) {
        struct rcp_failure shorter = *failure;

        shorter.details = kt_slice(NULL, 0);
        rcp_write_failure(out, head, meta, &shorter);
    }
}

void rcp_write_push(struct kt_buf *out, enum rcp_encoding encoding, const char *type, struct kt_slice subscription_id,
                    struct kt_slice rest)
{
    begin_message(out, encoding);
    kt_buf_append_text(out, "{\"type\":\"");
    kt_buf_append_text(out, type);
    kt_buf_append_text(out, "\",\"subscription_id\":\"");
    kt_buf_append_slice(out, subscription_id);
    kt_buf_append_u8(out, '"');
    kt_buf_append_slice(out, rest);
    if (!end(out, encoding) && out->code == KT_OK)
        out->code = KT_TOO_LARGE;
}
