/* Counters of requests, and the text that shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "admin/admin_internal.h"
#include "base/clock.h"
#include "dispatch/metrics.h"

static struct kt_metrics metrics;

static int fresh(void **state)
{
    (void)state;
    memset(&metrics, 0, sizeof(metrics));
    return 0;
}

static void operation__named_twice__is_one(void **state)
{
    (void)state;
    struct kt_operation_metrics *first = kt_metrics_operation(&metrics, "rcp", "PING");
    assert_non_null(first);
    assert_ptr_equal(kt_metrics_operation(&metrics, "rcp", "PING"), first);
    assert_ptr_equal(kt_metrics_find(&metrics, "rcp", kt_slice_text("PING")), first);
    assert_ptr_not_equal(kt_metrics_operation(&metrics, "kv", "PING"), first);
    assert_null(kt_metrics_find(&metrics, "rcp", kt_slice_text("PIN")));
    assert_int_equal(metrics.operation_count, 2);
}

static void operation__past_the_ceiling__is_not_counted(void **state)
{
    static char names[KT_METRIC_OPERATIONS_MAX + 1][8];
    (void)state;
    for (size_t i = 0; i < KT_METRIC_OPERATIONS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "%zu", i);
        assert_non_null(kt_metrics_operation(&metrics, "rcp", names[i]));
    }
    assert_null(kt_metrics_operation(&metrics, "rcp", "more"));
    kt_metrics_answered(NULL, true, 0);
}

static void errors__past_the_ceiling__are_not_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_METRIC_ERRORS_MAX + 10; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%zu", i);
        kt_metrics_error(&metrics, "rcp", name, 2);
        kt_metrics_error(&metrics, "rcp", name, 1);
    }
    assert_int_equal(metrics.error_count, KT_METRIC_ERRORS_MAX);
    for (size_t i = 0; i < metrics.error_count; i++)
        assert_int_equal(metrics.errors[i].count, 3);
}

static void answered__after_some_time__falls_into_its_bucket(void **state)
{
    (void)state;
    struct kt_operation_metrics *operation = kt_metrics_operation(&metrics, "rcp", "PING");
    uint64_t now_us = kt_clock_us();
    kt_metrics_answered(operation, false, now_us);
    kt_metrics_answered(operation, true, now_us - 700000);
    kt_metrics_answered(operation, true, now_us - 5000000);
    kt_metrics_answered(operation, false, now_us + 60000000); /* a clock that stepped back counts as no time */
    assert_int_equal(operation->done, 2);
    assert_int_equal(operation->failed, 2);
    assert_int_equal(operation->buckets[KT_METRIC_BUCKETS - 1], 1);
    assert_int_equal(operation->buckets[KT_METRIC_BUCKETS - 2], 1);
    uint64_t sum = 0;
    for (size_t i = 0; i < KT_METRIC_BUCKETS; i++)
        sum += operation->buckets[i];
    assert_int_equal(sum, 4);
}

static void render__requests__are_shown_cumulated_and_under_both_names(void **state)
{
    static const char *const lines[] = {
        "rstmdb_requests_total{operation=\"PING\"} 3",
        "rstmdb_request_duration_seconds_bucket{operation=\"PING\",le=\"0.001\"} 0",
        "rstmdb_request_duration_seconds_bucket{operation=\"PING\",le=\"0.005\"} 1",
        "rstmdb_request_duration_seconds_bucket{operation=\"PING\",le=\"1\"} 1",
        "rstmdb_request_duration_seconds_bucket{operation=\"PING\",le=\"+Inf\"} 3",
        "rstmdb_request_duration_seconds_sum{operation=\"PING\"} 4.000002",
        "rstmdb_request_duration_seconds_count{operation=\"PING\"} 3",
        "rstmdb_errors_total{code=\"CONFLICT\"} 0",
        "kontiki_kv_requests_total{operation=\"kv.get\"} 0",
        "kontiki_requests_total{protocol=\"rcp\",operation=\"PING\",result=\"error\"} 1",
        "rstmdb_subscriptions_active{type=\"all\"} 7",
        "rstmdb_events_forwarded_total{type=\"instance\"} 9",
        "kontiki_subscriptions_behind 2",
    };
    (void)state;
    struct kt_operation_metrics *operation = kt_metrics_operation(&metrics, "rcp", "PING");
    kt_metrics_operation(&metrics, "kv", "kv.get");
    kt_metrics_error(&metrics, "rcp", "CONFLICT", 0);
    operation->done = 2;
    operation->failed = 1;
    operation->buckets[1] = 1;
    operation->buckets[KT_METRIC_BUCKETS - 1] = 2;
    operation->total_us = 4000002;
    metrics.subscriptions[KT_SUBSCRIPTION_ALL] = 7;
    metrics.events[KT_SUBSCRIPTION_INSTANCE] = 9;
    struct kt_watch_counts watches = {.watches = 7, .behind = 2};
    struct kt_buf out;
    kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
    metrics_render_requests(&metrics, &watches, &out);
    kt_buf_append_u8(&out, 0);
    for (size_t i = 0; i < KT_COUNT(lines); i++) {
        char line[160];
        snprintf(line, sizeof(line), "\n%s\n", lines[i]);
        if (!strstr((const char *)out.data, line))
            fail_msg("no line: %s", lines[i]);
    }
    kt_buf_release(&out);
}

static void render__stats_of_engines__have_their_names(void **state)
{
    struct kt_buf out;
    (void)state;
    kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
    metrics_render_stats(kt_slice_text("{\"machines\":3,\"instances\":12,\"other\":1}"), &out);
    metrics_render_stats(kt_slice_text("{"), &out);
    kt_buf_append_u8(&out, 0);
    assert_non_null(strstr((const char *)out.data, "\nrstmdb_machines_total 3\n"));
    assert_non_null(strstr((const char *)out.data, "\nrstmdb_instances_total 12\n"));
    kt_buf_release(&out);
}

static void render__process__has_true_numbers(void **state)
{
    struct kt_buf out;
    (void)state;
    kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
    metrics_render_process(&out);
    kt_buf_append_u8(&out, 0);
    const char *text = (const char *)out.data, *threads = strstr(text, "\nprocess_threads ");
    assert_non_null(threads);
    assert_true(threads[17] >= '1' && threads[17] <= '9');
    assert_non_null(strstr(text, "\nprocess_max_fds "));
    assert_non_null(strstr(text, "\nprocess_start_time_seconds 1"));
    kt_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(operation__named_twice__is_one, fresh),
        cmocka_unit_test_setup(operation__past_the_ceiling__is_not_counted, fresh),
        cmocka_unit_test_setup(errors__past_the_ceiling__are_not_counted, fresh),
        cmocka_unit_test_setup(answered__after_some_time__falls_into_its_bucket, fresh),
        cmocka_unit_test_setup(render__requests__are_shown_cumulated_and_under_both_names, fresh),
        cmocka_unit_test(render__stats_of_engines__have_their_names),
        cmocka_unit_test(render__process__has_true_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
