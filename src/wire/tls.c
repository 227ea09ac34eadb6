/*
 * Sessions of OpenSSL between two buffers. A BIO of our own reads from the slice that was fed and writes to the output
 * buffer, so nothing is copied on the way but by the cipher itself.
 *
 * OpenSSL's queue of errors belongs to a thread: it is emptied before every call, and read at once when one fails.
 */
#include "wire/tls.h"

#include <stdatomic.h>
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/alloc.h"
#include "base/check.h"
#include "wire/tls_internal.h"

/* A record's header, tag and inner type byte (RFC 8446 section 5.2), and then some. */
#define RECORD_OVERHEAD 64u
/* The content types of a first record: an alert or a handshake (RFC 8446 section 5.1). */
#define RECORD_ALERT     21
#define RECORD_HANDSHAKE 22

struct kt_tls {
    struct kt_tls_context *context;
    SSL *ssl;
    kt_node_id expected, named; /* named: by the other side's certificate when it is not the expected one */
    struct kt_slice input;      /* fed and not taken yet */
    struct kt_buf output;
    bool begun; /* the first byte of the other side was looked at */
    bool done;  /* handshake */
    bool wrong_name;
    enum kt_tls_failure failure;
    char text[160];
};

/* ---- the buffers as OpenSSL sees them ---- */

static int bio_read(BIO *bio, char *to, int room)
{
    struct kt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t count = KT_MIN(tls->input.len, (size_t)KT_MAX(room, 0));
    if (count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, tls->input.data, count);
    tls->input = kt_slice((const uint8_t *)tls->input.data + count, tls->input.len - count);
    return (int)count;
}

static int bio_write(BIO *bio, const char *from, int len)
{
    struct kt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    kt_buf_append(&tls->output, from, (size_t)KT_MAX(len, 0));
    return kt_buf_code(&tls->output) == KT_OK ? len : -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* every write is through at once; nothing else is asked for that matters */
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *tls_buffers(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "kontiki buffers");
    KT_CHECK(method && BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) &&
             BIO_meth_set_ctrl(method, bio_control) && BIO_meth_set_create(method, bio_create));
    return method;
}

/* ---- life ---- */

int tls_judge(int fine, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct kt_tls *tls = SSL_get_app_data(ssl);
    if (!fine || X509_STORE_CTX_get_error_depth(store) > 0 || !tls->expected)
        return fine;
    const X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (tls_certificate_names(certificate, tls->expected, &tls->named))
        return 1;
    /* OpenSSL makes the alert certificate_unknown of this error, and of no other that a chain of ours can have. */
    tls->wrong_name = true;
    X509_STORE_CTX_set_error(store, X509_V_ERR_PERMITTED_VIOLATION);
    return 0;
}

struct kt_tls *kt_tls_create(struct kt_tls_context *context, enum kt_tls_role role, kt_node_id expected)
{
    struct kt_tls *tls = kt_zalloc(sizeof(*tls));
    tls->context = kt_tls_context_acquire(context);
    tls->expected = expected;
    kt_buf_init(&tls->output, KT_TLS_OUTPUT_MAX);
    ERR_clear_error();
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->buffers);
    KT_CHECK(tls->ssl && bio);
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    if (role == KT_TLS_CLIENT)
        SSL_set_connect_state(tls->ssl);
    else
        SSL_set_accept_state(tls->ssl);
    return tls;
}

void kt_tls_free(struct kt_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    ERR_clear_error();
    kt_buf_release(&tls->output);
    kt_tls_context_drop(tls->context);
    kt_free(tls);
}

/* ---- failing ---- */

static enum kt_code fail(struct kt_tls *tls, enum kt_tls_failure failure, const char *format, ...) KT_PRINTF(3, 4);

static enum kt_code fail(struct kt_tls *tls, enum kt_tls_failure failure, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(tls->text, sizeof(tls->text), format, args);
    va_end(args);
    tls->failure = failure;
    return KT_BAD_CREDENTIALS;
}

/* The other side's certificate was not taken. */
static enum kt_code fail_certificate(struct kt_tls *tls, long verdict)
{
    if (tls->wrong_name && !tls->named)
        return fail(tls, KT_TLS_WRONG_NAME, "its certificate does not name node %llu, nor any other",
                    (unsigned long long)tls->expected);
    if (tls->wrong_name)
        return fail(tls, KT_TLS_WRONG_NAME, "its certificate does not name node %llu but node %llu",
                    (unsigned long long)tls->expected, (unsigned long long)tls->named);
    switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return fail(tls, KT_TLS_EXPIRED, "its certificate has expired");
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return fail(tls, KT_TLS_NOT_YET, "its certificate is not valid yet");
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return fail(tls, KT_TLS_UNKNOWN_AUTHORITY, "its certificate is signed by an unknown authority");
    default:
        return fail(tls, KT_TLS_BAD_CERTIFICATE, "its certificate is not taken: %s",
                    X509_verify_cert_error_string(verdict));
    }
}

static enum kt_code fail_old(struct kt_tls *tls)
{
    return fail(tls, KT_TLS_OLD, "it does not speak TLS %s", tls->context->gate ? "1.2 or 1.3" : "1.3");
}

/* The other side sent an alert: what it has against this node. */
static enum kt_code fail_alert(struct kt_tls *tls, int alert)
{
    switch (alert) {
    case SSL_AD_UNKNOWN_CA:
        return fail(tls, KT_TLS_REFUSED_AUTHORITY,
                    "it refuses this node's certificate: signed by an authority unknown there");
    case SSL_AD_CERTIFICATE_EXPIRED:
        return fail(tls, KT_TLS_REFUSED_EXPIRED, "it refuses this node's certificate: expired");
    case SSL_AD_CERTIFICATE_UNKNOWN:
        if (tls->context->gate) /* of a client it means anything */
            return fail(tls, KT_TLS_REFUSED, "it refuses this node's certificate");
        return fail(tls, KT_TLS_REFUSED_NAME,
                    "it refuses this node's certificate: it does not name the node it looks for");
    case SSL_AD_BAD_CERTIFICATE:
        return fail(tls, KT_TLS_REFUSED, "it refuses this node's certificate: not valid yet, or damaged");
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return fail(tls, KT_TLS_REFUSED, "it refuses this node's certificate: %s", SSL_alert_desc_string_long(alert));
    case SSL_AD_PROTOCOL_VERSION:
        return fail_old(tls);
    default:
        return fail(tls, KT_TLS_BROKEN, "it ended TLS: %s", SSL_alert_desc_string_long(alert));
    }
}

/* A call of OpenSSL did not succeed. KT_MORE if all it lacks is bytes. */
static enum kt_code explain(struct kt_tls *tls, int result)
{
    int kind = SSL_get_error(tls->ssl, result);
    if (kind == SSL_ERROR_WANT_READ)
        return KT_MORE;
    if (kind == SSL_ERROR_ZERO_RETURN)
        return fail(tls, KT_TLS_ENDED, "the other side ended TLS");
    /* The first entry is where it went wrong; later ones are what that led to. */
    unsigned long first = ERR_peek_error();
    int reason = ERR_GET_REASON(first);
    bool of_ssl = ERR_GET_LIB(first) == ERR_LIB_SSL;
    const char *text = ERR_reason_error_string(first);
    long verdict = SSL_get_verify_result(tls->ssl);
    ERR_clear_error();
    if (kt_buf_code(&tls->output) != KT_OK)
        return fail(tls, KT_TLS_BROKEN, "too much waits to be sent");
    if (of_ssl && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return fail_certificate(tls, verdict);
    if (of_ssl && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return fail(tls, KT_TLS_NO_CERTIFICATE, "it shows no certificate");
    if (of_ssl && (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_WRONG_SSL_VERSION))
        return fail_old(tls);
    if (of_ssl && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX)
        return fail_alert(tls, reason - SSL_AD_REASON_OFFSET);
    return fail(tls, KT_TLS_BROKEN, "TLS failed: %s", text ? text : "for no reason that it gives");
}

/* ---- bytes ---- */

bool kt_tls_begins(struct kt_slice bytes)
{
    const uint8_t *at = bytes.data;
    if (bytes.len == 0 || (at[0] != RECORD_HANDSHAKE && at[0] != RECORD_ALERT))
        return false;
    return bytes.len < 2 || at[1] == 3; /* the major version, which no version of TLS has changed */
}

void kt_tls_feed(struct kt_tls *tls, struct kt_slice bytes)
{
    KT_CHECK(tls->input.len == 0);
    if (tls->failure)
        return;
    tls->input = bytes;
}

void kt_tls_forget(struct kt_tls *tls)
{
    tls->input = kt_slice(NULL, 0);
}

/* The first byte tells TLS from everything else, and what else there is deserves a better word than "bad record". */
static bool speaks(struct kt_tls *tls)
{
    /* A fatal alert, handshake_failure: the other side, if it is a node without TLS, knows it by its first byte. */
    static const uint8_t alert[] = {RECORD_ALERT, 3, 3, 0, 2, 2, SSL_AD_HANDSHAKE_FAILURE};
    if (tls->begun || tls->input.len == 0)
        return true;
    tls->begun = true;
    if (kt_tls_begins(tls->input))
        return true;
    kt_buf_append(&tls->output, alert, sizeof(alert));
    tls->input.len = 0;
    (void)fail(tls, KT_TLS_NOT_TLS, "the other side does not speak TLS");
    return false;
}

enum kt_code kt_tls_shake(struct kt_tls *tls)
{
    if (tls->failure || !speaks(tls))
        return KT_BAD_CREDENTIALS;
    if (tls->done)
        return KT_OK;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1) {
        tls->done = true;
        return KT_OK;
    }
    enum kt_code code = explain(tls, result);
    if (code != KT_MORE)
        tls->input.len = 0;
    return code;
}

enum kt_code kt_tls_read(struct kt_tls *tls, uint8_t *to, size_t room, size_t *got)
{
    *got = 0;
    KT_CHECK(room > 0);
    if (tls->failure || !tls->done)
        return KT_BAD_CREDENTIALS;
    ERR_clear_error();
    int result = SSL_read_ex(tls->ssl, to, room, got);
    if (result == 1)
        return KT_OK;
    enum kt_code code = explain(tls, result);
    if (code != KT_MORE)
        tls->input.len = 0;
    return code;
}

/* One record at most. */
static enum kt_code write_record(struct kt_tls *tls, const uint8_t *from, size_t len)
{
    size_t written = 0;
    int result = SSL_write_ex(tls->ssl, from, len, &written);
    if (result == 1)
        return KT_OK;
    enum kt_code code = explain(tls, result);
    /* The output never asks for patience; and nothing that OpenSSL has to read keeps a record of TLS 1.3 back. */
    return code == KT_MORE ? fail(tls, KT_TLS_BROKEN, "TLS cannot write now") : code;
}

enum kt_code kt_tls_write(struct kt_tls *tls, const struct kt_slice *pieces, size_t count)
{
    uint8_t record[KT_TLS_RECORD_BYTES];
    size_t held = 0, total = 0;
    enum kt_code code = KT_OK;

    if (!tls->done || (tls->failure && !(tls->failure == KT_TLS_ENDED && tls->context->gate)))
        return KT_BAD_CREDENTIALS;
    ERR_clear_error();
    for (size_t i = 0; i < count; i++)
        total += pieces[i].len;
    /* The output grows once; if it cannot, the write itself says so. */
    (void)kt_buf_reserve(&tls->output, total + (total / KT_TLS_RECORD_BYTES + 1) * RECORD_OVERHEAD);
    for (size_t i = 0; i < count && code == KT_OK; i++) {
        const uint8_t *at = pieces[i].data;
        size_t left = pieces[i].len;
        while (left > 0 && code == KT_OK) {
            if (held == 0 && left >= sizeof(record)) { /* a whole record needs no copy */
                code = write_record(tls, at, sizeof(record));
                at += sizeof(record);
                left -= sizeof(record);
                continue;
            }
            size_t part = KT_MIN(left, sizeof(record) - held);
            memcpy(record + held, at, part);
            held += part;
            at += part;
            left -= part;
            if (held == sizeof(record)) {
                code = write_record(tls, record, held);
                held = 0;
            }
        }
    }
    if (held > 0 && code == KT_OK)
        code = write_record(tls, record, held);
    return code;
}

void kt_tls_end(struct kt_tls *tls)
{
    if (!tls->done || (tls->failure && tls->failure != KT_TLS_ENDED))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl); /* the answer to it is not waited for */
    ERR_clear_error();
}

struct kt_buf *kt_tls_output(struct kt_tls *tls)
{
    return &tls->output;
}

/* ---- questions ---- */

bool kt_tls_names(const struct kt_tls *tls, kt_node_id node)
{
    kt_node_id other;
    X509 *certificate = tls->done ? SSL_get0_peer_certificate(tls->ssl) : NULL;
    return certificate && tls_certificate_names(certificate, node, &other);
}

enum kt_tls_failure kt_tls_failure(const struct kt_tls *tls)
{
    return tls->failure;
}

const char *kt_tls_text(const struct kt_tls *tls)
{
    return tls->text;
}
