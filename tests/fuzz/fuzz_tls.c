/*
 * Any bytes are safe for a TLS session of a node, whatever side it is on and however they are cut. The first byte says
 * how: bit 0 the side, bit 1 pieces instead of all at once, bit 2 as an attack on a real handshake: the bytes replace
 * those of a good other side from a place on that the second byte names.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "support/test_certificates.h"

#define PIECE 37

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kt_tls_context *contexts[2];

static void ignore_line(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static void make_contexts(void)
{
    struct kt_test_certificates certificates;
    kt_log_sink(ignore_line, NULL);
    kt_test_certificates_init(&certificates);
    for (size_t i = 0; i < 2; i++)
        contexts[i] = kt_test_context(&certificates, i + 1, NULL);
    kt_test_certificates_release(&certificates);
}

/* Goes on with what was fed. true: nothing more is wanted of it. */
static bool step(struct kt_tls *tls, struct kt_slice bytes)
{
    uint8_t plain[100];
    size_t got = 0;
    kt_tls_feed(tls, bytes);
    enum kt_code code = kt_tls_shake(tls);
    while (code == KT_OK)
        code = kt_tls_read(tls, plain, sizeof(plain), &got);
    if ((code == KT_MORE) != (kt_tls_failure(tls) == KT_TLS_FINE) || kt_tls_output(tls)->len > KT_TLS_OUTPUT_MAX)
        abort();
    return code != KT_MORE;
}

/* Feeds it all, and nothing after a failure. */
static void feed(struct kt_tls *tls, struct kt_slice bytes, size_t piece)
{
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.len; i += piece) {
        if (step(tls, kt_slice(at + i, KT_MIN(piece, bytes.len - i))))
            return;
    }
}

/* What the one says goes to the other, up to so many bytes; those that are left of the limit. */
static size_t carry(struct kt_tls *from, struct kt_tls *to, size_t limit)
{
    struct kt_buf *output = kt_tls_output(from);
    size_t len = KT_MIN(output->len, limit);
    if (len > 0)
        (void)step(to, kt_slice(output->data, len));
    kt_buf_clear(output);
    return limit - len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (!contexts[0])
        make_contexts();
    bool server = data[0] & 1;
    struct kt_slice rest = kt_slice(data + 2, size - 2);
    struct kt_tls *tls = kt_tls_create(contexts[0], server ? KT_TLS_SERVER : KT_TLS_CLIENT, 0);
    (void)step(tls, kt_slice(NULL, 0));
    if (data[0] & 4) {
        struct kt_tls *other = kt_tls_create(contexts[1], server ? KT_TLS_CLIENT : KT_TLS_SERVER, 0);
        size_t left = (size_t)data[1] * 8;
        (void)step(other, kt_slice(NULL, 0));
        for (unsigned turn = 0; turn < 3 && left > 0; turn++) {
            left = carry(other, tls, left);
            (void)carry(tls, other, SIZE_MAX);
        }
        kt_tls_free(other);
    }
    feed(tls, rest, data[0] & 2 ? PIECE : KT_MAX(rest.len, 1u));
    /* The session itself never gets through to plain bytes but with a real other side. */
    kt_tls_free(tls);
    return 0;
}
