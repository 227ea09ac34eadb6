/* The HTTP port of a node: which path shows what. */
#include "admin/admin.h"

#include "admin/admin_internal.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "dispatch/metrics.h"
#include "dispatch/watch.h"

struct kt_admin {
    struct kt_admin_options options;
    struct http_server *server;
    kt_time_ms started_ms;
    bool stopping;
    void (*closed)(void *data);
    void *closed_data;
};

static void look(struct kt_admin *admin, struct admin_view *view)
{
    memset(view, 0, sizeof(*view));
    view->name = admin->options.name;
    view->uptime_ms = kt_clock_ms() - admin->started_ms;
    kt_cluster_status(admin->options.cluster, &view->replica);
    kt_cluster_log_usage(admin->options.cluster, &view->log_bytes, &view->log_segments);
    kt_store_usage(kt_state_store(admin->options.state), &view->state_used_bytes, &view->state_bytes);
    if (admin->options.connections)
        view->connections = admin->options.connections(admin->options.data);
}

/* The engines' counters, as the text of an object each. */
static void put_stats(struct kt_admin *admin, struct kt_txn *txn, struct kt_buf *out)
{
    struct kt_reply stats;

    kt_reply_init(&stats);
    for (size_t i = 0; i < kt_engine_count; i++) {
        if (!kt_engines[i]->stats)
            continue;
        kt_reply_clear(&stats);
        kt_buf_append_u8(&stats.body, '{');
        if (kt_engines[i]->stats(kt_state_engine(admin->options.state, i), txn, &stats) == KT_OK) {
            kt_buf_append_u8(&stats.body, '}');
            metrics_render_stats(kt_buf_slice(&stats.body), out);
        }
    }
    kt_reply_release(&stats);
}

/* What the state says, in one read transaction: a few look-ups. */
static void put_state(struct kt_admin *admin, struct kt_buf *out)
{
    struct kt_changes_summary changes;
    struct kt_txn *txn;

    if (kt_txn_begin_read(kt_state_store(admin->options.state), &txn) != KT_OK)
        return;
    put_stats(admin, txn, out);
    if (kt_changes_summary(kt_state_changes(admin->options.state), txn, &changes) == KT_OK)
        metrics_render_changes(&changes, out);
    kt_txn_abort(txn);
}

static void put_metrics(struct kt_admin *admin, const struct admin_view *view, struct kt_buf *out)
{
    static const char *const protocols[] = {"rcp", "kv"};
    const struct kt_admin_options *options = &admin->options;
    struct kt_disk_counters io;

    admin_render_metrics(view, out);
    put_state(admin, out);
    kt_cluster_log_io(options->cluster, &io);
    metrics_render_log(view, &io, out);
    for (size_t i = 0; options->counts && i < KT_COUNT(protocols); i++) {
        struct kt_gateway_counts counts;
        options->counts(options->data, protocols[i], &counts);
        metrics_render_connections(protocols[i], &counts, out);
    }
    if (options->dispatch) {
        struct kt_watch_counts watches;
        kt_watch_counts(options->dispatch, &watches);
        metrics_render_requests(kt_dispatch_metrics(options->dispatch), &watches, out);
    }
    metrics_render_process(out);
}

static void put_page(struct http_response *response)
{
    response->status = 200;
    response->type = "text/html; charset=utf-8";
    kt_buf_append_text(&response->body, "<!DOCTYPE html>\n<html><head><title>Kontiki</title></head><body>"
                                        "<h1>Kontiki</h1><p><a href=\"/metrics\">Metrics</a></p></body></html>\n");
}

static void handle(void *data, struct kt_slice path, struct http_response *response)
{
    struct kt_admin *admin = data;
    struct admin_view view;
    bool ready = kt_slice_is(path, "/readyz") && !admin->options.metrics_only;
    bool status = kt_slice_is(path, "/status") && !admin->options.metrics_only;
    if (kt_slice_is(path, "/healthz") || kt_slice_is(path, "/health")) {
        response->status = 200;
        kt_buf_append_text(&response->body, "OK");
        return;
    }
    if (kt_slice_is(path, "/")) {
        put_page(response);
        return;
    }
    if (!ready && !status && !kt_slice_is(path, "/metrics"))
        return;
    if (admin->stopping) {
        response->status = 503;
        kt_buf_append_text(&response->body, "not ready: this node is stopping\n");
        return;
    }
    look(admin, &view);
    response->status = 200;
    if (ready) {
        response->status = admin_render_ready(&view, &response->body) ? 200 : 503;
    } else if (status) {
        response->type = "application/json";
        admin_render_status(&view, &response->body);
    } else {
        response->type = "text/plain; version=0.0.4; charset=utf-8";
        put_metrics(admin, &view, &response->body);
    }
}

enum kt_code kt_admin_open(const struct kt_admin_options *options, struct kt_admin **admin, struct kt_error *error)
{
    struct kt_admin *opened = kt_zalloc(sizeof(*opened));
    struct http_options http = {.loop = options->loop,
                                .address = options->address,
                                .idle_ms = KT_ADMIN_IDLE_MS,
                                .connections_max = KT_ADMIN_CONNECTIONS_MAX,
                                .handle = handle,
                                .data = opened};
    opened->options = *options;
    opened->started_ms = kt_clock_ms();
    *admin = NULL;
    enum kt_code code = http_open(&http, &opened->server, error);
    if (code != KT_OK) {
        kt_free(opened);
        return code;
    }
    *admin = opened;
    return KT_OK;
}

unsigned kt_admin_port(const struct kt_admin *admin)
{
    return http_port(admin->server);
}

void kt_admin_stopping(struct kt_admin *admin)
{
    admin->stopping = true;
    admin->options.cluster = NULL;
    admin->options.state = NULL;
    admin->options.dispatch = NULL;
    admin->options.connections = NULL;
    admin->options.counts = NULL;
}

static void on_closed(void *data)
{
    struct kt_admin *admin = data;
    void (*closed)(void *) = admin->closed;
    void *closed_data = admin->closed_data;
    kt_free(admin);
    if (closed)
        closed(closed_data);
}

void kt_admin_close(struct kt_admin *admin, void (*closed)(void *data), void *data)
{
    admin->closed = closed;
    admin->closed_data = data;
    http_close(admin->server, on_closed, admin);
}
