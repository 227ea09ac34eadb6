/*
 * Messages of the core's own protocol, on their way in: what the core would misread is put into a form that it reads
 * right.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/replica_internal.h"

/* The core looks at terms, types and configurations; the batch is a token that it frees or gives back. */
static int step_entries(struct kt_replica *replica, struct raft_message *message, const struct kt_entry *entries,
                        size_t count)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_entry *shadows = kt_zalloc(count * sizeof *shadows);
    void *batch = raft_malloc(1);
    int rv;

    KT_CHECK(batch != NULL);
    for (size_t i = 0; i < count; i++) {
        shadows[i].term = entries[i].term;
        shadows[i].type = (enum raft_entry_type)entries[i].type;
        shadows[i].buf.base = (void *)(uintptr_t)entries[i].data.data;
        shadows[i].buf.len = entries[i].data.len;
        shadows[i].batch = batch;
    }
    message->append_entries.entries = shadows;
    message->append_entries.n_entries = (unsigned)count;
    replica->incoming = entries;
    replica->incoming_first = entries[0].index;
    replica->incoming_count = count;
    event.receive.message = message;
    rv = replica_step(replica, &event);
    replica->incoming = NULL;
    kt_free(shadows);
    return rv;
}

/*
 * A leader proposes a configuration only when the one before is committed. The core learns of that when the one before
 * is applied, which may be later than the arrival of the next; it would then forget the one between, and fall back to
 * the one before both if the next is cut off again.
 */
static int step_configuration(struct kt_replica *replica, struct raft_message *message, const struct kt_entry *entries,
                              size_t count)
{
    struct raft *raft = &replica->raft;
    kt_index before = raft->configuration_uncommitted_index;
    struct raft_configuration between;
    struct raft_buffer bytes;
    int rv;

    if (before == 0 || before > message->append_entries.prev_log_index || KT_PLANTED("configuration-forgotten"))
        return step_entries(replica, message, entries, count);
    rv = raft_configuration_encode(&raft->configuration, &bytes);
    if (rv != 0)
        return rv;
    KT_CHECK(raft_configuration_decode(&bytes, &between) == 0);
    raft_free(bytes.base);
    rv = step_entries(replica, message, entries, count);
    if (rv == 0 && raft->configuration_uncommitted_index == entries[0].index) {
        /* It was taken, so the logs agree up to the entry before: the leader has the one between as well. */
        raft_configuration_close(&raft->configuration_committed);
        raft->configuration_committed = between;
        raft->configuration_committed_index = before;
        return 0;
    }
    raft_configuration_close(&between);
    return rv;
}

/*
 * The core takes a configuration for the first entry of its message, wherever it stands in it. So each configuration
 * begins a message of its own here.
 */
static int receive_entries(struct kt_replica *replica, struct raft_message *message, const struct kt_entry *entries,
                           size_t count)
{
    size_t from = 0;
    int rv = 0;

    while (from < count && rv == 0 && !replica->dead) {
        size_t to = from + 1;
        while (to < count && (entries[to].type != KT_ENTRY_CHANGE || KT_PLANTED("configuration-inside")))
            to++;
        if (from > 0) {
            message->append_entries.prev_log_index = entries[from - 1].index;
            message->append_entries.prev_log_term = entries[from - 1].term;
        }
        if (entries[from].type == KT_ENTRY_CHANGE)
            rv = step_configuration(replica, message, entries + from, to - from);
        else
            rv = step_entries(replica, message, entries + from, to - from);
        if (raft_last_index(&replica->raft) < entries[to - 1].index)
            break; /* refused: what follows would be as well */
        from = to;
    }
    return rv;
}

static void take_turn(struct kt_replica *replica, struct member *from, struct raft_message *message)
{
    struct raft_event event = {.type = RAFT_RECEIVE};

    replica->turn.from = NULL;
    message->server_address = from->address;
    event.receive.message = message;
    replica_fail_step(replica, "taking over", replica_step(replica, &event));
}

void replica_take_waiting_turn(struct kt_replica *replica)
{
    struct turn *turn = &replica->turn;

    if (turn->from == NULL)
        return;
    if (replica->now >= turn->until_ms || turn->message.timeout_now.term != replica->raft.current_term)
        turn->from = NULL;
    else if (replica->raft.last_stored >= turn->message.timeout_now.last_log_index)
        take_turn(replica, turn->from, &turn->message);
}

/*
 * Entries from the very first on have nothing before them that the core could compare, so it would append them to a log
 * that begins later. Without them the message asks about the first one, which is refused, and that is amended.
 */
static void without_beginning(struct raft_append_entries *fields, const struct kt_entry *entries)
{
    fields->prev_log_index = 1;
    fields->prev_log_term = entries[0].term;
    fields->n_entries = 0;
}

/*
 * Whoever asks for a vote counts this member among the voters, by a configuration that may not have come here yet. The
 * core would refuse because its own still says standby, and with one more voter away nobody could win: votes do not
 * depend on the voter's configuration (raft dissertation, 4.1).
 */
static int vote_as_asked(struct kt_replica *replica, struct raft_event *event)
{
    struct raft_configuration *configuration = &replica->raft.configuration;
    struct raft_server *self = NULL;
    int rv;

    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == replica->member && configuration->servers[i].role == RAFT_STANDBY)
            self = &configuration->servers[i];
    if (self == NULL || KT_PLANTED("standby-mute"))
        return replica_step(replica, event);
    self->role = RAFT_VOTER;
    rv = replica_step(replica, event);
    self->role = RAFT_STANDBY;
    replica_members_refresh(replica);
    return rv;
}

void replica_raft_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_message message;
    struct kt_frame_ends ends;
    struct kt_entry *entries;
    size_t count;
    int rv;

    if (kt_frame_read_raft(reader, &ends, &message, &entries) != KT_OK || kt_member_node(ends.from) != member->id) {
        kt_warn("replica", "malformed raft message from node %llu", (unsigned long long)member->id);
        return;
    }
    count = message.type == RAFT_APPEND_ENTRIES ? message.append_entries.n_entries : 0;
    if (ends.to != replica->member) {
        kt_entries_free(entries, count);
        return;
    }
    message.server_id = ends.from;
    if (message.type == RAFT_APPEND_ENTRIES && message.append_entries.term >= replica->raft.current_term)
        replica->heard_ms = replica->now;
    if (message.type == RAFT_TIMEOUT_NOW) {
        if (replica->raft.last_stored >= message.timeout_now.last_log_index)
            take_turn(replica, member, &message);
        else
            replica->turn = (struct turn){member, message, replica->now + replica->election_ms};
        return;
    }
    /* The core looks at what a candidate knows before it asks whether it is one: at memory that is used otherwise. */
    if (message.type == RAFT_REQUEST_VOTE_RESULT && replica->raft.state != RAFT_CANDIDATE)
        return;
    message.server_address = member->address;
    if (message.type == RAFT_REQUEST_VOTE)
        message.request_vote.candidate_id = ends.from;
    if (count > 0 && message.append_entries.prev_log_index == 0 && replica->first > 1) {
        without_beginning(&message.append_entries, entries);
        kt_entries_free(entries, count);
        entries = NULL;
        count = 0;
    }
    event.receive.message = &message;
    if (count > 0)
        rv = receive_entries(replica, &message, entries, count);
    else if (message.type == RAFT_REQUEST_VOTE)
        rv = vote_as_asked(replica, &event);
    else
        rv = replica_step(replica, &event);
    kt_entries_free(entries, count);
    if (rv == 0 && message.type == RAFT_APPEND_ENTRIES_RESULT)
        rv = replica_offer_refused(replica, member, &message);
    replica_fail_step(replica, "receiving a message", rv);
    if (message.type == RAFT_APPEND_ENTRIES_RESULT && replica_leads(replica))
        replica_stream_acknowledged(replica, member, &message.append_entries_result);
}
