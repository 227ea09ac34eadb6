/* What the port shows: a struct in, text out. */
#include "admin/admin_internal.h"

#include <inttypes.h>

#include "kontiki/version.h"
#include "wire/json.h"

static const char *role_text(enum kt_role role)
{
    switch (role) {
    case KT_LEADER:
        return "leader";
    case KT_CANDIDATE:
        return "candidate";
    case KT_FOLLOWER:
        return "follower";
    }
    return "follower";
}

static uint64_t lag_of(const struct kt_replica_status *replica)
{
    return replica->commit > replica->applied ? replica->commit - replica->applied : 0;
}

/* ---- /readyz ---- */

bool admin_render_ready(const struct admin_view *view, struct kt_buf *out)
{
    const struct kt_replica_status *replica = &view->replica;
    if (replica->leader == 0) {
        kt_buf_append_text(out, "not ready: no leader is known\n");
        return false;
    }
    if (lag_of(replica) > KT_ADMIN_READY_LAG_MAX) {
        kt_buf_printf(out, "not ready: %" PRIu64 " of %" PRIu64 " committed entries are applied\n", replica->applied,
                      replica->commit);
        return false;
    }
    kt_buf_append_text(out, "ready\n");
    return true;
}

/* ---- /status ---- */

static void put_members(const struct kt_replica_status *replica, struct kt_json_writer *json)
{
    kt_json_put_key(json, "members");
    kt_json_begin_array(json);
    for (size_t i = 0; i < replica->peer_count; i++) {
        const struct kt_peer_status *peer = &replica->peers[i];
        kt_json_begin_object(json);
        kt_json_put_u64_member(json, "id", peer->id);
        kt_json_put_text_member(json, "address", peer->address ? peer->address : "");
        kt_json_put_bool_member(json, "voter", peer->voter);
        kt_json_put_bool_member(json, "connected", peer->connected);
        kt_json_put_u64_member(json, "match", peer->match);
        kt_json_end_object(json);
    }
    kt_json_end_array(json);
}

void admin_render_status(const struct admin_view *view, struct kt_buf *out)
{
    const struct kt_replica_status *replica = &view->replica;
    struct kt_json_writer json;
    kt_json_writer_init(&json, out);
    kt_json_begin_object(&json);
    kt_json_put_u64_member(&json, "node", replica->self);
    kt_json_put_text_member(&json, "name", view->name);
    kt_json_put_text_member(&json, "version", KT_VERSION);
    kt_json_put_text_member(&json, "role", role_text(replica->role));
    kt_json_put_bool_member(&json, "serving", replica->serving);
    kt_json_put_text_member(&json, "disk", replica->disk_full ? "full" : replica->disk_low ? "low" : "fine");
    kt_json_put_u64_member(&json, "leader", replica->leader);
    kt_json_put_u64_member(&json, "term", replica->term);
    kt_json_put_u64_member(&json, "first", replica->first);
    kt_json_put_u64_member(&json, "last", replica->last);
    kt_json_put_u64_member(&json, "durable", replica->durable);
    kt_json_put_u64_member(&json, "commit", replica->commit);
    kt_json_put_u64_member(&json, "applied", replica->applied);
    kt_json_put_u64_member(&json, "visible", replica->visible);
    kt_json_put_u64_member(&json, "uptime_ms", view->uptime_ms);
    kt_json_put_u64_member(&json, "log_bytes", view->log_bytes);
    kt_json_put_u64_member(&json, "state_bytes", view->state_bytes);
    kt_json_put_u64_member(&json, "connections", view->connections);
    kt_json_put_u64_member(&json, "proposals", replica->proposals);
    kt_json_put_u64_member(&json, "reads", replica->reads);
    put_members(replica, &json);
    kt_json_end_object(&json);
    kt_buf_append_u8(out, '\n');
}

/* ---- /metrics ---- */

static void put_metric(struct kt_buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    kt_buf_printf(out, "# HELP kontiki_%s %s\n# TYPE kontiki_%s %s\nkontiki_%s %" PRIu64 "\n", name, help, name, type,
                  name, value);
}

/* A label's value: backslash, quote and line feed are escaped (Prometheus text format 0.0.4). */
static void put_label(struct kt_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            kt_buf_append_u8(out, '\\');
        if (*text == '\n')
            kt_buf_append_text(out, "\\n");
        else
            kt_buf_append_u8(out, (uint8_t)*text);
    }
}

static void put_family(struct kt_buf *out, const char *name, const char *help)
{
    kt_buf_printf(out, "# HELP kontiki_%s %s\n# TYPE kontiki_%s gauge\n", name, help, name);
}

static void put_info(const struct admin_view *view, struct kt_buf *out)
{
    static const enum kt_role roles[] = {KT_FOLLOWER, KT_CANDIDATE, KT_LEADER};
    put_family(out, "info", "Version and cluster of this node; always 1.");
    kt_buf_append_text(out, "kontiki_info{version=\"" KT_VERSION "\",cluster=\"");
    put_label(out, view->name);
    kt_buf_printf(out, "\",node=\"%" PRIu64 "\"} 1\n", view->replica.self);
    put_family(out, "role", "1 for the role that this node has.");
    for (size_t i = 0; i < KT_COUNT(roles); i++)
        kt_buf_printf(out, "kontiki_role{role=\"%s\"} %d\n", role_text(roles[i]), view->replica.role == roles[i]);
}

static void put_peers(const struct kt_replica_status *replica, struct kt_buf *out)
{
    put_family(out, "peer_connected", "1 if a peer connection to the member stands.");
    for (size_t i = 0; i < replica->peer_count; i++) {
        if (replica->peers[i].id != replica->self)
            kt_buf_printf(out, "kontiki_peer_connected{peer=\"%" PRIu64 "\"} %d\n", replica->peers[i].id,
                          replica->peers[i].connected);
    }
    if (replica->role != KT_LEADER)
        return;
    put_family(out, "peer_lag_entries", "Entries of the leader's log that are not known to be durable at the member.");
    for (size_t i = 0; i < replica->peer_count; i++) {
        const struct kt_peer_status *peer = &replica->peers[i];
        if (peer->id != replica->self)
            kt_buf_printf(out, "kontiki_peer_lag_entries{peer=\"%" PRIu64 "\"} %" PRIu64 "\n", peer->id,
                          replica->last > peer->match ? replica->last - peer->match : 0);
    }
}

void admin_render_metrics(const struct admin_view *view, struct kt_buf *out)
{
    const struct kt_replica_status *replica = &view->replica;
    put_info(view, out);
    put_metric(out, "uptime_milliseconds", "gauge", "Since the HTTP port was opened.", view->uptime_ms);
    put_metric(out, "serving", "gauge", "1 if this node leads and serves.", replica->serving);
    put_metric(out, "disk_low", "gauge", "1 if less space is free than storage.min_free_mb.", replica->disk_low);
    put_metric(out, "disk_full", "gauge", "1 if log or state cannot grow.", replica->disk_full);
    put_metric(out, "leader_id", "gauge", "Node id of the known leader; 0: none is known.", replica->leader);
    put_metric(out, "term", "gauge", "Raft term.", replica->term);
    put_metric(out, "log_first_index", "gauge", "First index in the log.", replica->first);
    put_metric(out, "log_last_index", "gauge", "Last index in the log.", replica->last);
    put_metric(out, "log_durable_index", "gauge", "Last index that is on this node's disk.", replica->durable);
    put_metric(out, "commit_index", "gauge", "Last index known to be committed.", replica->commit);
    put_metric(out, "applied_index", "gauge", "Last index applied to the state.", replica->applied);
    put_metric(out, "visible_index", "gauge", "Last index that reads on this node see.", replica->visible);
    put_metric(out, "apply_lag_entries", "gauge", "Committed entries that are not applied yet.", lag_of(replica));
    put_metric(out, "elections_won_total", "counter", "Elections that this node has won since its start.",
               replica->elections);
    put_metric(out, "proposals_in_flight", "gauge", "Writes that wait for their result on this node.",
               replica->proposals);
    put_metric(out, "reads_in_flight", "gauge", "Reads that wait for their index on this node.", replica->reads);
    put_metric(out, "client_connections", "gauge", "Open connections of the client protocols.", view->connections);
    put_metric(out, "log_bytes", "gauge", "Size of the log on disk.", view->log_bytes);
    put_metric(out, "log_segments", "gauge", "Segment files of the log.", view->log_segments);
    put_metric(out, "state_used_bytes", "gauge", "Bytes of the state file that hold data.", view->state_used_bytes);
    put_metric(out, "state_bytes", "gauge", "Size of the state file.", view->state_bytes);
    put_peers(replica, out);
}
