#include "history.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "workload.h"

size_t sim_history_begin(struct sim_history *history, bool write, uint64_t value, sim_us now)
{
    if (history->count == history->cap) {
        history->cap = history->cap ? history->cap * 2 : 16;
        history->records = kt_realloc(history->records, history->cap * sizeof(*history->records));
    }
    history->records[history->count] = (struct sim_record){.write = write, .value = value, .invoked = now};
    return history->count++;
}

void sim_history_end(struct sim_history *history, size_t at, enum sim_outcome outcome, uint64_t value, sim_us now)
{
    struct sim_record *record = &history->records[at];
    KT_CHECK(record->outcome == SIM_PENDING && outcome != SIM_PENDING);
    record->outcome = outcome;
    record->value = value;
    record->returned = now;
}

static int by_return(const void *a, const void *b)
{
    const struct sim_record *x = *(const struct sim_record *const *)a, *y = *(const struct sim_record *const *)b;
    if (x->returned != y->returned)
        return x->returned < y->returned ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Reads that were answered, in the order in which they returned. */
static size_t reads_of(const struct sim_history *history, const struct sim_record ***out)
{
    size_t count = 0;
    const struct sim_record **reads = kt_alloc((history->count + 1) * sizeof(*reads));
    for (size_t i = 0; i < history->count; i++)
        if (!history->records[i].write && history->records[i].outcome == SIM_DONE)
            reads[count++] = &history->records[i];
    qsort(reads, count, sizeof(*reads), by_return);
    *out = reads;
    return count;
}

static bool owned_read_fits(const struct sim_history *history, const struct sim_record *read, char *why, size_t why_len)
{
    uint64_t floor = 0;
    bool known = read->value == 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_record *write = &history->records[i];
        if (!write->write)
            continue;
        if (write->outcome == SIM_DONE && write->returned < read->invoked)
            floor = KT_MAX(floor, write->value);
        if (write->value == read->value && write->invoked <= read->returned && write->outcome != SIM_NOT_DONE)
            known = true;
    }
    if (!known)
        snprintf(why, why_len, "register %s: a read at %llu us saw %llu, which was not written by then", history->name,
                 (unsigned long long)read->invoked, (unsigned long long)read->value);
    else if (read->value < floor)
        snprintf(why, why_len, "register %s: a read at %llu us saw %llu after %llu was acknowledged", history->name,
                 (unsigned long long)read->invoked, (unsigned long long)read->value, (unsigned long long)floor);
    return known && read->value >= floor;
}

static bool owned_check(const struct sim_history *history, char *why, size_t why_len)
{
    const struct sim_record **reads;
    size_t count = reads_of(history, &reads);
    bool well = true;
    for (size_t i = 0; i < count && well; i++) {
        well = owned_read_fits(history, reads[i], why, why_len);
        for (size_t k = 0; k < i && well && reads[k]->returned < reads[i]->invoked; k++) {
            if (reads[k]->value > reads[i]->value) {
                snprintf(why, why_len, "register %s: a read at %llu us saw %llu, one before it had seen %llu",
                         history->name, (unsigned long long)reads[i]->invoked, (unsigned long long)reads[i]->value,
                         (unsigned long long)reads[k]->value);
                well = false;
            }
        }
    }
    kt_free(reads);
    return well;
}

/* ---- Shared registers ---- */

/*
 * Every value is written once, so each read names its write. A value's zone lies between the first end and the last
 * start of the operations on it: forward if the end comes first (the register held the value from then until then at
 * least), backward otherwise. A history is linearizable just if no read ends before its write began, no two forward
 * zones overlap, and no backward zone lies inside a forward one (Gibbons and Korach, 1997).
 */
struct zone { /* times are one later than the records': 0 is before all */
    uint64_t value;
    sim_us start;     /* of the write */
    sim_us first_end; /* of any operation on the value */
    sim_us last_start;
    bool needed; /* the write took effect for certain: it was acknowledged, or read */
};

static bool is_forward(const struct zone *zone)
{
    return zone->first_end < zone->last_start;
}

static struct zone *zone_of(struct zone *zones, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++)
        if (zones[i].value == value)
            return &zones[i];
    return NULL;
}

static size_t zones_of_writes(const struct sim_history *history, struct zone *zones)
{
    size_t count = 0;
    /* What the register holds in the beginning was written before anything began. */
    zones[count++] = (struct zone){.needed = true};
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_record *write = &history->records[i];
        if (!write->write || write->outcome == SIM_NOT_DONE)
            continue;
        bool done = write->outcome == SIM_DONE;
        zones[count++] = (struct zone){.value = write->value,
                                       .start = write->invoked + 1,
                                       .first_end = done ? write->returned + 1 : UINT64_MAX,
                                       .last_start = write->invoked + 1,
                                       .needed = done};
    }
    return count;
}

static bool add_reads(const struct sim_history *history, struct zone *zones, size_t count, char *why, size_t why_len)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_record *read = &history->records[i];
        if (read->write || read->outcome != SIM_DONE)
            continue;
        struct zone *zone = zone_of(zones, count, read->value);
        if (!zone || zone->start > read->returned + 1) {
            snprintf(why, why_len, "register %s: a read at %llu us saw %llu, which was not written by then",
                     history->name, (unsigned long long)read->invoked, (unsigned long long)read->value);
            return false;
        }
        zone->first_end = KT_MIN(zone->first_end, read->returned + 1);
        zone->last_start = KT_MAX(zone->last_start, read->invoked + 1);
        zone->needed = true;
    }
    return true;
}

/* a is forward. */
static bool zones_fit(const struct zone *a, const struct zone *b)
{
    if (is_forward(b))
        return a->last_start <= b->first_end || b->last_start <= a->first_end;
    return b->last_start <= a->first_end || b->first_end >= a->last_start;
}

static bool shared_check(const struct sim_history *history, char *why, size_t why_len)
{
    struct zone *zones = kt_alloc((history->count + 1) * sizeof(*zones));
    size_t count = zones_of_writes(history, zones);
    bool well = add_reads(history, zones, count, why, why_len);
    for (size_t i = 0; i < count && well; i++) {
        for (size_t k = 0; k < count && well && zones[i].needed && is_forward(&zones[i]); k++) {
            well = k == i || !zones[k].needed || zones_fit(&zones[i], &zones[k]);
            if (!well)
                snprintf(why, why_len, "register %s: it held %llu from %llu to %llu us, but %llu came in between",
                         history->name, (unsigned long long)zones[i].value, (unsigned long long)zones[i].first_end,
                         (unsigned long long)zones[i].last_start, (unsigned long long)zones[k].value);
        }
    }
    kt_free(zones);
    return well;
}

/* ---- Counters ---- */

/* A step makes a count that nobody else made, above all counts made before it was asked for. */
static bool steps_check(const struct sim_history *history, char *why, size_t why_len)
{
    uint64_t made[SIM_RING / 64] = {0};
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_record *step = &history->records[i];
        if (!step->write || step->outcome != SIM_DONE)
            continue;
        if (made[step->value / 64] >> (step->value % 64) & 1) {
            snprintf(why, why_len, "counter %s: two steps made the count %llu", history->name,
                     (unsigned long long)step->value);
            return false;
        }
        made[step->value / 64] |= 1ull << (step->value % 64);
        for (size_t k = 0; k < i; k++) {
            const struct sim_record *earlier = &history->records[k];
            if (earlier->write && earlier->outcome == SIM_DONE && earlier->value > step->value) {
                snprintf(why, why_len, "counter %s: a step made %llu after one asked for before it had made %llu",
                         history->name, (unsigned long long)step->value, (unsigned long long)earlier->value);
                return false;
            }
        }
    }
    return true;
}

/* At any time a counter is between the steps that were acknowledged and those that were asked for. */
static bool counter_check(const struct sim_history *history, char *why, size_t why_len)
{
    if (!steps_check(history, why, why_len))
        return false;
    const struct sim_record **reads;
    size_t count = reads_of(history, &reads);
    bool well = true;
    for (size_t i = 0; i < count && well; i++) {
        uint64_t low = 0, high = 0;
        for (size_t k = 0; k < history->count; k++) {
            const struct sim_record *step = &history->records[k];
            if (!step->write || step->outcome == SIM_NOT_DONE || step->invoked > reads[i]->returned)
                continue;
            high++;
            if (step->outcome == SIM_DONE && step->returned < reads[i]->invoked)
                low++;
        }
        for (size_t k = 0; k < i && reads[k]->returned < reads[i]->invoked; k++)
            low = KT_MAX(low, reads[k]->value);
        if (reads[i]->value < low || reads[i]->value > high) {
            snprintf(why, why_len, "counter %s: a read at %llu us saw %llu, between %llu and %llu were possible",
                     history->name, (unsigned long long)reads[i]->invoked, (unsigned long long)reads[i]->value,
                     (unsigned long long)low, (unsigned long long)high);
            well = false;
        }
    }
    kt_free(reads);
    return well;
}

bool sim_history_check(const struct sim_history *history, char *why, size_t why_len)
{
    switch (history->kind) {
    case SIM_OWNED:
        return owned_check(history, why, why_len);
    case SIM_SHARED:
        return shared_check(history, why, why_len);
    case SIM_COUNTER:
        return counter_check(history, why, why_len);
    }
    return false;
}
