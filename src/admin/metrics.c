/*
 * Metrics of requests, connections, the change log and the log, in Prometheus text format 0.0.4. The names rstmdb_* and
 * their labels are those of rstmdb (rstmdb.md 15), so that its dashboard shows a node as it is; ours begin with
 * kontiki_.
 */
#include <inttypes.h>
#include <stdio.h>

#include "admin/admin_internal.h"
#include "wire/json.h"

#define RCP "rcp"

static void family(struct kt_buf *out, const char *name, const char *type, const char *help)
{
    kt_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct kt_buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    kt_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static bool is_rcp(const char *protocol)
{
    return strcmp(protocol, RCP) == 0;
}

/* ---- state ---- */

void metrics_render_stats(struct kt_slice stats, struct kt_buf *out)
{
    static const struct {
        const char *member, *name, *help;
    } rows[] = {
        {"instances", "rstmdb_instances_total", "Instances that are not deleted."},
        {"machines", "rstmdb_machines_total", "Machine definitions, one per name and version."},
        {"kv_entries", "kontiki_kv_entries", "Keys of the key-value engine."},
    };
    struct kt_slice value;

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        if (!kt_json_member(stats, kt_slice_text(rows[i].member), &value))
            continue;
        family(out, rows[i].name, "gauge", rows[i].help);
        kt_buf_printf(out, "%s %.*s\n", rows[i].name, (int)value.len, (const char *)value.data);
    }
}

void metrics_render_changes(const struct kt_changes_summary *changes, struct kt_buf *out)
{
    single(out, "rstmdb_wal_entries", "gauge", "Highest sequence of the change log.", changes->sequence);
    single(out, "kontiki_change_log_records", "gauge", "Records that the change log holds.", changes->count);
    single(out, "kontiki_change_log_bytes", "gauge", "Bytes of the records that the change log holds.", changes->bytes);
}

void metrics_render_log(const struct admin_view *view, const struct kt_disk_counters *io, struct kt_buf *out)
{
    single(out, "rstmdb_wal_segments", "gauge", "Segment files of the log.", view->log_segments);
    single(out, "rstmdb_wal_size_bytes", "gauge", "Size of the log on disk.", view->log_bytes);
    single(out, "rstmdb_wal_bytes_written_total", "counter", "Bytes written to the log.", io->bytes_written);
    single(out, "rstmdb_wal_bytes_read_total", "counter", "Bytes read from the log.", io->bytes_read);
    single(out, "rstmdb_wal_writes_total", "counter", "Writes to the log.", io->writes);
    single(out, "rstmdb_wal_reads_total", "counter", "Reads from the log.", io->reads);
    single(out, "rstmdb_wal_fsyncs_total", "counter", "Syncs of the log.", io->syncs);
}

/* ---- connections ---- */

void metrics_render_connections(const char *protocol, const struct kt_gateway_counts *counts, struct kt_buf *out)
{
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"connections", "gauge", "Open connections.", counts->open},
        {"connections_accepted_total", "counter", "Connections accepted.", counts->accepted},
        {"connections_refused_total", "counter", "Connections closed because there were too many.", counts->refused},
        {"received_bytes_total", "counter", "Bytes received.", counts->bytes_in},
        {"sent_bytes_total", "counter", "Bytes sent.", counts->bytes_out},
    };

    if (is_rcp(protocol)) {
        single(out, "rstmdb_connections_total", "counter", "Connections accepted.", counts->accepted);
        single(out, "rstmdb_connections_active", "gauge", "Open connections.", counts->open);
    }
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char name[80];
        snprintf(name, sizeof(name), "kontiki_%s_%s", protocol, rows[i].name);
        single(out, name, rows[i].type, rows[i].help, rows[i].value);
    }
}

/* ---- requests ---- */

static void put_histogram(const struct kt_operation_metrics *operation, const char *name, struct kt_buf *out)
{
    uint64_t count = 0;

    for (size_t i = 0; i < KT_METRIC_BUCKETS; i++) {
        char bound[32] = "+Inf";
        count += operation->buckets[i];
        if (i < KT_METRIC_BUCKETS - 1)
            snprintf(bound, sizeof(bound), "%g", (double)kt_metric_bounds_us[i] / 1e6);
        kt_buf_printf(out, "%s_bucket{operation=\"%s\",le=\"%s\"} %" PRIu64 "\n", name, operation->name, bound, count);
    }
    kt_buf_printf(out, "%s_sum{operation=\"%s\"} %.6f\n", name, operation->name, (double)operation->total_us / 1e6);
    kt_buf_printf(out, "%s_count{operation=\"%s\"} %" PRIu64 "\n", name, operation->name, count);
}

static void put_operations(const struct kt_metrics *metrics, bool rcp, const char *prefix, struct kt_buf *out)
{
    char requests[64], duration[64];

    snprintf(requests, sizeof(requests), "%s_requests_total", prefix);
    snprintf(duration, sizeof(duration), "%s_request_duration_seconds", prefix);
    family(out, requests, "counter", "Requests answered.");
    for (size_t i = 0; i < metrics->operation_count; i++) {
        const struct kt_operation_metrics *operation = &metrics->operations[i];
        if (is_rcp(operation->protocol) == rcp)
            kt_buf_printf(out, "%s{operation=\"%s\"} %" PRIu64 "\n", requests, operation->name,
                          operation->done + operation->failed);
    }
    family(out, duration, "histogram", "From a request's arrival to its answer.");
    for (size_t i = 0; i < metrics->operation_count; i++) {
        if (is_rcp(metrics->operations[i].protocol) == rcp)
            put_histogram(&metrics->operations[i], duration, out);
    }
}

static void put_errors(const struct kt_metrics *metrics, bool rcp, const char *name, struct kt_buf *out)
{
    family(out, name, "counter", "Requests answered with an error.");
    for (size_t i = 0; i < metrics->error_count; i++) {
        const struct kt_error_metrics *error = &metrics->errors[i];
        if (is_rcp(error->protocol) == rcp)
            kt_buf_printf(out, "%s{code=\"%s\"} %" PRIu64 "\n", name, error->name, error->count);
    }
}

static void put_results(const struct kt_metrics *metrics, struct kt_buf *out)
{
    family(out, "kontiki_requests_total", "counter", "Requests answered, by how they ended.");
    for (size_t i = 0; i < metrics->operation_count; i++) {
        const struct kt_operation_metrics *operation = &metrics->operations[i];
        kt_buf_printf(out, "kontiki_requests_total{protocol=\"%s\",operation=\"%s\",result=\"ok\"} %" PRIu64 "\n",
                      operation->protocol, operation->name, operation->done);
        kt_buf_printf(out, "kontiki_requests_total{protocol=\"%s\",operation=\"%s\",result=\"error\"} %" PRIu64 "\n",
                      operation->protocol, operation->name, operation->failed);
    }
}

void metrics_render_requests(const struct kt_metrics *metrics, const struct kt_watch_counts *watches,
                             struct kt_buf *out)
{
    static const char *const kinds[KT_SUBSCRIPTION_KINDS] = {"instance", "all"};

    put_operations(metrics, true, "rstmdb", out);
    put_errors(metrics, true, "rstmdb_errors_total", out);
    put_operations(metrics, false, "kontiki_kv", out);
    put_errors(metrics, false, "kontiki_kv_errors_total", out);
    put_results(metrics, out);
    family(out, "rstmdb_subscriptions_active", "gauge", "Open subscriptions.");
    for (size_t i = 0; i < KT_SUBSCRIPTION_KINDS; i++)
        kt_buf_printf(out, "rstmdb_subscriptions_active{type=\"%s\"} %" PRIu64 "\n", kinds[i],
                      metrics->subscriptions[i]);
    family(out, "rstmdb_events_forwarded_total", "counter", "Events told to subscribers.");
    for (size_t i = 0; i < KT_SUBSCRIPTION_KINDS; i++)
        kt_buf_printf(out, "rstmdb_events_forwarded_total{type=\"%s\"} %" PRIu64 "\n", kinds[i], metrics->events[i]);
    single(out, "kontiki_subscriptions_behind", "gauge", "Subscriptions that read the change log on their own.",
           watches->behind);
    single(out, "kontiki_subscriptions_lagged_total", "counter",
           "Times that events were cut off before a subscriber could be told.", watches->lagged);
}
