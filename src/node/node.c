/* Opening, wiring and stopping a node. */
#include "node/node.h"

#include <stdatomic.h>

#include "admin/admin.h"
#include "auth/auth.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/node/cluster.h"
#include "dispatch/dispatch.h"
#include "engines/state.h"
#include "gateway/gateway.h"
#include "gateway/proto_kv/proto_kv.h"
#include "gateway/proto_rcp/proto_rcp.h"
#include "node/folder.h"
#include "wire/tls.h"

#define MIB             (1024u * 1024u)
#define HOUR_MS         (60u * 60 * 1000)
#define ADVANCE_MS      5   /* how often a stopping node looks whether it may go on */
#define LAST_ANSWERS_MS 500 /* for answers to clients that read; others do not keep a node from stopping */

enum phase { RUNNING, DRAINING, LEAVING, CLOSING, CLOSED };

struct kt_node {
    uv_loop_t *loop;
    const struct kt_settings *settings;
    struct kt_folder folder;
    struct kt_boot boot; /* log and state */
    bool booted;
    struct kt_cluster *cluster;
    struct kt_auth *auth;
    struct kt_dispatch *dispatch;
    struct kt_gateway *gateway;
    struct kt_admin *admin, *metrics;
    struct kt_rcp_settings rcp;
    struct kt_kv_settings kv;
    uv_timer_t timer;
    uv_async_t async;   /* the cluster ended by itself */
    atomic_int outcome; /* enum kt_node_outcome */
    void (*stopping)(void *data);
    void *data;
    enum phase phase;
    kt_time_ms until_ms; /* of this phase, on kt_clock_ms */
    bool drained;
};

static enum kt_code open_data(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_boot_options options = {
        .folder = settings->data_dir,
        .self = settings->node_id,
        .alone = settings->members.count == 1,
        .segment_bytes = settings->segment_mb * MIB,
        .state = {.store = {.bytes_max = settings->map_gb << 30},
                  .engines = {.machine_versions_max = settings->machine_versions_max,
                              .instance_recreate = settings->instance_recreate,
                              .flush_all = settings->flush_all,
                              .change_log_bytes = settings->change_log_mb * MIB,
                              .change_log_ms = settings->change_log_hours * HOUR_MS}},
    };
    enum kt_code code = kt_boot(&options, &node->boot, error);
    node->booted = code == KT_OK;
    return code;
}

/* On the replica's thread. */
static void cluster_ended(void *data, enum kt_ended why)
{
    struct kt_node *node = data;
    atomic_store(&node->outcome, why == KT_ENDED_REPLACED ? KT_NODE_REPLACED : KT_NODE_STARTS_AGAIN);
    uv_async_send(&node->async);
}

static void on_ended(uv_async_t *async)
{
    struct kt_node *node = async->data;
    if (node->phase != RUNNING)
        return;
    node->stopping(node->data);
    kt_node_stop(node);
}

enum kt_node_outcome kt_node_outcome(const struct kt_node *node)
{
    return (enum kt_node_outcome)atomic_load(&node->outcome);
}

/* NULL without cluster.tls. */
static enum kt_code read_tls(const struct kt_settings *settings, struct kt_tls_context **tls, struct kt_error *error)
{
    struct kt_tls_files files = {.ca = settings->tls_ca,
                                 .certificate = settings->tls_certificate,
                                 .key = settings->tls_key,
                                 .node = settings->node_id};
    *tls = NULL;
    return files.ca ? kt_tls_context_create(&files, tls, error) : KT_OK;
}

static enum kt_code open_cluster(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_member members[KT_SETTINGS_MEMBERS_MAX];

    for (size_t i = 0; i < settings->members.count; i++)
        members[i] =
            (struct kt_member){.id = settings->members.items[i].id, .address = settings->members.items[i].address};
    struct kt_tls_context *tls = NULL;
    enum kt_code code = read_tls(settings, &tls, error);
    if (code != KT_OK)
        return code;
    struct kt_cluster_options options = {
        .self = settings->node_id,
        .name = settings->cluster_name,
        .listen = settings->cluster_listen,
        .tls = tls,
        .members = members,
        .member_count = settings->members.count,
        .election_ms = (unsigned)settings->election_ms,
        .heartbeat_ms = (unsigned)settings->heartbeat_ms,
        .min_free_bytes = settings->min_free_mb * MIB,
        .log_keep_bytes = settings->log_keep_mb * MIB,
        .transfer_bytes_per_s = settings->transfer_mb_per_s * MIB,
        .boot = &node->boot,
        .ended = cluster_ended,
        .data = node,
    };
    code = kt_cluster_open(&options, &node->cluster, error);
    kt_tls_context_drop(tls);
    return code;
}

/* NULL if no port for clients has TLS. */
static enum kt_code read_gate_tls(const struct kt_settings *settings, struct kt_tls_context **tls,
                                  struct kt_error *error)
{
    struct kt_tls_gate_files files = {.certificate = settings->gate_certificate,
                                      .key = settings->gate_key,
                                      .client_ca = settings->gate_verify ? settings->gate_ca : NULL};
    *tls = NULL;
    return settings->gate_tls || settings->kv_tls ? kt_tls_gate_create(&files, tls, error) : KT_OK;
}

static void reload_cluster_tls(struct kt_node *node)
{
    struct kt_error error = {.text = ""};
    struct kt_tls_context *tls = NULL;

    if (read_tls(node->settings, &tls, &error) != KT_OK) {
        kt_fail("node", "cluster.tls stays as it was: %s", error.text);
        return;
    }
    kt_cluster_set_tls(node->cluster, tls);
    kt_tls_context_drop(tls);
    kt_info("node", "certificates read again: new connections between the nodes use them");
}

static void reload_gate_tls(struct kt_node *node)
{
    struct kt_error error = {.text = ""};
    struct kt_tls_context *tls = NULL;

    if (read_gate_tls(node->settings, &tls, &error) != KT_OK) {
        kt_fail("node", "tls stays as it was: %s", error.text);
        return;
    }
    kt_gateway_set_tls(node->gateway, tls);
    kt_tls_context_drop(tls);
    kt_info("node", "certificates read again: new connections of clients use them");
}

void kt_node_reload(struct kt_node *node)
{
    bool between = node->cluster && node->settings->tls_ca;
    bool clients = node->gateway && (node->settings->gate_tls || node->settings->kv_tls);

    if (between)
        reload_cluster_tls(node);
    if (clients)
        reload_gate_tls(node);
    if (!between && !clients)
        kt_info("node", "nothing to reload: neither cluster.tls nor tls is set, and no other setting changes without a "
                        "restart");
}

static enum kt_code open_auth(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_auth_user users[KT_SETTINGS_LIST_MAX];

    for (size_t i = 0; i < settings->users.count; i++) {
        const struct kt_settings_user *user = &settings->users.items[i];
        users[i] = (struct kt_auth_user){
            .name = user->name, .password = user->password, .api_key = user->api_key, .role = user->role};
    }
    struct kt_auth_options options = {
        .required = settings->auth_required,
        .token_hashes = (const char *const *)settings->token_hashes.items,
        .token_hash_count = settings->token_hashes.count,
        .secrets_file = settings->secrets_file,
        .users = users,
        .user_count = settings->users.count,
    };
    return kt_auth_create(&options, &node->auth, error);
}

static enum kt_code open_dispatch(struct kt_node *node, struct kt_error *error)
{
    struct kt_dispatch_options options = {
        .loop = node->loop,
        .cluster = node->cluster,
        .state = node->boot.state,
        .auth = node->auth,
        .timeout_ms = (unsigned)node->settings->request_timeout_ms,
        .requests_max = (unsigned)node->settings->requests_max,
        .bytes_max = node->settings->request_mb_max * MIB,
    };
    return kt_dispatch_open(&options, &node->dispatch, error);
}

static enum kt_code listen_rcp(struct kt_node *node, struct kt_tls_context *tls, unsigned *port, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_listen_options options = {.protocol = &kt_proto_rcp,
                                        .address = settings->bind_addr,
                                        .idle_s = (unsigned)settings->idle_timeout_s,
                                        .settings = &node->rcp,
                                        .tls = settings->gate_tls ? tls : NULL};
    node->rcp.fsync_policy = settings->fsync_policy;
    node->rcp.tls = settings->gate_tls;
    return kt_gateway_listen(node->gateway, &options, port, error);
}

static enum kt_code listen_kv(struct kt_node *node, struct kt_tls_context *tls, unsigned *port, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_listen_options options = {.protocol = &kt_proto_kv,
                                        .address = settings->kv_address,
                                        .idle_s = (unsigned)settings->kv_idle_s,
                                        .settings = &node->kv,
                                        .tls = settings->kv_tls ? tls : NULL};
    node->kv.revision = settings->kv_revision;
    node->kv.success_code = (uint16_t)settings->kv_success_code;
    return settings->kv_address ? kt_gateway_listen(node->gateway, &options, port, error) : KT_OK;
}

static enum kt_code open_listeners(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_tls_context *tls = NULL;
    struct kt_gateway_options options = {
        .loop = node->loop,
        .dispatch = node->dispatch,
        .connections_max = (unsigned)settings->connections_max,
    };
    unsigned rcp_port = 0, kv_port = 0;
    enum kt_code code = kt_gateway_open(&options, &node->gateway, error);
    if (code != KT_OK)
        return code;

    code = read_gate_tls(settings, &tls, error);
    if (code == KT_OK)
        code = listen_rcp(node, tls, &rcp_port, error);
    if (code == KT_OK)
        code = listen_kv(node, tls, &kv_port, error);
    kt_tls_context_drop(tls);
    if (code != KT_OK)
        return code;
    kt_info("node", "serving node=%llu cluster=%s members=%zu rcp=%s (port %u%s) kv=%s (port %u%s) http=%s peers=%s",
            (unsigned long long)settings->node_id, settings->cluster_name, settings->members.count, settings->bind_addr,
            rcp_port, settings->gate_tls ? ", TLS" : "", settings->kv_address ? settings->kv_address : "off", kv_port,
            settings->kv_tls ? ", TLS" : "", settings->admin_address ? settings->admin_address : "off",
            settings->cluster_listen);
    return KT_OK;
}

static unsigned connection_count(void *data)
{
    struct kt_node *node = data;
    return node->gateway ? kt_gateway_connections(node->gateway) : 0;
}

static void protocol_counts(void *data, const char *protocol, struct kt_gateway_counts *counts)
{
    struct kt_node *node = data;
    memset(counts, 0, sizeof(*counts));
    if (node->gateway)
        kt_gateway_counts(node->gateway, protocol, counts);
}

static enum kt_code open_admin(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    enum kt_code code = KT_OK;
    struct kt_admin_options options = {
        .loop = node->loop,
        .address = settings->admin_address,
        .cluster = node->cluster,
        .state = node->boot.state,
        .name = settings->cluster_name,
        .dispatch = node->dispatch,
        .connections = connection_count,
        .counts = protocol_counts,
        .data = node,
    };
    if (settings->admin_address)
        code = kt_admin_open(&options, &node->admin, error);
    if (code != KT_OK || !settings->metrics_enabled)
        return code;
    options.address = settings->metrics_address;
    options.metrics_only = true;
    return kt_admin_open(&options, &node->metrics, error);
}

static void on_drained(void *data)
{
    struct kt_node *node = data;
    node->drained = true;
}

static void on_gateway_closed(void *data)
{
    struct kt_node *node = data;
    node->gateway = NULL;
}

static void on_admin_closed(void *data)
{
    struct kt_node *node = data;
    node->admin = NULL;
}

static void on_metrics_closed(void *data)
{
    struct kt_node *node = data;
    node->metrics = NULL;
}

static void leave(struct kt_node *node)
{
    node->phase = LEAVING;
    if (node->admin)
        kt_admin_stopping(node->admin);
    if (node->metrics)
        kt_admin_stopping(node->metrics);
    if (node->dispatch)
        kt_dispatch_drain(node->dispatch);
    if (node->cluster)
        kt_cluster_close(node->cluster, (unsigned)node->settings->stop_timeout_ms);
    node->cluster = NULL;
    /* Counted from here: closing the cluster took its time, and its last answers are only now on their way. */
    node->until_ms = kt_clock_ms() + LAST_ANSWERS_MS;
}

static void disconnect(struct kt_node *node)
{
    node->phase = CLOSING;
    if (node->gateway)
        kt_gateway_close(node->gateway, on_gateway_closed, node);
    if (node->admin)
        kt_admin_close(node->admin, on_admin_closed, node);
    if (node->metrics)
        kt_admin_close(node->metrics, on_metrics_closed, node);
}

static void advance(uv_timer_t *timer)
{
    struct kt_node *node = timer->data;
    bool late = kt_clock_ms() >= node->until_ms;

    switch (node->phase) {
    case RUNNING:
    case CLOSED:
        break;
    case DRAINING:
        if (late && !node->drained)
            kt_warn("node", "requests are still under way: not waiting for them any longer");
        if (late || node->drained)
            leave(node);
        break;
    case LEAVING:
        if (late || node->drained)
            disconnect(node);
        break;
    case CLOSING:
        if (node->gateway || node->admin || node->metrics ||
            (node->dispatch && kt_dispatch_in_flight(node->dispatch) > 0))
            break;
        if (node->dispatch)
            kt_dispatch_close(node->dispatch);
        node->dispatch = NULL;
        node->phase = CLOSED;
        uv_close((uv_handle_t *)&node->timer, NULL);
        uv_close((uv_handle_t *)&node->async, NULL);
        break;
    }
}

/* What is left of a node that could not be opened is closed in the same way as one that ran. */
static void begin_stop(struct kt_node *node)
{
    node->phase = DRAINING;
    node->until_ms = kt_clock_ms() + node->settings->stop_timeout_ms;
    if (node->gateway)
        kt_gateway_drain(node->gateway, on_drained, node);
    else
        node->drained = true;
    int failed = uv_timer_start(&node->timer, advance, 0, ADVANCE_MS);
    KT_CHECK(failed == 0);
}

void kt_node_stop(struct kt_node *node)
{
    if (node->phase != RUNNING)
        return;
    kt_info("node", "stopping: %u requests under way", kt_dispatch_in_flight(node->dispatch));
    begin_stop(node);
}

enum kt_code kt_node_open(uv_loop_t *loop, const struct kt_settings *settings, void (*stopping)(void *data), void *data,
                          struct kt_node **out, struct kt_error *error)
{
    struct kt_node *node = kt_zalloc(sizeof(*node));
    node->loop = loop;
    node->settings = settings;
    node->folder.lock = -1;
    int failed = uv_timer_init(loop, &node->timer);
    KT_CHECK(failed == 0);
    node->timer.data = node;
    node->stopping = stopping;
    node->data = data;
    failed = uv_async_init(loop, &node->async, on_ended);
    KT_CHECK(failed == 0);
    node->async.data = node;

    enum kt_code code =
        kt_folder_open(settings->data_dir, settings->cluster_name, settings->node_id, &node->folder, error);
    if (code == KT_OK)
        code = open_data(node, error);
    if (code == KT_OK)
        code = open_auth(node, error);
    if (code == KT_OK)
        code = open_cluster(node, error);
    if (code == KT_OK)
        code = open_dispatch(node, error);
    /* HTTP before the listeners: whoever sees a listener can also see the status. */
    if (code == KT_OK)
        code = open_admin(node, error);
    if (code == KT_OK)
        code = open_listeners(node, error);
    if (code == KT_OK) {
        *out = node;
        return KT_OK;
    }
    begin_stop(node);
    uv_run(loop, UV_RUN_DEFAULT);
    kt_node_free(node);
    return code;
}

void kt_node_free(struct kt_node *node)
{
    KT_CHECK(node->phase == CLOSED);
    if (node->auth)
        kt_auth_free(node->auth);
    if (node->booted)
        kt_boot_close(&node->boot);
    kt_folder_close(&node->folder);
    kt_free(node);
}
