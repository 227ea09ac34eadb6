/* base/arena.c: alignment, separate memory, cleanups. */
#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"

static void arena__many_sizes__are_aligned_and_apart(void **state)
{
    (void)state;
    enum { COUNT = 600 };
    struct kt_arena arena;
    uint8_t *pieces[COUNT];
    size_t total = 0;
    kt_arena_init(&arena);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i * 7919 % 3000;
        if (i % 100 == 50)
            size = 100000 + i;
        pieces[i] = kt_arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        memset(pieces[i], (int)i, size);
        total += size;
    }
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 100 == 50 ? 100000 + i : i * 7919 % 3000;
        for (size_t k = 0; k < size; k++)
            assert_int_equal(pieces[i][k], (uint8_t)i);
    }
    assert_true(arena.used_bytes >= total);
    kt_arena_release(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void arena__nothing__is_still_an_address(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena);
    void *a = kt_arena_alloc(&arena, 0), *b = kt_arena_alloc(&arena, 0);
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    assert_int_equal(kt_arena_dup(&arena, kt_slice(NULL, 0)).len, 0);
    assert_non_null(kt_arena_dup(&arena, kt_slice(NULL, 0)).data);
    assert_string_equal(kt_arena_text(&arena, kt_slice(NULL, 0)), "");
    kt_arena_release(&arena);
    kt_arena_release(&arena);
}

static void arena__copies__are_of_their_own(void **state)
{
    (void)state;
    struct kt_arena arena;
    char text[] = "hello\0there";
    kt_arena_init(&arena);
    struct kt_slice copy = kt_arena_dup(&arena, kt_slice(text, sizeof(text)));
    char *five = kt_arena_text(&arena, kt_slice(text, 5));
    uint8_t *zeros = kt_arena_zalloc(&arena, 5000);
    text[0] = 'J';
    assert_int_equal(copy.len, sizeof(text));
    assert_memory_equal(copy.data, "hello\0there", sizeof(text));
    assert_string_equal(five, "hello");
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(zeros[i], 0);
    kt_arena_release(&arena);
}

static int order[8], order_count;

static void note(void *data)
{
    order[order_count++] = *(int *)data;
}

/* A cleanup uses the arena that is being released, and adds a cleanup of its own. */
static void note_and_add(void *data)
{
    struct kt_arena *arena = data;
    int *number = kt_arena_alloc(arena, sizeof(*number));
    *number = 9;
    order[order_count++] = 8;
    kt_arena_on_release(arena, note, number);
}

static void arena__cleanups__run_newest_first_while_memory_lives(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena);
    order_count = 0;
    for (int i = 0; i < 3; i++) {
        int *number = kt_arena_alloc(&arena, sizeof(*number));
        *number = i;
        kt_arena_on_release(&arena, note, number);
    }
    kt_arena_on_release(&arena, note_and_add, &arena);
    kt_arena_release(&arena);
    static const int want[] = {8, 9, 2, 1, 0};
    assert_int_equal(order_count, 5);
    assert_memory_equal(order, want, sizeof(want));
    kt_arena_release(&arena);
    assert_int_equal(order_count, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena__many_sizes__are_aligned_and_apart),
        cmocka_unit_test(arena__nothing__is_still_an_address),
        cmocka_unit_test(arena__copies__are_of_their_own),
        cmocka_unit_test(arena__cleanups__run_newest_first_while_memory_lives),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
