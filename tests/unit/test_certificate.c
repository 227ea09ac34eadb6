/* Making certificates; whether they are good for anything, test_tls.c shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "wire/certificate.h"

static const struct kt_validity month = {.from_s = -3600, .until_s = 30 * 86400};

static X509 *parse(const struct kt_buf *text)
{
    BIO *bio = BIO_new_mem_buf(text->data, (int)text->len);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(certificate);
    return certificate;
}

static void authority__made__signs_what_a_verifier_takes_with_the_names_of_the_plan(void **state)
{
    (void)state;
    const char *const hosts[] = {"db1.example", "10.1.2.3", "fd00::1"};
    struct kt_certificate_plan plan = {
        .name = "Kontiki node 7", .node = 7, .hosts = hosts, .host_count = KT_COUNT(hosts), .validity = month};
    struct kt_pem authority, pem;
    struct kt_error error = {.text = ""};
    kt_pem_init(&authority);
    kt_pem_init(&pem);
    assert_int_equal(kt_certificate_authority("A CA", month, &authority, &error), KT_OK);
    assert_int_equal(kt_certificate_issue(&authority, &plan, &pem, &error), KT_OK);
    X509 *root = parse(&authority.certificate), *certificate = parse(&pem.certificate);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    assert_int_equal(X509_STORE_CTX_init(context, store, certificate, NULL), 1);
    assert_int_equal(X509_verify_cert(context), 1);
    assert_int_equal(X509_check_host(certificate, "db1.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(certificate, "10.1.2.3", 0), 1);
    assert_int_equal(X509_check_ip_asc(certificate, "fd00::1", 0), 1);
    assert_int_equal(X509_check_host(certificate, "db2.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_purpose(certificate, X509_PURPOSE_SSL_CLIENT, 0), 1);
    assert_int_equal(X509_check_purpose(certificate, X509_PURPOSE_SSL_SERVER, 0), 1);
    assert_int_equal(X509_check_ca(certificate), 0);
    assert_int_equal(X509_check_ca(root), 1);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(certificate);
    kt_pem_release(&authority);
    kt_pem_release(&pem);
}

static void certificate__plan_without_sense__is_refused_with_a_sentence(void **state)
{
    (void)state;
    static const char *const comma[] = {"a,URI:kontiki:node:1"}, *const none[] = {""}, *const dash[] = {"-x"};
    static const struct {
        struct kt_certificate_plan plan;
        const char *text;
    } rows[] = {
        {{.name = "", .node = 1, .validity = {0, 10}}, "common name of 0 bytes"},
        {{.name = "n", .node = 1, .validity = {10, 10}}, "end before it begins"},
        {{.name = "n", .node = KT_NODE_ID_MAX + 1, .validity = {0, 10}}, "node id 65536 is not in 1..65535"},
        {{.name = "n", .node = 1, .hosts = comma, .host_count = 1, .validity = {0, 10}}, "neither a host name"},
        {{.name = "n", .node = 1, .hosts = none, .host_count = 1, .validity = {0, 10}}, "neither a host name"},
        {{.name = "n", .node = 1, .hosts = dash, .host_count = 1, .validity = {0, 10}}, "neither a host name"},
    };
    struct kt_pem authority, pem;
    kt_pem_init(&authority);
    kt_pem_init(&pem);
    assert_int_equal(kt_certificate_authority("A CA", month, &authority, NULL), KT_OK);
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct kt_error error = {.text = ""};
        assert_int_equal(kt_certificate_issue(&authority, &rows[i].plan, &pem, &error), KT_BAD_REQUEST);
        if (!strstr(error.text, rows[i].text))
            fail_msg("%s: no '%s'", error.text, rows[i].text);
        assert_int_equal(pem.certificate.len + pem.key.len, 0);
    }
    kt_pem_release(&authority);
    kt_pem_release(&pem);
}

static void certificate__authority_whose_key_is_anothers__signs_nothing(void **state)
{
    (void)state;
    struct kt_certificate_plan plan = {.name = "n", .node = 1, .validity = month};
    struct kt_pem one, two, pem;
    struct kt_error error = {.text = ""};
    kt_pem_init(&one);
    kt_pem_init(&two);
    kt_pem_init(&pem);
    assert_int_equal(kt_certificate_authority("A CA", month, &one, NULL), KT_OK);
    assert_int_equal(kt_certificate_authority("A CA", month, &two, NULL), KT_OK);
    struct kt_pem mixed = {.certificate = one.certificate, .key = two.key};
    assert_int_equal(kt_certificate_issue(&mixed, &plan, &pem, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "do not fit"));
    mixed.key.len /= 2;
    assert_int_equal(kt_certificate_issue(&mixed, &plan, &pem, &error), KT_BAD_REQUEST);
    assert_int_equal(kt_certificate_issue(&one, &plan, &pem, &error), KT_OK);
    kt_pem_release(&one);
    kt_pem_release(&two);
    kt_pem_release(&pem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(authority__made__signs_what_a_verifier_takes_with_the_names_of_the_plan),
        cmocka_unit_test(certificate__plan_without_sense__is_refused_with_a_sentence),
        cmocka_unit_test(certificate__authority_whose_key_is_anothers__signs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
