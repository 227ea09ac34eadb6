#include "cluster/node/replica.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/replica_internal.h"

/* A closed connection from the leader begins an election after a pause in this range, so that not all begin at once. */
#define CLOSED_PAUSE_MS 30u
#define INSTALL_MS      3600000u

struct member *replica_member(struct kt_replica *replica, kt_node_id id)
{
    for (size_t i = 0; i < replica->member_count; i++)
        if (replica->members[i].id == id)
            return &replica->members[i];
    return NULL;
}

void replica_fatal(struct kt_replica *replica, enum kt_code code, const char *format, ...)
{
    char text[KT_ERROR_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    replica->dead = true;
    replica->host.fatal(replica->host.data, code, text);
}

void replica_end(struct kt_replica *replica, enum kt_end why, const char *format, ...)
{
    char text[KT_ERROR_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    replica->dead = true;
    replica->host.end(replica->host.data, why, text);
}

struct kt_frame_ends replica_ends(const struct kt_replica *replica, const struct member *member)
{
    return (struct kt_frame_ends){.from = replica->member, .to = member->member};
}

bool replica_leads(const struct kt_replica *replica)
{
    return replica->raft.state == RAFT_LEADER;
}

bool replica_serves(const struct kt_replica *replica)
{
    return replica_leads(replica) &&
           ((!replica->barrier_needed && replica->raft.commit_index >= replica->barrier) || KT_PLANTED("no-barrier")) &&
           raft_transferee(&replica->raft) == 0;
}

bool replica_send(struct kt_replica *replica, kt_node_id to, struct kt_buf *frame)
{
    struct held_frame *held;

    if (kt_buf_code(frame) != KT_OK) {
        kt_buf_release(frame);
        return false;
    }
    if (replica->votes_done == replica->votes_issued || KT_PLANTED("votes-unheld"))
        return replica->host.send(replica->host.data, to, frame);
    held = kt_alloc(sizeof *held);
    held->to = to;
    held->after = replica->votes_issued;
    kt_buf_take(frame, &held->frame);
    kt_list_append(&replica->held, &held->link);
    return true;
}

static void send_held(struct kt_replica *replica)
{
    struct held_frame *held;

    while ((held = kt_list_first(&replica->held, struct held_frame, link)) != NULL &&
           held->after <= replica->votes_done) {
        kt_list_remove(&held->link);
        replica->host.send(replica->host.data, held->to, &held->frame);
        kt_free(held);
    }
}

/* ---- One step of the core ---- */

/*
 * Where a leader should try next after a refusal. A log that is too short is continued at its end. One that has another
 * entry there is tried at the last entry known to be committed, which is the same everywhere; the core by itself would
 * have the leader go back entry by entry, a round trip and a whole stream of entries each (raft paper, 5.3, asks for
 * such a hint). Also, the core leaves the field unset when it refuses because of the term.
 */
static kt_index refusal_hint(const struct kt_replica *replica, kt_index rejected)
{
    kt_index last = replica->window.next - 1;
    kt_index committed = KT_MAX(replica->raft.commit_index, replica->applied);

    if (rejected > last)
        return last;
    return KT_MIN(committed, rejected - 1);
}

/* What the core says wrongly, put right. False: nothing to amend. */
static bool amend(struct kt_replica *replica, const struct raft_message *message, struct raft_message *amended)
{
    *amended = *message;
    if (message->type == RAFT_APPEND_ENTRIES_RESULT && message->append_entries_result.rejected != 0) {
        struct raft_append_entries_result *result = &amended->append_entries_result;
        /*
         * It refuses an entry before the log's first one, because it does not know its term any more. But what is
         * applied is committed, so every leader to come has it: the logs agree up to there.
         */
        if (result->rejected < replica->first && result->rejected <= replica->applied) {
            result->rejected = 0;
            result->last_log_index = replica->applied;
        } else {
            result->last_log_index = refusal_hint(replica, result->rejected);
        }
        return true;
    }
    /*
     * A refused pre-vote names the term that was asked with, never its own. A node with the best log and an old term
     * would then never learn the present one, be refused for it for ever, and without it nobody else can win.
     */
    if (message->type == RAFT_REQUEST_VOTE_RESULT && message->request_vote_result.pre_vote &&
        !KT_PLANTED("pre-vote-term") && !message->request_vote_result.vote_granted &&
        message->request_vote_result.term < replica->raft.current_term) {
        amended->request_vote_result.term = replica->raft.current_term;
        return true;
    }
    return false;
}

static void send_messages(struct kt_replica *replica, const struct raft_message *messages, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct raft_message *message = &messages[i];
        struct member *member = replica_member(replica, kt_member_node(message->server_id));
        struct kt_frame_ends ends = {.from = replica->member, .to = message->server_id};
        struct raft_message answer;
        struct kt_buf frame;

        if (member == NULL)
            continue;
        if (amend(replica, message, &answer))
            message = &answer;
        if (message->type == RAFT_APPEND_ENTRIES) {
            replica_stream_want(replica, member, &message->append_entries);
            continue;
        }
        if (message->type == RAFT_INSTALL_SNAPSHOT) {
            replica_offer(replica, member, &message->install_snapshot);
            continue;
        }
        kt_frame_init(&frame);
        kt_frame_raft(&frame, &ends, message);
        replica_send(replica, member->id, &frame);
    }
}

static kt_node_id known_leader(const struct kt_replica *replica)
{
    if (replica->raft.state == RAFT_LEADER)
        return replica->self;
    return replica->raft.state == RAFT_FOLLOWER ? kt_member_node(replica->raft.follower_state.current_leader.id) : 0;
}

/* Looks at what the step did to role, term and leader, and draws the consequences. */
static void note_changes(struct kt_replica *replica, const struct raft_update *update)
{
    kt_node_id leader = known_leader(replica);
    bool led = replica->role == RAFT_LEADER;
    bool same_term = replica->term == replica->raft.current_term;

    if (replica->role == replica->raft.state && same_term && replica->leader == leader)
        return;
    if (led && (replica->raft.state != RAFT_LEADER || !same_term)) {
        kt_info("replica", "leads no more term=%llu", (unsigned long long)replica->term);
        replica_tickets_clear(replica);
        replica_streams_reset(replica);
    }
    if (replica->raft.state == RAFT_LEADER && (!led || !same_term)) {
        replica->elections++;
        replica_streams_reset(replica);
        replica_members_lead(replica);
        /* The core adds an entry of its own if the log reaches beyond what is committed; else one is added here. */
        replica->barrier_needed = (update->flags & RAFT_UPDATE_ENTRIES) == 0;
        replica->barrier = replica->window.next - 1;
        replica->tickets_first = replica->tickets_next = replica->window.next;
        kt_info("replica", "leads term=%llu", (unsigned long long)replica->raft.current_term);
    }
    if (replica->leader != leader && leader != 0 && leader != replica->self)
        kt_info("replica", "follows leader=%llu term=%llu", (unsigned long long)leader,
                (unsigned long long)replica->raft.current_term);
    replica->role = replica->raft.state;
    replica->term = replica->raft.current_term;
    replica->leader = leader;
    replica_reads_restart(replica);
    replica_proposals_resend(replica);
    replica->host.changed(replica->host.data);
}

int replica_step(struct kt_replica *replica, struct raft_event *event)
{
    struct raft_update update;
    int rv;

    if (replica->dead)
        return RAFT_SHUTDOWN;
    event->time = replica->now;
    event->capacity = 0;
    memset(&update, 0, sizeof update);
    rv = raft_step(&replica->raft, event, &update);
    if (rv != 0)
        return rv;
    if (update.flags & RAFT_UPDATE_SNAPSHOT) {
        replica_fatal(replica, KT_INTERNAL, "the core asks to install a snapshot");
        return RAFT_SHUTDOWN;
    }
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR | RAFT_UPDATE_ENTRIES))
        replica_persist(replica, &update);
    replica_members_refresh(replica);
    /* Before the messages: a leader's first ones start its streams. */
    note_changes(replica, &update);
    if (update.flags & RAFT_UPDATE_MESSAGES)
        send_messages(replica, update.messages.batch, update.messages.n);
    return 0;
}

/* ---- Life ---- */

static enum kt_code add_members(struct kt_replica *replica, const struct kt_replica_options *options,
                                struct kt_error *error)
{
    bool found = false;

    if (options->member_count == 0 || options->member_count > REPLICA_MEMBERS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "a cluster has 1 to %u members, not %zu", REPLICA_MEMBERS_MAX,
                            options->member_count);
    for (size_t i = 0; i < options->member_count; i++) {
        struct member *member = &replica->members[i];
        member->id = options->members[i].id;
        member->address = kt_text_dup(options->members[i].address);
        member->connected = member->id == replica->self;
        found |= member->connected;
        replica->member_count++;
    }
    if (kt_member_node(replica->member) != replica->self)
        return kt_error_set(error, KT_CORRUPT, "the data is that of node %llu, not of node %llu",
                            (unsigned long long)kt_member_node(replica->member), (unsigned long long)replica->self);
    if (!found)
        return kt_error_set(error, KT_BAD_REQUEST, "node %llu is not in the member list",
                            (unsigned long long)replica->self);
    return KT_OK;
}

/*
 * The core is told the terms of all entries. Of payloads it needs those of configurations that the state has not got:
 * they are among the entries behind it, which are few.
 */
static enum kt_code find_configurations(struct kt_replica *replica, const struct kt_replica_options *options,
                                        struct raft_entry *entries, struct kt_list *kept, struct kt_error *error)
{
    kt_index next = KT_MAX(options->state.index + 1, options->log.first);

    while (next <= options->log.last) {
        struct stream_fetch *fetch = kt_zalloc(sizeof *fetch);
        enum kt_code code;

        fetch->read.first = next;
        fetch->read.last = options->log.last;
        fetch->read.bytes = REPLICA_FRAME_BYTES;
        code = options->read(options->host.data, &fetch->read);
        kt_list_append(kept, &fetch->kept);
        if (code != KT_OK || fetch->read.count == 0)
            return kt_error_set(error, code == KT_OK ? KT_CORRUPT : code, "cannot read entry %llu of the log: %s",
                                (unsigned long long)next, kt_code_text(code));
        for (size_t i = 0; i < fetch->read.count; i++) {
            const struct kt_entry *entry = &fetch->read.entries[i];
            struct raft_entry *shadow = &entries[entry->index - options->log.first];
            if (entry->type != KT_ENTRY_CHANGE)
                continue;
            replica_note_founding(replica, entry);
            shadow->type = RAFT_CHANGE;
            shadow->buf.base = (void *)(uintptr_t)entry->data.data;
            shadow->buf.len = entry->data.len;
        }
        next += fetch->read.count;
    }
    return KT_OK;
}

static void drop_kept(struct kt_list *kept)
{
    struct stream_fetch *fetch;

    while ((fetch = kt_list_first(kept, struct stream_fetch, kept)) != NULL) {
        kt_list_remove(&fetch->kept);
        for (size_t i = 0; i < fetch->read.count; i++)
            kt_chunk_drop(fetch->read.entries[i].chunk);
        kt_free(fetch);
    }
}

/* The state is a snapshot of everything up to where it stands. */
static enum kt_code state_metadata(const struct kt_replica_options *options, struct raft_snapshot_metadata *metadata,
                                   struct kt_error *error)
{
    struct raft_buffer bytes = {.base = (void *)(uintptr_t)options->state.configuration.data,
                                .len = options->state.configuration.len};

    memset(metadata, 0, sizeof *metadata);
    metadata->index = options->state.index;
    metadata->term = options->state.term;
    metadata->configuration_index = options->state.configuration_index;
    if (raft_configuration_decode(&bytes, &metadata->configuration) != 0)
        return kt_error_set(error, KT_CORRUPT, "the state does not name the members of its cluster");
    return KT_OK;
}

static enum kt_code start_core(struct kt_replica *replica, const struct kt_replica_options *options,
                               struct kt_error *error)
{
    size_t count = (size_t)(options->log.last + 1 - options->log.first);
    struct raft_entry *entries = count > 0 ? raft_calloc(count, sizeof *entries) : NULL;
    struct raft_snapshot_metadata metadata;
    struct raft_event event = {.type = RAFT_START};
    enum kt_code code;
    struct kt_list kept;
    int rv;

    kt_list_init(&kept);
    for (size_t i = 0; i < count; i++) {
        entries[i].term = options->term_of(options->host.data, options->log.first + i);
        entries[i].type = RAFT_COMMAND;
    }
    code = find_configurations(replica, options, entries, &kept, error);
    if (code == KT_OK && options->state.index > 0) {
        code = state_metadata(options, &metadata, error);
        event.start.metadata = &metadata;
    } else if (code == KT_OK && count > 0 && entries[0].type != RAFT_CHANGE) {
        code = kt_error_set(error, KT_CORRUPT, "the log does not begin with the members of its cluster");
    }
    if (code != KT_OK) {
        raft_free(entries);
        drop_kept(&kept);
        return code;
    }
    event.start.term = options->log.term;
    event.start.voted_for = options->log.vote;
    event.start.start_index = options->log.first;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)count;
    rv = replica_step(replica, &event);
    drop_kept(&kept);
    /* The core frees the array itself when it refuses it. */
    if (rv != 0)
        return kt_error_set(error, KT_INTERNAL, "the raft core does not start: %s", raft_strerror(rv));
    raft_free(entries);
    return KT_OK;
}

static enum kt_code check_state(const struct kt_replica_options *options, struct kt_error *error)
{
    kt_index applied = options->state.index;
    kt_term term;

    if (applied + 1 < options->log.first)
        return kt_error_set(error, KT_CORRUPT, "the log begins at entry %llu but the state has applied only %llu",
                            (unsigned long long)options->log.first, (unsigned long long)applied);
    if (applied > options->log.last)
        return kt_error_set(error, KT_CORRUPT, "the state has applied entry %llu but the log ends at %llu",
                            (unsigned long long)applied, (unsigned long long)options->log.last);
    if (applied == 0)
        return KT_OK;
    term = options->term_of(options->host.data, applied);
    if (term != options->state.term)
        return kt_error_set(error, KT_CORRUPT, "entry %llu has term %llu in the state and %llu in the log",
                            (unsigned long long)applied, (unsigned long long)options->state.term,
                            (unsigned long long)term);
    return KT_OK;
}

enum kt_code kt_replica_create(const struct kt_replica_options *options, struct kt_replica **out,
                               struct kt_error *error)
{
    struct kt_replica *replica;
    enum kt_code code = check_state(options, error);

    *out = NULL;
    if (code != KT_OK)
        return code;
    replica = kt_zalloc(sizeof *replica);
    replica->host = options->host;
    replica->self = options->self;
    replica->member = options->member;
    kt_buf_init(&replica->founding, KT_ENTRY_BYTES_MAX);
    kt_buf_append_slice(&replica->founding, options->state.founding);
    replica->election_ms = options->election_ms;
    replica->heartbeat_ms = options->heartbeat_ms;
    replica->now = replica->heard_ms = options->now_ms;
    kt_random_seed(&replica->random, options->random_seed);
    replica->origin = kt_random_next(&replica->random) | 1;
    /* An answer to a question of an earlier life of this node must not meet a question of this one. */
    replica->ask_number = kt_random_next(&replica->random);
    replica->role = RAFT_FOLLOWER;
    replica->term = options->log.term;
    replica->first = options->log.first;
    replica->window.first = replica->window.next = options->log.last + 1;
    replica->handed = replica->applied = replica->visible = options->state.index;
    if (KT_PLANTED("adoption-skips") && options->log.first > 1 && options->log.first == options->state.index + 1)
        replica->handed++;
    kt_list_init(&replica->held);
    kt_list_init(&replica->proposals);
    kt_list_init(&replica->intake);
    kt_list_init(&replica->reads_waiting);
    kt_list_init(&replica->reads_asked);
    kt_list_init(&replica->reads_unseen);
    code = add_members(replica, options, error);
    if (code == KT_OK &&
        raft_init(&replica->raft, NULL, NULL, replica->member, replica_member(replica, replica->self)->address) != 0)
        code = kt_error_set(error, KT_NO_MEMORY, "no memory for the raft core");
    if (code != KT_OK) {
        for (size_t i = 0; i < replica->member_count; i++)
            kt_free(replica->members[i].address);
        kt_buf_release(&replica->founding);
        kt_free(replica);
        return code;
    }
    /* The core would write every message into a static buffer, seen or not: slow, and shared by all cores of a process.
     */
    replica->raft.tracer = NULL;
    raft_seed(&replica->raft, (unsigned)kt_random_next(&replica->random));
    raft_set_election_timeout(&replica->raft, replica->election_ms);
    raft_set_heartbeat_timeout(&replica->raft, replica->heartbeat_ms);
    raft_set_pre_vote(&replica->raft, true);
    raft_set_max_inflight_entries(&replica->raft, REPLICA_INFLIGHT_ENTRIES);
    /* How long fetching a state takes nobody knows; a follower that wants it offered again refuses a heartbeat. */
    raft_set_install_snapshot_timeout(&replica->raft, INSTALL_MS);
    code = start_core(replica, options, error);
    if (code != KT_OK) {
        kt_replica_free(replica);
        return code;
    }
    *out = replica;
    return KT_OK;
}

void kt_replica_free(struct kt_replica *replica)
{
    struct held_frame *held;

    if (replica == NULL)
        return;
    replica_propose_release(replica);
    replica_read_release(replica);
    while ((held = kt_list_first(&replica->held, struct held_frame, link)) != NULL) {
        kt_list_remove(&held->link);
        kt_buf_release(&held->frame);
        kt_free(held);
    }
    replica_log_release(replica);
    raft_close(&replica->raft, NULL);
    kt_buf_release(&replica->founding);
    for (size_t i = 0; i < replica->member_count; i++)
        kt_free(replica->members[i].address);
    kt_free(replica);
}

/* ---- Events ---- */

void replica_fail_step(struct kt_replica *replica, const char *what, int rv)
{
    if (rv != 0 && !replica->dead)
        replica_fatal(replica, KT_INTERNAL, "%s: %s", what, raft_strerror(rv));
}

/* What this node sent to the leader, or would, waits for whoever leads next; until it hears of one it may vote. */
static void forget_leader(struct kt_replica *replica)
{
    struct raft *raft = &replica->raft;

    raft->follower_state.current_leader.id = 0;
    raft_free(raft->follower_state.current_leader.address);
    raft->follower_state.current_leader.address = NULL;
    replica->leader = 0;
    replica_reads_restart(replica);
    replica_proposals_resend(replica);
    replica->host.changed(replica->host.data);
}

/*
 * A leader whose connection closes is most likely gone: its followers forget it, and begin a pre-vote soon instead of
 * after the election timeout. If it lives, it and whoever still hears it refuse the pre-vote.
 */
static void suspect_leader(struct kt_replica *replica)
{
    struct raft *raft = &replica->raft;
    unsigned pause = 1 + (unsigned)kt_random_below(&replica->random, CLOSED_PAUSE_MS);

    if (replica->now > raft->follower_state.randomized_election_timeout)
        raft->election_timer_start = replica->now + pause - raft->follower_state.randomized_election_timeout;
    forget_leader(replica);
}

/*
 * When a follower that has a leader stops refusing to vote for another: the least election timeout after it last heard
 * from its own (raft dissertation, 4.2.3). The core waits for the follower's random timeout, so that the slowest of a
 * majority would set the pace of an election instead of the fastest. 0: it has no leader.
 */
static kt_time_ms leader_forgotten_at(const struct kt_replica *replica)
{
    const struct raft *raft = &replica->raft;

    if (raft->state != RAFT_FOLLOWER || raft->follower_state.current_leader.id == 0)
        return 0;
    return raft->election_timer_start + replica->election_ms;
}

void kt_replica_tick(struct kt_replica *replica, kt_time_ms now_ms)
{
    kt_time_ms forget_at;

    if (now_ms > replica->now)
        replica->now = now_ms;
    if (replica->dead)
        return;
    if (replica->now >= raft_timeout(&replica->raft)) {
        struct raft_event event = {.type = RAFT_TIMEOUT};
        replica_fail_step(replica, "timeout", replica_step(replica, &event));
    }
    forget_at = leader_forgotten_at(replica);
    if (forget_at != 0 && replica->now >= forget_at)
        forget_leader(replica);
    replica_streams_tick(replica);
    if (replica->now >= replica->swept_ms + REPLICA_SWEEP_MS) {
        replica->swept_ms = replica->now;
        replica_proposals_sweep(replica);
        replica_reads_sweep(replica);
        replica_room_tick(replica);
    }
}

kt_time_ms kt_replica_deadline(const struct kt_replica *replica)
{
    kt_time_ms deadline = raft_timeout(&replica->raft), forget_at = leader_forgotten_at(replica);

    if (forget_at != 0)
        deadline = KT_MIN(deadline, forget_at);
    if (replica->proposal_count > 0 || replica->read_count > 0 || replica_short(replica))
        deadline = KT_MIN(deadline, replica->swept_ms + REPLICA_SWEEP_MS);
    return deadline;
}

void kt_replica_received(struct kt_replica *replica, kt_node_id from, struct kt_slice frame)
{
    struct member *member = replica_member(replica, from);
    struct kt_reader reader;

    if (member == NULL || replica->dead)
        return;
    kt_reader_init(&reader, frame);
    switch (kt_read_u8(&reader)) {
    case KT_FRAME_RAFT:
        replica_raft_received(replica, member, &reader);
        break;
    case KT_FRAME_FORWARD:
        replica_forward_received(replica, from, &reader);
        break;
    case KT_FRAME_REPLY:
        replica_reply_received(replica, &reader);
        break;
    case KT_FRAME_PROBE:
        replica_probe_received(replica, from, &reader);
        break;
    case KT_FRAME_PROBE_YES:
        replica_probe_yes_received(replica, from, &reader);
        break;
    case KT_FRAME_READ:
        replica_read_received(replica, from, &reader);
        break;
    case KT_FRAME_READ_INDEX:
        replica_read_index_received(replica, from, &reader);
        break;
    case KT_FRAME_HELLO:
        replica_hello_received(replica, member, &reader);
        break;
    case KT_FRAME_JOIN:
        replica_join_received(replica, member, &reader);
        break;
    case KT_FRAME_OFFER:
        replica_offer_received(replica, member, &reader);
        break;
    case KT_FRAME_CHECK:
        replica_check_received(replica, member, &reader);
        break;
    case KT_FRAME_ROOM:
        replica_room_received(replica, member, &reader);
        break;
    default:
        kt_warn("replica", "unknown frame from node %llu", (unsigned long long)from);
    }
}

void kt_replica_connected(struct kt_replica *replica, kt_node_id peer)
{
    struct member *member = replica_member(replica, peer);

    if (member == NULL || replica->dead)
        return;
    member->connected = true;
    member->short_of_room = member->told_short = false;
    replica_stream_reset(replica, member);
    replica_say_hello(replica, peer);
    replica_check_tell(replica, member);
    if (peer == replica->leader) {
        replica_proposals_resend(replica);
        replica_reads_restart(replica);
    }
}

void kt_replica_disconnected(struct kt_replica *replica, kt_node_id peer)
{
    struct member *member = replica_member(replica, peer);

    if (member == NULL || replica->dead)
        return;
    member->connected = false;
    replica_stream_reset(replica, member);
    if (replica->raft.state == RAFT_FOLLOWER && kt_member_node(replica->raft.follower_state.current_leader.id) == peer)
        suspect_leader(replica);
}

void kt_replica_persisted(struct kt_replica *replica, struct kt_log_write *write)
{
    struct log_write *mine = KT_CONTAINER(write, struct log_write, write);
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    kt_index last = 0;

    /* Not durable: the disk is full and the node stops. Nothing follows from it, now or later. */
    if (write->code != KT_OK)
        replica->dead = true;
    if (write->votes)
        replica->votes_done++;
    /* Entries that were replaced meanwhile are not what is now in the log: they end the run. */
    for (size_t i = 0; i < write->count; i++) {
        kt_index index = write->entries[i].index;
        const struct window *window = &replica->window;
        if (index < window->first || index >= window->next ||
            (window->slots[index & (window->cap - 1)].write != mine->number && !KT_PLANTED("replaced-acknowledged")))
            break;
        last = index;
    }
    for (size_t i = 0; i < write->count; i++)
        kt_chunk_drop(write->entries[i].chunk);
    kt_free(mine);
    if (replica->dead)
        return;
    send_held(replica);
    if (last > replica->raft.last_stored) {
        event.persisted_entries.index = last;
        replica_fail_step(replica, "entries are durable", replica_step(replica, &event));
        if (!replica->dead)
            replica_take_waiting_turn(replica);
    }
}

void kt_replica_fetched(struct kt_replica *replica, struct kt_log_read *read)
{
    struct stream_fetch *fetch = KT_CONTAINER(read, struct stream_fetch, read);

    if (read->code != KT_OK && read->code != KT_NOT_FOUND)
        replica_fatal(replica, read->code, "reading the log at entry %llu: %s", (unsigned long long)read->first,
                      kt_code_text(read->code));
    if (fetch->for_apply)
        replica_apply_fetched(replica, fetch);
    else
        replica_stream_fetched(replica, fetch);
    for (size_t i = 0; i < read->count; i++)
        kt_chunk_drop(read->entries[i].chunk);
    kt_free(fetch);
}

void kt_replica_applied(struct kt_replica *replica, struct kt_apply_batch *batch)
{
    replica->batches--;
    if (batch->given_up)
        replica->dead = true; /* results that are not there must not be told */
    if (batch->check_index != 0 && !replica->dead)
        replica_check_note(replica, batch->check_index, batch->check_hash);
    for (size_t i = 0; i < batch->count; i++) {
        struct kt_apply_item *item = &batch->items[i];
        replica->applied = item->entry.index;
        if (item->wanted && !replica->dead) {
            item->reply.term = item->entry.term;
            replica_ticket_answer(replica, item->entry.index, &item->reply);
        }
        kt_reply_release(&item->reply);
        kt_chunk_drop(item->entry.chunk);
    }
    kt_free(batch->items);
    kt_free(batch);
}

void kt_replica_visible(struct kt_replica *replica, kt_index index)
{
    if (index > replica->visible)
        replica->visible = index;
    if (!replica->dead)
        replica_reads_visible(replica);
}

int replica_submit(struct kt_replica *replica, enum kt_entry_type type, struct kt_slice data, kt_index *index)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    struct raft_entry entry = {.term = replica->raft.current_term, .type = (enum raft_entry_type)type};
    struct kt_entry mine = {.index = replica->window.next, .term = replica->raft.current_term, .type = type};
    int rv;

    if (data.len > 0) {
        mine.chunk = kt_chunk_create(data.len);
        memcpy(mine.chunk->data, data.data, data.len);
        mine.data = kt_slice(mine.chunk->data, data.len);
        entry.buf.base = mine.chunk->data;
        entry.buf.len = data.len;
    }
    entry.batch = raft_malloc(1);
    KT_CHECK(entry.batch != NULL);
    event.submit.entries = &entry;
    event.submit.n = 1;
    replica->incoming = &mine;
    replica->incoming_first = mine.index;
    replica->incoming_count = 1;
    rv = replica_step(replica, &event);
    if (rv != 0)
        raft_free(entry.batch);
    replica->incoming = NULL;
    kt_chunk_drop(mine.chunk);
    *index = mine.index;
    return rv;
}

/* An entry of the own term, so that everything before it is known to be committed once it is. */
static void submit_barrier(struct kt_replica *replica)
{
    kt_index index;

    if (replica_submit(replica, KT_ENTRY_BARRIER, kt_slice(NULL, 0), &index) != 0)
        return;
    replica->barrier_needed = false;
    replica->barrier = index;
    replica->tickets_first = replica->tickets_next = index + 1;
}

void kt_replica_flush(struct kt_replica *replica)
{
    if (replica->dead)
        return;
    if (replica_leads(replica) && replica->barrier_needed)
        submit_barrier(replica);
    replica_members_tick(replica);
    replica_propose_flush(replica);
    replica_streams_flush(replica);
    replica_reads_flush(replica);
    if (!replica->dead)
        replica_hand_over(replica);
}

void kt_replica_resign(struct kt_replica *replica)
{
    replica_hand_leadership(replica, false);
}

void replica_hand_leadership(struct kt_replica *replica, bool with_room)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    kt_index best = 0;

    if (replica->dead || !replica_leads(replica) || raft_transferee(&replica->raft) != 0)
        return;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        raft_index match;
        if (member->id == replica->self || !member->connected || !member->voter ||
            (with_room && member->short_of_room) || raft_match_index(&replica->raft, member->member, &match) != 0)
            continue;
        if (event.transfer.server_id == 0 || match > best) {
            best = match;
            event.transfer.server_id = member->member;
        }
    }
    if (event.transfer.server_id != 0)
        (void)replica_step(replica, &event);
}

void kt_replica_status(const struct kt_replica *replica, struct kt_replica_status *status)
{
    memset(status, 0, sizeof *status);
    status->self = replica->self;
    status->member = replica->member;
    status->leader = replica->leader;
    status->role = replica->raft.state == RAFT_LEADER      ? KT_LEADER
                   : replica->raft.state == RAFT_CANDIDATE ? KT_CANDIDATE
                                                           : KT_FOLLOWER;
    status->serving = replica_serves(replica);
    status->term = replica->raft.current_term;
    status->first = replica->first;
    status->last = raft_last_index((struct raft *)(uintptr_t)&replica->raft);
    status->durable = replica->raft.last_stored;
    status->commit = replica->raft.commit_index;
    status->applied = replica->applied;
    status->visible = replica->visible;
    status->proposals = replica->proposal_count;
    status->reads = replica->read_count;
    status->elections = replica->elections;
    status->disk_low = replica->low;
    status->disk_full = replica->full;
    status->peer_count = replica->member_count;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        raft_index match = 0;
        status->peers[i].id = member->id;
        status->peers[i].address = member->address;
        status->peers[i].member = member->member;
        status->peers[i].voter = member->voter;
        status->peers[i].connected = member->connected;
        if (member->member != 0 && raft_match_index(&replica->raft, member->member, &match) == 0)
            status->peers[i].match = match;
    }
}
