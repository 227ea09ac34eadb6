/* Any bytes as an encoded value: refused with words, or turned into a canonical form that is stable and no longer. */
#include "base/check.h"
#include "engines/kv/kv_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_buf once, twice;
    struct kt_error error;
    enum kt_code code;
    size_t len;

    code = kt_kv_value_scan(kt_slice(data, size), &len, &error);
    if (code) {
        KT_CHECK(code == KT_BAD_REQUEST);
        KT_CHECK(error.text[0] != '\0');
        return 0;
    }
    KT_CHECK(len > 0);
    KT_CHECK(len <= size);
    size = len;
    KT_CHECK(kt_kv_value_scan(kt_slice(data, size), &len, &error) == KT_OK);
    KT_CHECK(len == size);
    kt_buf_init(&once, len);
    kt_buf_init(&twice, len);
    KT_CHECK(kt_kv_value_canonical(kt_slice(data, size), &once, &error) == KT_OK);
    KT_CHECK(kt_kv_value_scan(kt_buf_slice(&once), &len, &error) == KT_OK);
    KT_CHECK(len == once.len);
    KT_CHECK(kt_kv_value_canonical(kt_buf_slice(&once), &twice, &error) == KT_OK);
    KT_CHECK(kt_slice_equal(kt_buf_slice(&once), kt_buf_slice(&twice)));
    kt_buf_release(&once);
    kt_buf_release(&twice);
    return 0;
}
