/* What a node comes up with, against the books: who it is, its log, its vote, its state. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "check_internal.h"
#include "cluster/node/peer_frame.h"

static bool log_equal(const struct sim_log *a, const struct sim_log *b)
{
    if (a->last != b->last)
        return false;
    for (kt_index i = a->last; i >= 1; i--)
        if (!check_item_equal(a->items[i - 1], b->items[i - 1]))
            return false;
    return true;
}

/* Reads what the log of a node holds. out ends just before its first entry, or is cut there. */
static bool read_log(struct sim_node *node, struct sim_log *out)
{
    struct kt_entry entries[64];
    kt_index last = kt_wal_last(node->wal), next = kt_wal_first(node->wal);
    if (out->last + 1 < next) {
        sim_fail(&node->cluster->world, "node %llu lost the start of its log: it begins at %llu",
                 (unsigned long long)node->id, (unsigned long long)next);
        return false;
    }
    out->last = next - 1;
    while (next <= last) {
        size_t count = 0;
        enum kt_code code = kt_wal_read(node->wal, next, last, 1u << 20, entries, KT_COUNT(entries), &count);
        if (code != KT_OK || count == 0) {
            sim_fail(&node->cluster->world, "node %llu cannot read entry %llu back: %s", (unsigned long long)node->id,
                     (unsigned long long)next, kt_code_name(code));
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            KT_CHECK(entries[i].index == next);
            uint64_t hash = sim_entry_hash(&entries[i]);
            check_entry_known(node, &entries[i], hash);
            check_log_put(out, next++, (struct sim_item){.term = entries[i].term, .hash = hash});
            kt_chunk_drop(entries[i].chunk);
        }
    }
    return true;
}

/* Whether the log may look like this after a crash: check 2. */
static bool recovered_well(const struct sim_books *books, const struct sim_log *log, bool power)
{
    struct sim_log expected = {0};
    check_log_copy(&expected, &books->durable);
    bool well = power && log_equal(&expected, log);
    for (size_t i = 0; i < books->pending_count && books->pending[i].appended && !well; i++) {
        const struct sim_pending *pending = &books->pending[i];
        bool all = i + 1 == books->pending_count || !books->pending[i + 1].appended;
        if (pending->index <= expected.last) {
            expected.last = pending->index - 1;
            well = power && log_equal(&expected, log);
        }
        check_log_put(&expected, pending->index, pending->item);
        well = well || ((power || all) && log_equal(&expected, log));
    }
    bool nothing_written = books->pending_count == 0 || !books->pending[0].appended;
    well = well || (nothing_written && log_equal(&expected, log));
    kt_free(expected.items);
    return well;
}

static bool is_former(const struct sim_check *check, kt_member_id member)
{
    for (size_t i = 0; i < check->former_count; i++)
        if (check->former[i].member == member)
            return true;
    return false;
}

/* Check 9: the node comes up as somebody else. */
static void member_changed(struct sim_node *node)
{
    struct sim_check *check = &node->cluster->check;
    struct sim_books *books = check_books_of(node);
    struct sim_world *world = &node->cluster->world;
    unsigned long long id = node->id;
    if (books->member != 0) {
        if (node->harm == SIM_WHOLE && !node->condemned && books->stored)
            sim_fail(world, "node %llu set its data aside without a reason", id);
        check->former = kt_realloc(check->former, (check->former_count + 1) * sizeof(*check->former));
        check->former[check->former_count++] = (struct sim_former){.member = books->member, .durable = books->durable};
        memset(&books->durable, 0, sizeof(books->durable));
        node->cluster->counts.rejoins++;
    }
    if (is_former(check, node->boot.member))
        sim_fail(world, "node %llu comes up as a member that it was before it lost its data", id);
    sim_note(world, node->id, "member", node->boot.member, books->member, 0);
    books->member = node->boot.member;
    books->first = 1;
    books->seen.last = 0;
    books->pending_count = 0;
    books->voted_term = books->vote = books->voting_term = 0;
    books->trim = 0;
    books->founding = books->stored = false;
    /* What was damaged is out of the way; the node is whole again when it is a voter. */
    if (node->harm != SIM_WHOLE || node->condemned)
        node->harm = SIM_WIPED;
    node->adopting = node->condemned = false;
    node->diverged_at = 0;
}

/* The adopted state stands at index: the log may be empty behind it, if it held nothing that the state lacks. */
static bool adopted_well(struct sim_node *node, kt_index index, struct sim_log *log)
{
    struct sim_check *check = &node->cluster->check;
    const struct sim_books *books = check_books_of(node);
    log->last = 0;
    for (kt_index i = 1; i <= index; i++) {
        const struct sim_committed *committed = check_committed_at(check, i);
        if (!committed->committed && !committed->applied)
            return false;
        check_log_put(log, i, committed->item);
    }
    if (books->durable.last > index && check_item_equal(books->durable.items[index - 1], log->items[index - 1]))
        sim_fail(&node->cluster->world,
                 "node %llu adopts a state at %llu and forgets the entries up to %llu that it had acknowledged",
                 (unsigned long long)node->id, (unsigned long long)index, (unsigned long long)books->durable.last);
    return true;
}

/* Check 2. */
static void log_recovered(struct sim_node *node)
{
    const struct kt_wal_found *found = &node->boot.found;
    struct sim_books *books = check_books_of(node);
    struct sim_world *world = &node->cluster->world;
    kt_index stands = kt_state_applied(node->state).index;
    struct sim_log log = {0};
    bool well, adopted = false;
    check_log_copy(&log, &books->durable);
    if (node->adopting && found->last == stands && found->first == stands + 1 &&
        (books->durable.last != stands || books->first != stands + 1))
        adopted = adopted_well(node, stands, &log);
    if (!adopted && !read_log(node, &log)) {
        kt_free(log.items);
        return;
    }
    well = adopted || (books->founding && books->durable.last == 0 && log.last <= 1) ||
           recovered_well(books, &log, node->power_lost || node->write_failed);
    if (!well)
        sim_fail(world, "node %llu recovered a log that it cannot have: last %llu, synced up to %llu, %zu unsynced",
                 (unsigned long long)node->id, (unsigned long long)log.last, (unsigned long long)books->durable.last,
                 books->pending_count);
    if (!adopted && found->first > KT_MAX(books->first, books->trim + 1))
        sim_fail(world, "node %llu has lost the start of its log: first %llu, trimmed up to %llu",
                 (unsigned long long)node->id, (unsigned long long)found->first, (unsigned long long)books->trim);
    books->first = found->first;
    check_log_copy(&books->durable, &log);
    check_log_copy(&books->seen, &log);
    kt_free(log.items);
}

static void vote_recovered(struct sim_node *node)
{
    const struct kt_wal_found *found = &node->boot.found;
    struct sim_books *books = check_books_of(node);
    kt_term adopted = kt_state_applied(node->state).term;
    bool old_vote = found->term == books->voted_term && found->vote == books->vote;
    bool new_vote = books->voting_term != 0 && found->term == books->voting_term && found->vote == books->voting;
    bool raised = node->adopting && found->term == adopted && found->term > books->voted_term && found->vote == 0;
    bool founding = books->founding && found->term <= 1 && found->vote == 0;
    if (!old_vote && !new_vote && !raised && !founding && !node->cluster->check.outside_only)
        sim_fail(&node->cluster->world, "node %llu lost its vote: term %llu for %llx, it was term %llu for %llx",
                 (unsigned long long)node->id, (unsigned long long)found->term, (unsigned long long)found->vote,
                 (unsigned long long)books->voted_term, (unsigned long long)books->vote);
    books->voted_term = found->term;
    books->vote = found->vote;
    books->voting_term = 0;
    books->term = found->term;
}

/* Check 5 for a state that was not applied here, or not in this life. */
static void state_recovered(struct sim_node *node)
{
    struct kt_state_position position = kt_state_applied(node->state);
    struct kt_state_members members = kt_state_members(node->state);
    struct sim_check *check = &node->cluster->check;
    struct sim_world *world = &node->cluster->world;
    if (position.index == 0)
        return;
    const struct sim_committed *known = check_committed_at(check, position.index);
    if (!known->applied && !known->committed)
        sim_fail(world, "node %llu has a state at %llu, which was never committed", (unsigned long long)node->id,
                 (unsigned long long)position.index);
    if (known->hashed && known->state_hash != position.hash && node->harm != SIM_ALTERED)
        sim_fail(world, "node %llu comes up with another state at %llu", (unsigned long long)node->id,
                 (unsigned long long)position.index);
    if (members.index == 0 || members.index > position.index) {
        sim_fail(world, "node %llu comes up with a state that names no members", (unsigned long long)node->id);
        return;
    }
    uint64_t hash = kt_hash64((uint64_t)KT_ENTRY_CHANGE, members.configuration.data, members.configuration.len);
    if (check_committed_at(check, members.index)->item.hash != hash)
        sim_fail(world, "node %llu comes up with another configuration at %llu", (unsigned long long)node->id,
                 (unsigned long long)members.index);
}

void sim_check_booted(struct sim_node *node)
{
    struct sim_books *books = check_books_of(node);
    const struct kt_wal_found *found = &node->boot.found;
    struct sim_world *world = &node->cluster->world;
    sim_note(world, node->id, "recovered", found->last, found->term, found->vote);
    if (node->boot.member != books->member)
        member_changed(node);
    else if (node->harm == SIM_WIPED && node->gone)
        sim_fail(world, "node %llu keeps its member id without its data", (unsigned long long)node->id);
    node->gone = false;
    log_recovered(node);
    if (!world->failed)
        vote_recovered(node);
    if (!world->failed)
        state_recovered(node);
    /* A flipped bit that nothing reads does no harm; and an adopted state is whole. */
    if (node->harm == SIM_FLIPPED)
        node->harm = SIM_WHOLE;
    if (node->adopted && node->harm == SIM_ALTERED) {
        node->harm = SIM_WHOLE;
        node->diverged_at = 0;
    }
    node->adopting = false;
    books->pending_count = 0;
    books->commit = 0;
}

void sim_check_founding(struct sim_node *node, bool founded)
{
    check_books_of(node)->founding = founded;
}

void sim_check_founded(struct sim_node *node)
{
    struct sim_books *books = check_books_of(node);
    struct sim_log log = {0};
    if (books->founding) {
        books->voted_term = 1;
        books->stored = true;
    }
    if (read_log(node, &log)) {
        check_log_copy(&books->durable, &log);
        check_log_copy(&books->seen, &log);
    }
    books->founding = false;
    kt_free(log.items);
}

void sim_check_trimming(struct sim_node *node, kt_index index)
{
    struct sim_books *books = check_books_of(node);
    sim_note(&node->cluster->world, node->id, "trim", index, 0, 0);
    books->trim = KT_MAX(books->trim, index);
    if (index > kt_state_visible(node->state))
        sim_fail(&node->cluster->world, "node %llu trims its log up to %llu, its state stands at %llu",
                 (unsigned long long)node->id, (unsigned long long)index,
                 (unsigned long long)kt_state_visible(node->state));
}

/* Check 9. */
void sim_check_sent(struct sim_node *node, struct kt_slice frame)
{
    const struct sim_books *books = check_books_of(node);
    struct kt_reader reader;
    kt_reader_init(&reader, frame);
    if (kt_read_u8(&reader) != KT_FRAME_RAFT)
        return;
    kt_member_id from = kt_read_le64(&reader);
    if (from != books->member)
        sim_fail(&node->cluster->world, "node %llu speaks as member %llx, it is %llx", (unsigned long long)node->id,
                 (unsigned long long)from, (unsigned long long)books->member);
}

void sim_check_ended(struct sim_node *node, enum kt_end why, const char *text)
{
    if (why == KT_END_DIVERGED && node->harm == SIM_ALTERED) {
        node->cluster->counts.found_out++;
        return;
    }
    sim_fail(&node->cluster->world, "node %llu ends without a reason: %s", (unsigned long long)node->id, text);
}

bool sim_check_whole(const struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->options.nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];
        if (!sim_node_runs(node) || node->harm == SIM_ALTERED || node->harm == SIM_FLIPPED || node->adopting ||
            node->transfer.under_way || node->condemned || node->status.peer_count != cluster->options.nodes)
            return false;
        for (size_t k = 0; k < node->status.peer_count; k++) {
            const struct kt_peer_status *peer = &node->status.peers[k];
            if (!peer->voter || peer->member != cluster->nodes[peer->id - 1].boot.member)
                return false;
        }
    }
    return true;
}
