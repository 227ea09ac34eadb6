/*
 * WAL_STATS: sequences and offsets from the change log, which is what WAL_READ shows; files and calls from the log of
 * this node, which is what costs disk (rstmdb.md 11.4).
 */
#include "gateway/proto_rcp/rcp_internal.h"

struct wal_stats_params {
    uint64_t given; /* no member is described: params are ignored */
    struct kt_state *state;
    uint64_t bytes;
    unsigned segments;
    struct kt_disk_counters io;
};

void *rcp_wal_stats_params(struct kt_conn *conn, struct kt_arena *arena)
{
    struct kt_dispatch *dispatch = kt_conn_dispatch(conn);
    struct wal_stats_params *params = kt_arena_zalloc(arena, sizeof(*params));

    params->state = kt_dispatch_state(dispatch);
    if (kt_dispatch_cluster(dispatch)) {
        kt_cluster_log_usage(kt_dispatch_cluster(dispatch), &params->bytes, &params->segments);
        kt_cluster_log_io(kt_dispatch_cluster(dispatch), &params->io);
    }
    return params;
}

static void put_io(struct kt_json_writer *writer, const struct kt_disk_counters *io)
{
    kt_json_put_key(writer, "io_stats");
    kt_json_begin_object(writer);
    kt_json_put_u64_member(writer, "bytes_read", io->bytes_read);
    kt_json_put_u64_member(writer, "bytes_written", io->bytes_written);
    kt_json_put_u64_member(writer, "fsyncs", io->syncs);
    kt_json_put_u64_member(writer, "reads", io->reads);
    kt_json_put_u64_member(writer, "writes", io->writes);
    kt_json_end_object(writer);
}

static enum kt_code wal_stats_query(const struct kt_call *call, const void *raw, struct kt_reply *reply)
{
    const struct wal_stats_params *params = raw;
    struct kt_changes_summary changes;
    struct kt_json_writer writer;
    enum kt_code code = kt_changes_summary(kt_state_changes(params->state), call->txn, &changes);

    if (code != KT_OK)
        return kt_reply_fail(reply, code, "the change log cannot be read");
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_key(&writer, "change_log");
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "bytes", changes.bytes);
    kt_json_put_u64_member(&writer, "newest_offset", changes.newest);
    kt_json_put_u64_member(&writer, "oldest_offset", changes.oldest);
    kt_json_put_u64_member(&writer, "records", changes.count);
    kt_json_end_object(&writer);
    kt_json_put_u64_member(&writer, "entry_count", changes.sequence);
    put_io(&writer, &params->io);
    /* The end of the log: what is written next has an offset that is not below it. Existing clients fail without it. */
    kt_json_put_u64_member(&writer, "latest_offset", call->index + 1);
    kt_json_put_u64_member(&writer, "segment_count", params->segments);
    kt_json_put_u64_member(&writer, "total_size_bytes", params->bytes);
    kt_json_end_object(&writer);
    return KT_OK;
}

const struct kt_command rcp_wal_stats = {
    .name = "rcp.wal_stats",
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = {.fields = NULL, .count = 0, .size = sizeof(struct wal_stats_params)},
    .query = wal_stats_query,
    .doc = "Sizes and counters of the log and of the change log.",
};
