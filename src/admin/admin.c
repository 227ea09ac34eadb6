/* The HTTP port of a node: which path shows what. */
#include "admin/admin.h"

#include "admin/admin_internal.h"
#include "base/alloc.h"
#include "base/clock.h"

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

static void handle(void *data, struct kt_slice path, struct http_response *response)
{
    struct kt_admin *admin = data;
    struct admin_view view;
    bool ready = kt_slice_is(path, "/readyz"), status = kt_slice_is(path, "/status");
    if (kt_slice_is(path, "/healthz")) {
        response->status = 200;
        kt_buf_append_text(&response->body, "ok\n");
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
        admin_render_metrics(&view, &response->body);
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
    admin->options.connections = NULL;
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
