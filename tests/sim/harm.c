/*
 * Damage at rest, done to a node's data on purpose. At most one node is harmed at a time, and the others are whole:
 * more than a cluster of its size can stand is not asked of it (faults.c sees to that).
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster.h"
#include "store/store.h"
#include "workload.h"

static struct sim_world *world_of(const struct sim_node *node)
{
    return &node->cluster->world;
}

void sim_harm_wipe(struct sim_node *node)
{
    sim_note(world_of(node), node->id, "wiped", 0, 0, 0);
    if (node->up)
        sim_faults_crash(node, true);
    sim_folder_wipe(node->folder);
    node->harm = SIM_WIPED;
    node->gone = true;
    node->adopting = false;
    node->cluster->counts.wipes++;
}

/* Where the records of a segment end: behind them are zeros. */
static uint64_t end_of(struct kt_memory_disk *log, const char *name)
{
    const uint8_t *bytes = kt_memory_disk_bytes(log, name);
    int64_t end = kt_memory_disk_size(log, name);
    while (end > 0 && bytes[end - 1] == 0)
        end--;
    return (uint64_t)end;
}

/*
 * Bytes of a file in which damage is certain to be told from a torn end. What was written last has nothing behind it
 * that says it was synced: the log cannot know, and does not promise to.
 */
static uint64_t known_bytes(struct sim_node *node, struct kt_memory_disk *log, const char *name)
{
    const char *other;
    uint64_t recent = node->recent_bytes + node->group_bytes + 64;
    if (strstr(name, ".seg") == NULL)
        return strcmp(name, "vote") == 0 ? (uint64_t)kt_memory_disk_size(log, name) : 0;
    uint64_t end = end_of(log, name);
    for (size_t i = 0; (other = kt_memory_disk_name(log, i)) != NULL; i++)
        if (strstr(other, ".seg") && strcmp(other, name) > 0)
            return end;
    return end > recent ? end - recent : 0;
}

bool sim_harm_flip(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    struct kt_memory_disk *log = sim_folder_log(node->folder);
    char chosen[64] = "";
    uint64_t known = 0;
    unsigned seen = 0;
    if (!log || !node->up)
        return false;
    for (size_t i = 0; kt_memory_disk_name(log, i); i++) {
        char name[64];
        snprintf(name, sizeof(name), "%s", kt_memory_disk_name(log, i));
        uint64_t bytes = known_bytes(node, log, name);
        /* The vote is a small part of what is there, and an interesting one. */
        if (bytes == 0 || sim_below(world, SIM_FAULTS, ++seen) > 0)
            continue;
        snprintf(chosen, sizeof(chosen), "%s", name);
        known = bytes;
    }
    if (known == 0)
        return false;
    uint64_t offset = sim_below(world, SIM_FAULTS, known);
    unsigned bit = (unsigned)sim_below(world, SIM_FAULTS, 8);
    KT_CHECK(kt_memory_disk_flip(log, chosen, offset, bit));
    sim_note_text(world, node->id, chosen);
    sim_note(world, node->id, "flipped", offset, bit, known);
    node->harm = SIM_FLIPPED;
    node->cluster->counts.flips++;
    return true;
}

/* Finds the record of the counter that only damage is done to. */
static bool find_canary(struct sim_node *node, struct kt_txn *txn, struct kt_slice *key, struct kt_slice *value)
{
    struct kt_cursor *cursor;
    if (kt_cursor_open(txn, node->instances, &cursor) != KT_OK)
        return false;
    enum kt_code code = kt_cursor_seek(cursor, kt_slice(NULL, 0), key, value);
    while (code == KT_OK && !memmem(key->data, key->len, SIM_CANARY_NAME, strlen(SIM_CANARY_NAME)))
        code = kt_cursor_next(cursor, key, value);
    kt_cursor_close(cursor);
    return code == KT_OK;
}

/* A bit of the mark in the record: what the engine writes from it later differs from what others write. */
bool sim_harm_alter(struct sim_node *node)
{
    struct kt_slice key, value;
    struct kt_txn *txn;
    uint8_t copy[512], name[128];
    if (!sim_node_runs(node))
        return false;
    sim_host_commit(node);
    KT_CHECK(kt_txn_begin_write(kt_state_store(node->state), &txn) == KT_OK);
    if (!find_canary(node, txn, &key, &value)) {
        kt_txn_abort(txn);
        return false;
    }
    KT_CHECK(value.len <= sizeof(copy) && key.len <= sizeof(name));
    memcpy(copy, value.data, value.len);
    memcpy(name, key.data, key.len);
    uint8_t *mark = memmem(copy, value.len, SIM_MARK, strlen(SIM_MARK));
    KT_CHECK(mark);
    mark[sim_below(world_of(node), SIM_FAULTS, strlen(SIM_MARK))] ^= 1;
    KT_CHECK(kt_txn_put(txn, node->instances, kt_slice(name, key.len), kt_slice(copy, value.len)) == KT_OK);
    KT_CHECK(kt_txn_commit(txn) == KT_OK);
    sim_note(world_of(node), node->id, "altered", kt_state_applied(node->state).index, 0, 0);
    node->harm = SIM_ALTERED;
    node->cluster->counts.alterations++;
    return true;
}
