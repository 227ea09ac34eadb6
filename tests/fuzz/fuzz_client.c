/* Whatever a server answers, the client takes it apart safely: RCP answers, key-value answers, values. */
#include "client/client_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kontiki_result result = {.code = KT_OK};
    struct kt_error error;
    char *text;
    size_t len;
    if (size == 0)
        return 0;
    struct kt_slice bytes = kt_slice(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        if (rcp_answer_read(bytes, 1, &result, &error) == KT_OK && result.code == KT_OK && !result.body)
            __builtin_trap();
        break;
    case 1:
        if (kv_answer_read(bytes, &result, &error) == KT_OK && result.code != KT_OK && !result.server_code[0])
            __builtin_trap();
        break;
    case 2:
        if ((kontiki_value_text(bytes.data, bytes.len, &text, &len) == KT_OK) != (text != NULL))
            __builtin_trap();
        kontiki_free(text);
        break;
    case 3:
        if (bytes.len >= RCP_HEADER_BYTES) {
            struct rcp_frame frame;
            if (rcp_frame_read(bytes.data, &frame, &error) == KT_OK && frame.payload_len > KONTIKI_FRAME_BYTES_MAX)
                __builtin_trap();
        }
        break;
    }
    kontiki_result_release(&result);
    return 0;
}
