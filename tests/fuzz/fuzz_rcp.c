/* Any bytes into an RCP connection: what comes back is a sequence of whole, well-formed responses, whatever came in. */
#include "base/check.h"
#include "gateway/proto_rcp/rcp_internal.h"
#include "support/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_response(struct kt_slice payload)
{
    struct kt_json *json;
    const struct kt_json *status;

    KT_CHECK(kt_json_parse(payload, &json, NULL) == KT_OK);
    KT_CHECK(kt_slice_is(kt_json_string(kt_json_get(json, "type")), "response"));
    KT_CHECK(kt_json_get(json, "id") != NULL);
    KT_CHECK(kt_json_is(kt_json_get(json, "meta"), KT_JSON_OBJECT));
    status = kt_json_get(json, "status");
    if (kt_slice_is(kt_json_string(status), "ok"))
        KT_CHECK(kt_json_is(kt_json_get(json, "result"), KT_JSON_OBJECT));
    else
        KT_CHECK(kt_json_is(kt_json_get(kt_json_get(json, "error"), "code"), KT_JSON_STRING));
    kt_json_free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rcp_message message;
    struct kt_buf out;
    struct kt_slice rest;
    size_t scanned = 0;

    decoder_feed(&kt_proto_rcp, kt_slice(data, size), &out);
    for (rest = kt_buf_slice(&out); rest.len > 0;
         rest = kt_slice((const char *)rest.data + message.used, rest.len - message.used)) {
        KT_CHECK(rcp_split(rest, RCP_FRAME, &scanned, &message, NULL) == KT_OK);
        check_response(message.payload);
    }
    kt_buf_release(&out);
    return 0;
}
