/*
 * Writes. The proposals of this node stand in one queue, in the order they came. Whoever leads gets them in that order:
 * this node itself through the core, another node in forward frames. When the leader, its term or the way to it
 * changes, all that have no result yet are sent again, still in order; the (origin, sequence) on each makes the state
 * machine apply it once and answer the second time with the first result. Because a log's entries commit in order, two
 * writes of one node never change places.
 *
 * A proposal ends with its result, or at its deadline: not done if it never reached a leader, unknown otherwise.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "cluster/node/replica_internal.h"
#include "cluster/transport/transport.h"
#include "engines/op.h"
#include "wire/writer.h"

static void finish(struct kt_replica *replica, struct kt_proposal *proposal)
{
    kt_list_remove(&proposal->link);
    replica->proposal_count--;
    replica->proposal_bytes -= proposal->op.len;
    proposal->done(proposal);
}

static void finish_without_result(struct kt_replica *replica, struct kt_proposal *proposal, enum kt_code not_tried)
{
    if (proposal->tried)
        kt_reply_fail(&proposal->reply, KT_OUTCOME_UNKNOWN,
                      "no answer from the leader in time: the outcome is unknown");
    else
        kt_reply_fail(&proposal->reply, not_tried, "%s", kt_code_text(not_tried));
    finish(replica, proposal);
}

void kt_replica_propose(struct kt_replica *replica, struct kt_proposal *proposal)
{
    KT_CHECK(proposal->op.len >= KT_OP_HEADER_BYTES);
    proposal->sent_term = 0;
    proposal->tried = false;
    proposal->sequence = ++replica->sequence;
    kt_list_append(&replica->proposals, &proposal->link);
    replica->proposal_count++;
    replica->proposal_bytes += proposal->op.len;
    if (replica->dead)
        finish_without_result(replica, proposal, KT_SHUTTING_DOWN);
    else if (replica->proposal_count > REPLICA_PROPOSALS_MAX || replica->proposal_bytes > REPLICA_PROPOSAL_BYTES)
        finish_without_result(replica, proposal, KT_BUSY);
}

void replica_proposals_resend(struct kt_replica *replica)
{
    struct kt_list *link;

    kt_list_each (link, &replica->proposals)
        KT_CONTAINER(link, struct kt_proposal, link)->sent_term = 0;
    replica->resend_ms = replica->now;
}

/* The lowest sequence that may still be asked again. */
static uint64_t done_below(const struct kt_replica *replica)
{
    const struct kt_proposal *oldest = kt_list_first(&replica->proposals, struct kt_proposal, link);
    return oldest != NULL ? oldest->sequence : replica->sequence + 1;
}

static struct kt_proposal *first_unsent(struct kt_replica *replica)
{
    struct kt_list *link = replica->proposals.prev;
    struct kt_proposal *unsent = NULL;

    /* What is unsent stands at the end: everything before was sent earlier. */
    for (; link != &replica->proposals; link = link->prev) {
        struct kt_proposal *proposal = KT_CONTAINER(link, struct kt_proposal, link);
        if (proposal->sent_term != 0)
            break;
        unsent = proposal;
    }
    return unsent;
}

static struct kt_proposal *after(struct kt_replica *replica, struct kt_proposal *proposal)
{
    struct kt_list *next = proposal->link.next;
    return next == &replica->proposals ? NULL : KT_CONTAINER(next, struct kt_proposal, link);
}

/* ---- Tickets: who waits for which entry ---- */

static struct ticket *ticket_at(const struct kt_replica *replica, kt_index index)
{
    if (index < replica->tickets_first || index >= replica->tickets_next)
        return NULL;
    return &replica->tickets[index & (replica->tickets_cap - 1)];
}

static void add_ticket(struct kt_replica *replica, struct ticket ticket)
{
    if (replica->tickets_next - replica->tickets_first == replica->tickets_cap) {
        size_t cap = replica->tickets_cap ? replica->tickets_cap * 2 : 1024;
        struct ticket *tickets = kt_alloc(cap * sizeof *tickets);
        for (kt_index index = replica->tickets_first; index < replica->tickets_next; index++)
            tickets[index & (cap - 1)] = *ticket_at(replica, index);
        kt_free(replica->tickets);
        replica->tickets = tickets;
        replica->tickets_cap = cap;
    }
    replica->tickets[replica->tickets_next++ & (replica->tickets_cap - 1)] = ticket;
}

void replica_tickets_clear(struct kt_replica *replica)
{
    struct forwarded *forwarded;

    replica->tickets_first = replica->tickets_next = 0;
    while ((forwarded = kt_list_first(&replica->intake, struct forwarded, link)) != NULL) {
        kt_list_remove(&forwarded->link);
        kt_free(forwarded);
    }
    replica->intake_bytes = 0;
}

bool replica_ticket_wanted(const struct kt_replica *replica, kt_index index)
{
    const struct ticket *ticket = ticket_at(replica, index);
    return ticket != NULL && ticket->sequence != 0;
}

static struct kt_proposal *proposal_of(struct kt_replica *replica, uint64_t sequence)
{
    struct kt_list *link;

    kt_list_each (link, &replica->proposals) {
        struct kt_proposal *proposal = KT_CONTAINER(link, struct kt_proposal, link);
        if (proposal->sequence == sequence)
            return proposal;
        if (proposal->sequence > sequence)
            break;
    }
    return NULL;
}

static void answer_own(struct kt_replica *replica, uint64_t sequence, struct kt_reply *reply)
{
    struct kt_proposal *proposal = proposal_of(replica, sequence);

    replica->resend_ms = replica->now;
    /* A second application finds the record gone only if the first result was delivered: nobody waits for this one. */
    if (proposal == NULL || reply->code == KT_STALE)
        return;
    kt_reply_move(&proposal->reply, reply);
    finish(replica, proposal);
}

void replica_ticket_answer(struct kt_replica *replica, kt_index index, struct kt_reply *reply)
{
    struct ticket *ticket = ticket_at(replica, index);
    struct ticket waiting;
    struct kt_buf frame;

    if (ticket == NULL)
        return;
    waiting = *ticket;
    replica->tickets_first = index + 1;
    if (waiting.sequence == 0)
        return;
    if (waiting.peer == 0) {
        answer_own(replica, waiting.sequence, reply);
        return;
    }
    kt_frame_init(&frame);
    kt_frame_reply(&frame, waiting.origin, waiting.sequence, reply);
    replica_send(replica, waiting.peer, &frame);
}

void replica_reply_received(struct kt_replica *replica, struct kt_reader *reader)
{
    uint64_t origin = kt_read_le64(reader);
    uint64_t sequence = kt_read_le64(reader);
    kt_term term = kt_read_le64(reader);
    struct kt_reply reply;

    if (!kt_reader_ok(reader) || origin != replica->origin)
        return;
    kt_reply_init(&reply);
    if (kt_reply_decode(kt_slice(reader->at, kt_reader_left(reader)), &reply) == KT_OK) {
        reply.term = term;
        answer_own(replica, sequence, &reply);
    }
    kt_reply_release(&reply);
}

/* ---- To the core ---- */

/* Operations gathered in one turn: one chunk, one SUBMIT. */
struct gathering {
    struct kt_entry *entries;
    struct raft_entry *shadows;
    size_t count, cap;
    size_t bytes;
};

static void gather(struct gathering *gathering, struct kt_slice op)
{
    if (gathering->count == gathering->cap) {
        gathering->cap = gathering->cap ? gathering->cap * 2 : 64;
        gathering->entries = kt_realloc(gathering->entries, gathering->cap * sizeof *gathering->entries);
    }
    gathering->entries[gathering->count++] = (struct kt_entry){.type = KT_ENTRY_COMMAND, .data = op};
    gathering->bytes += op.len;
}

/* Moves the payloads into one chunk and stamps them. */
static void pack(struct kt_replica *replica, struct gathering *gathering)
{
    struct kt_chunk *chunk = kt_chunk_create(gathering->bytes);
    size_t at = 0;

    replica->stamped_ms = KT_MAX(replica->stamped_ms, replica->host.wall(replica->host.data));
    gathering->shadows = kt_zalloc(gathering->count * sizeof *gathering->shadows);
    for (size_t i = 0; i < gathering->count; i++) {
        struct kt_entry *entry = &gathering->entries[i];
        memcpy(chunk->data + at, entry->data.data, entry->data.len);
        kt_op_stamp_time(chunk->data + at, replica->stamped_ms);
        entry->data.data = chunk->data + at;
        at += entry->data.len;
        entry->chunk = chunk;
        entry->index = replica->window.next + i;
        entry->term = replica->raft.current_term;
        if (i > 0)
            kt_chunk_acquire(chunk);
        gathering->shadows[i].term = entry->term;
        gathering->shadows[i].type = RAFT_COMMAND;
    }
}

static bool submit(struct kt_replica *replica, struct gathering *gathering)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    void *batch = raft_malloc(1);
    int rv;

    KT_CHECK(batch != NULL);
    for (size_t i = 0; i < gathering->count; i++)
        gathering->shadows[i].batch = batch;
    event.submit.entries = gathering->shadows;
    event.submit.n = (unsigned)gathering->count;
    replica->incoming = gathering->entries;
    replica->incoming_first = gathering->entries[0].index;
    replica->incoming_count = gathering->count;
    rv = replica_step(replica, &event);
    replica->incoming = NULL;
    for (size_t i = 0; i < gathering->count; i++)
        kt_chunk_drop(gathering->entries[i].chunk);
    if (rv != 0)
        raft_free(batch);
    return rv == 0;
}

static void submit_all(struct kt_replica *replica)
{
    struct gathering gathering = {0};
    struct kt_proposal *first = first_unsent(replica), *proposal;
    struct forwarded *forwarded;
    struct kt_list *link;
    uint64_t below = done_below(replica);
    kt_term term = replica->raft.current_term;

    if (first == NULL && kt_list_empty(&replica->intake))
        return;
    /* Tickets first: a single node may commit inside the step. */
    kt_list_each (link, &replica->intake) {
        struct kt_op op;
        forwarded = KT_CONTAINER(link, struct forwarded, link);
        if (kt_op_decode(kt_slice(forwarded->op, forwarded->len), &op) != KT_OK)
            continue; /* checked when it was received */
        gather(&gathering, kt_slice(forwarded->op, forwarded->len));
        add_ticket(replica, (struct ticket){.peer = forwarded->peer, .origin = op.origin, .sequence = op.sequence});
    }
    for (proposal = first; proposal != NULL; proposal = after(replica, proposal)) {
        kt_op_stamp_origin(proposal->op.data, replica->origin, proposal->sequence, below);
        gather(&gathering, kt_buf_slice(&proposal->op));
        add_ticket(replica, (struct ticket){.sequence = proposal->sequence});
        proposal->sent_term = term;
        proposal->tried = true;
    }
    KT_CHECK(replica->tickets_next == replica->window.next + gathering.count);
    pack(replica, &gathering);
    while ((forwarded = kt_list_first(&replica->intake, struct forwarded, link)) != NULL) {
        kt_list_remove(&forwarded->link);
        kt_free(forwarded);
    }
    replica->intake_bytes = 0;
    if (!submit(replica, &gathering) && !replica->dead)
        replica_fatal(replica, KT_INTERNAL, "the core of a leader refuses entries: %s", replica->raft.errmsg);
    kt_free(gathering.entries);
    kt_free(gathering.shadows);
}

/* ---- To another node ---- */

static void forward_all(struct kt_replica *replica)
{
    struct kt_proposal *proposal = first_unsent(replica);
    uint64_t below = done_below(replica);
    kt_term term = replica->raft.current_term;
    kt_node_id leader = replica->leader;

    while (proposal != NULL) {
        struct kt_proposal *from = proposal;
        struct kt_buf frame;
        uint32_t count = 0;
        size_t count_at;

        kt_frame_init(&frame);
        kt_buf_append_u8(&frame, KT_FRAME_FORWARD);
        kt_write_le64(&frame, term);
        count_at = frame.len;
        kt_write_le32(&frame, 0);
        for (; proposal != NULL && (count == 0 || frame.len + proposal->op.len < REPLICA_FRAME_BYTES);
             proposal = after(replica, proposal), count++) {
            kt_op_stamp_origin(proposal->op.data, replica->origin, proposal->sequence, below);
            kt_write_string(&frame, kt_buf_slice(&proposal->op));
        }
        if (kt_buf_code(&frame) == KT_OK)
            kt_put_le32(frame.data + count_at, count);
        if (!replica_send(replica, leader, &frame))
            return; /* sent again when the way is free: nothing after it went ahead */
        for (; from != proposal; from = after(replica, from)) {
            from->sent_term = term;
            from->tried = true;
        }
        replica->resend_ms = replica->now;
    }
}

void replica_propose_flush(struct kt_replica *replica)
{
    const struct member *leader;

    if (replica_leads(replica)) {
        /*
         * While leadership is handed over the core takes nothing, and a full disk nothing either: what is here waits
         * for the outcome.
         */
        if (!replica->barrier_needed && !replica->full && raft_transferee(&replica->raft) == 0)
            submit_all(replica);
        return;
    }
    leader = replica->leader != 0 ? replica_member(replica, replica->leader) : NULL;
    if (leader != NULL && leader->connected)
        forward_all(replica);
}

void replica_forward_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader)
{
    kt_term term = kt_read_le64(reader);
    uint32_t count = kt_read_le32(reader);

    /* Whoever sent it learns of the new term or leader by itself and sends it there. */
    if (!replica_leads(replica) || term != replica->raft.current_term)
        return;
    for (uint32_t i = 0; i < count && kt_reader_ok(reader); i++) {
        struct kt_slice bytes = kt_read_string(reader);
        struct forwarded *forwarded;
        struct kt_op op;

        if (!kt_reader_ok(reader) || bytes.len > KT_ENTRY_BYTES_MAX || kt_op_decode(bytes, &op) != KT_OK ||
            op.origin == 0 || op.sequence == 0)
            return;
        if (replica->intake_bytes + bytes.len > REPLICA_INTAKE_BYTES)
            return; /* in order, so nothing after it is taken either; it is sent again */
        forwarded = kt_alloc(sizeof *forwarded + bytes.len);
        forwarded->peer = from;
        forwarded->len = bytes.len;
        memcpy(forwarded->op, bytes.data, bytes.len);
        kt_list_append(&replica->intake, &forwarded->link);
        replica->intake_bytes += bytes.len;
    }
}

void replica_proposals_sweep(struct kt_replica *replica)
{
    struct kt_list *link = replica->proposals.next;

    while (link != &replica->proposals) {
        struct kt_proposal *proposal = KT_CONTAINER(link, struct kt_proposal, link);
        link = link->next;
        if (replica->now >= proposal->deadline_ms)
            finish_without_result(replica, proposal, KT_UNAVAILABLE);
    }
    if (replica->proposal_count > 0 && !replica_leads(replica) &&
        replica->now >= replica->resend_ms + REPLICA_RESEND_MS)
        replica_proposals_resend(replica);
}

void replica_propose_release(struct kt_replica *replica)
{
    struct kt_proposal *proposal;

    while ((proposal = kt_list_first(&replica->proposals, struct kt_proposal, link)) != NULL)
        finish_without_result(replica, proposal, KT_SHUTTING_DOWN);
    replica_tickets_clear(replica);
    kt_free(replica->tickets);
}
