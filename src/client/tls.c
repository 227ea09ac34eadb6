/* TLS 1.2 and 1.3 (RFC 5246, RFC 8446) of the client: whom it trusts, whom it expects, and why it did not work. */
#include "client/tls.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/check.h"

struct link_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *socket;
    char *server_name; /* NULL: the endpoint's host */
    bool insecure;
};

/* ---- the socket: as OpenSSL's own, but it never raises SIGPIPE ---- */

static int socket_result(BIO *bio, struct link_tls *tls, ssize_t n)
{
    BIO_clear_retry_flags(bio);
    if (n >= 0)
        return (int)n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return -1;
    tls->number = errno;
    return 0;
}

static int socket_write(BIO *bio, const char *bytes, int len)
{
    struct link_tls *tls = BIO_get_data(bio);
    ssize_t n = send(tls->fd, bytes, (size_t)len, MSG_NOSIGNAL);
    int result = socket_result(bio, tls, n);
    if (result < 0)
        BIO_set_retry_write(bio);
    return result;
}

static int socket_read(BIO *bio, char *room, int len)
{
    struct link_tls *tls = BIO_get_data(bio);
    ssize_t n = recv(tls->fd, room, (size_t)len, 0);
    int result = socket_result(bio, tls, n);
    if (result < 0)
        BIO_set_retry_read(bio);
    tls->ended |= n == 0;
    return result;
}

static long socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *socket_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "client socket");
    KT_CHECK(method && BIO_meth_set_write(method, socket_write) == 1 && BIO_meth_set_read(method, socket_read) == 1 &&
             BIO_meth_set_ctrl(method, socket_control) == 1);
    return method;
}

/* ---- contexts ---- */

/* A question for the passphrase of a key would wait at a terminal for ever. */
static int no_passphrase(char *to, int size, int writing, void *data)
{
    (void)to;
    (void)size;
    (void)writing;
    (void)data;
    return 0;
}

/* A missing file is looked for before OpenSSL does, whose words for it are poor. */
static enum kt_code check_file(const char *path, struct kt_error *error)
{
    if (access(path, R_OK) != 0)
        return kt_error_errno(error, KT_BAD_REQUEST, errno, "%.120s cannot be read", path);
    return KT_OK;
}

static enum kt_code refuse(const char *path, const char *what, struct kt_error *error)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return kt_error_set(error, KT_BAD_REQUEST, "%.120s: %s: %s", path, what, reason ? reason : "no reason given");
}

static enum kt_code load_authorities(SSL_CTX *ssl, const char *path, struct kt_error *error)
{
    if (!path) {
        KT_CHECK(SSL_CTX_set_default_verify_paths(ssl) == 1);
        ERR_clear_error();
        return KT_OK;
    }
    enum kt_code code = check_file(path, error);
    if (code == KT_OK && SSL_CTX_load_verify_file(ssl, path) != 1)
        code = refuse(path, "no certificates of authorities", error);
    return code;
}

static enum kt_code load_own(SSL_CTX *ssl, const struct kontiki_tls *options, struct kt_error *error)
{
    if (!options->client_cert && !options->client_key)
        return KT_OK;
    if (!options->client_cert || !options->client_key)
        return kt_error_set(error, KT_BAD_REQUEST, "client certificate and client key go together: the %s is missing",
                            options->client_cert ? "key" : "certificate");
    enum kt_code code = check_file(options->client_cert, error);
    if (code == KT_OK)
        code = check_file(options->client_key, error);
    if (code != KT_OK)
        return code;
    if (SSL_CTX_use_certificate_chain_file(ssl, options->client_cert) != 1)
        return refuse(options->client_cert, "no certificate", error);
    if (SSL_CTX_use_PrivateKey_file(ssl, options->client_key, SSL_FILETYPE_PEM) != 1)
        return refuse(options->client_key, "no key without a passphrase that fits the certificate", error);
    return KT_OK;
}

static SSL_CTX *create_ssl(bool insecure)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());
    KT_CHECK(ssl && SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    /* A record that was sent is not sent again, wherever the rest of the request stands by then. */
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    /* Whatever stands in the file of authorities is trusted, also one that another authority signed. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    return ssl;
}

enum kt_code link_tls_context_create(const struct kontiki_tls *options, struct link_tls_context **context,
                                     struct kt_error *error)
{
    *context = NULL;
    ERR_clear_error();
    /* For OpenSSL, no name means that any will do. */
    if (options->server_name && !options->server_name[0])
        return kt_error_set(error, KT_BAD_REQUEST, "the server name is empty");
    SSL_CTX *ssl = create_ssl(options->insecure);
    enum kt_code code = load_authorities(ssl, options->ca_cert, error);
    if (code == KT_OK)
        code = load_own(ssl, options, error);
    if (code != KT_OK) {
        SSL_CTX_free(ssl);
        return code;
    }
    struct link_tls_context *created = kt_zalloc(sizeof(*created));
    created->ssl = ssl;
    created->socket = socket_method();
    created->server_name = options->server_name ? kt_text_dup(options->server_name) : NULL;
    created->insecure = options->insecure;
    *context = created;
    return KT_OK;
}

void link_tls_context_free(struct link_tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->socket);
    kt_free(context->server_name);
    kt_free(context);
}

/* ---- sessions ---- */

/* An address is looked for among the addresses of the certificate and sent to nobody (RFC 6066 section 3). */
static void expect(SSL *ssl, const char *name, bool insecure)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
    if (!address)
        (void)SSL_set_tlsext_host_name(ssl, name); /* one that is too long is not sent; no certificate has it either */
    /* The common name is for people: what counts are the alternative names, as with other clients (RFC 9525). */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!insecure && address)
        KT_CHECK(X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1);
    else if (!insecure)
        KT_CHECK(X509_VERIFY_PARAM_set1_host(param, name, 0) == 1);
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error();
}

void link_tls_begin(struct link_tls *tls, const struct link_tls_context *context, int fd, const char *host)
{
    memset(tls, 0, sizeof(*tls));
    tls->fd = fd;
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->socket);
    KT_CHECK(tls->ssl && bio);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_connect_state(tls->ssl);
    tls->name = context->server_name ? context->server_name : host;
    expect(tls->ssl, tls->name, context->insecure);
}

void link_tls_end(struct link_tls *tls, bool clean)
{
    if (tls->ssl && clean && SSL_is_init_finished(tls->ssl))
        (void)SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    ERR_clear_error();
    tls->ssl = NULL;
}

/* ---- why it did not work ---- */

static void tell(struct link_tls *tls, const char *what, const char *more)
{
    tls->lasting = true;
    snprintf(tls->text, sizeof(tls->text), "%s%s%.90s", what, more ? ": " : "", more ? more : "");
}

static void tell_verdict(struct link_tls *tls, long verdict)
{
    switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        tell(tls, "the server's certificate has expired", NULL);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        tell(tls, "the server's certificate is not valid yet", NULL);
        break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        tell(tls, "the server's certificate is signed by an unknown authority", NULL);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        tell(tls, "the server's certificate does not have the name", tls->name);
        break;
    default:
        tell(tls, "the server's certificate is not good", X509_verify_cert_error_string(verdict));
    }
}

static void tell_reason(struct link_tls *tls, int reason, const char *words)
{
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        tell_verdict(tls, SSL_get_verify_result(tls->ssl));
        break;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
        tell(tls, "the server does not speak TLS", NULL);
        break;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        tell(tls, "the server speaks neither TLS 1.2 nor 1.3", NULL);
        break;
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        tell(tls, "the server wants a client certificate, and none was given", NULL);
        break;
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        /* So servers also say with TLS 1.2 that they miss a certificate. */
        tell(tls, "the server refuses the handshake; it may want a client certificate", NULL);
        break;
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        tell(tls, "the server does not take the client certificate: it is signed by an authority unknown there", NULL);
        break;
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        tell(tls, "the server does not take the client certificate: it has expired", NULL);
        break;
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        tell(tls, "the server does not take the client certificate", words);
        break;
    default:
        tell(tls, "TLS failed", words);
        tls->lasting = false;
    }
}

/* A write finds a closed socket before the alert that says why was read. */
static void look_for_alert(struct link_tls *tls)
{
    char byte;
    size_t got;
    ERR_clear_error();
    (void)SSL_peek_ex(tls->ssl, &byte, 1, &got);
}

static enum step failed(struct link_tls *tls, int kind)
{
    if (kind == SSL_ERROR_SYSCALL && tls->number)
        look_for_alert(tls);
    unsigned long first = ERR_peek_error();
    if (first && ERR_GET_LIB(first) == ERR_LIB_SSL && ERR_GET_REASON(first) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
        tell_reason(tls, ERR_GET_REASON(first), ERR_reason_error_string(first));
    ERR_clear_error();
    return tls->ended && !tls->text[0] ? STEP_ENDED : STEP_FAILED;
}

static enum step step_of(struct link_tls *tls, int result)
{
    if (result > 0)
        return STEP_DONE;
    int kind = SSL_get_error(tls->ssl, result);
    if (kind == SSL_ERROR_WANT_READ)
        return STEP_READ;
    if (kind == SSL_ERROR_WANT_WRITE)
        return STEP_WRITE;
    if (kind == SSL_ERROR_ZERO_RETURN)
        return STEP_ENDED;
    return failed(tls, kind);
}

/* ---- steps ---- */

enum step link_tls_shake(struct link_tls *tls)
{
    ERR_clear_error();
    return step_of(tls, SSL_connect(tls->ssl));
}

enum step link_tls_read(struct link_tls *tls, void *room, size_t len, size_t *got)
{
    ERR_clear_error();
    return step_of(tls, SSL_read_ex(tls->ssl, room, len, got));
}

enum step link_tls_write(struct link_tls *tls, const void *bytes, size_t len, size_t *done)
{
    ERR_clear_error();
    return step_of(tls, SSL_write_ex(tls->ssl, bytes, len, done));
}

enum step link_tls_peek(struct link_tls *tls)
{
    char byte;
    size_t got;
    ERR_clear_error();
    return step_of(tls, SSL_peek_ex(tls->ssl, &byte, 1, &got));
}
