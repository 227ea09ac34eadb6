/* The virtual applier: cluster/node/applier.c without its thread, and the state file that may fall back. */
#include "node_internal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"

#define COMMIT_MS 5u /* the applier commits at least this often while it is busy */

static void applier_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct kt_apply_batch *batch = batch_take(&node->applied);
    sim_node_enter(node);
    kt_replica_applied(node->replica, batch);
    sim_node_turn(node);
}

static void visible_told(struct sim_event *event)
{
    struct sim_node *node = event->node;
    sim_node_enter(node);
    kt_replica_visible(node->replica, event->number);
    sim_node_turn(node);
}

static void save_copy(struct sim_node *node)
{
    FILE *file = fopen(node->path, "rb");
    KT_CHECK(file && fseek(file, 0, SEEK_END) == 0);
    size_t len = (size_t)ftell(file);
    node->saved = kt_realloc(node->saved, len);
    KT_CHECK(fseek(file, 0, SEEK_SET) == 0 && fread(node->saved, 1, len, file) == len);
    node->saved_len = len;
    fclose(file);
}

void sim_node_restore(struct sim_node *node)
{
    FILE *file = fopen(node->path, "wb");
    KT_CHECK(file && fwrite(node->saved, 1, node->saved_len, file) == node->saved_len);
    KT_CHECK(fclose(file) == 0);
}

static void applier_commit(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    if (kt_state_visible(node->state) == kt_state_applied(node->state).index)
        return;
    enum kt_code code = kt_state_commit(node->state);
    if (code != KT_OK) {
        sim_fail(world, "node %llu: committing the state failed: %s", id_of(node), kt_code_name(code));
        return;
    }
    node->committed_at = world->now;
    kt_index visible = kt_state_visible(node->state);
    sim_note(world, node->id, "visible", visible, 0, 0);
    if (sim_below(world, SIM_APPLY, 256) == 0)
        save_copy(node);
    sim_schedule(world, sim_below(world, SIM_APPLY, 60), node, visible_told, NULL)->number = visible;
}

static void commit_turn(struct sim_event *event)
{
    event->node->commit_due = false;
    applier_commit(event->node);
}

/* When to commit: a reader waits, or nothing is left to do, or it is time. */
static void applier_rest(struct sim_node *node)
{
    struct sim_world *world = world_of(node);
    kt_index applied = kt_state_applied(node->state).index, visible = kt_state_visible(node->state);
    if (applied == visible || node->commit_due)
        return;
    bool asked = node->wanted > visible && node->wanted <= applied;
    if (asked || world->now >= node->committed_at + SIM_MS(COMMIT_MS)) {
        applier_commit(node);
    } else if (!node->batches.first) {
        node->commit_due = true;
        sim_schedule(world, sim_below(world, SIM_APPLY, 3000), node, commit_turn, NULL);
    }
}

static bool apply_item(struct sim_node *node, struct kt_apply_item *item)
{
    struct kt_reply unwanted;
    struct kt_reply *reply = item->wanted ? &item->reply : &unwanted;
    struct kt_error error;
    struct kt_slice bytes = item->entry.type == KT_ENTRY_COMMAND ? item->entry.data : kt_slice(NULL, 0);
    struct kt_state_position before = kt_state_applied(node->state);
    uint8_t changed[256];
    if (item->entry.index != before.index + 1) {
        sim_fail(world_of(node), "node %llu is given entry %llu to apply, its state stands at %llu", id_of(node),
                 (unsigned long long)item->entry.index, (unsigned long long)before.index);
        return false;
    }
    if (node->cluster->options.plant == SIM_PLANT_DRIFT && node->number == 0 && bytes.len > 64 &&
        bytes.len <= sizeof(changed) && sim_below(world_of(node), SIM_APPLY, 50) == 0) {
        memcpy(changed, bytes.data, bytes.len);
        changed[bytes.len - 1] ^= 1;
        bytes.data = changed;
    }
    kt_reply_init(&unwanted);
    enum kt_code code = kt_state_apply(node->state, item->entry.index, item->entry.term, bytes, reply, &error);
    if (code != KT_OK)
        sim_fail(world_of(node), "node %llu cannot apply entry %llu: %s", id_of(node),
                 (unsigned long long)item->entry.index, error.text);
    else
        sim_check_applied(node, &item->entry, reply, kt_state_applied(node->state));
    kt_reply_release(&unwanted);
    return code == KT_OK && !world_of(node)->failed;
}

static void applier_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct sim_world *world = world_of(node);
    struct kt_apply_batch *batch = batch_take(&node->batches);
    bool well = true;
    for (size_t i = 0; i < batch->count && well; i++)
        well = apply_item(node, &batch->items[i]);
    queue_put(&node->applied, &batch->task);
    sim_schedule(world, sim_below(world, SIM_APPLY, 60), node, applier_told, NULL);
    node->applier_busy = false;
    if (!well)
        return;
    applier_rest(node);
    if (node->batches.first) {
        size_t next = KT_CONTAINER(node->batches.first, struct kt_apply_batch, task)->count;
        node->applier_busy = true;
        sim_schedule(world, node->apply_us * next, node, applier_turn, NULL);
    }
}

void sim_node_apply(void *data, struct kt_apply_batch *batch)
{
    struct sim_node *node = data;
    queue_put(&node->batches, &batch->task);
    if (!node->dying && !node->applier_busy) {
        node->applier_busy = true;
        sim_us latency = sim_between(world_of(node), SIM_APPLY, 2, 60) + node->apply_us * batch->count;
        sim_schedule(world_of(node), latency, node, applier_turn, NULL);
    }
}

static void wanted_turn(struct sim_event *event)
{
    struct sim_node *node = event->node;
    node->wanted = KT_MAX(node->wanted, event->number);
    applier_rest(node);
}

void sim_node_want(void *data, kt_index index)
{
    struct sim_node *node = data;
    if (!node->dying)
        sim_schedule(world_of(node), sim_below(world_of(node), SIM_APPLY, 40), node, wanted_turn, NULL)->number = index;
}
