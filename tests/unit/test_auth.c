/* auth/auth.c: who is let in, as what, and which settings are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "auth/auth.h"
#include "base/alloc.h"

/* The SHA-256 of "my-secret-token". */
#define TOKEN_HASH "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3"
#define OTHER_HASH "a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475" /* "plain" */
#define KEY_1_HASH "be2974546978e3739e6d6da85c4be9f334ce32df2b9fd4b6ff1b55c0d57e9d44" /* "key-1" */
#define KEY_2_HASH "7c36b0a9dedde119c75165957c6c9c187e65df1ee5db87c4c58ad503ad88cbe3" /* "key-2" */

/* "correct horse", salt 00..07, 1000 iterations; "battery staple", salt 00..0f, 5000: of another implementation. */
#define HORSE "pbkdf2-sha256:1000:0001020304050607:5e56939750611e8d58747e1fe5b1dec0f0f85b27cca8a6089c3485471d46a080"
#define STAPLE                                                                                                         \
    "pbkdf2-sha256:5000:000102030405060708090a0b0c0d0e0f:"                                                             \
    "2cfa794b38bbc20caccb4bddcc33e3af02018cf8f1439aa72ebaf1cdcd718635"

static const struct kt_auth_user users[] = {
    {.name = "alice", .password = HORSE, .api_key = "sha256:" KEY_1_HASH, .role = "admin"},
    {.name = "bob", .password = STAPLE, .role = "readwrite"},
    {.name = "carol", .password = "sha256:" OTHER_HASH, .role = "read"},
    {.name = "robot", .api_key = "sha256:" KEY_2_HASH, .role = "read"},
};

static struct kt_auth *create(const struct kt_auth_options *options)
{
    struct kt_auth *auth;
    struct kt_error error = {.code = KT_OK};
    if (kt_auth_create(options, &auth, &error) != KT_OK)
        fail_msg("%s", error.text);
    return auth;
}

static void expect_refused(const struct kt_auth_options *options, enum kt_code code, const char *sentence)
{
    struct kt_auth *auth = (struct kt_auth *)1;
    struct kt_error error = {.code = KT_OK};
    assert_int_equal(kt_auth_create(options, &auth, &error), code);
    assert_null(auth);
    assert_int_equal(error.code, code);
    if (!strstr(error.text, sentence))
        fail_msg("\"%s\" does not say \"%s\"", error.text, sentence);
}

static void token_hash__known_token__is_its_sha256(void **state)
{
    (void)state;
    char hex[65];
    kt_auth_token_hash(kt_slice_text("my-secret-token"), hex);
    assert_string_equal(hex, TOKEN_HASH);
    kt_auth_token_hash(kt_slice(NULL, 0), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void bearer__known_token__is_the_token_principal(void **state)
{
    (void)state;
    static const char *const hashes[] = {OTHER_HASH,
                                         "EA5ADD57437CBF20AF59034D7ED17968DCC56767B41965FCC5B376D45DB8B4A3"};
    struct kt_auth *auth =
        create(&(struct kt_auth_options){.required = true, .token_hashes = hashes, .token_hash_count = 2});
    assert_true(kt_auth_required(auth));
    const struct kt_principal *principal = kt_auth_bearer(auth, kt_slice_text("my-secret-token"));
    assert_non_null(principal);
    assert_string_equal(principal->name, "token");
    assert_int_equal(principal->permissions, 7);
    assert_non_null(kt_auth_bearer(auth, kt_slice_text("plain")));
    assert_null(kt_auth_bearer(auth, kt_slice_text("my-secret-token ")));
    assert_null(kt_auth_bearer(auth, kt_slice_text("my-secret-toke")));
    assert_null(kt_auth_bearer(auth, kt_slice_text(TOKEN_HASH)));
    assert_null(kt_auth_bearer(auth, kt_slice(NULL, 0)));
    kt_auth_free(auth);
}

static void bearer__authentication_off__takes_any_token_but_none(void **state)
{
    (void)state;
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = false});
    assert_false(kt_auth_required(auth));
    assert_non_null(kt_auth_bearer(auth, kt_slice_text("anything")));
    assert_null(kt_auth_bearer(auth, kt_slice_text("")));
    assert_string_equal(kt_auth_local(auth)->name, "local");
    assert_int_equal(kt_auth_local(auth)->permissions, 7);
    assert_null(kt_auth_password(auth, kt_slice_text("alice"), kt_slice_text("x")));
    kt_auth_free(auth);
    kt_auth_free(NULL);
}

static void secret__longer_than_any__is_refused(void **state)
{
    (void)state;
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = false, .users = users, .user_count = 4});
    char *secret = kt_alloc(KT_AUTH_SECRET_BYTES_MAX + 1);
    memset(secret, 'x', KT_AUTH_SECRET_BYTES_MAX + 1);
    assert_non_null(kt_auth_bearer(auth, kt_slice(secret, KT_AUTH_SECRET_BYTES_MAX)));
    assert_null(kt_auth_bearer(auth, kt_slice(secret, KT_AUTH_SECRET_BYTES_MAX + 1)));
    assert_null(kt_auth_password(auth, kt_slice_text("alice"), kt_slice(secret, KT_AUTH_SECRET_BYTES_MAX + 1)));
    assert_null(kt_auth_api_key(auth, kt_slice(secret, KT_AUTH_SECRET_BYTES_MAX + 1)));
    kt_free(secret);
    kt_auth_free(auth);
}

static void password__each_kind_of_verifier__lets_the_right_one_in(void **state)
{
    (void)state;
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = true, .users = users, .user_count = 4});
    static const struct {
        const char *name, *password;
        unsigned permissions; /* 0: refused */
    } rows[] = {
        {"alice", "correct horse", 7},
        {"bob", "battery staple", 3},
        {"carol", "plain", 1},
        {"alice", "battery staple", 0},
        {"alice", "correct horse ", 0},
        {"bob", "correct horse", 0},
        {"carol", "Plain", 0},
        {"robot", "key-2", 0},
        {"mallory", "plain", 0},
        {"", "plain", 0},
        {"alice", "", 0},
        {"carol", OTHER_HASH, 0},
        {"Alice", "correct horse", 0},
        {"alic", "correct horse", 0},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        const struct kt_principal *principal =
            kt_auth_password(auth, kt_slice_text(rows[i].name), kt_slice_text(rows[i].password));
        assert_int_equal(principal ? principal->permissions : 0, rows[i].permissions);
        if (principal)
            assert_string_equal(principal->name, rows[i].name);
    }
    assert_null(kt_auth_password(auth, kt_slice("carol\0", 6), kt_slice_text("plain")));
    kt_auth_free(auth);
}

static void api_key__known_key__is_its_user(void **state)
{
    (void)state;
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = true, .users = users, .user_count = 4});
    const struct kt_principal *principal = kt_auth_api_key(auth, kt_slice_text("key-1"));
    assert_non_null(principal);
    assert_string_equal(principal->name, "alice");
    assert_int_equal(principal->permissions, 7);
    principal = kt_auth_api_key(auth, kt_slice_text("key-2"));
    assert_non_null(principal);
    assert_string_equal(principal->name, "robot");
    assert_int_equal(principal->permissions, 1);
    assert_null(kt_auth_api_key(auth, kt_slice_text("key-3")));
    assert_null(kt_auth_api_key(auth, kt_slice_text("")));
    assert_null(kt_auth_api_key(auth, kt_slice_text("plain")));
    kt_auth_free(auth);
}

static void verifier__made_here__lets_in_and_differs_each_time(void **state)
{
    (void)state;
    char first[160], second[160];
    kt_auth_verifier(kt_slice_text("a password"), first);
    kt_auth_verifier(kt_slice_text("a password"), second);
    assert_string_not_equal(first, second);
    assert_int_equal(strncmp(first, "pbkdf2-sha256:100000:", 21), 0);
    struct kt_auth_user user = {.name = "dora", .password = first, .role = "read"};
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = true, .users = &user, .user_count = 1});
    assert_non_null(kt_auth_password(auth, kt_slice_text("dora"), kt_slice_text("a password")));
    assert_null(kt_auth_password(auth, kt_slice_text("dora"), kt_slice_text("b password")));
    kt_auth_free(auth);
}

static double processor_seconds(const struct kt_auth *auth, const char *name)
{
    struct timespec from, to;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    (void)kt_auth_password(auth, kt_slice_text(name), kt_slice_text("wrong"));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* Of an expensive verifier, a cheap one, none, and a user who is not there: the work is within a factor of three. */
static void password__unknown_user__costs_as_much_as_a_known_one(void **state)
{
    (void)state;
    char expensive[160];
    kt_auth_verifier(kt_slice_text("x"), expensive);
    const struct kt_auth_user two[] = {{.name = "slow", .password = expensive, .role = "read"},
                                       {.name = "quick", .password = "sha256:" OTHER_HASH, .role = "read"},
                                       {.name = "robot", .api_key = "sha256:" KEY_1_HASH, .role = "read"}};
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = true, .users = two, .user_count = 3});
    double slow = processor_seconds(auth, "slow");
    assert_true(processor_seconds(auth, "nobody") > slow / 3);
    assert_true(processor_seconds(auth, "quick") > slow / 3);
    assert_true(processor_seconds(auth, "robot") > slow / 3);
    kt_auth_free(auth);
}

static void create__malformed_user__is_refused(void **state)
{
    (void)state;
    static const struct {
        struct kt_auth_user user;
        const char *sentence;
    } rows[] = {
        {{.name = NULL, .password = HORSE, .role = "read"}, "user 1 has no name"},
        {{.name = "", .password = HORSE, .role = "read"}, "user 1 has no name"},
        {{.name = "a", .password = HORSE, .role = "root"}, "role \"root\" of user \"a\""},
        {{.name = "a", .password = HORSE, .role = NULL}, "none of read, readwrite, admin"},
        {{.name = "a", .role = "read"}, "neither a password nor an api key"},
        {{.name = "a", .password = "secret", .role = "read"}, "password of user \"a\""},
        {{.name = "a", .password = "", .role = "read"}, "password of user \"a\""},
        {{.name = "a", .password = "md5:" OTHER_HASH, .role = "read"}, "password of user \"a\""},
        {{.name = "a", .password = "sha256:" OTHER_HASH "0", .role = "read"}, "password of user \"a\""},
        {{.name = "a", .password = "sha256:xyz", .role = "read"}, "password of user \"a\""},
        {{.name = "a", .password = "pbkdf2-sha256:999:0001020304050607:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:10000001:0001020304050607:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:99999999999999999999:0001020304050607:" OTHER_HASH, .role = "read"},
         "password"},
        {{.name = "a", .password = "pbkdf2-sha256:-1000:0001020304050607:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256::0001020304050607:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000:00010203040506:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000:000102030405060:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000:000102030405060g:" OTHER_HASH, .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000:0001020304050607", .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000", .role = "read"}, "password"},
        {{.name = "a", .password = "pbkdf2-sha256:1000:0001020304050607:" OTHER_HASH "00", .role = "read"}, "password"},
        {{.name = "a", .api_key = OTHER_HASH, .role = "read"}, "api key of user \"a\""},
        {{.name = "a", .api_key = HORSE, .role = "read"}, "api key of user \"a\""},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_refused(&(struct kt_auth_options){.users = &rows[i].user, .user_count = 1}, KT_BAD_REQUEST,
                       rows[i].sentence);
    char salt[2 * 65 + 1], text[400];
    memset(salt, 'a', sizeof(salt) - 1);
    salt[sizeof(salt) - 1] = '\0';
    snprintf(text, sizeof(text), "pbkdf2-sha256:1000:%s:" OTHER_HASH, salt);
    struct kt_auth_user user = {.name = "a", .password = text, .role = "read"};
    expect_refused(&(struct kt_auth_options){.users = &user, .user_count = 1}, KT_BAD_REQUEST,
                   "password of user \"a\"");
}

static void create__two_users_that_collide__is_refused(void **state)
{
    (void)state;
    const struct kt_auth_user same_name[] = {users[0], {.name = "alice", .password = STAPLE, .role = "read"}};
    expect_refused(&(struct kt_auth_options){.users = same_name, .user_count = 2}, KT_BAD_REQUEST,
                   "user \"alice\" is there twice");
    const struct kt_auth_user same_key[] = {users[0], {.name = "eve", .api_key = "sha256:" KEY_1_HASH, .role = "read"}};
    expect_refused(&(struct kt_auth_options){.users = same_key, .user_count = 2}, KT_BAD_REQUEST,
                   "users \"alice\" and \"eve\" have the same api key");
}

static void create__bad_token_hash__is_refused_without_quoting_it(void **state)
{
    (void)state;
    static const char *const hashes[] = {TOKEN_HASH, "my-secret-token"};
    struct kt_auth *auth;
    struct kt_error error;
    struct kt_auth_options options = {.required = true, .token_hashes = hashes, .token_hash_count = 2};
    expect_refused(&options, KT_BAD_REQUEST, "token hash 2");
    assert_int_equal(kt_auth_create(&options, &auth, &error), KT_BAD_REQUEST);
    assert_null(strstr(error.text, "my-secret-token"));
    assert_int_equal(kt_auth_create(&options, &auth, NULL), KT_BAD_REQUEST);
}

static void create__required_with_nobody__is_refused(void **state)
{
    (void)state;
    expect_refused(&(struct kt_auth_options){.required = true}, KT_BAD_REQUEST, "no token and no user");
}

static void write_file(char path[64], const void *text, size_t len)
{
    snprintf(path, 64, "/tmp/kontiki-secrets-XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, len), len);
    close(file);
}

static void secrets_file__hashes_and_comments__are_read(void **state)
{
    (void)state;
    static const char text[] = "# tokens of the team\n\n  \t\n" OTHER_HASH "\r\n  # indented\n\t" TOKEN_HASH "  ";
    char path[64];
    write_file(path, text, sizeof(text) - 1);
    struct kt_auth *auth = create(&(struct kt_auth_options){.required = true, .secrets_file = path});
    assert_non_null(kt_auth_bearer(auth, kt_slice_text("my-secret-token")));
    assert_non_null(kt_auth_bearer(auth, kt_slice_text("plain")));
    assert_null(kt_auth_bearer(auth, kt_slice_text("other")));
    kt_auth_free(auth);
    unlink(path);
}

static void secrets_file__bad_line__is_named_by_its_number(void **state)
{
    (void)state;
    static const char text[] = "# one\n" TOKEN_HASH "\n" TOKEN_HASH " # behind\n";
    char path[64];
    write_file(path, text, sizeof(text) - 1);
    expect_refused(&(struct kt_auth_options){.required = true, .secrets_file = path}, KT_BAD_REQUEST,
                   "line of the secrets file 3");
    unlink(path);
}

static void secrets_file__missing_empty_or_huge__is_refused(void **state)
{
    (void)state;
    char path[64];
    expect_refused(&(struct kt_auth_options){.secrets_file = "/nonexistent/secrets"}, KT_IO_FAILED,
                   "/nonexistent/secrets cannot be opened: ");
    expect_refused(&(struct kt_auth_options){.secrets_file = "/"}, KT_IO_FAILED, "cannot be read: ");
    write_file(path, "", 0);
    expect_refused(&(struct kt_auth_options){.required = true, .secrets_file = path}, KT_BAD_REQUEST, "no token");
    unlink(path);
    size_t size = 1024 * 1024 + 1;
    char *text = kt_alloc(size);
    memset(text, '\n', size);
    write_file(path, text, size);
    expect_refused(&(struct kt_auth_options){.required = false, .secrets_file = path}, KT_BAD_REQUEST, "larger than");
    kt_alloc_fail_at(1);
    expect_refused(&(struct kt_auth_options){.required = false, .secrets_file = path}, KT_NO_MEMORY, "memory");
    kt_alloc_fail_at(0);
    unlink(path);
    kt_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_hash__known_token__is_its_sha256),
        cmocka_unit_test(bearer__known_token__is_the_token_principal),
        cmocka_unit_test(bearer__authentication_off__takes_any_token_but_none),
        cmocka_unit_test(secret__longer_than_any__is_refused),
        cmocka_unit_test(password__each_kind_of_verifier__lets_the_right_one_in),
        cmocka_unit_test(api_key__known_key__is_its_user),
        cmocka_unit_test(verifier__made_here__lets_in_and_differs_each_time),
        cmocka_unit_test(password__unknown_user__costs_as_much_as_a_known_one),
        cmocka_unit_test(create__malformed_user__is_refused),
        cmocka_unit_test(create__two_users_that_collide__is_refused),
        cmocka_unit_test(create__bad_token_hash__is_refused_without_quoting_it),
        cmocka_unit_test(create__required_with_nobody__is_refused),
        cmocka_unit_test(secrets_file__hashes_and_comments__are_read),
        cmocka_unit_test(secrets_file__bad_line__is_named_by_its_number),
        cmocka_unit_test(secrets_file__missing_empty_or_huge__is_refused),
    };
    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
