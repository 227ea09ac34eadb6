/* base/log.c: what a line looks like, where it goes, and the end of a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static char last_line[8192];
static unsigned line_count;

static void remember(void *data, const char *line)
{
    assert_ptr_equal(data, &line_count);
    assert_true(strlen(line) < sizeof(last_line));
    strncpy(last_line, line, sizeof(last_line) - 1);
    line_count++;
}

static int capture(void **state)
{
    (void)state;
    line_count = 0;
    last_line[0] = '\0';
    kt_log_level_set(KT_LOG_INFO);
    kt_log_sink(remember, &line_count);
    return 0;
}

static int uncapture(void **state)
{
    (void)state;
    kt_log_sink(NULL, NULL);
    kt_log_level_set(KT_LOG_INFO);
    return 0;
}

static void line__each_level__has_time_level_and_component(void **state)
{
    (void)state;
    kt_log_level_set(KT_LOG_DEBUG);
    kt_debug("replica", "a=%d", 1);
    assert_string_equal(last_line + 24, " DEBUG replica: a=1");
    kt_info("replica", "became leader term=%d", 5);
    assert_string_equal(last_line + 24, " INFO replica: became leader term=5");
    kt_warn("x", "w");
    assert_string_equal(last_line + 24, " WARN x: w");
    kt_fail("x", "e");
    assert_string_equal(last_line + 24, " ERROR x: e");
    assert_int_equal(last_line[10], 'T');
    assert_int_equal(last_line[23], 'Z');
    assert_int_equal(line_count, 4);
}

static void line__below_the_level__is_dropped(void **state)
{
    (void)state;
    kt_debug("x", "unseen");
    assert_int_equal(line_count, 0);
    kt_log_level_set(KT_LOG_ERROR);
    kt_warn("x", "unseen");
    kt_info("x", "unseen");
    assert_int_equal(line_count, 0);
    kt_fail("x", "seen");
    assert_int_equal(line_count, 1);
}

static void line__control_characters__cannot_begin_another(void **state)
{
    (void)state;
    kt_info("x", "name=%s", "a\n2025-03-01T08:00:00.123Z ERROR x: forged\r\t\x1b[2J\x7f");
    assert_null(strpbrk(last_line, "\n\r\t\x1b\x7f"));
    assert_non_null(strstr(last_line, "name=a 2025"));
}

static void line__too_long__is_cut_at_a_whole_character(void **state)
{
    (void)state;
    char text[4000];
    for (size_t lead = 0; lead < 3; lead++) {
        memset(text, '-', lead);
        for (size_t i = lead; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        kt_info("x", "%s", text);
        size_t len = strlen(last_line);
        assert_in_range(len, 2000, 2047);
        assert_memory_equal(last_line + len - 3, "\xe2\x82\xac", 3);
    }
}

static void line__errno_of_the_caller__survives(void **state)
{
    (void)state;
    errno = ENOSPC;
    kt_info("x", "y");
    assert_int_equal(errno, ENOSPC);
}

/* Runs act in a child; its stderr ends up in out. Returns the wait status. */
static int stderr_of_child(void (*act)(void), char *out, size_t size)
{
    int ends[2], status;
    size_t len = 0;
    ssize_t n;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        act();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void say_two_lines(void)
{
    kt_log_sink(NULL, NULL);
    kt_info("x", "one");
    kt_fail("x", "two");
}

static void say_fatal(void)
{
    kt_log_level_set(KT_LOG_ERROR);
    kt_fatal("log", "segment %d is torn", 7);
}

static void stderr__without_a_sink__gets_whole_lines(void **state)
{
    (void)state;
    char text[1000];
    int status = stderr_of_child(say_two_lines, text, sizeof(text));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_non_null(strstr(text, " INFO x: one\n"));
    assert_non_null(strstr(text, " ERROR x: two\n"));
    assert_int_equal(line_count, 0);
}

static void fatal__any__writes_its_line_and_exits_70(void **state)
{
    (void)state;
    char text[1000];
    int status = stderr_of_child(say_fatal, text, sizeof(text));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
    assert_non_null(strstr(text, " ERROR log: segment 7 is torn\n"));
}

enum { THREADS = 4, LINES = 500 };

static void *say_many(void *data)
{
    for (int i = 0; i < LINES; i++)
        kt_info("thread", "%s", (const char *)data);
    return NULL;
}

static void say_from_many_threads(void)
{
    static const char *const texts[THREADS] = {"aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb", "cccccccccccccccccccc",
                                               "dddddddddddddddddddd"};
    pthread_t threads[THREADS];
    kt_log_sink(NULL, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, say_many, (void *)texts[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void stderr__many_threads__lines_do_not_mix(void **state)
{
    (void)state;
    static char text[THREADS * LINES * 100];
    unsigned lines = 0;
    stderr_of_child(say_from_many_threads, text, sizeof(text));
    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, lines++) {
        *end = '\0';
        assert_int_equal(end - at, 24 + strlen(" INFO thread: ") + 20);
        char first = end[-1];
        assert_in_range(first, 'a', 'd');
        for (int i = 1; i <= 20; i++)
            assert_int_equal(end[-i], first);
    }
    assert_int_equal(lines, THREADS * LINES);
}

static void *say_through_sink(void *data)
{
    for (int i = 0; i < LINES; i++)
        kt_info("thread", "%d", *(int *)data);
    return NULL;
}

static void sink__many_threads__is_called_one_at_a_time(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int number = 1;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_through_sink, &number), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(line_count, THREADS * LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(line__each_level__has_time_level_and_component, capture, uncapture),
        cmocka_unit_test_setup_teardown(line__below_the_level__is_dropped, capture, uncapture),
        cmocka_unit_test_setup_teardown(line__control_characters__cannot_begin_another, capture, uncapture),
        cmocka_unit_test_setup_teardown(line__too_long__is_cut_at_a_whole_character, capture, uncapture),
        cmocka_unit_test_setup_teardown(line__errno_of_the_caller__survives, capture, uncapture),
        cmocka_unit_test_setup_teardown(stderr__without_a_sink__gets_whole_lines, capture, uncapture),
        cmocka_unit_test_setup_teardown(fatal__any__writes_its_line_and_exits_70, capture, uncapture),
        cmocka_unit_test_setup_teardown(stderr__many_threads__lines_do_not_mix, capture, uncapture),
        cmocka_unit_test_setup_teardown(sink__many_threads__is_called_one_at_a_time, capture, uncapture),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
