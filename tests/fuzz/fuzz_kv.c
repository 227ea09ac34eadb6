/* Any bytes into a key-value connection: what comes back is a sequence of whole response frames, whatever came in. */
#include "base/check.h"
#include "gateway/proto_kv/kv_internal.h"
#include "support/decoder.h"
#include "wire/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_reader reader;
    struct kt_buf out;

    decoder_feed(&kt_proto_kv, kt_slice(data, size), &out);
    kt_reader_init(&reader, kt_buf_slice(&out));
    while (kt_reader_left(&reader) > 0) {
        uint32_t len = kt_read_be32(&reader);
        struct kt_slice payload;

        KT_CHECK(len >= KV_HEADER_BYTES + KV_STATUS_BYTES && len <= KV_FRAME_MAX);
        KT_CHECK(kt_read_be32(&reader) == 0x7e010002);
        KT_CHECK(kt_read_be32(&reader) == len - KV_HEADER_BYTES);
        kt_read_be16(&reader);
        payload = kt_read_bytes(&reader, kt_read_be32(&reader));
        KT_CHECK(kt_reader_ok(&reader));
        KT_CHECK(payload.len == len - KV_HEADER_BYTES - KV_STATUS_BYTES);
    }
    kt_buf_release(&out);
    return 0;
}
