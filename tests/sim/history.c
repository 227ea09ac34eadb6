#include "history.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/map.h"
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

struct search {
    const struct sim_record *records[64];
    unsigned count;
    uint64_t must;      /* those that certainly took effect */
    struct kt_map seen; /* (set of done, value) that lead nowhere */
};

static bool search_from(struct search *search, uint64_t done, uint64_t value)
{
    if ((search->must & ~done) == 0)
        return true;
    uint64_t key[2] = {done, value};
    if (kt_map_get(&search->seen, kt_slice(key, sizeof(key))))
        return false;
    /* The next one to take effect was invoked before all that are left returned. */
    sim_us first_return = UINT64_MAX;
    for (unsigned i = 0; i < search->count; i++)
        if ((search->must & ~done) >> i & 1)
            first_return = KT_MIN(first_return, search->records[i]->returned);
    for (unsigned i = 0; i < search->count; i++) {
        const struct sim_record *record = search->records[i];
        if (done >> i & 1 || record->invoked > first_return)
            continue;
        if (!record->write && record->value != value)
            continue;
        if (search_from(search, done | 1ull << i, record->write ? record->value : value))
            return true;
    }
    kt_map_put(&search->seen, kt_slice(key, sizeof(key)), search);
    return false;
}

static bool shared_check(const struct sim_history *history, char *why, size_t why_len)
{
    struct search search = {0};
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_record *record = &history->records[i];
        if (record->outcome == SIM_NOT_DONE || (!record->write && record->outcome != SIM_DONE))
            continue;
        KT_CHECK(search.count < KT_COUNT(search.records));
        if (record->outcome == SIM_DONE)
            search.must |= 1ull << search.count;
        search.records[search.count++] = record;
    }
    kt_map_init(&search.seen);
    bool well = search_from(&search, 0, 0);
    kt_map_release(&search.seen);
    if (!well)
        snprintf(why, why_len, "register %s: no order of its %u operations explains what was read", history->name,
                 search.count);
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
