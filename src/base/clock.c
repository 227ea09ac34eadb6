/* Clocks of the kernel, and the one way a time is written. */
#include "base/clock.h"

#include <time.h>

#include "base/check.h"

/* 9999-12-31T23:59:59.999Z: a later time would not fit four digits of year. */
#define WALL_MS_MAX UINT64_C(253402300799999)

static struct timespec now(clockid_t clock)
{
    struct timespec time;
    KT_CHECK(clock_gettime(clock, &time) == 0);
    return time;
}

kt_time_ms kt_clock_ms(void)
{
    struct timespec time = now(CLOCK_MONOTONIC);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

uint64_t kt_clock_us(void)
{
    struct timespec time = now(CLOCK_MONOTONIC);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

kt_time_ms kt_clock_wall_ms(void)
{
    struct timespec time = now(CLOCK_REALTIME);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* The Gregorian date of a day since 1970-01-01, counted in 400-year eras that begin on 1 March of year 0. */
static void date_of_day(unsigned day, unsigned *year, unsigned *month, unsigned *day_of_month)
{
    unsigned since_era = day + 719468; /* days from 0000-03-01 to 1970-01-01 */
    unsigned era = since_era / 146097;
    unsigned day_of_era = since_era % 146097;
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * day_of_year + 2) / 153; /* 0 is March */
    *day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

static char *digits(char *to, unsigned value, int width, char behind)
{
    for (int i = width - 1; i >= 0; i--, value /= 10)
        to[i] = (char)('0' + value % 10);
    to[width] = behind;
    return to + width + 1;
}

/* By hand: gmtime_r takes the time zone's lock, which a log line of a busy thread need not wait for. */
void kt_time_text(kt_time_ms wall_ms, char out[25])
{
    uint64_t time = KT_MIN(wall_ms, WALL_MS_MAX);
    unsigned ms_of_day = (unsigned)(time % 86400000);
    unsigned year, month, day;
    date_of_day((unsigned)(time / 86400000), &year, &month, &day);
    out = digits(out, year, 4, '-');
    out = digits(out, month, 2, '-');
    out = digits(out, day, 2, 'T');
    out = digits(out, ms_of_day / 3600000, 2, ':');
    out = digits(out, ms_of_day / 60000 % 60, 2, ':');
    out = digits(out, ms_of_day / 1000 % 60, 2, '.');
    out = digits(out, ms_of_day % 1000, 3, 'Z');
    *out = '\0';
}
