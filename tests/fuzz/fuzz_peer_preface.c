/* Any bytes are safe as a preface; what is taken as one is what preface_write would have written. */
#include <stdlib.h>

#include "cluster/transport/transport_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct preface preface;
    uint8_t again[PREFACE_BYTES];
    enum kt_code code = preface_read(kt_slice(data, size), &preface);
    if (code == KT_MORE && size >= PREFACE_BYTES)
        abort();
    if (code != KT_OK)
        return 0;
    preface_write(&preface, again);
    if (size < PREFACE_BYTES || memcmp(again, data, PREFACE_BYTES) != 0)
        abort();
    return 0;
}
