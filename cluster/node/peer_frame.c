#include "cluster/node/peer_frame.h"

#include "base/alloc.h"
#include "cluster/transport/transport.h"
#include "wire/writer.h"

#define ENTRY_BYTES_MIN 3 /* a term of one byte, a type, a length of zero: bounds the count of entries in a frame */

void kt_frame_init(struct kt_buf *out)
{
    kt_buf_init(out, KT_PEER_FRAME_MAX);
}

void kt_frame_raft(struct kt_buf *out, const struct raft_message *message)
{
    kt_buf_append_u8(out, KT_FRAME_RAFT);
    kt_buf_append_u8(out, (uint8_t)message->type);
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        kt_write_le64(out, message->request_vote.term);
        kt_write_le64(out, message->request_vote.last_log_index);
        kt_write_le64(out, message->request_vote.last_log_term);
        kt_buf_append_u8(out, message->request_vote.disrupt_leader);
        kt_buf_append_u8(out, message->request_vote.pre_vote);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        kt_write_le64(out, message->request_vote_result.term);
        kt_buf_append_u8(out, message->request_vote_result.vote_granted);
        kt_buf_append_u8(out, message->request_vote_result.pre_vote);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        kt_write_le64(out, message->append_entries_result.term);
        kt_write_le64(out, message->append_entries_result.rejected);
        kt_write_le64(out, message->append_entries_result.last_log_index);
        break;
    case RAFT_TIMEOUT_NOW:
        kt_write_le64(out, message->timeout_now.term);
        kt_write_le64(out, message->timeout_now.last_log_index);
        kt_write_le64(out, message->timeout_now.last_log_term);
        break;
    case RAFT_APPEND_ENTRIES:
    case RAFT_INSTALL_SNAPSHOT:
        break;
    }
}

void kt_frame_append(struct kt_buf *out, const struct raft_append_entries *fields, uint32_t count)
{
    kt_buf_append_u8(out, KT_FRAME_RAFT);
    kt_buf_append_u8(out, RAFT_APPEND_ENTRIES);
    kt_write_le64(out, fields->term);
    kt_write_le64(out, fields->prev_log_index);
    kt_write_le64(out, fields->prev_log_term);
    kt_write_le64(out, fields->leader_commit);
    kt_write_le32(out, count);
}

void kt_frame_entry(struct kt_buf *out, const struct kt_entry *entry)
{
    kt_write_varint(out, entry->term);
    kt_buf_append_u8(out, (uint8_t)entry->type);
    kt_write_string(out, entry->data);
}

void kt_frame_pair(struct kt_buf *out, enum kt_frame_kind kind, uint64_t first, uint64_t second)
{
    kt_buf_append_u8(out, (uint8_t)kind);
    kt_write_le64(out, first);
    kt_write_le64(out, second);
}

void kt_frame_reply(struct kt_buf *out, uint64_t origin, uint64_t sequence, const struct kt_reply *reply)
{
    kt_frame_pair(out, KT_FRAME_REPLY, origin, sequence);
    kt_write_le64(out, reply->term);
    kt_reply_encode(reply, out);
}

void kt_entries_free(struct kt_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    kt_free(entries);
}

static enum kt_code read_entries(struct kt_reader *reader, struct raft_append_entries *fields, uint32_t count,
                                 struct kt_entry **out)
{
    struct kt_entry *entries;
    struct kt_chunk *chunk;
    size_t bytes = kt_reader_left(reader);

    if (count > bytes / ENTRY_BYTES_MIN)
        return KT_BAD_FRAME;
    /* One copy of the whole rest of the frame; the entries point into it. */
    chunk = kt_chunk_create(bytes);
    memcpy(chunk->data, reader->at, bytes);
    kt_reader_init(reader, kt_slice(chunk->data, bytes));
    entries = kt_zalloc(count * sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        entries[i].index = fields->prev_log_index + 1 + i;
        entries[i].term = kt_read_varint(reader);
        entries[i].type = kt_read_u8(reader);
        entries[i].data = kt_read_string(reader);
        entries[i].chunk = chunk;
        if (entries[i].term == 0 || entries[i].term > fields->term || entries[i].type < KT_ENTRY_COMMAND ||
            entries[i].type > KT_ENTRY_CHANGE || entries[i].data.len > KT_ENTRY_BYTES_MAX)
            reader->failed = true;
        if (reader->failed)
            break;
    }
    if (!kt_reader_done(reader)) {
        kt_free(entries);
        kt_chunk_drop(chunk);
        return KT_BAD_FRAME;
    }
    for (uint32_t i = 1; i < count; i++)
        kt_chunk_acquire(chunk);
    *out = entries;
    return KT_OK;
}

static enum kt_code read_append(struct kt_reader *reader, struct raft_append_entries *fields, struct kt_entry **entries)
{
    uint32_t count;

    fields->term = kt_read_le64(reader);
    fields->prev_log_index = kt_read_le64(reader);
    fields->prev_log_term = kt_read_le64(reader);
    fields->leader_commit = kt_read_le64(reader);
    count = kt_read_le32(reader);
    fields->n_entries = count;
    fields->entries = NULL;
    /* Beyond 2^53 no offset is ever handed out; it also keeps sums below from wrapping. */
    if (!kt_reader_ok(reader) || fields->prev_log_index >> 53 || fields->leader_commit >> 53 || fields->term == 0 ||
        (fields->prev_log_index == 0) != (fields->prev_log_term == 0) || fields->prev_log_term > fields->term)
        return KT_BAD_FRAME;
    if (count == 0)
        return kt_reader_done(reader) ? KT_OK : KT_BAD_FRAME;
    return read_entries(reader, fields, count, entries);
}

enum kt_code kt_frame_read_raft(struct kt_reader *reader, struct raft_message *message, struct kt_entry **entries)
{
    memset(message, 0, sizeof *message);
    *entries = NULL;
    message->type = kt_read_u8(reader);
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        return read_append(reader, &message->append_entries, entries);
    case RAFT_REQUEST_VOTE:
        message->request_vote.version = 2;
        message->request_vote.term = kt_read_le64(reader);
        message->request_vote.last_log_index = kt_read_le64(reader);
        message->request_vote.last_log_term = kt_read_le64(reader);
        message->request_vote.disrupt_leader = kt_read_u8(reader) != 0;
        message->request_vote.pre_vote = kt_read_u8(reader) != 0;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        message->request_vote_result.version = 2;
        message->request_vote_result.term = kt_read_le64(reader);
        message->request_vote_result.vote_granted = kt_read_u8(reader) != 0;
        message->request_vote_result.pre_vote = kt_read_u8(reader) != 0;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        message->append_entries_result.version = 2;
        message->append_entries_result.term = kt_read_le64(reader);
        message->append_entries_result.rejected = kt_read_le64(reader);
        message->append_entries_result.last_log_index = kt_read_le64(reader);
        /*
         * The core takes for granted that a rejection names an index above the follower's last one, and leaves the
         * latter unset in a rejection because of the term.
         */
        if (message->append_entries_result.rejected != 0 &&
            message->append_entries_result.last_log_index >= message->append_entries_result.rejected)
            message->append_entries_result.last_log_index = message->append_entries_result.rejected - 1;
        break;
    case RAFT_TIMEOUT_NOW:
        message->timeout_now.version = 0;
        message->timeout_now.term = kt_read_le64(reader);
        message->timeout_now.last_log_index = kt_read_le64(reader);
        message->timeout_now.last_log_term = kt_read_le64(reader);
        break;
    case RAFT_INSTALL_SNAPSHOT:
    default:
        return KT_BAD_FRAME;
    }
    return kt_reader_done(reader) ? KT_OK : KT_BAD_FRAME;
}
