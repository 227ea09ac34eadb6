/* Making certificates with OpenSSL. */
#include "wire/certificate.h"

#include <arpa/inet.h>
#include <stdio.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/random.h"

#define NAME_MAX_BYTES 64  /* ub-common-name, RFC 5280 appendix A.1 */
#define SERIAL_BITS    120 /* random, positive, below the 20 octets of RFC 5280 section 4.1.2.2 */
#define NAMES_MAX      (64u << 10)

void kt_pem_init(struct kt_pem *pem)
{
    kt_buf_init(&pem->certificate, KT_PEM_BYTES_MAX);
    kt_buf_init(&pem->key, KT_PEM_BYTES_MAX);
}

void kt_pem_release(struct kt_pem *pem)
{
    if (pem->key.data)
        OPENSSL_cleanse(pem->key.data, pem->key.cap);
    kt_buf_release(&pem->key);
    kt_buf_release(&pem->certificate);
}

/* What OpenSSL said last, for a sentence; its queue is empty afterwards. */
static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text ? text : "no reason given";
}

/* ---- PEM ---- */

static bool append_bio(struct kt_buf *out, BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    kt_buf_append(out, data, (size_t)len);
    return kt_buf_code(out) == KT_OK;
}

static bool write_pem(X509 *certificate, EVP_PKEY *key, struct kt_pem *pem)
{
    BIO *public = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_secmem());
    bool done = public && private && PEM_write_bio_X509(public, certificate) == 1 &&
                PEM_write_bio_PKCS8PrivateKey(private, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                append_bio(&pem->certificate, public) && append_bio(&pem->key, private);
    BIO_free(public);
    BIO_free(private);
    return done;
}

static BIO *bio_of(const struct kt_buf *buf)
{
    return BIO_new_mem_buf(buf->data, (int)buf->len);
}

static bool read_pem(const struct kt_pem *pem, X509 **certificate, EVP_PKEY **key)
{
    BIO *public = bio_of(&pem->certificate), *private = bio_of(&pem->key);
    *certificate = public ? PEM_read_bio_X509(public, NULL, NULL, NULL) : NULL;
    *key = private ? PEM_read_bio_PrivateKey(private, NULL, NULL, NULL) : NULL;
    BIO_free(public);
    BIO_free(private);
    return *certificate && *key && X509_check_private_key(*certificate, *key) == 1;
}

/* ---- one certificate ---- */

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BITS / 8];
    kt_random_bytes(bytes, sizeof(bytes));
    bytes[0] |= 0x40; /* never zero, always the same length */
    bytes[0] &= 0x7F;
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool done = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return done;
}

static bool set_time(ASN1_TIME *time, int64_t from_now_s)
{
    return X509_time_adj_ex(time, (int)(from_now_s / 86400), (long)(from_now_s % 86400), NULL) != NULL;
}

static bool add_extension(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    bool done = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

/* A certificate with name, times and public key; the extensions and the signature are still to come. */
static X509 *begin(const char *name, struct kt_validity validity, EVP_PKEY *key, const X509_NAME *issuer)
{
    X509 *certificate = X509_new();
    if (certificate && X509_set_version(certificate, 2) == 1 && set_serial(certificate) &&
        set_time(X509_getm_notBefore(certificate), validity.from_s) &&
        set_time(X509_getm_notAfter(certificate), validity.until_s) && X509_set_pubkey(certificate, key) == 1 &&
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, (const unsigned char *)name,
                                   -1, -1, 0) == 1 &&
        X509_set_issuer_name(certificate, issuer ? issuer : X509_get_subject_name(certificate)) == 1)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static enum kt_code check_plan(const char *name, struct kt_validity validity, struct kt_error *error)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_BYTES)
        return kt_error_set(error, KT_BAD_REQUEST, "a common name of %zu bytes, not 1..%d", len, NAME_MAX_BYTES);
    if (validity.until_s <= validity.from_s)
        return kt_error_set(error, KT_BAD_REQUEST, "the certificate would end before it begins");
    return KT_OK;
}

enum kt_code kt_certificate_authority(const char *name, struct kt_validity validity, struct kt_pem *pem,
                                      struct kt_error *error)
{
    enum kt_code code = check_plan(name, validity, error);
    if (code != KT_OK)
        return code;
    ERR_clear_error();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key ? begin(name, validity, key, NULL) : NULL;
    bool done = certificate &&
                add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                add_extension(certificate, certificate, NID_subject_key_identifier, "hash") &&
                X509_sign(certificate, key, EVP_sha256()) > 0 && write_pem(certificate, key, pem);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return done ? KT_OK : kt_error_set(error, KT_INTERNAL, "no authority could be made: %s", reason());
}

static bool is_ip(const char *text)
{
    uint8_t address[16];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

bool kt_certificate_host(const char *text)
{
    size_t len = strlen(text);
    if (is_ip(text))
        return true;
    if (len == 0 || len > KT_CERTIFICATE_HOST_MAX || text[0] == '.' || text[0] == '-')
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

/* The subject alternative names as OpenSSL's configuration text writes them. */
static enum kt_code write_names(const struct kt_certificate_plan *plan, struct kt_buf *names, struct kt_error *error)
{
    const char *comma = "";
    if (plan->node > KT_NODE_ID_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "node id %llu is not in 1..%u", (unsigned long long)plan->node,
                            KT_NODE_ID_MAX);
    if (plan->node) {
        kt_buf_printf(names, "URI:" KT_CERTIFICATE_URI "%llu", (unsigned long long)plan->node);
        comma = ",";
    }
    for (size_t i = 0; i < plan->host_count; i++, comma = ",") {
        const char *host = plan->hosts[i];
        if (!kt_certificate_host(host))
            return kt_error_set(error, KT_BAD_REQUEST, "'%.100s' is neither a host name nor an IP address", host);
        kt_buf_printf(names, "%s%s:%s", comma, is_ip(host) ? "IP" : "DNS", host);
    }
    kt_buf_append_u8(names, 0);
    return kt_buf_code(names) == KT_OK ? KT_OK : kt_error_set(error, kt_buf_code(names), "too many names");
}

static bool issue(X509 *issuer, EVP_PKEY *issuer_key, const struct kt_certificate_plan *plan, const char *names,
                  struct kt_pem *pem)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key ? begin(plan->name, plan->validity, key, X509_get_subject_name(issuer)) : NULL;
    bool done = certificate && add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
                add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
                add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
                add_extension(certificate, issuer, NID_authority_key_identifier, "keyid") &&
                (names[0] == '\0' || add_extension(certificate, issuer, NID_subject_alt_name, names)) &&
                X509_sign(certificate, issuer_key, EVP_sha256()) > 0 && write_pem(certificate, key, pem);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return done;
}

enum kt_code kt_certificate_issue(const struct kt_pem *authority, const struct kt_certificate_plan *plan,
                                  struct kt_pem *pem, struct kt_error *error)
{
    X509 *issuer = NULL;
    EVP_PKEY *issuer_key = NULL;
    struct kt_buf names;

    enum kt_code code = check_plan(plan->name, plan->validity, error);
    if (code != KT_OK)
        return code;
    ERR_clear_error();
    kt_buf_init(&names, NAMES_MAX);
    code = write_names(plan, &names, error);
    if (code == KT_OK && !read_pem(authority, &issuer, &issuer_key))
        code = kt_error_set(error, KT_BAD_REQUEST, "the authority's certificate and key do not fit: %s", reason());
    if (code == KT_OK && !issue(issuer, issuer_key, plan, (const char *)names.data, pem))
        code = kt_error_set(error, KT_INTERNAL, "no certificate could be made: %s", reason());
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    kt_buf_release(&names);
    return code;
}
