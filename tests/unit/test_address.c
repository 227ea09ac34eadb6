#include "base/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static void address__of_every_form__is_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        unsigned port;
    } good[] = {
        {"127.0.0.1:7401", "127.0.0.1", 7401},
        {"node-1.example:1", "node-1.example", 1},
        {"[::1]:65535", "::1", 65535},
        {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
        {"a:0", "a", 0},
        {"a:007", "a", 7},
    };
    for (size_t i = 0; i < KT_COUNT(good); i++) {
        struct kt_address address;
        struct kt_error error;
        assert_int_equal(kt_address_parse(good[i].text, &address, &error), KT_OK);
        assert_string_equal(address.host, good[i].host);
        assert_int_equal(address.port, good[i].port);
    }
}

static void address__malformed__is_refused_with_its_text(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",     "host",   ":80",     "[]:80",   "host:", "host:65536", "host:123456", "h:-1",
        "h:8x", "::1:80", "[::1]80", "[::1:80", "[:80",  "h: 80",      "[a]b:1"};
    for (size_t i = 0; i < KT_COUNT(bad); i++) {
        struct kt_address address;
        struct kt_error error = {.code = KT_OK};
        assert_int_equal(kt_address_parse(bad[i], &address, &error), KT_BAD_REQUEST);
        assert_int_equal(error.code, KT_BAD_REQUEST);
        assert_non_null(strstr(error.text, bad[i]));
    }
}

static void address__host_at_and_past_the_limit__is_taken_and_refused(void **state)
{
    (void)state;
    char text[KT_ADDRESS_HOST_MAX + 8];
    struct kt_address address;
    memset(text, 'h', sizeof(text));
    memcpy(text + KT_ADDRESS_HOST_MAX, ":80", 4);
    assert_int_equal(kt_address_parse(text, &address, NULL), KT_OK);
    assert_int_equal(strlen(address.host), KT_ADDRESS_HOST_MAX);
    memset(text, 'h', sizeof(text));
    memcpy(text + KT_ADDRESS_HOST_MAX + 1, ":80", 4);
    assert_int_equal(kt_address_parse(text, &address, NULL), KT_BAD_REQUEST);
}

static void listen__on_any_port__gives_the_port_and_refuses_it_to_another(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < KT_COUNT(hosts); i++) {
        char text[64];
        struct kt_error error;
        int fd, other;
        unsigned port, other_port;
        snprintf(text, sizeof(text), "%s:0", hosts[i]);
        if (kt_address_listen(text, 4, &fd, &port, &error) != KT_OK) {
            assert_string_equal(hosts[i], "[::1]"); /* a machine without IPv6 */
            continue;
        }
        assert_true(fd >= 0 && port > 0);
        snprintf(text, sizeof(text), "%s:%u", hosts[i], port);
        assert_int_equal(kt_address_listen(text, 4, &other, &other_port, &error), KT_IO_FAILED);
        assert_int_equal(other, -1);
        assert_non_null(strstr(error.text, text));
        close(fd);
        /* And has it again at once. */
        assert_int_equal(kt_address_listen(text, 4, &fd, &other_port, &error), KT_OK);
        assert_int_equal(other_port, port);
        close(fd);
    }
}

static void listen__on_no_address__is_refused(void **state)
{
    (void)state;
    struct kt_error error;
    int fd;
    unsigned port;
    assert_int_equal(kt_address_listen("nowhere", 4, &fd, &port, &error), KT_BAD_REQUEST);
    assert_int_equal(kt_address_listen("256.256.256.256:1", 4, &fd, &port, &error), KT_IO_FAILED);
    assert_int_equal(kt_address_listen("192.0.2.1:1", 4, &fd, &port, NULL), KT_IO_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address__of_every_form__is_taken_apart),
        cmocka_unit_test(address__malformed__is_refused_with_its_text),
        cmocka_unit_test(listen__on_any_port__gives_the_port_and_refuses_it_to_another),
        cmocka_unit_test(listen__on_no_address__is_refused),
        cmocka_unit_test(address__host_at_and_past_the_limit__is_taken_and_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
