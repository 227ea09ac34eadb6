/* base/clock.c: the calendar against the C library's, and clocks that go forward. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

static void time_text__known_times__are_written_in_full(void **state)
{
    (void)state;
    static const struct {
        kt_time_ms time;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1740816000123, "2025-03-01T08:00:00.123Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "9999-12-31T23:59:59.999Z"},
        {UINT64_MAX, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char text[25];
        kt_time_text(rows[i].time, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void time_text__every_day_of_a_thousand_years__agrees_with_the_library(void **state)
{
    (void)state;
    for (uint64_t day = 0; day < 366000; day++) {
        time_t seconds = (time_t)(day * 86400 + day % 86400);
        struct tm parts;
        char want[64], text[25];
        assert_non_null(gmtime_r(&seconds, &parts));
        size_t len = strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &parts);
        snprintf(want + len, sizeof(want) - len, ".%03uZ", (unsigned)(day % 1000));
        kt_time_text((kt_time_ms)seconds * 1000 + day % 1000, text);
        assert_string_equal(text, want);
    }
}

static void clock__read_twice__does_not_go_back(void **state)
{
    (void)state;
    kt_time_ms ms = kt_clock_ms();
    uint64_t us = kt_clock_us(), last = us;
    for (int i = 0; i < 10000; i++) {
        uint64_t now = kt_clock_us();
        assert_true(now >= last);
        last = now;
    }
    assert_true(kt_clock_ms() >= ms);
    /* One clock in two units. */
    assert_true(us / 1000 >= ms && us / 1000 - ms < 10000);
    assert_true(kt_clock_wall_ms() > UINT64_C(1700000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_text__known_times__are_written_in_full),
        cmocka_unit_test(time_text__every_day_of_a_thousand_years__agrees_with_the_library),
        cmocka_unit_test(clock__read_twice__does_not_go_back),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
