/* base/alloc.c and base/check.c: what happens when there is no memory, or no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"

static void alloc__size_zero__is_an_address(void **state)
{
    (void)state;
    void *memory[4] = {kt_alloc(0), kt_zalloc(0), kt_try_alloc(0), kt_realloc(NULL, 0)};
    for (size_t i = 0; i < KT_COUNT(memory); i++) {
        assert_non_null(memory[i]);
        kt_free(memory[i]);
    }
    kt_free(NULL);
}

static void alloc__copies__end_with_a_nul(void **state)
{
    (void)state;
    char *text = kt_text_dup("abc");
    assert_string_equal(text, "abc");
    text = kt_realloc(text, 100);
    assert_string_equal(text, "abc");
    kt_free(text);
    text = kt_slice_dup_text(kt_slice("abcdef", 2));
    assert_string_equal(text, "ab");
    kt_free(text);
    text = kt_slice_dup_text(kt_slice(NULL, 0));
    assert_string_equal(text, "");
    kt_free(text);
    uint8_t *zeros = kt_zalloc(1000);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(zeros[i], 0);
    kt_free(zeros);
}

static void fail_at__n__fails_the_nth_try_once(void **state)
{
    (void)state;
    kt_alloc_fail_at(3);
    void *first = kt_try_alloc(1);
    assert_non_null(first);
    assert_false(kt_alloc_fails());
    void *unfailing = kt_alloc(1);
    assert_null(kt_try_realloc(first, 10));
    void *moved = kt_try_realloc(first, 10);
    assert_non_null(moved);
    kt_free(moved);
    kt_free(unfailing);
    kt_alloc_fail_at(1);
    assert_true(kt_alloc_fails());
    assert_false(kt_alloc_fails());
    kt_alloc_fail_at(1);
    kt_alloc_fail_at(0);
    void *after = kt_try_alloc(1);
    assert_non_null(after);
    kt_free(after);
}

static int status_of_child(void (*act)(void))
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(STDERR_FILENO); /* the line is expected, and would look like a failure */
        act();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void broken_check(void)
{
    /* cmocka turns SIGABRT of its own process into a failed test; this is the child's. */
    signal(SIGABRT, SIG_DFL);
    KT_CHECK(1 + 1 == 3);
}

static void kept_check(void)
{
    KT_CHECK(1 + 1 == 2);
}

static void check__broken__aborts(void **state)
{
    (void)state;
    int status = status_of_child(broken_check);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = status_of_child(kept_check);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__size_zero__is_an_address),
        cmocka_unit_test(alloc__copies__end_with_a_nul),
        cmocka_unit_test(fail_at__n__fails_the_nth_try_once),
        cmocka_unit_test(check__broken__aborts),
    };
    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
