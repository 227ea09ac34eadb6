#include "world.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "node.h"

void sim_world_init(struct sim_world *world, uint64_t seed, bool trace)
{
    memset(world, 0, sizeof(*world));
    world->seed = seed;
    world->trace = trace;
    for (size_t i = 0; i < SIM_CONCERNS; i++)
        kt_random_seed(&world->random[i], seed * 0x9e3779b97f4a7c15u + i * 0xd1b54a32d192ed03u + 1);
}

static void event_drop(struct sim_event *event)
{
    if (event->drop)
        event->drop(event);
    kt_free(event);
}

void sim_world_release(struct sim_world *world)
{
    /* A dropped event may tell a client, which may schedule another one: the queue is emptied, not walked. */
    while (world->count > 0)
        event_drop(world->heap[--world->count]);
    kt_free(world->heap);
    world->heap = NULL;
    world->cap = 0;
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_put(struct sim_world *world, struct sim_event *event)
{
    if (world->count == world->cap) {
        world->cap = world->cap ? world->cap * 2 : 256;
        world->heap = kt_realloc(world->heap, world->cap * sizeof(*world->heap));
    }
    size_t at = world->count++;
    while (at > 0 && before(event, world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = event;
}

static struct sim_event *heap_take(struct sim_world *world)
{
    struct sim_event *first = world->heap[0], *last = world->heap[--world->count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= world->count)
            break;
        if (child + 1 < world->count && before(world->heap[child + 1], world->heap[child]))
            child++;
        if (!before(world->heap[child], last))
            break;
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    return first;
}

struct sim_event *sim_schedule(struct sim_world *world, sim_us delay, struct sim_node *node,
                               void (*run)(struct sim_event *event), void *data)
{
    struct sim_event *event = kt_zalloc(sizeof(*event));
    event->at = world->now + delay;
    event->order = ++world->order;
    event->node = node;
    event->life = node ? node->life : 0;
    event->run = run;
    event->data = data;
    heap_put(world, event);
    return event;
}

bool sim_step(struct sim_world *world, sim_us end)
{
    if (world->failed)
        return false;
    if (world->count == 0 || world->heap[0]->at > end) {
        world->now = end;
        return false;
    }
    struct sim_event *event = heap_take(world);
    KT_CHECK(event->at >= world->now);
    world->now = event->at;
    struct sim_node *node = event->node;
    if (node && node->life != event->life) {
        event_drop(event);
        return true;
    }
    if (node && node->paused_until > world->now) {
        /* Keeps its order among those that wait for the same end. */
        event->at = node->paused_until;
        heap_put(world, event);
        return true;
    }
    world->steps++;
    event->run(event);
    kt_free(event);
    return !world->failed;
}

uint64_t sim_below(struct sim_world *world, enum sim_concern concern, uint64_t bound)
{
    return bound ? kt_random_below(&world->random[concern], bound) : 0;
}

uint64_t sim_between(struct sim_world *world, enum sim_concern concern, uint64_t low, uint64_t high)
{
    return low + sim_below(world, concern, high - low + 1);
}

bool sim_chance(struct sim_world *world, enum sim_concern concern, unsigned percent)
{
    return sim_below(world, concern, 100) < percent;
}

sim_us sim_latency(struct sim_world *world, enum sim_concern concern, sim_us low, sim_us high)
{
    sim_us span = high - low;
    unsigned shift = (unsigned)sim_below(world, concern, 6);
    return low + sim_below(world, concern, (span >> shift) + 1);
}

/* Not against anybody's intent, only to tell runs apart: so it may be quick. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint64_t mix_text(uint64_t hash, const char *text)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, text + at, KT_MIN(8, len - at));
        hash = mix(hash, word);
    }
    return mix(hash, len);
}

void sim_note(struct sim_world *world, kt_node_id node, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t hash = mix_text(mix(mix(world->trace_hash, world->now), node), what);
    world->trace_hash = mix(mix(mix(hash, a), b), c);
    if (world->trace)
        printf("%4u.%06u  %c  %-22s %llu %llu %llu\n", (unsigned)(world->now / 1000000),
               (unsigned)(world->now % 1000000), node ? (int)('0' + node) : '-', what, (unsigned long long)a,
               (unsigned long long)b, (unsigned long long)c);
}

void sim_note_text(struct sim_world *world, kt_node_id node, const char *text)
{
    world->trace_hash = mix_text(mix(mix(world->trace_hash, world->now), node), text);
    if (world->trace)
        printf("%4u.%06u  %c  # %s\n", (unsigned)(world->now / 1000000), (unsigned)(world->now % 1000000),
               node ? (int)('0' + node) : '-', text);
}

void sim_fail(struct sim_world *world, const char *format, ...)
{
    if (world->failed)
        return;
    world->failed = true;
    int n = snprintf(world->failure, sizeof(world->failure), "at %u.%06u s: ", (unsigned)(world->now / 1000000),
                     (unsigned)(world->now % 1000000));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->failure + n, sizeof(world->failure) - (size_t)n, format, arguments);
    va_end(arguments);
    sim_note_text(world, 0, world->failure);
}
