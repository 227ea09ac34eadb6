/*
 * What requests did, in numbers: per operation how many, how they ended and how long they took; errors by their name in
 * the protocol; subscriptions. Counted by the protocols, shown by the admin port, all on the io thread: plain integers.
 */
#ifndef KT_DISPATCH_METRICS_H
#define KT_DISPATCH_METRICS_H

#include "base/types.h"

#define KT_METRIC_OPERATIONS_MAX 128 /* all operations of all protocols; the registry has some thirty */
#define KT_METRIC_ERRORS_MAX     64  /* error names of all protocols: 16 of one, some ten of the other */
#define KT_METRIC_BUCKETS        10  /* the last one has no upper bound */

/* Upper bounds of the buckets but the last, in microseconds: those of rstmdb (rstmdb.md 15). */
extern const uint64_t kt_metric_bounds_us[KT_METRIC_BUCKETS - 1];

struct kt_operation_metrics {
    const char *protocol, *name;         /* static texts */
    uint64_t done, failed;               /* answered with a result, answered with an error */
    uint64_t buckets[KT_METRIC_BUCKETS]; /* each on its own, not cumulated */
    uint64_t total_us;
};

struct kt_error_metrics {
    const char *protocol;
    char name[40];
    uint64_t count;
};

enum kt_subscription_kind { KT_SUBSCRIPTION_INSTANCE, KT_SUBSCRIPTION_ALL, KT_SUBSCRIPTION_KINDS };

struct kt_metrics {
    struct kt_operation_metrics operations[KT_METRIC_OPERATIONS_MAX];
    size_t operation_count;
    struct kt_error_metrics errors[KT_METRIC_ERRORS_MAX];
    size_t error_count;
    uint64_t subscriptions[KT_SUBSCRIPTION_KINDS]; /* open now */
    uint64_t events[KT_SUBSCRIPTION_KINDS];        /* told to subscribers */
};

/* The operation, added if it is new: so that it is shown before it is first used. NULL past the ceiling. */
struct kt_operation_metrics *kt_metrics_operation(struct kt_metrics *metrics, const char *protocol, const char *name);
/* A known operation by its name on the wire, or NULL. */
struct kt_operation_metrics *kt_metrics_find(struct kt_metrics *metrics, const char *protocol, struct kt_slice name);
/* An error's name, added if it is new. Past the ceiling it is not counted. */
void kt_metrics_error(struct kt_metrics *metrics, const char *protocol, const char *name, uint64_t count);
/* A request was answered. operation: NULL if it was none that is known. began_us: kt_clock_us when it came. */
void kt_metrics_answered(struct kt_operation_metrics *operation, bool failed, uint64_t began_us);

#endif
