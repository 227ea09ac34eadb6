/*
 * What a leader sends each follower. The core names ranges of entries (it moves its own next index ahead as if they
 * were sent); a stream turns them into AppendEntries frames of bounded size, at most REPLICA_STREAM_BYTES ahead of what
 * the follower has acknowledged, reading entries that are no longer in memory back from the log.
 *
 *   prev | sent, in flight | to be sent       |
 *        next - 1          next .......... end
 *
 * A range that does not follow on the last one restarts the stream there: the core went back because the follower
 * refused. A heartbeat is an AppendEntries without entries behind what was really sent, so that it never overtakes.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "cluster/node/replica_internal.h"

static void restart(struct stream *stream, kt_index next, kt_term prev_term, kt_time_ms now)
{
    stream->start = stream->next = stream->end = next;
    stream->prev_term = stream->start_term = prev_term;
    stream->flight_bytes = 0;
    stream->flight_head = stream->flight_count = 0;
    stream->fetching = false;
    stream->told = 0;
    stream->epoch++;
    stream->moved_ms = now;
}

void replica_stream_reset(struct kt_replica *replica, struct member *member)
{
    restart(&member->stream, 0, 0, replica->now);
}

void replica_streams_reset(struct kt_replica *replica)
{
    for (size_t i = 0; i < replica->member_count; i++)
        replica_stream_reset(replica, &replica->members[i]);
}

static void begin_frame(struct kt_replica *replica, struct member *member, kt_index prev, kt_term prev_term,
                        uint32_t count, struct kt_buf *frame)
{
    struct raft_append_entries fields = {
        .term = replica->raft.current_term,
        .prev_log_index = prev,
        .prev_log_term = prev_term,
        .leader_commit = replica->raft.commit_index,
    };
    member->stream.told = replica->raft.commit_index;
    kt_frame_init(frame);
    kt_frame_append(frame, &fields, count);
}

static void send_heartbeat(struct kt_replica *replica, struct member *member, kt_index prev, kt_term prev_term)
{
    struct kt_buf frame;

    begin_frame(replica, member, prev, prev_term, 0, &frame);
    replica_send(replica, member->id, &frame);
}

static bool window_full(const struct stream *stream)
{
    return stream->flight_bytes >= REPLICA_STREAM_BYTES || stream->flight_count == KT_COUNT(stream->flight);
}

static void note_flight(struct stream *stream, kt_index last, size_t bytes)
{
    unsigned at = (stream->flight_head + stream->flight_count++) % KT_COUNT(stream->flight);
    stream->flight[at].last = last;
    stream->flight[at].bytes = bytes;
    stream->flight_bytes += bytes;
}

/* One frame of consecutive entries that begin at stream->next. The peer's refusal repairs a frame that was dropped. */
static void send_entries(struct kt_replica *replica, struct member *member, const struct kt_entry *const *entries,
                         size_t count, size_t bytes)
{
    struct stream *stream = &member->stream;
    struct kt_buf frame;

    begin_frame(replica, member, stream->next - 1, stream->prev_term, (uint32_t)count, &frame);
    kt_buf_reserve(&frame, bytes + count * 16);
    for (size_t i = 0; i < count; i++)
        kt_frame_entry(&frame, entries[i]);
    stream->next = entries[count - 1]->index + 1;
    stream->prev_term = entries[count - 1]->term;
    note_flight(stream, stream->next - 1, bytes);
    replica_send(replica, member->id, &frame);
}

static void fetch(struct kt_replica *replica, struct member *member)
{
    struct stream_fetch *fetch = kt_zalloc(sizeof *fetch);

    fetch->member = (size_t)(member - replica->members);
    fetch->epoch = member->stream.epoch;
    fetch->term = replica->raft.current_term;
    fetch->read.first = member->stream.next;
    fetch->read.last = member->stream.end - 1;
    fetch->read.bytes = REPLICA_FRAME_BYTES;
    member->stream.fetching = true;
    replica->host.fetch(replica->host.data, &fetch->read);
}

/* Sends as much of the wanted range as may be sent now. */
static void pump(struct kt_replica *replica, struct member *member)
{
    struct stream *stream = &member->stream;
    const struct kt_entry *entries[REPLICA_FRAME_ENTRIES];

    while (stream->next < stream->end && !stream->fetching && !window_full(stream)) {
        size_t count = 0, bytes = 0;
        const struct kt_entry *entry;

        while (count < REPLICA_FRAME_ENTRIES && bytes < REPLICA_FRAME_BYTES && stream->next + count < stream->end &&
               (entry = replica_entry(replica, stream->next + count)) != NULL) {
            if (count > 0 && bytes + entry->data.len > REPLICA_FRAME_BYTES)
                break;
            entries[count++] = entry;
            bytes += entry->data.len;
        }
        if (count == 0) {
            fetch(replica, member);
            return;
        }
        send_entries(replica, member, entries, count, bytes);
    }
}

void replica_stream_want(struct kt_replica *replica, struct member *member, const struct raft_append_entries *fields)
{
    struct stream *stream = &member->stream;
    kt_index from = fields->prev_log_index + 1;

    if (from == stream->end && stream->next != 0) {
        stream->end += fields->n_entries;
    } else if (fields->n_entries > 0 && from == stream->next && stream->next < stream->end) {
        /* The core probes again what still waits here. */
        stream->end = KT_MAX(stream->end, from + fields->n_entries);
    } else if (fields->n_entries > 0 && from == stream->start && stream->flight_count > 0 &&
               replica->now < stream->moved_ms + replica->election_ms) {
        /* It probes again what is on its way: a slow disk is no reason to send it twice. */
        send_heartbeat(replica, member, stream->start - 1, stream->start_term);
        return;
    } else {
        restart(stream, from, fields->prev_log_term, replica->now);
        stream->end = from + fields->n_entries;
    }
    if (fields->n_entries == 0)
        send_heartbeat(replica, member, stream->next - 1, stream->prev_term);
    pump(replica, member);
}

void replica_stream_acknowledged(struct kt_replica *replica, struct member *member,
                                 const struct raft_append_entries_result *result)
{
    struct stream *stream = &member->stream;

    if (result->term != replica->raft.current_term || result->rejected != 0)
        return;
    while (stream->flight_count > 0 && stream->flight[stream->flight_head].last <= result->last_log_index) {
        stream->flight_bytes -= stream->flight[stream->flight_head].bytes;
        stream->flight_head = (stream->flight_head + 1) % KT_COUNT(stream->flight);
        stream->flight_count--;
        stream->moved_ms = replica->now;
    }
    pump(replica, member);
}

void replica_stream_fetched(struct kt_replica *replica, struct stream_fetch *fetch)
{
    struct member *member = &replica->members[fetch->member];
    struct stream *stream = &member->stream;
    const struct kt_entry *entries[KT_LOG_READ_ENTRIES_MAX];
    size_t bytes = 0;

    if (replica->dead || fetch->epoch != stream->epoch || fetch->term != replica->raft.current_term ||
        !replica_leads(replica))
        return;
    stream->fetching = false;
    if (fetch->read.code != KT_OK || fetch->read.count == 0)
        return;
    KT_CHECK(fetch->read.entries[0].index == stream->next);
    for (size_t i = 0; i < fetch->read.count; i++) {
        entries[i] = &fetch->read.entries[i];
        bytes += entries[i]->data.len;
    }
    send_entries(replica, member, entries, fetch->read.count, bytes);
    pump(replica, member);
}

/* Followers learn of a commit with the next entries; when there are none, at once, or their readers would wait a
 * heartbeat. */
void replica_streams_flush(struct kt_replica *replica)
{
    if (!replica_leads(replica))
        return;
    for (size_t i = 0; i < replica->member_count; i++) {
        struct member *member = &replica->members[i];
        struct stream *stream = &member->stream;
        if (stream->next != 0 && stream->told < replica->raft.commit_index && member->connected)
            send_heartbeat(replica, member, stream->next - 1, stream->prev_term);
    }
}

/* A stream whose window stays full without any acknowledgement has lost frames; the follower's refusal repairs it. */
void replica_streams_tick(struct kt_replica *replica)
{
    if (!replica_leads(replica))
        return;
    for (size_t i = 0; i < replica->member_count; i++) {
        struct member *member = &replica->members[i];
        struct stream *stream = &member->stream;
        if (window_full(stream) && replica->now >= stream->moved_ms + 10 * (kt_time_ms)replica->election_ms) {
            stream->flight_bytes = 0;
            stream->flight_head = stream->flight_count = 0;
            stream->moved_ms = replica->now;
        }
        pump(replica, member);
    }
}
