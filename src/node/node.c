/* Opening, wiring and stopping a node. */
#include "node/node.h"

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

#define MIB             (1024u * 1024u)
#define HOUR_MS         (60u * 60 * 1000)
#define ADVANCE_MS      5   /* how often a stopping node looks whether it may go on */
#define LAST_ANSWERS_MS 500 /* for answers to clients that read; others do not keep a node from stopping */

enum phase { RUNNING, DRAINING, LEAVING, CLOSING, CLOSED };

struct kt_node {
    uv_loop_t *loop;
    const struct kt_settings *settings;
    struct kt_folder folder;
    struct kt_state *state;
    struct kt_cluster *cluster;
    struct kt_auth *auth;
    struct kt_dispatch *dispatch;
    struct kt_gateway *gateway;
    struct kt_admin *admin, *metrics;
    struct kt_rcp_settings rcp;
    struct kt_kv_settings kv;
    uv_timer_t timer;
    enum phase phase;
    kt_time_ms until_ms; /* of this phase, on kt_clock_ms */
    bool drained;
};

static enum kt_code open_state(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_buf path;

    kt_buf_init(&path, KT_SETTINGS_TEXT_MAX + 32);
    kt_buf_printf(&path, "%s/state.mdb", settings->data_dir);
    kt_buf_append_u8(&path, 0);
    struct kt_state_options options = {
        .store = {.path = (const char *)path.data, .bytes_max = settings->map_gb << 30},
        .engines = {.machine_versions_max = settings->machine_versions_max,
                    .instance_recreate = settings->instance_recreate,
                    .flush_all = settings->flush_all,
                    .change_log_bytes = settings->change_log_mb * MIB,
                    .change_log_ms = settings->change_log_hours * HOUR_MS},
    };
    enum kt_code code = kt_buf_code(&path);
    if (code == KT_OK)
        code = kt_state_open(&options, &node->state, error);
    kt_buf_release(&path);
    return code;
}

static enum kt_code open_cluster(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_member members[KT_SETTINGS_MEMBERS_MAX];

    for (size_t i = 0; i < settings->members.count; i++)
        members[i] =
            (struct kt_member){.id = settings->members.items[i].id, .address = settings->members.items[i].address};
    struct kt_cluster_options options = {
        .self = settings->node_id,
        .name = settings->cluster_name,
        .listen = settings->cluster_listen,
        .members = members,
        .member_count = settings->members.count,
        .folder = settings->data_dir,
        .segment_bytes = settings->segment_mb * MIB,
        .election_ms = (unsigned)settings->election_ms,
        .heartbeat_ms = (unsigned)settings->heartbeat_ms,
        .state = node->state,
    };
    return kt_cluster_open(&options, &node->cluster, error);
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
        .state = node->state,
        .auth = node->auth,
        .timeout_ms = (unsigned)node->settings->request_timeout_ms,
        .requests_max = (unsigned)node->settings->requests_max,
        .bytes_max = node->settings->request_mb_max * MIB,
    };
    return kt_dispatch_open(&options, &node->dispatch, error);
}

static enum kt_code open_listeners(struct kt_node *node, struct kt_error *error)
{
    const struct kt_settings *settings = node->settings;
    struct kt_gateway_options options = {
        .loop = node->loop,
        .dispatch = node->dispatch,
        .connections_max = (unsigned)settings->connections_max,
    };
    unsigned rcp_port = 0, kv_port = 0;
    enum kt_code code = kt_gateway_open(&options, &node->gateway, error);
    if (code != KT_OK)
        return code;

    node->rcp.fsync_policy = settings->fsync_policy;
    struct kt_listen_options rcp = {.protocol = &kt_proto_rcp,
                                    .address = settings->bind_addr,
                                    .idle_s = (unsigned)settings->idle_timeout_s,
                                    .settings = &node->rcp};
    code = kt_gateway_listen(node->gateway, &rcp, &rcp_port, error);
    if (code != KT_OK)
        return code;

    node->kv.revision = settings->kv_revision;
    node->kv.success_code = (uint16_t)settings->kv_success_code;
    struct kt_listen_options kv = {.protocol = &kt_proto_kv,
                                   .address = settings->kv_address,
                                   .idle_s = (unsigned)settings->kv_idle_s,
                                   .settings = &node->kv};
    if (settings->kv_address)
        code = kt_gateway_listen(node->gateway, &kv, &kv_port, error);
    if (code != KT_OK)
        return code;
    kt_info("node", "serving node=%llu cluster=%s members=%zu rcp=%s (port %u) kv=%s (port %u) http=%s peers=%s",
            (unsigned long long)settings->node_id, settings->cluster_name, settings->members.count, settings->bind_addr,
            rcp_port, settings->kv_address ? settings->kv_address : "off", kv_port,
            settings->admin_address ? settings->admin_address : "off", settings->cluster_listen);
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
        .state = node->state,
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

enum kt_code kt_node_open(uv_loop_t *loop, const struct kt_settings *settings, struct kt_node **out,
                          struct kt_error *error)
{
    struct kt_node *node = kt_zalloc(sizeof(*node));
    node->loop = loop;
    node->settings = settings;
    node->folder.lock = -1;
    int failed = uv_timer_init(loop, &node->timer);
    KT_CHECK(failed == 0);
    node->timer.data = node;

    enum kt_code code =
        kt_folder_open(settings->data_dir, settings->cluster_name, settings->node_id, &node->folder, error);
    if (code == KT_OK)
        code = open_state(node, error);
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
    if (node->state)
        kt_state_close(node->state);
    kt_folder_close(&node->folder);
    kt_free(node);
}
