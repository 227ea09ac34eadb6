/*
 * The log as the replica sees it: the window of entries in memory, what is on its way to the disk, and what goes to the
 * applier. Entries are applied only once they are durable here as well as committed, so that the state of a node is
 * never ahead of its log.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "cluster/node/replica_internal.h"

#define WINDOW_SLOTS_MIN 1024u

static struct window_slot *slot(const struct window *window, kt_index index)
{
    return &window->slots[index & (window->cap - 1)];
}

const struct kt_entry *replica_entry(const struct kt_replica *replica, kt_index index)
{
    const struct window *window = &replica->window;
    return index >= window->first && index < window->next ? &slot(window, index)->entry : NULL;
}

static void forget_first(struct window *window)
{
    struct window_slot *old = slot(window, window->first);
    window->bytes -= old->entry.data.len;
    kt_chunk_drop(old->entry.chunk);
    window->first++;
}

static void truncate_window(struct window *window, kt_index from)
{
    while (window->next > from && window->next > window->first) {
        struct window_slot *old = slot(window, window->next - 1);
        window->bytes -= old->entry.data.len;
        kt_chunk_drop(old->entry.chunk);
        window->next--;
    }
    if (window->next > from)
        window->first = window->next = from;
}

static void grow(struct window *window)
{
    size_t cap = window->cap ? window->cap * 2 : WINDOW_SLOTS_MIN;
    struct window_slot *slots = kt_alloc(cap * sizeof *slots);

    for (kt_index index = window->first; index < window->next; index++)
        slots[index & (cap - 1)] = *slot(window, index);
    kt_free(window->slots);
    window->slots = slots;
    window->cap = cap;
}

/* Keeps what is not durable, what the applier has not been given, and as much more as the ceiling allows. */
static void trim_window(struct kt_replica *replica)
{
    struct window *window = &replica->window;
    while (window->bytes > REPLICA_WINDOW_BYTES && window->first < window->next &&
           window->first <= replica->raft.last_stored)
        forget_first(window);
}

static void append_window(struct kt_replica *replica, const struct kt_entry *entry, uint64_t write)
{
    struct window *window = &replica->window;

    KT_CHECK(entry->index == window->next);
    if (window->next - window->first == window->cap)
        grow(window);
    if (entry->chunk != NULL)
        kt_chunk_acquire(entry->chunk);
    *slot(window, entry->index) = (struct window_slot){.entry = *entry, .write = write};
    window->bytes += entry->data.len;
    window->next++;
}

/* An entry that the core made itself: its no-op at the beginning of a term. */
static struct kt_entry entry_of_core(kt_index index, const struct raft_entry *entry)
{
    struct kt_entry mine = {.index = index, .term = entry->term, .type = (enum kt_entry_type)entry->type};
    return mine;
}

void replica_persist(struct kt_replica *replica, const struct raft_update *update)
{
    bool has_entries = update->flags & RAFT_UPDATE_ENTRIES;
    unsigned count = has_entries ? update->entries.n : 0;
    struct log_write *write = kt_zalloc(sizeof *write + count * sizeof write->entries[0]);

    write->number = ++replica->write_number;
    if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        write->write.votes = true;
        write->write.term = replica->raft.current_term;
        write->write.vote = replica->raft.voted_for;
        replica->votes_issued++;
    }
    if (has_entries) {
        truncate_window(&replica->window, update->entries.index);
        for (unsigned i = 0; i < count; i++) {
            kt_index index = update->entries.index + i;
            struct kt_entry entry;
            if (update->entries.batch == &replica->raft.barrier)
                entry = entry_of_core(index, &update->entries.batch[i]);
            else
                entry = replica->incoming[index - replica->incoming_first];
            KT_CHECK(entry.index == index && entry.term == update->entries.batch[i].term);
            append_window(replica, &entry, write->number);
            if (entry.chunk != NULL)
                kt_chunk_acquire(entry.chunk);
            write->entries[i] = entry;
        }
        raft_free(update->entries.batch[0].batch);
    }
    write->write.entries = write->entries;
    write->write.count = count;
    replica->host.persist(replica->host.data, &write->write);
    trim_window(replica);
}

/* ---- To the applier ---- */

static void fetch_for_apply(struct kt_replica *replica, kt_index last)
{
    struct stream_fetch *fetch = kt_zalloc(sizeof *fetch);

    fetch->for_apply = true;
    fetch->read.first = replica->handed + 1;
    fetch->read.last = last;
    fetch->read.bytes = REPLICA_APPLY_BYTES;
    replica->apply_fetching = true;
    replica->host.fetch(replica->host.data, &fetch->read);
}

static void add_item(struct kt_replica *replica, struct kt_apply_batch *batch, const struct kt_entry *entry)
{
    struct kt_apply_item *item = &batch->items[batch->count++];

    item->entry = *entry;
    if (entry->chunk != NULL)
        kt_chunk_acquire(entry->chunk);
    item->wanted = replica_ticket_wanted(replica, entry->index);
    kt_reply_init(&item->reply);
    batch->bytes += entry->data.len;
    replica->handed = entry->index;
}

static struct kt_apply_batch *new_batch(size_t count)
{
    struct kt_apply_batch *batch = kt_zalloc(sizeof *batch);
    batch->items = kt_alloc(count * sizeof *batch->items);
    return batch;
}

/* The core learns that a configuration is committed; entry 1 it knows by itself. */
static void tell_configurations(struct kt_replica *replica, const struct kt_apply_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct kt_entry *entry = &batch->items[i].entry;
        struct raft_event event = {.type = RAFT_CONFIGURATION};
        struct raft_buffer bytes = {.base = (void *)(uintptr_t)entry->data.data, .len = entry->data.len};
        if (entry->type != KT_ENTRY_CHANGE || entry->index == 1)
            continue;
        if (raft_configuration_decode(&bytes, &event.configuration.conf) != 0) {
            replica_fatal(replica, KT_CORRUPT, "entry %llu is no configuration", (unsigned long long)entry->index);
            return;
        }
        event.configuration.index = entry->index;
        if (replica_step(replica, &event) != 0)
            return;
    }
}

static void give(struct kt_replica *replica, struct kt_apply_batch *batch)
{
    replica->batches++;
    tell_configurations(replica, batch);
    replica->host.apply(replica->host.data, batch);
}

void replica_hand_over(struct kt_replica *replica)
{
    while (!replica->apply_fetching && replica->batches < REPLICA_APPLY_BATCHES) {
        kt_index last = KT_MIN(replica->raft.commit_index, replica->raft.last_stored);
        struct kt_apply_batch *batch;
        const struct kt_entry *entry;
        size_t count;

        if (replica->handed >= last)
            return;
        if (replica_entry(replica, replica->handed + 1) == NULL) {
            fetch_for_apply(replica, last);
            return;
        }
        count = (size_t)KT_MIN(last - replica->handed, REPLICA_APPLY_ENTRIES);
        batch = new_batch(count);
        while (batch->count < count && batch->bytes < REPLICA_APPLY_BYTES) {
            entry = replica_entry(replica, replica->handed + 1);
            add_item(replica, batch, entry);
        }
        give(replica, batch);
    }
}

void replica_apply_fetched(struct kt_replica *replica, struct stream_fetch *fetch)
{
    struct kt_apply_batch *batch;

    replica->apply_fetching = false;
    if (replica->dead || fetch->read.code != KT_OK || fetch->read.count == 0)
        return;
    KT_CHECK(fetch->read.entries[0].index == replica->handed + 1);
    batch = new_batch(fetch->read.count);
    for (size_t i = 0; i < fetch->read.count; i++)
        add_item(replica, batch, &fetch->read.entries[i]);
    give(replica, batch);
}

void replica_log_release(struct kt_replica *replica)
{
    while (replica->window.first < replica->window.next)
        forget_first(&replica->window);
    kt_free(replica->window.slots);
}
