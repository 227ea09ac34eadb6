/* Two sessions in one process; what one puts out is fed to the other, whole or in pieces. */
#include "wire/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/random.h"
#include "support/test_certificates.h"

static struct kt_test_certificates certificates;
static char last_line[512];

static void catch_line(void *data, const char *line)
{
    (void)data;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static int make_certificates(void **state)
{
    (void)state;
    kt_log_sink(catch_line, NULL);
    kt_test_certificates_init(&certificates);
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    kt_test_certificates_release(&certificates);
    kt_log_sink(NULL, NULL);
    return 0;
}

/* One side, with what it has decrypted so far. */
struct side {
    struct kt_tls *tls;
    bool shaken, failed;
    struct kt_buf plain;
};

struct pair {
    struct side client, server;
    size_t piece; /* bytes that are fed at once; 0: all */
};

static void side_init(struct side *side, struct kt_tls_context *context, enum kt_tls_role role, kt_node_id expected)
{
    memset(side, 0, sizeof(*side));
    side->tls = kt_tls_create(context, role, expected);
    kt_buf_init(&side->plain, 64u << 20);
}

/* The contexts are dropped: sessions hold them. */
static void pair_init(struct pair *pair, struct kt_tls_context *client, struct kt_tls_context *server)
{
    memset(pair, 0, sizeof(*pair));
    side_init(&pair->client, client, KT_TLS_CLIENT, 2);
    side_init(&pair->server, server, KT_TLS_SERVER, 0);
    kt_tls_context_drop(client);
    kt_tls_context_drop(server);
}

static void pair_release(struct pair *pair)
{
    kt_tls_free(pair->client.tls);
    kt_tls_free(pair->server.tls);
    kt_buf_release(&pair->client.plain);
    kt_buf_release(&pair->server.plain);
}

static void side_step(struct side *side, struct kt_slice bytes)
{
    kt_tls_feed(side->tls, bytes);
    if (!side->shaken && !side->failed) {
        enum kt_code code = kt_tls_shake(side->tls);
        side->shaken = code == KT_OK;
        side->failed = code != KT_OK && code != KT_MORE;
    }
    while (side->shaken && !side->failed) {
        size_t got;
        uint8_t *room = kt_buf_reserve(&side->plain, 5000);
        enum kt_code code = kt_tls_read(side->tls, room, 5000, &got);
        side->plain.len += got;
        side->failed = code != KT_OK && code != KT_MORE;
        if (code != KT_OK)
            break;
    }
    assert_int_equal(ERR_peek_error(), 0);
}

/* What one has to say goes to the other; true if it was anything. */
static bool carry(struct pair *pair, struct side *from, struct side *to)
{
    struct kt_buf bytes;
    if (kt_tls_output(from->tls)->len == 0)
        return false;
    kt_buf_take(kt_tls_output(from->tls), &bytes);
    size_t piece = pair->piece ? pair->piece : bytes.len;
    for (size_t i = 0; i < bytes.len; i += piece)
        side_step(to, kt_slice(bytes.data + i, KT_MIN(piece, bytes.len - i)));
    kt_buf_release(&bytes);
    return true;
}

static void talk(struct pair *pair)
{
    side_step(&pair->client, kt_slice(NULL, 0));
    bool more = true;
    while (more) {
        more = carry(pair, &pair->client, &pair->server);
        more |= carry(pair, &pair->server, &pair->client);
    }
}

static struct kt_tls_context *context_of(kt_node_id node)
{
    return kt_test_context(&certificates, node, NULL);
}

static void expect(const struct side *side, enum kt_tls_failure failure, const char *text)
{
    assert_true(side->failed);
    assert_int_equal(kt_tls_failure(side->tls), failure);
    if (!strstr(kt_tls_text(side->tls), text))
        fail_msg("'%s' instead of '%s'", kt_tls_text(side->tls), text);
}

/* ---- good ---- */

static void tls__both_certificates_good__shakes_hands_and_knows_both_names(void **state)
{
    (void)state;
    for (size_t piece = 0; piece < 4; piece++) {
        struct pair pair;
        pair_init(&pair, context_of(1), context_of(2));
        pair.piece = piece;
        talk(&pair);
        assert_true(pair.client.shaken);
        assert_true(pair.server.shaken);
        assert_true(kt_tls_names(pair.client.tls, 2));
        assert_false(kt_tls_names(pair.client.tls, 1));
        assert_true(kt_tls_names(pair.server.tls, 1));
        assert_false(kt_tls_names(pair.server.tls, 2));
        assert_false(kt_tls_names(pair.server.tls, 0));
        assert_int_equal(kt_tls_failure(pair.client.tls), KT_TLS_FINE);
        assert_string_equal(kt_tls_text(pair.client.tls), "");
        pair_release(&pair);
    }
}

static void tls__pieces_of_all_sizes__arrive_as_one_stream_in_few_records(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 8, 0, 16383, 16384, 16385, 100, 1u << 20, 3, 65536};
    struct pair pair;
    struct kt_random random;
    struct kt_slice pieces[KT_COUNT(sizes)];
    size_t total = 0;
    kt_random_seed(&random, 1);
    pair_init(&pair, context_of(1), context_of(2));
    pair.piece = 777;
    talk(&pair);
    for (size_t i = 0; i < KT_COUNT(sizes); i++) {
        uint8_t *bytes = kt_alloc(sizes[i] + 1);
        for (size_t j = 0; j < sizes[i]; j++)
            bytes[j] = (uint8_t)kt_random_next(&random);
        pieces[i] = kt_slice(bytes, sizes[i]);
        total += sizes[i];
    }
    struct side *sides[] = {&pair.client, &pair.server};
    for (size_t from = 0; from < 2; from++) {
        assert_int_equal(kt_tls_write(sides[from]->tls, pieces, KT_COUNT(pieces)), KT_OK);
        /* Every record costs 22 bytes: a header of 5, a type byte and a tag of 16. */
        size_t records = (kt_tls_output(sides[from]->tls)->len - total) / 22;
        assert_true(records <= total / KT_TLS_RECORD_BYTES + KT_COUNT(sizes));
        talk(&pair);
        const struct kt_buf *plain = &sides[1 - from]->plain;
        assert_int_equal(plain->len, total);
        for (size_t i = 0, at = 0; i < KT_COUNT(pieces); at += pieces[i++].len)
            assert_memory_equal(plain->data + at, pieces[i].data, pieces[i].len);
    }
    for (size_t i = 0; i < KT_COUNT(pieces); i++)
        kt_free((void *)(uintptr_t)pieces[i].data);
    pair_release(&pair);
}

static void tls__certificate_of_the_authority_that_both_take__is_good_while_authorities_change(void **state)
{
    (void)state;
    struct kt_test_fault both = {.takes_both = true}, other = {.other_authority = true, .takes_both = true};
    struct pair pair;
    pair_init(&pair, kt_test_context(&certificates, 1, &both), kt_test_context(&certificates, 2, &other));
    talk(&pair);
    assert_true(pair.client.shaken && pair.server.shaken);
    pair_release(&pair);
}

/* ---- clients ---- */

static struct kt_tls_context *gate_of(kt_node_id node, bool asks)
{
    struct kt_test_paths paths;
    struct kt_tls_context *context;
    struct kt_error error;
    kt_test_certificate_files(&certificates, node, NULL, &paths);
    struct kt_tls_gate_files files = {
        .certificate = paths.certificate, .key = paths.key, .client_ca = asks ? paths.ca : NULL};
    assert_int_equal(kt_tls_gate_create(&files, &context, &error), KT_OK);
    return context;
}

/* A node as the client: it looks for node 2, which the certificate happens to name, and always shows its own. */
static void gate__client__is_served_and_may_end_first(void **state)
{
    (void)state;
    struct kt_slice word = kt_slice_text("word");
    for (int asks = 0; asks < 2; asks++) {
        struct pair pair;
        pair_init(&pair, context_of(1), gate_of(2, asks));
        talk(&pair);
        assert_true(pair.client.shaken && pair.server.shaken);
        kt_tls_end(pair.client.tls);
        talk(&pair);
        expect(&pair.server, KT_TLS_ENDED, "ended TLS");
        assert_int_equal(kt_tls_write(pair.server.tls, &word, 1), KT_OK);
        kt_tls_end(pair.server.tls);
        talk(&pair);
        assert_int_equal(pair.client.plain.len, word.len);
        expect(&pair.client, KT_TLS_ENDED, "ended TLS");
        pair_release(&pair);
    }
}

static void gate__client_of_another_authority__is_refused_if_it_is_asked(void **state)
{
    (void)state;
    struct kt_test_fault fault = {.other_authority = true, .takes_both = true};
    for (int asks = 0; asks < 2; asks++) {
        struct pair pair;
        pair_init(&pair, kt_test_context(&certificates, 1, &fault), gate_of(2, asks));
        talk(&pair);
        if (asks)
            expect(&pair.server, KT_TLS_UNKNOWN_AUTHORITY, "unknown authority");
        else
            assert_true(pair.server.shaken && !pair.server.failed);
        pair_release(&pair);
    }
}

static void gate__files_of_no_use__are_refused_by_name(void **state)
{
    (void)state;
    struct kt_test_paths paths, other;
    struct kt_tls_context *context;
    struct kt_error error;
    kt_test_certificate_files(&certificates, 1, NULL, &paths);
    kt_test_certificate_files(&certificates, 2, NULL, &other);
    struct kt_tls_gate_files files = {.certificate = paths.certificate, .key = other.key};
    assert_int_equal(kt_tls_gate_create(&files, &context, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "fits the certificate"));
    files = (struct kt_tls_gate_files){.certificate = paths.certificate, .key = paths.key, .client_ca = paths.key};
    assert_int_equal(kt_tls_gate_create(&files, &context, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "no certificates of authorities"));
    assert_null(context);
}

/* ---- certificates ---- */

static void tls__faulty_certificate__is_told_by_the_one_that_sees_it_and_the_one_that_has_it(void **state)
{
    (void)state;
    static const struct {
        struct kt_test_fault client, server;
        bool server_sees;
        enum kt_tls_failure failure, refusal;
        const char *text, *told;
    } rows[] = {
        {.server = {.expired = true},
         .failure = KT_TLS_EXPIRED,
         .refusal = KT_TLS_REFUSED_EXPIRED,
         .text = "its certificate has expired",
         .told = "it refuses this node's certificate: expired"},
        {.client = {.expired = true},
         .server_sees = true,
         .failure = KT_TLS_EXPIRED,
         .refusal = KT_TLS_REFUSED_EXPIRED,
         .text = "its certificate has expired",
         .told = "it refuses this node's certificate: expired"},
        {.server = {.not_yet = true},
         .failure = KT_TLS_NOT_YET,
         .refusal = KT_TLS_REFUSED,
         .text = "is not valid yet",
         .told = "it refuses this node's certificate: not valid yet"},
        {.server = {.other_authority = true},
         .failure = KT_TLS_UNKNOWN_AUTHORITY,
         .refusal = KT_TLS_REFUSED_AUTHORITY,
         .text = "signed by an unknown authority",
         .told = "signed by an authority unknown there"},
        {.client = {.other_authority = true, .takes_both = true},
         .server_sees = true,
         .failure = KT_TLS_UNKNOWN_AUTHORITY,
         .refusal = KT_TLS_REFUSED_AUTHORITY,
         .text = "signed by an unknown authority",
         .told = "signed by an authority unknown there"},
        {.server = {.names = 3},
         .failure = KT_TLS_WRONG_NAME,
         .refusal = KT_TLS_REFUSED_NAME,
         .text = "does not name node 2 but node 3",
         .told = "it does not name the node it looks for"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct pair pair;
        pair_init(&pair, kt_test_context(&certificates, 1, &rows[i].client),
                  kt_test_context(&certificates, 2, &rows[i].server));
        talk(&pair);
        struct side *sees = rows[i].server_sees ? &pair.server : &pair.client;
        struct side *has = rows[i].server_sees ? &pair.client : &pair.server;
        expect(sees, rows[i].failure, rows[i].text);
        expect(has, rows[i].refusal, rows[i].told);
        pair_release(&pair);
    }
}

/* A client of OpenSSL's own, as others would write one. */
static SSL *foreign_client(int version, BIO **in, BIO **out)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context);
    *in = BIO_new(BIO_s_mem());
    *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, *in, *out);
    SSL_set_connect_state(ssl);
    return ssl;
}

static void foreign_talk(SSL *ssl, BIO *in, BIO *out, struct side *server)
{
    for (unsigned i = 0; i < 4; i++) {
        char *bytes;
        uint8_t nothing[1];
        (void)SSL_read(ssl, nothing, 1);
        ERR_clear_error();
        long len = BIO_get_mem_data(out, &bytes);
        side_step(server, kt_slice(bytes, (size_t)len));
        (void)BIO_reset(out);
        struct kt_buf *answer = kt_tls_output(server->tls);
        BIO_write(in, answer->data, (int)answer->len);
        kt_buf_clear(answer);
    }
}

static void tls__client_without_a_certificate_or_of_an_older_version__is_refused(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    for (size_t i = 0; i < KT_COUNT(versions); i++) {
        struct kt_tls_context *context = context_of(2);
        struct side server;
        BIO *in, *out;
        side_init(&server, context, KT_TLS_SERVER, 0);
        kt_tls_context_drop(context);
        SSL *ssl = foreign_client(versions[i], &in, &out);
        foreign_talk(ssl, in, out, &server);
        if (i == 0)
            expect(&server, KT_TLS_NO_CERTIFICATE, "it shows no certificate");
        else
            expect(&server, KT_TLS_OLD, "does not speak TLS 1.3");
        SSL_free(ssl);
        kt_tls_free(server.tls);
        kt_buf_release(&server.plain);
    }
}

/* ---- what is no TLS, and what is damaged ---- */

static void tls__other_protocol__is_told_apart_at_its_first_byte_on_either_side(void **state)
{
    (void)state;
    static const enum kt_tls_role roles[] = {KT_TLS_SERVER, KT_TLS_CLIENT};
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "K", "\x17\x03\x03", "\x16\x02"};
    for (size_t i = 0; i < 2 * KT_COUNT(texts); i++) {
        struct kt_tls_context *context = context_of(2);
        struct side side;
        side_init(&side, context, roles[i % 2], 0);
        kt_tls_context_drop(context);
        side_step(&side, kt_slice(NULL, 0));
        kt_buf_clear(kt_tls_output(side.tls));
        side_step(&side, kt_slice_text(texts[i / 2]));
        expect(&side, KT_TLS_NOT_TLS, "the other side does not speak TLS");
        /* What is sent back is an alert, which a node without TLS knows. */
        assert_true(kt_tls_begins(kt_buf_slice(kt_tls_output(side.tls))));
        kt_tls_free(side.tls);
        kt_buf_release(&side.plain);
    }
}

static void tls__any_flipped_byte__fails_the_session_and_delivers_nothing_wrong(void **state)
{
    (void)state;
    static const char text[] = "the bytes that must not change";
    struct kt_slice piece = kt_slice(text, sizeof(text));
    size_t len = 1;
    for (size_t at = 0; at < len; at++) {
        struct pair pair;
        pair_init(&pair, context_of(1), context_of(2));
        talk(&pair);
        assert_int_equal(kt_tls_write(pair.client.tls, &piece, 1), KT_OK);
        struct kt_buf *output = kt_tls_output(pair.client.tls);
        len = output->len;
        output->data[at] ^= 0x10;
        talk(&pair);
        assert_int_equal(pair.server.plain.len, 0);
        /* A length (bytes 3 and 4) that grew is waited for, in vain; everything else is seen at once. */
        if (at != 3 && at != 4)
            expect(&pair.server, KT_TLS_BROKEN, "TLS failed: ");
        pair_release(&pair);
    }
    assert_true(len > sizeof(text));
}

static void tls__failed_session__stays_failed(void **state)
{
    (void)state;
    struct kt_test_fault fault = {.expired = true};
    struct kt_slice piece = kt_slice("x", 1);
    uint8_t byte;
    size_t got;
    struct pair pair;
    pair_init(&pair, context_of(1), kt_test_context(&certificates, 2, &fault));
    talk(&pair);
    assert_int_equal(kt_tls_shake(pair.client.tls), KT_BAD_CREDENTIALS);
    assert_int_equal(kt_tls_read(pair.client.tls, &byte, 1, &got), KT_BAD_CREDENTIALS);
    assert_int_equal(kt_tls_write(pair.client.tls, &piece, 1), KT_BAD_CREDENTIALS);
    kt_tls_feed(pair.client.tls, kt_slice("abc", 3));
    kt_tls_feed(pair.client.tls, kt_slice("abc", 3));
    assert_int_equal(kt_tls_failure(pair.client.tls), KT_TLS_EXPIRED);
    assert_false(kt_tls_names(pair.client.tls, 2));
    pair_release(&pair);
}

static void tls__output_that_nobody_takes__is_bounded(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t *bytes = kt_zalloc(1u << 20);
    struct kt_slice piece = kt_slice(bytes, 1u << 20);
    enum kt_code code = KT_OK;
    pair_init(&pair, context_of(1), context_of(2));
    talk(&pair);
    for (unsigned i = 0; i < 8 && code == KT_OK; i++)
        code = kt_tls_write(pair.client.tls, &piece, 1);
    assert_int_equal(code, KT_BAD_CREDENTIALS);
    assert_non_null(strstr(kt_tls_text(pair.client.tls), "too much waits"));
    assert_true(kt_tls_output(pair.client.tls)->cap <= KT_TLS_OUTPUT_MAX);
    kt_free(bytes);
    pair_release(&pair);
}

/* ---- files ---- */

static enum kt_code try_context(const struct kt_test_paths *paths, kt_node_id node, struct kt_error *error)
{
    struct kt_tls_files files = {.ca = paths->ca, .certificate = paths->certificate, .key = paths->key, .node = node};
    struct kt_tls_context *context;
    *error = (struct kt_error){.text = ""};
    enum kt_code code = kt_tls_context_create(&files, &context, error);
    assert_true((code == KT_OK) == (context != NULL));
    kt_tls_context_drop(context);
    assert_int_equal(ERR_peek_error(), 0);
    return code;
}

static void refused(const struct kt_test_paths *paths, const char *path, const char *text)
{
    struct kt_error error;
    assert_int_equal(try_context(paths, 1, &error), KT_BAD_REQUEST);
    if (!strstr(error.text, path) || !strstr(error.text, text))
        fail_msg("'%s' has not '%s' and '%s'", error.text, path, text);
}

static void context__files_that_no_node_would_take__are_refused_by_name(void **state)
{
    (void)state;
    struct kt_test_paths good, other, mixed;
    struct kt_test_fault fault = {.other_authority = true}, wrong = {.names = 9};
    struct kt_error error;
    kt_test_certificate_files(&certificates, 1, NULL, &good);
    kt_test_certificate_files(&certificates, 1, &fault, &other);
    assert_int_equal(try_context(&good, 1, &error), KT_OK);
    mixed = good;
    snprintf(mixed.ca, sizeof(mixed.ca), "%s/none.pem", certificates.folder);
    refused(&mixed, "none.pem", "cannot be read");
    mixed = good;
    memcpy(mixed.ca, good.key, sizeof(mixed.ca));
    refused(&mixed, good.key, "no certificates of authorities");
    mixed = good;
    memcpy(mixed.certificate, good.key, sizeof(mixed.certificate));
    refused(&mixed, good.key, "no certificate");
    mixed = good;
    memcpy(mixed.key, other.key, sizeof(mixed.key));
    refused(&mixed, other.key, "fits the certificate");
    mixed = good;
    memcpy(mixed.ca, other.ca, sizeof(mixed.ca));
    refused(&mixed, good.certificate, "signed the certificate");
    kt_test_certificate_files(&certificates, 1, &wrong, &mixed);
    refused(&mixed, mixed.certificate, "does not name node 1");
}

static void context__key_with_a_passphrase__is_refused_without_asking_for_it(void **state)
{
    (void)state;
    struct kt_test_paths paths;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    kt_test_certificate_files(&certificates, 1, NULL, &paths);
    FILE *file = fopen(paths.key, "wb");
    assert_non_null(file);
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL), 1);
    fclose(file);
    EVP_PKEY_free(key);
    refused(&paths, paths.key, "no key without a passphrase");
}

static void context__files_that_will_be_trouble__are_warned_of(void **state)
{
    (void)state;
    struct kt_test_fault fault = {.expired = true};
    struct kt_test_paths paths;
    struct kt_error error;
    kt_test_certificate_files(&certificates, 1, &fault, &paths);
    assert_int_equal(try_context(&paths, 1, &error), KT_OK);
    assert_non_null(strstr(last_line, "has expired: other nodes refuse it"));
    kt_test_certificate_files(&certificates, 1, NULL, &paths);
    assert_int_equal(chmod(paths.key, 0640), 0);
    last_line[0] = '\0';
    assert_int_equal(try_context(&paths, 1, &error), KT_OK);
    assert_non_null(strstr(last_line, "make it mode 0600"));
    assert_int_equal(chmod(paths.key, 0600), 0);
    last_line[0] = '\0';
    assert_int_equal(try_context(&paths, 1, &error), KT_OK);
    assert_string_equal(last_line, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls__both_certificates_good__shakes_hands_and_knows_both_names),
        cmocka_unit_test(tls__pieces_of_all_sizes__arrive_as_one_stream_in_few_records),
        cmocka_unit_test(tls__certificate_of_the_authority_that_both_take__is_good_while_authorities_change),
        cmocka_unit_test(gate__client__is_served_and_may_end_first),
        cmocka_unit_test(gate__client_of_another_authority__is_refused_if_it_is_asked),
        cmocka_unit_test(gate__files_of_no_use__are_refused_by_name),
        cmocka_unit_test(tls__faulty_certificate__is_told_by_the_one_that_sees_it_and_the_one_that_has_it),
        cmocka_unit_test(tls__client_without_a_certificate_or_of_an_older_version__is_refused),
        cmocka_unit_test(tls__other_protocol__is_told_apart_at_its_first_byte_on_either_side),
        cmocka_unit_test(tls__any_flipped_byte__fails_the_session_and_delivers_nothing_wrong),
        cmocka_unit_test(tls__failed_session__stays_failed),
        cmocka_unit_test(tls__output_that_nobody_takes__is_bounded),
        cmocka_unit_test(context__files_that_no_node_would_take__are_refused_by_name),
        cmocka_unit_test(context__key_with_a_passphrase__is_refused_without_asking_for_it),
        cmocka_unit_test(context__files_that_will_be_trouble__are_warned_of),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
