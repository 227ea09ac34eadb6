/*
 * What takes away: compaction and retention of the change log, and FLUSH_ALL.
 *
 * Compaction and retention end in the same thing: a new first index of the change log, in force at once; the records
 * before it are removed a bounded number at a time, by machine.trim as long as there are any and by every new record.
 */
#include "engines/machine/machine_internal.h"

enum kt_code machine_trim_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                               kt_time_ms *next_ms)
{
    struct machine_trim_op body = {.given = 3, .max = MACHINE_TRIM_MAX};
    kt_time_ms age_max = machine->options.change_log_ms;
    kt_time_ms before_ms = age_max > 0 && now_ms > age_max ? now_ms - age_max : 0;
    struct kt_changes_summary summary;
    kt_index index;
    enum kt_code code = kt_changes_summary(&machine->changes, txn, &summary);

    if (code == KT_OK)
        code = kt_changes_cut(&machine->changes, txn, machine->options.change_log_bytes, before_ms, &index);
    if (code != KT_OK || (index == 0 && !summary.untidy))
        return code;
    body.before = index;
    (void)next_ms; /* the next round is soon enough */
    kt_op_begin(op, machine_op_trim.code);
    kt_struct_encode(&machine_op_trim.body, &body, op);
    return kt_buf_code(op);
}

enum kt_code machine_trim_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                struct kt_reply *reply)
{
    const struct machine_trim_op *op = body;
    struct machine *machine = state;
    struct kt_json_writer writer;
    uint64_t removed;
    enum kt_code code;

    machine_begin(machine);
    code = kt_changes_trim(&machine->changes, txn, KT_MIN(op->before, apply->index),
                           KT_MIN(op->max, (uint64_t)MACHINE_TRIM_MAX), &removed);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "removed", removed);
    kt_json_end_object(&writer);
    return kt_buf_code(&reply->body) == KT_OK ? KT_OK : KT_INTERNAL;
}

static uint64_t segments(uint64_t bytes)
{
    return bytes / MACHINE_COMPACT_SEGMENT_BYTES + 1;
}

enum kt_code machine_compact_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                   struct kt_reply *reply)
{
    const struct machine_compact_op *op = body;
    struct kt_changes_summary before, after;
    struct machine *machine = state;
    struct kt_json_writer writer;
    uint64_t removed;
    kt_index index;
    enum kt_code code;

    machine_begin(machine);
    code = kt_changes_summary(&machine->changes, txn, &before);
    if (code == KT_OK)
        code = kt_changes_cut(&machine->changes, txn, 0,
                              apply->time_ms > op->keep_ms ? apply->time_ms - op->keep_ms : 0, &index);
    if (code == KT_OK)
        code = kt_changes_trim(&machine->changes, txn, index, MACHINE_TRIM_MAX, &removed);
    if (code == KT_OK)
        code = kt_changes_summary(&machine->changes, txn, &after);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "bytes_reclaimed", before.bytes - after.bytes);
    kt_json_put_u64_member(&writer, "records_removed", before.count - after.count);
    kt_json_put_u64_member(&writer, "segments_deleted", segments(before.bytes) - segments(after.bytes));
    kt_json_put_u64_member(&writer, "snapshots_created", 0);
    kt_json_put_u64_member(&writer, "total_snapshots", 0);
    kt_json_put_u64_member(&writer, "wal_segments", segments(after.bytes));
    kt_json_end_object(&writer);
    return kt_buf_code(&reply->body) == KT_OK ? KT_OK : KT_INTERNAL;
}

/*
 * One entry takes everything away, so that a reader sees all or nothing of it. Clearing looks at the pages of a
 * keyspace and not at its entries. The change log stays: subscribers and WAL_READ go on in it.
 */
enum kt_code machine_flush_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply)
{
    struct kt_machine_change change = {.kind = KT_MACHINE_CHANGE_FLUSH};
    uint8_t key[KT_CHANGE_KEY_BYTES];
    struct machine *machine = state;
    struct kt_json_writer writer;
    enum kt_code code;

    (void)body;
    machine_begin(machine);
    code = kt_txn_count(txn, machine->created, &change.instances_removed);
    if (code == KT_OK)
        code = kt_txn_count(txn, machine->definitions, &change.machines_removed);
    if (code == KT_OK)
        code = kt_machine_change_write(&machine->changes, txn, apply, &change, &machine->change, key);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "flushed", true);
    kt_json_put_u64_member(&writer, "instances_removed", change.instances_removed);
    kt_json_put_u64_member(&writer, "machines_removed", change.machines_removed);
    kt_json_end_object(&writer);
    if (kt_buf_code(&reply->body) != KT_OK)
        return KT_INTERNAL;

    for (size_t i = 0; i < MACHINE_SPACE_COUNT && code == KT_OK; i++) {
        const char *name;

        code = kt_txn_clear(txn, *machine_space(machine, i, &name));
    }
    return code == KT_OK ? kt_change_put(&machine->changes, txn, key, &machine->change) : code;
}
