/* Any bytes are safe as a request; what is taken lies within them, and a request cut short is only incomplete. */
#include <stdlib.h>

#include "admin/admin_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_request request;
    size_t used;
    unsigned status = http_parse(kt_slice(data, size), &request, &used);
    if (used > size || used > HTTP_HEAD_BYTES_MAX || (status == 0 && size >= HTTP_HEAD_BYTES_MAX))
        abort();
    if (status != 200)
        return 0;
    const uint8_t *path = request.path.data;
    if (used == 0 || path < data || path + request.path.len > data + used || request.path.len == 0 || *path != '/')
        abort();
    if (http_parse(kt_slice(data, used - 1), &request, &used) != 0)
        abort();
    return 0;
}
