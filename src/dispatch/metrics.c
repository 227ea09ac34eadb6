/* Counters of requests. */
#include "dispatch/metrics.h"

#include <stdio.h>

#include "base/clock.h"

const uint64_t kt_metric_bounds_us[KT_METRIC_BUCKETS - 1] = {1000,   5000,   10000,  25000,  50000,
                                                             100000, 250000, 500000, 1000000};

struct kt_operation_metrics *kt_metrics_find(struct kt_metrics *metrics, const char *protocol, struct kt_slice name)
{
    for (size_t i = 0; i < metrics->operation_count; i++) {
        struct kt_operation_metrics *operation = &metrics->operations[i];
        if (kt_slice_is(name, operation->name) && strcmp(operation->protocol, protocol) == 0)
            return operation;
    }
    return NULL;
}

struct kt_operation_metrics *kt_metrics_operation(struct kt_metrics *metrics, const char *protocol, const char *name)
{
    struct kt_operation_metrics *operation = kt_metrics_find(metrics, protocol, kt_slice_text(name));
    if (operation || metrics->operation_count == KT_METRIC_OPERATIONS_MAX)
        return operation;
    operation = &metrics->operations[metrics->operation_count++];
    operation->protocol = protocol;
    operation->name = name;
    return operation;
}

void kt_metrics_error(struct kt_metrics *metrics, const char *protocol, const char *name, uint64_t count)
{
    for (size_t i = 0; i < metrics->error_count; i++) {
        struct kt_error_metrics *error = &metrics->errors[i];
        if (strcmp(error->name, name) == 0 && strcmp(error->protocol, protocol) == 0) {
            error->count += count;
            return;
        }
    }
    if (metrics->error_count == KT_METRIC_ERRORS_MAX)
        return;
    struct kt_error_metrics *error = &metrics->errors[metrics->error_count++];
    error->protocol = protocol;
    error->count = count;
    snprintf(error->name, sizeof(error->name), "%s", name);
}

void kt_metrics_answered(struct kt_operation_metrics *operation, bool failed, uint64_t began_us)
{
    if (!operation)
        return;
    uint64_t now_us = kt_clock_us(), took_us = now_us > began_us ? now_us - began_us : 0;
    size_t bucket = 0;
    while (bucket < KT_METRIC_BUCKETS - 1 && took_us > kt_metric_bounds_us[bucket])
        bucket++;
    operation->buckets[bucket]++;
    operation->total_us += took_us;
    if (failed)
        operation->failed++;
    else
        operation->done++;
}
