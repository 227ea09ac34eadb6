#include "check.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "cluster.h"
#include "engines/op.h"

/* What the books know of one origin. */
struct origin {
    uint64_t last; /* sequence that took effect last */
};

void sim_check_init(struct sim_check *check, bool outside_only)
{
    memset(check, 0, sizeof(*check));
    kt_map_init(&check->entries);
    kt_map_init(&check->origins);
    check->outside_only = outside_only;
}

static void map_free(struct kt_map *map)
{
    size_t at = 0;
    struct kt_slice key;
    void *value;
    while (kt_map_next(map, &at, &key, &value))
        kt_free(value);
    kt_map_release(map);
}

void sim_check_release(struct sim_check *check)
{
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        kt_free(check->books[i].seen.items);
        kt_free(check->books[i].durable.items);
        kt_free(check->books[i].pending);
    }
    kt_free(check->committed);
    kt_free(check->terms);
    map_free(&check->entries);
    map_free(&check->origins);
}

uint64_t sim_entry_hash(const struct kt_entry *entry)
{
    return kt_hash64((uint64_t)entry->type, entry->data.data, entry->data.len);
}

static void log_put(struct sim_log *log, kt_index index, struct sim_item item)
{
    KT_CHECK(index >= 1 && index <= log->last + 1);
    if (index > log->cap) {
        log->cap = log->cap ? log->cap * 2 : 256;
        log->items = kt_realloc(log->items, log->cap * sizeof(*log->items));
    }
    log->items[index - 1] = item;
    log->last = index;
}

static void log_copy(struct sim_log *to, const struct sim_log *from)
{
    to->last = 0;
    for (kt_index i = 1; i <= from->last; i++)
        log_put(to, i, from->items[i - 1]);
}

/* 0 if it is not there. */
static kt_term log_term(const struct sim_log *log, kt_index index)
{
    return index >= 1 && index <= log->last ? log->items[index - 1].term : 0;
}

static struct sim_books *books_of(struct sim_node *node)
{
    return &node->cluster->check.books[node->number];
}

/* Check 1. */
static void entry_known(struct sim_node *node, const struct kt_entry *entry, uint64_t hash)
{
    struct sim_check *check = &node->cluster->check;
    uint64_t key[2] = {entry->index, entry->term};
    uint64_t *known = kt_map_get(&check->entries, kt_slice(key, sizeof(key)));
    if (!known) {
        known = kt_alloc(sizeof(*known));
        *known = hash;
        kt_map_put(&check->entries, kt_slice(key, sizeof(key)), known);
    } else if (*known != hash) {
        sim_fail(&node->cluster->world, "log matching: node %u has another entry %llu of term %llu", node->number + 1,
                 (unsigned long long)entry->index, (unsigned long long)entry->term);
    }
}

void sim_check_handed(struct sim_node *node, const struct kt_entry *entries, size_t count)
{
    struct sim_books *books = books_of(node);
    struct sim_world *world = &node->cluster->world;
    if (books->pending_count + count > books->pending_cap) {
        books->pending_cap = (books->pending_count + count) * 2;
        books->pending = kt_realloc(books->pending, books->pending_cap * sizeof(*books->pending));
    }
    for (size_t i = 0; i < count; i++) {
        const struct kt_entry *entry = &entries[i];
        struct sim_item item = {.term = entry->term, .hash = sim_entry_hash(entry)};
        sim_note(world, node->id, "entry", entry->index, entry->term, item.hash);
        if (entry->index < 1 || entry->index > books->seen.last + 1) {
            sim_fail(world, "node %llu appends entry %llu behind %llu", (unsigned long long)node->id,
                     (unsigned long long)entry->index, (unsigned long long)books->seen.last);
            return;
        }
        if (entry->index <= books->commit && log_term(&books->seen, entry->index) != entry->term)
            sim_fail(world, "node %llu replaces entry %llu, which it called committed", (unsigned long long)node->id,
                     (unsigned long long)entry->index);
        entry_known(node, entry, item.hash);
        if (entry->index <= books->seen.last) {
            node->cluster->counts.replacements++;
            node->cluster->counts.replaced += books->seen.last - entry->index + 1;
            if (books->pending_count > 0 && books->pending[books->pending_count - 1].index >= entry->index)
                node->cluster->counts.replaced_under_way++;
        }
        log_put(&books->seen, entry->index, item);
        books->pending[books->pending_count++] = (struct sim_pending){.index = entry->index, .item = item};
    }
}

void sim_check_appended(struct sim_node *node, size_t count)
{
    struct sim_books *books = books_of(node);
    for (size_t i = 0; i < books->pending_count && count > 0; i++) {
        if (!books->pending[i].appended) {
            books->pending[i].appended = true;
            count--;
        }
    }
    KT_CHECK(count == 0);
}

void sim_check_synced(struct sim_node *node)
{
    struct sim_books *books = books_of(node);
    size_t done = 0;
    while (done < books->pending_count && books->pending[done].appended) {
        log_put(&books->durable, books->pending[done].index, books->pending[done].item);
        done++;
    }
    books->pending_count -= done;
    if (books->pending_count > 0)
        memmove(books->pending, books->pending + done, books->pending_count * sizeof(*books->pending));
}

void sim_check_voting(struct sim_node *node, kt_term term, kt_node_id vote)
{
    struct sim_books *books = books_of(node);
    struct sim_world *world = &node->cluster->world;
    sim_note(world, node->id, "vote", term, vote, 0);
    books->voting_term = term;
    books->voting = vote;
    if (node->cluster->check.outside_only)
        return;
    if (term < books->voted_term)
        sim_fail(world, "node %llu goes back from term %llu to %llu", (unsigned long long)node->id,
                 (unsigned long long)books->voted_term, (unsigned long long)term);
    if (term == books->voted_term && books->vote != 0 && vote != books->vote)
        sim_fail(world, "node %llu votes for %llu and then for %llu in term %llu", (unsigned long long)node->id,
                 (unsigned long long)books->vote, (unsigned long long)vote, (unsigned long long)term);
}

void sim_check_voted(struct sim_node *node, kt_term term, kt_node_id vote)
{
    struct sim_books *books = books_of(node);
    KT_CHECK(books->voting_term == term && books->voting == vote);
    books->voted_term = term;
    books->vote = vote;
    books->voting_term = 0;
}

static bool item_equal(struct sim_item a, struct sim_item b)
{
    return a.term == b.term && a.hash == b.hash;
}

static bool log_equal(const struct sim_log *a, const struct sim_log *b)
{
    if (a->last != b->last)
        return false;
    for (kt_index i = a->last; i >= 1; i--)
        if (!item_equal(a->items[i - 1], b->items[i - 1]))
            return false;
    return true;
}

/* Reads what the log of a node holds. */
static bool read_log(struct sim_node *node, struct sim_log *out)
{
    struct kt_entry entries[64];
    kt_index last = kt_wal_last(node->wal), next = 1;
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
            log_put(out, next++, (struct sim_item){.term = entries[i].term, .hash = sim_entry_hash(&entries[i])});
            kt_chunk_drop(entries[i].chunk);
        }
    }
    return true;
}

/* Whether the log may look like this after a crash: check 2. */
static bool recovered_well(const struct sim_books *books, const struct sim_log *log, bool power)
{
    struct sim_log expected = {0};
    log_copy(&expected, &books->durable);
    bool well = power && log_equal(&expected, log);
    for (size_t i = 0; i < books->pending_count && books->pending[i].appended && !well; i++) {
        const struct sim_pending *pending = &books->pending[i];
        bool all = i + 1 == books->pending_count || !books->pending[i + 1].appended;
        if (pending->index <= expected.last) {
            expected.last = pending->index - 1;
            well = power && log_equal(&expected, log);
        }
        log_put(&expected, pending->index, pending->item);
        well = well || ((power || all) && log_equal(&expected, log));
    }
    bool nothing_written = books->pending_count == 0 || !books->pending[0].appended;
    well = well || (nothing_written && log_equal(&expected, log));
    kt_free(expected.items);
    return well;
}

void sim_check_recovered(struct sim_node *node, const struct kt_wal_found *found, bool power)
{
    struct sim_books *books = books_of(node);
    struct sim_world *world = &node->cluster->world;
    struct sim_log log = {0};
    sim_note(world, node->id, "recovered", found->last, found->term, found->vote);
    if (found->first != 1)
        sim_fail(world, "node %llu lost the start of its log: it begins at %llu", (unsigned long long)node->id,
                 (unsigned long long)found->first);
    else if (read_log(node, &log)) {
        if (!recovered_well(books, &log, power))
            sim_fail(world, "node %llu recovered a log that it cannot have: last %llu, synced up to %llu, %zu unsynced",
                     (unsigned long long)node->id, (unsigned long long)log.last,
                     (unsigned long long)books->durable.last, books->pending_count);
        bool old_vote = found->term == books->voted_term && found->vote == books->vote;
        bool new_vote = books->voting_term != 0 && found->term == books->voting_term && found->vote == books->voting;
        if (!old_vote && !new_vote)
            sim_fail(world, "node %llu lost its vote: term %llu for %llu, it was term %llu for %llu",
                     (unsigned long long)node->id, (unsigned long long)found->term, (unsigned long long)found->vote,
                     (unsigned long long)books->voted_term, (unsigned long long)books->vote);
    }
    log_copy(&books->durable, &log);
    log_copy(&books->seen, &log);
    kt_free(log.items);
    books->pending_count = 0;
    books->voted_term = found->term;
    books->vote = found->vote;
    books->voting_term = 0;
    books->term = found->term;
    books->commit = 0;
}

void sim_check_founded(struct sim_node *node)
{
    struct sim_books *books = books_of(node);
    struct sim_log log = {0};
    if (read_log(node, &log)) {
        log_copy(&books->durable, &log);
        log_copy(&books->seen, &log);
    }
    kt_free(log.items);
}

static struct sim_committed *committed_at(struct sim_check *check, kt_index index)
{
    while (check->committed_count < index) {
        if (check->committed_count == check->committed_cap) {
            check->committed_cap = check->committed_cap ? check->committed_cap * 2 : 256;
            check->committed = kt_realloc(check->committed, check->committed_cap * sizeof(*check->committed));
        }
        memset(&check->committed[check->committed_count++], 0, sizeof(*check->committed));
    }
    return &check->committed[index - 1];
}

/* Checks 3 and 4 at the moment a node calls one more entry committed. */
static void committed_now(struct sim_node *node, kt_index index)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_check *check = &cluster->check;
    const struct sim_books *books = books_of(node);
    if (index > books->seen.last) {
        sim_fail(&cluster->world, "node %llu calls entry %llu committed, its log ends at %llu",
                 (unsigned long long)node->id, (unsigned long long)index, (unsigned long long)books->seen.last);
        return;
    }
    struct sim_item item = books->seen.items[index - 1];
    struct sim_committed *known = committed_at(check, index);
    if (known->committed || known->applied) {
        if (!item_equal(known->item, item))
            sim_fail(&cluster->world,
                     "state machine safety: entry %llu is committed with term %llu, on node %llu with term %llu",
                     (unsigned long long)index, (unsigned long long)known->item.term, (unsigned long long)node->id,
                     (unsigned long long)item.term);
        return;
    }
    known->committed = true;
    known->in_term = node->status.term;
    known->item = item;
    cluster->counts.commits++;
    unsigned holders = 0;
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        if (check->books[i].durable.last >= index && item_equal(check->books[i].durable.items[index - 1], item))
            holders++;
    if (!check->outside_only && holders * 2 <= cluster->options.nodes)
        sim_fail(&cluster->world, "commitment: node %llu calls entry %llu committed, it is on %u disks",
                 (unsigned long long)node->id, (unsigned long long)index, holders);
}

static struct sim_term *term_at(struct sim_check *check, kt_term term)
{
    if (term >= check->term_cap) {
        size_t cap = (size_t)term * 2 + 64;
        check->terms = kt_realloc(check->terms, cap * sizeof(*check->terms));
        memset(check->terms + check->term_cap, 0, (cap - check->term_cap) * sizeof(*check->terms));
        check->term_cap = cap;
    }
    return &check->terms[term];
}

/* Check 3. */
static void leads_now(struct sim_node *node)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_check *check = &cluster->check;
    struct sim_books *books = books_of(node);
    struct sim_term *term = term_at(check, node->status.term);
    if (term->leader == node->id)
        return;
    if (term->leader != 0)
        sim_fail(&cluster->world, "two leaders in term %llu: nodes %llu and %llu",
                 (unsigned long long)node->status.term, (unsigned long long)term->leader, (unsigned long long)node->id);
    term->leader = node->id;
    cluster->counts.elections++;
    sim_note(&cluster->world, node->id, "leads", node->status.term, books->seen.last, check->commit_max);
    for (kt_index i = 1; i <= check->committed_count; i++) {
        const struct sim_committed *committed = &check->committed[i - 1];
        /* What was committed in a later term is no duty of one that hears late of its election in an earlier. */
        if (!committed->committed || committed->in_term >= node->status.term)
            continue;
        if (i > books->seen.last || !item_equal(books->seen.items[i - 1], committed->item)) {
            sim_fail(&cluster->world, "leader completeness: node %llu leads term %llu without the committed entry %llu",
                     (unsigned long long)node->id, (unsigned long long)node->status.term, (unsigned long long)i);
            return;
        }
    }
}

void sim_check_status(struct sim_node *node)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_check *check = &cluster->check;
    struct sim_books *books = books_of(node);
    const struct kt_replica_status *status = &node->status;
    struct sim_world *world = &cluster->world;
    unsigned long long id = node->id;
    if (status->term < books->term)
        sim_fail(world, "node %llu went back from term %llu to %llu", id, (unsigned long long)books->term,
                 (unsigned long long)status->term);
    books->term = status->term;
    /*
     * A follower's core may run ahead to what it has not stored yet, and it may take a commit index back when a late
     * heartbeat names an entry before it; neither matters, because what is handed to the applier is stored, and never
     * goes back. A leader's commit index is what its reads go by, stored or not.
     */
    kt_index commit = status->role == KT_LEADER ? status->commit : KT_MIN(status->commit, status->durable);
    if (commit != books->commit)
        sim_note(world, node->id, "commit", status->commit, status->durable, status->last);
    for (kt_index i = books->commit + 1; i <= commit && !world->failed; i++)
        committed_now(node, i);
    books->commit = KT_MAX(books->commit, commit);
    check->commit_max = KT_MAX(check->commit_max, commit);
    /* After a restart the state may be ahead of what the core knows to be committed. */
    if (status->applied > KT_MAX(books->commit, node->boot_applied))
        sim_fail(world, "node %llu applied %llu, committed is %llu", id, (unsigned long long)status->applied,
                 (unsigned long long)books->commit);
    if (status->last != books->seen.last)
        sim_fail(world, "node %llu says its log ends at %llu, it wrote %llu", id, (unsigned long long)status->last,
                 (unsigned long long)books->seen.last);
    kt_index durable = status->durable;
    if (!check->outside_only && durable >= 1 &&
        (durable > books->durable.last || log_term(&books->durable, durable) != log_term(&books->seen, durable)))
        sim_fail(world, "node %llu calls entry %llu of term %llu stored; its disk ends at %llu, there with term %llu",
                 id, (unsigned long long)durable, (unsigned long long)log_term(&books->seen, durable),
                 (unsigned long long)books->durable.last, (unsigned long long)log_term(&books->durable, durable));
    if (status->serving && status->role != KT_LEADER)
        sim_fail(world, "node %llu serves and does not lead", id);
    if (status->role == KT_LEADER)
        leads_now(node);
}

/* Check 6. */
static void effect_now(struct sim_node *node, struct sim_committed *committed, kt_index index)
{
    struct sim_check *check = &node->cluster->check;
    struct origin *origin = kt_map_get(&check->origins, kt_slice(&committed->origin, sizeof(committed->origin)));
    if (!origin) {
        origin = kt_zalloc(sizeof(*origin));
        kt_map_put(&check->origins, kt_slice(&committed->origin, sizeof(committed->origin)), origin);
    }
    if (committed->sequence <= origin->last && !check->outside_only)
        sim_fail(&node->cluster->world,
                 "exactly once, in order: at %llu request %llx/%llu takes effect after %llu of the same origin",
                 (unsigned long long)index, (unsigned long long)committed->origin,
                 (unsigned long long)committed->sequence, (unsigned long long)origin->last);
    origin->last = committed->sequence;
}

void sim_check_applied(struct sim_node *node, const struct kt_entry *entry, const struct kt_reply *reply,
                       struct kt_state_position position)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_books *books = books_of(node);
    struct sim_item item = {.term = entry->term, .hash = sim_entry_hash(entry)};
    kt_index index = entry->index;
    sim_note(&cluster->world, node->id, "apply", index, entry->term, position.hash);
    cluster->counts.applied++;
    if (index > books->commit || log_term(&books->seen, index) != entry->term)
        sim_fail(&cluster->world, "node %llu applies entry %llu of term %llu, committed is %llu, its log has term %llu",
                 (unsigned long long)node->id, (unsigned long long)index, (unsigned long long)entry->term,
                 (unsigned long long)books->commit, (unsigned long long)log_term(&books->seen, index));
    struct sim_committed *known = committed_at(&cluster->check, index);
    if ((known->committed || known->applied) && !item_equal(known->item, item)) {
        sim_fail(&cluster->world, "state machine safety: node %llu applies another entry at %llu",
                 (unsigned long long)node->id, (unsigned long long)index);
        return;
    }
    if (known->applied) {
        if (known->state_hash != position.hash)
            sim_fail(&cluster->world, "the state of node %llu differs after entry %llu", (unsigned long long)node->id,
                     (unsigned long long)index);
        return;
    }
    known->applied = true;
    known->item = item;
    known->state_hash = position.hash;
    struct kt_op op;
    if (entry->type != KT_ENTRY_COMMAND || kt_op_decode(entry->data, &op) != KT_OK)
        return;
    known->origin = op.origin;
    known->sequence = op.sequence;
    known->effect = reply->offset == index && reply->code != KT_STALE;
    if (known->effect && op.origin != 0)
        effect_now(node, known, index);
}

void sim_check_answered(struct sim_cluster *cluster, struct kt_slice bytes, const struct kt_reply *reply)
{
    struct sim_check *check = &cluster->check;
    struct kt_op op;
    if (kt_code_class(reply->code) != KT_FINE && reply->offset == 0)
        return;
    KT_CHECK(kt_op_decode(bytes, &op) == KT_OK);
    kt_index index = reply->offset;
    check->acked = KT_MAX(check->acked, index);
    if (index == 0 || index > check->committed_count || !check->committed[index - 1].applied) {
        sim_fail(&cluster->world, "a write was acknowledged at %llu, which nobody has applied",
                 (unsigned long long)index);
        return;
    }
    const struct sim_committed *known = &check->committed[index - 1];
    if (!check->outside_only && (known->origin != op.origin || known->sequence != op.sequence || !known->effect))
        sim_fail(&cluster->world, "request %llx/%llu was acknowledged at %llu, where the log has request %llx/%llu%s",
                 (unsigned long long)op.origin, (unsigned long long)op.sequence, (unsigned long long)index,
                 (unsigned long long)known->origin, (unsigned long long)known->sequence,
                 known->effect ? "" : " without effect");
}

void sim_check_read(struct sim_node *node, kt_index floor)
{
    kt_index visible = kt_state_visible(node->state);
    if (visible < floor && !node->cluster->check.outside_only)
        sim_fail(&node->cluster->world, "node %llu serves a read at %llu, %llu was acknowledged before it was asked",
                 (unsigned long long)node->id, (unsigned long long)visible, (unsigned long long)floor);
}

void sim_check_converged(struct sim_cluster *cluster)
{
    struct kt_state_position first = kt_state_applied(cluster->nodes[0].state);
    for (unsigned i = 1; i < cluster->options.nodes; i++) {
        struct kt_state_position other = kt_state_applied(cluster->nodes[i].state);
        if (other.index != first.index || other.hash != first.hash)
            sim_fail(&cluster->world, "at rest node %u stands at %llu with %016llx, node 1 at %llu with %016llx", i + 1,
                     (unsigned long long)other.index, (unsigned long long)other.hash, (unsigned long long)first.index,
                     (unsigned long long)first.hash);
    }
    if (first.index < cluster->check.commit_max)
        sim_fail(&cluster->world, "at rest the nodes stand at %llu, committed was %llu",
                 (unsigned long long)first.index, (unsigned long long)cluster->check.commit_max);
}
