#include "check.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "check_internal.h"
#include "engines/op.h"

/* Entries and time that a wrong state may go on for after a comparison, until word of it is there. */
#define HEARD_ENTRIES 400u
#define HEARD_MS      500u

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
    for (size_t i = 0; i < check->former_count; i++)
        kt_free(check->former[i].durable.items);
    kt_free(check->former);
    kt_free(check->committed);
    kt_free(check->terms);
    map_free(&check->entries);
    map_free(&check->origins);
}

uint64_t sim_entry_hash(const struct kt_entry *entry)
{
    return kt_hash64((uint64_t)entry->type, entry->data.data, entry->data.len);
}

void check_log_put(struct sim_log *log, kt_index index, struct sim_item item)
{
    KT_CHECK(index >= 1 && index <= log->last + 1);
    if (index > log->cap) {
        log->cap = log->cap ? log->cap * 2 : 256;
        log->items = kt_realloc(log->items, log->cap * sizeof(*log->items));
    }
    log->items[index - 1] = item;
    log->last = index;
}

void check_log_copy(struct sim_log *to, const struct sim_log *from)
{
    to->last = 0;
    for (kt_index i = 1; i <= from->last; i++)
        check_log_put(to, i, from->items[i - 1]);
}

/* 0 if it is not there. */
kt_term check_log_term(const struct sim_log *log, kt_index index)
{
    return index >= 1 && index <= log->last ? log->items[index - 1].term : 0;
}

struct sim_books *check_books_of(struct sim_node *node)
{
    return &node->cluster->check.books[node->number];
}

/* Check 1. */
void check_entry_known(struct sim_node *node, const struct kt_entry *entry, uint64_t hash)
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
    struct sim_books *books = check_books_of(node);
    struct sim_world *world = &node->cluster->world;
    if (books->pending_count + count > books->pending_cap) {
        books->pending_cap = (books->pending_count + count) * 2;
        books->pending = kt_realloc(books->pending, books->pending_cap * sizeof(*books->pending));
    }
    for (size_t i = 0; i < count; i++) {
        const struct kt_entry *entry = &entries[i];
        struct sim_item item = {.term = entry->term, .hash = sim_entry_hash(entry)};
        sim_note(world, node->id, entry->type == KT_ENTRY_CHANGE ? "entry: members" : "entry", entry->index,
                 entry->term, item.hash);
        if (entry->index < 1 || entry->index > books->seen.last + 1) {
            sim_fail(world, "node %llu appends entry %llu behind %llu", (unsigned long long)node->id,
                     (unsigned long long)entry->index, (unsigned long long)books->seen.last);
            return;
        }
        if (entry->index <= books->commit && check_log_term(&books->seen, entry->index) != entry->term)
            sim_fail(world, "node %llu replaces entry %llu, which it called committed", (unsigned long long)node->id,
                     (unsigned long long)entry->index);
        check_entry_known(node, entry, item.hash);
        if (entry->index <= books->seen.last) {
            node->cluster->counts.replacements++;
            node->cluster->counts.replaced += books->seen.last - entry->index + 1;
            if (books->pending_count > 0 && books->pending[books->pending_count - 1].index >= entry->index)
                node->cluster->counts.replaced_under_way++;
        }
        check_log_put(&books->seen, entry->index, item);
        books->pending[books->pending_count++] = (struct sim_pending){.index = entry->index, .item = item};
    }
}

void sim_check_appended(struct sim_node *node, size_t count)
{
    struct sim_books *books = check_books_of(node);
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
    struct sim_books *books = check_books_of(node);
    size_t done = 0;
    while (done < books->pending_count && books->pending[done].appended) {
        check_log_put(&books->durable, books->pending[done].index, books->pending[done].item);
        done++;
    }
    books->stored |= done > 0;
    books->pending_count -= done;
    if (books->pending_count > 0)
        memmove(books->pending, books->pending + done, books->pending_count * sizeof(*books->pending));
}

void sim_check_voting(struct sim_node *node, kt_term term, kt_node_id vote)
{
    struct sim_books *books = check_books_of(node);
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
    struct sim_books *books = check_books_of(node);
    KT_CHECK(books->voting_term == term && books->voting == vote);
    books->voted_term = term;
    books->vote = vote;
    books->voting_term = 0;
    books->stored = true;
}

bool check_item_equal(struct sim_item a, struct sim_item b)
{
    return a.term == b.term && a.hash == b.hash;
}

struct sim_committed *check_committed_at(struct sim_check *check, kt_index index)
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

/* ---- Running ---- */

/* Disks of the voters that a node knows of, which hold or held the entry. */
static bool on_majority(const struct sim_cluster *cluster, const struct sim_node *view, kt_index index,
                        struct sim_item item, unsigned *holders)
{
    const struct sim_check *check = &cluster->check;
    unsigned voters = 0;
    *holders = 0;
    for (size_t k = 0; k < view->status.peer_count; k++) {
        const struct kt_peer_status *peer = &view->status.peers[k];
        const struct sim_log *durable = NULL;
        if (!peer->voter)
            continue;
        voters++;
        if (check->books[peer->id - 1].member == peer->member)
            durable = &check->books[peer->id - 1].durable;
        for (size_t i = 0; i < check->former_count && !durable; i++)
            if (check->former[i].member == peer->member)
                durable = &check->former[i].durable;
        if (durable && durable->last >= index && check_item_equal(durable->items[index - 1], item))
            ++*holders;
    }
    return *holders * 2 > voters;
}

/* Checks 3 and 4 at the moment a node calls one more entry committed. */
static void committed_now(struct sim_node *node, kt_index index)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_check *check = &cluster->check;
    const struct sim_books *books = check_books_of(node);
    if (index > books->seen.last) {
        sim_fail(&cluster->world, "node %llu calls entry %llu committed, its log ends at %llu",
                 (unsigned long long)node->id, (unsigned long long)index, (unsigned long long)books->seen.last);
        return;
    }
    struct sim_item item = books->seen.items[index - 1];
    struct sim_committed *known = check_committed_at(check, index);
    if (known->committed || known->applied) {
        if (!check_item_equal(known->item, item))
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
    unsigned holders, others;
    bool well = on_majority(cluster, node, index, item, &holders);
    /* Whoever called it committed first may have known other members than this node does. */
    for (unsigned i = 0; i < cluster->options.nodes && !well; i++)
        well = on_majority(cluster, &cluster->nodes[i], index, item, &others);
    /* The founding entry is committed by being made. */
    if (!check->outside_only && !well && index > 1)
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
    struct sim_books *books = check_books_of(node);
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
        if (i > books->seen.last || !check_item_equal(books->seen.items[i - 1], committed->item)) {
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
    struct sim_books *books = check_books_of(node);
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
        (durable > books->durable.last ||
         check_log_term(&books->durable, durable) != check_log_term(&books->seen, durable)))
        sim_fail(world, "node %llu calls entry %llu of term %llu stored; its disk ends at %llu, there with term %llu",
                 id, (unsigned long long)durable, (unsigned long long)check_log_term(&books->seen, durable),
                 (unsigned long long)books->durable.last, (unsigned long long)check_log_term(&books->durable, durable));
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

/* Checks 5 and 10. */
static void state_hashed(struct sim_node *node, struct sim_committed *known, kt_index index, uint64_t hash)
{
    struct sim_world *world = &node->cluster->world;
    if (known->hashed && known->state_hash != hash && node->harm != SIM_ALTERED)
        sim_fail(world, "the state of node %llu differs after entry %llu", (unsigned long long)node->id,
                 (unsigned long long)index);
    if (node->harm == SIM_ALTERED) {
        known->altered = node;
        known->altered_hash = hash;
    } else {
        known->hashed = true;
        known->state_hash = hash;
    }
    struct sim_node *altered = known->altered;
    if (altered && known->hashed && known->state_hash != known->altered_hash && altered->harm == SIM_ALTERED &&
        altered->diverged_at == 0) {
        altered->diverged_at = index;
        sim_note(world, altered->id, "diverged", index, 0, 0);
    }
}

/* No connection was lost since, and all are there now. */
static bool calm_since(const struct sim_cluster *cluster, uint64_t breaks)
{
    const struct sim_network *network = &cluster->network;
    for (unsigned a = 0; a < cluster->options.nodes; a++)
        for (unsigned b = 0; b < cluster->options.nodes; b++)
            if (a != b && (network->ends[a][b].connection == 0 || network->ways[a][b].blocked))
                return false;
    return network->breaks == breaks;
}

/*
 * Check 10: a comparison that all nodes take part in, undisturbed, tells a node whose state was wrong by then. It has
 * some entries more until it has heard of it.
 */
static void found_out(struct sim_node *node, kt_index index)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_committed *known = check_committed_at(&cluster->check, index);
    if (index % KT_CHECK_ENTRIES == 0) {
        if (known->appliers == 0) {
            known->breaks = cluster->network.breaks;
            known->fair_first = calm_since(cluster, known->breaks);
        }
        known->appliers |= 1u << node->number;
        known->fair = known->fair_first && calm_since(cluster, known->breaks);
        known->last_at = cluster->world.now;
    }
    if (node->diverged_at == 0 || node->condemned || index < node->diverged_at + KT_CHECK_ENTRIES + HEARD_ENTRIES)
        return;
    kt_index compared = (index - HEARD_ENTRIES) / KT_CHECK_ENTRIES * KT_CHECK_ENTRIES;
    known = check_committed_at(&cluster->check, compared);
    if (compared >= node->diverged_at && known->fair && cluster->world.now > known->last_at + SIM_MS(HEARD_MS) &&
        known->appliers == (1u << cluster->options.nodes) - 1 && calm_since(cluster, known->breaks))
        sim_fail(&cluster->world, "the state of node %llu is wrong since entry %llu, and nobody has noticed at %llu",
                 (unsigned long long)node->id, (unsigned long long)node->diverged_at, (unsigned long long)index);
}

void sim_check_applied(struct sim_node *node, const struct kt_entry *entry, const struct kt_reply *reply,
                       struct kt_state_position position)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_books *books = check_books_of(node);
    struct sim_item item = {.term = entry->term, .hash = sim_entry_hash(entry)};
    kt_index index = entry->index;
    sim_note(&cluster->world, node->id, "apply", index, entry->term, position.hash);
    cluster->counts.applied++;
    if (index > books->commit || check_log_term(&books->seen, index) != entry->term)
        sim_fail(&cluster->world, "node %llu applies entry %llu of term %llu, committed is %llu, its log has term %llu",
                 (unsigned long long)node->id, (unsigned long long)index, (unsigned long long)entry->term,
                 (unsigned long long)books->commit, (unsigned long long)check_log_term(&books->seen, index));
    struct sim_committed *known = check_committed_at(&cluster->check, index);
    if ((known->committed || known->applied) && !check_item_equal(known->item, item)) {
        sim_fail(&cluster->world, "state machine safety: node %llu applies another entry at %llu",
                 (unsigned long long)node->id, (unsigned long long)index);
        return;
    }
    bool applied = known->applied;
    known->applied = true;
    known->item = item;
    state_hashed(node, known, index, position.hash);
    found_out(node, index);
    known = check_committed_at(&cluster->check, index);
    if (applied)
        return;
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
