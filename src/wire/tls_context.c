/* Contexts: what both sides of every session have in common, read from files. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "wire/certificate.h"
#include "wire/tls_internal.h"

#define LOG "tls"

#define WARN_DAYS 30 /* before the certificate of this node expires */

struct kt_tls_context *kt_tls_context_acquire(struct kt_tls_context *context)
{
    if (context)
        atomic_fetch_add(&context->references, 1);
    return context;
}

void kt_tls_context_drop(struct kt_tls_context *context)
{
    if (!context || atomic_fetch_sub(&context->references, 1) > 1)
        return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->buffers);
    kt_free(context);
}

/* ---- what a certificate says ---- */

/* The id in "kontiki:node:<id>", 0 if it is none. One way to write a number only. */
static kt_node_id node_of(const ASN1_IA5STRING *uri)
{
    const size_t before = sizeof(KT_CERTIFICATE_URI) - 1;
    const unsigned char *text = ASN1_STRING_get0_data(uri);
    size_t len = (size_t)ASN1_STRING_length(uri);
    kt_node_id node = 0;
    if (len <= before || memcmp(text, KT_CERTIFICATE_URI, before) != 0 || text[before] == '0')
        return 0;
    for (size_t i = before; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || node > KT_NODE_ID_MAX)
            return 0;
        node = node * 10 + (text[i] - '0');
    }
    return node <= KT_NODE_ID_MAX ? node : 0;
}

bool tls_certificate_names(const X509 *certificate, kt_node_id node, kt_node_id *other)
{
    bool found = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    *other = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && node; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        kt_node_id named = name->type == GEN_URI ? node_of(name->d.uniformResourceIdentifier) : 0;
        found |= named == node;
        if (named && !*other)
            *other = named;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return found;
}

/* ---- files ---- */

/* A question for the passphrase of a key would wait at a terminal for ever. */
static int no_passphrase(char *to, int size, int writing, void *data)
{
    (void)to;
    (void)size;
    (void)writing;
    (void)data;
    return 0;
}

static enum kt_code refuse(const char *path, const char *what, struct kt_error *error)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return kt_error_set(error, KT_BAD_REQUEST, "%.120s: %s: %s", path, what, reason ? reason : "no reason given");
}

/* Before OpenSSL tries, because its words for a missing file are poor. */
static enum kt_code check_file(const char *path, bool secret, struct kt_error *error)
{
    struct stat status;
    if (stat(path, &status) != 0 || access(path, R_OK) != 0)
        return kt_error_errno(error, KT_BAD_REQUEST, errno, "%.120s cannot be read", path);
    if (secret && (status.st_mode & (S_IRWXG | S_IRWXO)))
        kt_warn(LOG, "the key %s can be read by others than its owner: make it mode 0600", path);
    return KT_OK;
}

static enum kt_code load_authorities(SSL_CTX *ssl, const char *path, struct kt_error *error)
{
    enum kt_code code = check_file(path, false, error);
    if (code != KT_OK)
        return code;
    if (SSL_CTX_load_verify_file(ssl, path) != 1)
        return refuse(path, "no certificates of authorities", error);
    return KT_OK;
}

static enum kt_code load_own(SSL_CTX *ssl, const char *certificate, const char *key, struct kt_error *error)
{
    enum kt_code code = check_file(certificate, false, error);
    if (code == KT_OK)
        code = check_file(key, true, error);
    if (code != KT_OK)
        return code;
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
        return refuse(certificate, "no certificate", error);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return refuse(key, "no key without a passphrase that fits the certificate", error);
    return KT_OK;
}

static void warn_of_end(const char *path, const X509 *certificate, const char *others)
{
    int days = 0, seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
        return;
    if (days < 0 || seconds < 0)
        kt_fail(LOG, "the certificate %s has expired: %s refuse it", path, others);
    else if (days < WARN_DAYS)
        kt_warn(LOG, "the certificate %s expires in %d days", path, days);
}

/*
 * What the other nodes will ask, asked now. Time is left out: a node may start with a certificate that has expired, so
 * that it can be given a new one.
 */
static enum kt_code check_own(SSL_CTX *ssl, const struct kt_tls_files *files, struct kt_error *error)
{
    kt_node_id other;
    X509 *certificate = SSL_CTX_get0_certificate(ssl);
    STACK_OF(X509) *chain = NULL;
    if (!tls_certificate_names(certificate, files->node, &other))
        return kt_error_set(error, KT_BAD_REQUEST,
                            "%.120s: the certificate does not name node %llu (a URI " KT_CERTIFICATE_URI
                            "%llu among its subject alternative names)",
                            files->certificate, (unsigned long long)files->node, (unsigned long long)files->node);
    SSL_CTX_get0_chain_certs(ssl, &chain);
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    KT_CHECK(store && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ssl), certificate, chain) == 1);
    X509_STORE_CTX_set_flags(store, X509_V_FLAG_NO_CHECK_TIME);
    bool good = X509_verify_cert(store) == 1;
    int verdict = X509_STORE_CTX_get_error(store);
    X509_STORE_CTX_free(store);
    ERR_clear_error();
    if (!good)
        return kt_error_set(error, KT_BAD_REQUEST, "%.80s: no authority in %.80s signed the certificate: %.60s",
                            files->certificate, files->ca, X509_verify_cert_error_string(verdict));
    warn_of_end(files->certificate, certificate, "other nodes");
    return KT_OK;
}

static SSL_CTX *create_ssl(int oldest)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_method());
    KT_CHECK(ssl && SSL_CTX_set_min_proto_version(ssl, oldest) == 1 &&
             SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    KT_CHECK(SSL_CTX_set_num_tickets(ssl, 0) == 1);
    /* An idle session keeps no record buffers: 33 KiB of each. */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    return ssl;
}

/* Owns ssl from here, also when code is no KT_OK. */
static enum kt_code finish(SSL_CTX *ssl, enum kt_code code, bool gate, struct kt_tls_context **context)
{
    if (code != KT_OK) {
        SSL_CTX_free(ssl);
        return code;
    }
    struct kt_tls_context *created = kt_zalloc(sizeof(*created));
    created->ssl = ssl;
    created->buffers = tls_buffers();
    created->gate = gate;
    atomic_init(&created->references, 1);
    *context = created;
    return KT_OK;
}

enum kt_code kt_tls_context_create(const struct kt_tls_files *files, struct kt_tls_context **context,
                                   struct kt_error *error)
{
    *context = NULL;
    ERR_clear_error();
    SSL_CTX *ssl = create_ssl(TLS1_3_VERSION);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_judge);
    enum kt_code code = load_authorities(ssl, files->ca, error);
    if (code == KT_OK)
        code = load_own(ssl, files->certificate, files->key, error);
    if (code == KT_OK)
        code = check_own(ssl, files, error);
    return finish(ssl, code, false, context);
}

/* Clients are asked for a certificate, and told whose signature is taken: some have several to choose from. */
static enum kt_code ask_clients(SSL_CTX *ssl, const char *path, struct kt_error *error)
{
    enum kt_code code = load_authorities(ssl, path, error);
    if (code != KT_OK)
        return code;
    SSL_CTX_set_client_CA_list(ssl, SSL_load_client_CA_file(path));
    ERR_clear_error();
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return KT_OK;
}

enum kt_code kt_tls_gate_create(const struct kt_tls_gate_files *files, struct kt_tls_context **context,
                                struct kt_error *error)
{
    *context = NULL;
    ERR_clear_error();
    SSL_CTX *ssl = create_ssl(TLS1_2_VERSION);
    enum kt_code code = load_own(ssl, files->certificate, files->key, error);
    if (code == KT_OK && files->client_ca)
        code = ask_clients(ssl, files->client_ca, error);
    if (code == KT_OK)
        warn_of_end(files->certificate, SSL_CTX_get0_certificate(ssl), "clients");
    return finish(ssl, code, true, context);
}
