/* WAL_READ and SNAPSHOT_INSTANCE: the change log as pages of records, and an instance's stored form with its checksum.
 */
#include <stdio.h>

#include "base/hash.h"
#include "base/random.h"
#include "engines/machine/instance.h"

struct page {
    struct kt_buf *out;
    struct kt_json_writer writer;
    uint64_t records;
    kt_index next_index; /* 0: nothing was read */
    unsigned next_number;
    /* Where the last entry begins, to take it back. */
    size_t entry_len;
    uint64_t entry_records;
    kt_index entry;
};

/* A record larger than a message is told without its large members. */
static bool is_brief(const struct kt_change *record)
{
    return record->bytes + MACHINE_WAL_RECORD_EXTRA > MACHINE_WAL_PAGE_BYTES_MAX;
}

static uint64_t room_for(const struct kt_change *record)
{
    return (is_brief(record) ? 0 : record->bytes) + MACHINE_WAL_RECORD_EXTRA;
}

static void put_record(struct page *page, const struct kt_change *record, const struct kt_machine_change *change)
{
    kt_json_begin_object(&page->writer);
    kt_json_put_key(&page->writer, "entry");
    kt_machine_change_print(record, change, is_brief(record), &page->writer);
    if (record->number > 0)
        kt_json_put_u64_member(&page->writer, "number", record->number);
    kt_json_put_u64_member(&page->writer, "offset", record->index);
    kt_json_put_u64_member(&page->writer, "sequence", record->sequence);
    kt_json_end_object(&page->writer);
    page->records++;
    page->next_index = record->index + 1;
    page->next_number = 0;
}

/* The page is full: it ends before the entry, or inside it if the entry alone is larger than a page. */
static void end_before(struct page *page, const struct kt_change *record)
{
    if (record->number == 0 || page->entry != record->index)
        return;
    if (page->entry_records > 0) {
        page->out->len = page->entry_len;
        page->records = page->entry_records;
        page->next_index = record->index;
        page->next_number = 0;
        return;
    }
    page->next_index = record->index;
    page->next_number = record->number;
}

static enum kt_code fill(struct page *page, struct kt_change_walk *walk, uint64_t limit)
{
    struct kt_change record;
    enum kt_code code;

    while ((code = kt_change_walk_next(walk, &record)) == KT_OK) {
        struct kt_machine_change change;

        /* Records of one entry share an offset, so a page ends between entries. */
        if (page->records >= limit && record.index != page->entry)
            return KT_OK;
        code = kt_machine_change_read(&record, &change);
        if (code == KT_NOT_FOUND)
            continue;
        if (code != KT_OK)
            return code;
        if (page->records > 0 && page->out->len + room_for(&record) > MACHINE_WAL_PAGE_BYTES_MAX) {
            end_before(page, &record);
            return KT_OK;
        }
        if (record.index != page->entry) {
            page->entry = record.index;
            page->entry_len = page->out->len;
            page->entry_records = page->records;
        }
        put_record(page, &record, &change);
    }
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code machine_wal_read_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_wal_read_params *params = parameters;
    const struct machine *machine = call->state;
    struct page page = {.out = &reply->body};
    uint64_t limit = KT_GIVEN(params, KT_MACHINE_WAL_READ_LIMIT) ? params->limit : UINT64_MAX;
    struct kt_change_walk walk;
    enum kt_code code =
        kt_change_walk_begin(&walk, &machine->changes, call->txn, params->from_offset, (unsigned)params->from_number);

    if (code != KT_OK)
        return machine_query_end(code, reply);
    kt_json_writer_init(&page.writer, &reply->body);
    kt_json_begin_object(&page.writer);
    kt_json_put_key(&page.writer, "records");
    kt_json_begin_array(&page.writer);
    if (limit > 0)
        code = fill(&page, &walk, limit);
    kt_change_walk_end(&walk);
    kt_json_end_array(&page.writer);
    /* Left out without records: null makes clients fail (rstmdb.md 11.3). */
    if (page.records > 0) {
        if (page.next_number > 0)
            kt_json_put_u64_member(&page.writer, "next_number", page.next_number);
        kt_json_put_u64_member(&page.writer, "next_offset", page.next_index);
    }
    kt_json_end_object(&page.writer);
    return machine_query_end(code, reply);
}

/*
 * The store is a snapshot of everything at all times, so there is nothing to write: the answer names the form that the
 * instance is stored in, and its checksum.
 */
enum kt_code machine_snapshot_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_instance_params *params = parameters;
    char checksum[9], uuid[37], name[48];
    struct kt_json_writer writer;
    struct kt_reply form;
    struct instance_key key;
    struct instance instance;
    enum kt_code code = instance_find(call->state, call->txn, params->instance_id, &key, &instance);

    if (code == KT_NOT_FOUND || (code == KT_OK && instance.deleted))
        return fail_instance_not_found(reply, params->instance_id);
    if (code != KT_OK)
        return machine_query_end(code, reply);
    kt_reply_init(&form);
    code = machine_instance_query(call, params, &form);
    if (code == KT_OK) {
        snprintf(checksum, sizeof(checksum), "%08x", (unsigned)kt_crc32c(0, form.body.data, form.body.len));
        kt_uuid(uuid);
        snprintf(name, sizeof(name), "snap-%s", uuid);
        kt_json_writer_init(&writer, &reply->body);
        kt_json_begin_object(&writer);
        kt_json_put_text_member(&writer, "checksum", checksum);
        kt_json_put_string_member(&writer, "instance_id", params->instance_id);
        kt_json_put_u64_member(&writer, "size_bytes", form.body.len);
        kt_json_put_text_member(&writer, "snapshot_id", name);
        kt_json_put_u64_member(&writer, "wal_offset", instance.last_offset);
        kt_json_end_object(&writer);
    }
    kt_reply_release(&form);
    return machine_query_end(code, reply);
}
