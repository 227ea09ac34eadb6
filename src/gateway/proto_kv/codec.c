/*
 * Frames of the key-value protocol (kv.md 1.1 to 1.3, 3.1, 3.2). All integers are big-endian.
 *
 *   length:4 | 7e 01 flags type payload length:4 | payload
 *   command payload:  id:2 | n:2 database:n | n:2 collection:n | n:4 payload:n, what follows is ignored
 *   response payload: status:2 | n:4 payload:n
 *
 * A wrong frame is answered and the stream goes on behind it; only after a length that is too large it cannot.
 */
#include "gateway/proto_kv/kv_internal.h"

#include "wire/reader.h"
#include "wire/writer.h"

#define MAGIC         0x7E
#define VERSION       0x01
#define TYPE_COMMAND  0x01
#define TYPE_RESPONSE 0x02

/* The checks in the order of kv.md 1.3; NULL if they pass. */
static const char *check_header(const uint8_t *frame, size_t len, size_t *payload_len)
{
    if (frame[0] != MAGIC)
        return "invalid magic number";
    if (len < KV_HEADER_BYTES)
        return "payload too short";
    if (frame[1] != VERSION)
        return "invalid protocol version";
    if (frame[3] > TYPE_RESPONSE)
        return "unknown message type";
    *payload_len = kt_get_be32(frame + 4);
    if (*payload_len == 0)
        return "empty payload";
    if (*payload_len > len - KV_HEADER_BYTES)
        return "payload too short";
    if (frame[3] != TYPE_COMMAND)
        return "Only command messages are allowed";
    return NULL;
}

static const char *read_command(struct kt_slice body, struct kv_message *message)
{
    struct kt_reader reader;

    kt_reader_init(&reader, body);
    message->id = kt_read_be16(&reader);
    message->database = kt_read_bytes(&reader, kt_read_be16(&reader));
    message->collection = kt_read_bytes(&reader, kt_read_be16(&reader));
    message->payload = kt_read_bytes(&reader, kt_read_be32(&reader));
    return kt_reader_ok(&reader) ? NULL : "payload too short";
}

enum kt_code kv_split(struct kt_slice in, struct kv_message *message, const char **problem)
{
    const uint8_t *frame = (const uint8_t *)in.data + KV_LENGTH_BYTES;
    size_t payload_len = 0;
    uint32_t len;

    *message = (struct kv_message){.used = 0};
    if (in.len < KV_LENGTH_BYTES)
        return KT_MORE;
    len = kt_get_be32(in.data);
    if (len == 0 || len > KV_FRAME_MAX) {
        *problem = "invalid frame length";
        message->used = KV_LENGTH_BYTES;
        return len == 0 ? KT_BAD_REQUEST : KT_BAD_FRAME;
    }
    if (in.len - KV_LENGTH_BYTES < len)
        return KT_MORE;
    message->used = KV_LENGTH_BYTES + (size_t)len;
    *problem = check_header(frame, len, &payload_len);
    if (!*problem)
        *problem = read_command(kt_slice(frame + KV_HEADER_BYTES, payload_len), message);
    return *problem ? KT_BAD_REQUEST : KT_OK;
}

void kv_write_response(struct kt_buf *out, uint16_t status, struct kt_slice payload)
{
    if (payload.len > KV_FRAME_MAX - KV_HEADER_BYTES - KV_STATUS_BYTES) {
        status = KV_STATUS_INTERNAL;
        payload = kt_slice_text("response too large");
    }
    kt_write_be32(out, (uint32_t)(KV_HEADER_BYTES + KV_STATUS_BYTES + payload.len));
    kt_buf_append_u8(out, MAGIC);
    kt_buf_append_u8(out, VERSION);
    kt_buf_append_u8(out, 0);
    kt_buf_append_u8(out, TYPE_RESPONSE);
    kt_write_be32(out, (uint32_t)(KV_STATUS_BYTES + payload.len));
    kt_write_be16(out, status);
    kt_write_be32(out, (uint32_t)payload.len);
    kt_buf_append_slice(out, payload);
}
