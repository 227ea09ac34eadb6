/*
 * INFO: the union of the members that the documents and the shipped clients know (rstmdb.md 3.5). The counters come
 * from the engines, in a read transaction like any query; the rest is filled in when the request comes.
 */
#include "gateway/proto_rcp/rcp_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "kontiki/version.h"

struct info_params {
    uint64_t given; /* no member is described: params are ignored */
    struct kt_state *state;
    unsigned connections, connections_max;
    kt_time_ms uptime_ms;
    uint64_t wal_bytes;
    bool auth_required, tls;
    const char *fsync_policy;
};

void *rcp_info_params(struct kt_conn *conn, struct kt_arena *arena)
{
    const struct kt_rcp_settings *settings = kt_conn_settings(conn);
    struct kt_dispatch *dispatch = kt_conn_dispatch(conn);
    struct info_params *params = kt_arena_zalloc(arena, sizeof(*params));
    unsigned segments;

    params->state = kt_dispatch_state(dispatch);
    params->connections = kt_conn_count(conn);
    params->connections_max = kt_conn_count_max(conn);
    params->uptime_ms = kt_clock_ms() - kt_dispatch_started_ms(dispatch);
    params->auth_required = kt_auth_required(kt_dispatch_auth(dispatch));
    params->tls = settings && settings->tls;
    params->fsync_policy = settings && settings->fsync_policy ? settings->fsync_policy : "every_write";
    if (kt_dispatch_cluster(dispatch))
        kt_cluster_log_usage(kt_dispatch_cluster(dispatch), &params->wal_bytes, &segments);
    return params;
}

void rcp_put_features(struct kt_json_writer *writer, bool tls)
{
    /* A feature is told when its operation is there: what a client asked for and cannot have is better known early. */
    static const struct {
        const char *name, *op;
    } features[] = {
        {"subscriptions", "WATCH_ALL"},
        {"batch", "BATCH"},
        {"idempotency", "APPLY_EVENT"},
        {"wal_read", "WAL_READ"},
    };
    size_t engine;

    kt_json_put_key(writer, "features");
    kt_json_begin_array(writer);
    for (size_t i = 0; i < KT_COUNT(features); i++) {
        if (kt_command_by_rcp(kt_slice_text(features[i].op), &engine))
            kt_json_put_text(writer, features[i].name);
    }
    if (tls)
        kt_json_put_text(writer, "tls");
    kt_json_end_array(writer);
}

/* The members that an engine adds, as the text of an object. */
static enum kt_code engine_stats(size_t at, const struct info_params *params, const struct kt_call *call,
                                 struct kt_reply *stats)
{
    enum kt_code code;

    kt_reply_clear(stats);
    kt_buf_append_u8(&stats->body, '{');
    code = kt_engines[at]->stats(kt_state_engine(params->state, at), call->txn, stats);
    kt_buf_append_u8(&stats->body, '}');
    return code != KT_OK ? code : kt_buf_code(&stats->body);
}

/* Copies every engine's counters into the open object. */
static enum kt_code put_engine_stats(const struct info_params *params, const struct kt_call *call,
                                     struct kt_json_writer *writer)
{
    struct kt_reply stats;
    enum kt_code code = KT_OK;

    kt_reply_init(&stats);
    for (size_t at = 0; at < kt_engine_count && code == KT_OK; at++) {
        struct kt_json_iter iter;
        struct kt_slice key, value;

        if (!kt_engines[at]->stats)
            continue;
        code = engine_stats(at, params, call, &stats);
        kt_json_iter_init(&iter, kt_buf_slice(&stats.body));
        while (code == KT_OK && kt_json_iter_next(&iter, &key, &value)) {
            kt_json_put_key_slice(writer, key);
            kt_json_put_raw(writer, value);
        }
    }
    kt_reply_release(&stats);
    return code;
}

static enum kt_code info_query(const struct kt_call *call, const void *raw, struct kt_reply *reply)
{
    const struct info_params *params = raw;
    struct kt_json_writer writer;
    enum kt_code code;

    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "version", KT_VERSION);
    kt_json_put_text_member(&writer, "server_name", "kontiki");
    kt_json_put_text_member(&writer, "server_version", KT_VERSION);
    kt_json_put_u64_member(&writer, "protocol_version", 1);
    kt_json_put_u64_member(&writer, "uptime_secs", params->uptime_ms / 1000);
    rcp_put_features(&writer, params->tls);
    kt_json_put_key(&writer, "stats");
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "connections", params->connections);
    code = put_engine_stats(params, call, &writer);
    if (code != KT_OK)
        return kt_reply_fail(reply, code, "the counters cannot be read");
    kt_json_put_u64_member(&writer, "wal_offset", call->index);
    kt_json_put_u64_member(&writer, "wal_size_bytes", params->wal_bytes);
    kt_json_end_object(&writer);
    kt_json_put_key(&writer, "config");
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "auth_required", params->auth_required);
    kt_json_put_u64_member(&writer, "max_connections", params->connections_max);
    kt_json_put_text_member(&writer, "fsync_policy", params->fsync_policy);
    kt_json_end_object(&writer);
    kt_json_put_bool_member(&writer, "auth_required", params->auth_required);
    kt_json_put_u64_member(&writer, "max_frame_bytes", RCP_PAYLOAD_MAX);
    kt_json_put_u64_member(&writer, "max_payload_bytes", RCP_PAYLOAD_MAX);
    kt_json_put_u64_member(&writer, "max_batch_ops", RCP_BATCH_OPS_MAX);
    kt_json_end_object(&writer);
    return KT_OK;
}

const struct kt_command rcp_info = {
    .name = "rcp.info",
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = {.fields = NULL, .count = 0, .size = sizeof(struct info_params)},
    .query = info_query,
    .doc = "Server information, limits and counters.",
};
