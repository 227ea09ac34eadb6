/*
 * Power failures at every point. What was acknowledged must be there after each; what was not may be there as a prefix
 * of what was written, record by record; nothing else. A crash alone is never mistaken for damage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"
#include "support/memory_disk.h"
#include "support/wal_model.h"

#define SEGMENT     (64u << 10)
#define PENDING_MAX 4096

/* One record on its way: an entry, or the cut before it. */
struct pending {
    bool cut;
    kt_index index;
    struct kt_model_entry entry;
};

struct run {
    uint64_t seed;
    struct kt_random random;
    struct kt_memory_disk *memory;
    struct kt_wal *wal;
    struct kt_wal_model model;   /* as appended */
    struct kt_wal_model durable; /* as of the last sync */
    struct pending pending[PENDING_MAX];
    size_t pending_count;
    kt_term term;                    /* the highest ever used */
    kt_index trimmed;                /* the highest index that a trim was asked for */
    struct wal_vote vote, next_vote; /* acknowledged, and tried */
    uint64_t crashes, torn, lost, kept;
};

static uint64_t below(struct run *run, uint64_t bound)
{
    return kt_random_below(&run->random, bound);
}

static enum kt_code open_wal(struct run *run, struct kt_wal_found *found, struct kt_error *error)
{
    struct kt_wal_options options = {
        .disk = kt_memory_disk_disk(run->memory), .segment_bytes = SEGMENT, .seed = run->seed + 1};

    return kt_wal_open(&options, &run->wal, found, error);
}

static void synced(struct run *run)
{
    run->durable = run->model;
    run->pending_count = 0;
}

static void note(struct run *run, bool cut, kt_index index, struct kt_model_entry entry)
{
    assert_true(run->pending_count < PENDING_MAX);
    run->term = KT_MAX(run->term, entry.term);
    run->pending[run->pending_count++] = (struct pending){.cut = cut, .index = index, .entry = entry};
}

static uint32_t choose_len(struct run *run)
{
    switch (below(run, 12)) {
    case 0:
        return (uint32_t)below(run, 3) * 8;
    case 1:
        return (uint32_t)(4000 + below(run, 400));
    case 2:
        return (uint32_t)below(run, 30000);
    case 3:
        return below(run, 8) == 0 ? (uint32_t)(SEGMENT + below(run, SEGMENT)) : 700;
    default:
        return (uint32_t)below(run, 600);
    }
}

static bool do_append(struct run *run)
{
    kt_index first = kt_wal_first(run->wal);
    kt_index index = run->model.last + 1;
    kt_term term = run->term;
    uint32_t len = choose_len(run);
    size_t count = 1 + below(run, len > 4000 ? 4 : 30);

    /* Going back always comes with a new term: that is Raft's promise. */
    if (below(run, 5) == 0 && index > first) {
        uint64_t back = below(run, 3) ? 5 : 200;

        index -= 1 + below(run, KT_MIN(index - first, back));
        term++;
    } else if (below(run, 20) == 0) {
        term++;
    }
    if (index + count > KT_MODEL_ENTRIES_MAX)
        return true;
    if (index <= run->model.last)
        note(run, true, index - 1, (struct kt_model_entry){0});
    for (size_t i = 0; i < count; i++)
        note(run, false, index + i, (struct kt_model_entry){.term = term, .len = len});
    return kt_wal_model_append(&run->model, run->wal, index, count, term, len) == KT_OK;
}

static bool do_vote(struct run *run)
{
    run->next_vote.term = run->vote.term + below(run, 3);
    run->next_vote.vote = below(run, 4);
    if (kt_wal_vote(run->wal, run->next_vote.term, run->next_vote.vote) != KT_OK)
        return false;
    run->vote = run->next_vote;
    return true;
}

/* Anywhere: entries may be applied, and their state durable, before this log is synced. */
static bool do_trim(struct run *run)
{
    kt_index last = below(run, run->model.last + 1);

    run->trimmed = KT_MAX(run->trimmed, last);
    return kt_wal_trim(run->wal, last) == KT_OK;
}

/* False: the disk has stopped. */
static bool do_something(struct run *run)
{
    switch (below(run, 12)) {
    case 0:
    case 1:
    case 2:
        if (kt_wal_sync(run->wal) != KT_OK)
            return false;
        synced(run);
        return true;
    case 3:
        return do_vote(run);
    case 4:
        return kt_wal_mark(run->wal) == KT_OK;
    case 5:
        return kt_wal_prepare(run->wal) == KT_OK;
    case 6:
        return do_trim(run);
    default:
        return do_append(run);
    }
}

static bool same_log(const struct kt_wal_model *model, struct kt_wal *wal, const struct kt_wal_found *found)
{
    if (model->last != found->last)
        return false;
    for (kt_index index = found->first; index <= found->last; index++)
        if (model->entries[index].term != kt_wal_term(wal, index))
            return false;
    return found->first == 1 ? found->base_term == 0 : found->base_term == model->entries[found->first - 1].term;
}

static void apply(struct kt_wal_model *model, const struct pending *pending)
{
    model->last = pending->index;
    if (!pending->cut)
        model->entries[pending->index] = pending->entry;
}

/* The recovered log is the durable one with the first records of what was pending, or the test fails. */
static void check_recovered(struct run *run, const struct kt_wal_found *found)
{
    struct kt_wal_model *model = kt_alloc(sizeof(*model));
    size_t applied = 0;

    *model = run->durable;
    while (!same_log(model, run->wal, found)) {
        if (applied == run->pending_count)
            fail_msg(
                "seed %llu, crash %llu: found %llu..%llu, which is no prefix of what was written; %llu were durable",
                (unsigned long long)run->seed, (unsigned long long)run->crashes, (unsigned long long)found->first,
                (unsigned long long)found->last, (unsigned long long)run->durable.last);
        apply(model, &run->pending[applied++]);
    }
    kt_wal_model_check(model, run->wal, found->first, found->last);
    assert_true(found->first <= run->trimmed + 1);
    run->kept += applied;
    run->lost += run->pending_count - applied;
    run->torn += found->torn_bytes > 0;
    /* A lost entry's term is never used again for another entry of its index. */
    run->term++;
    run->model = *model;
    kt_free(model);
    synced(run);
}

static void check_vote(struct run *run, const struct kt_wal_found *found)
{
    bool old = found->term == run->vote.term && found->vote == run->vote.vote;
    bool next = found->term == run->next_vote.term && found->vote == run->next_vote.vote;

    if (!old && !next)
        fail_msg("seed %llu: vote of term %llu for %llu was forgotten", (unsigned long long)run->seed,
                 (unsigned long long)run->vote.term, (unsigned long long)run->vote.vote);
    run->vote = run->next_vote = (struct wal_vote){.term = found->term, .vote = found->vote};
}

static void crash(struct run *run)
{
    kt_wal_close(run->wal);
    run->wal = NULL;
    if (below(run, 6) == 0)
        kt_memory_disk_kill(run->memory);
    else
        kt_memory_disk_crash(run->memory);
    kt_memory_disk_stop_at(run->memory, 0);
    run->crashes++;
}

/* Opens the log; sometimes the power fails during that too. */
static void recover(struct run *run)
{
    struct kt_wal_found found;
    struct kt_error error;
    enum kt_code code;

    for (unsigned i = 0; i < 3 && below(run, 3) == 0; i++) {
        kt_memory_disk_stop_at(run->memory, 1 + below(run, 8));
        if (open_wal(run, &found, &error) == KT_OK) {
            check_vote(run, &found);
            check_recovered(run, &found);
        }
        crash(run);
    }
    code = open_wal(run, &found, &error);
    if (code != KT_OK)
        fail_msg("seed %llu, crash %llu: %s", (unsigned long long)run->seed, (unsigned long long)run->crashes,
                 error.text);
    check_vote(run, &found);
    check_recovered(run, &found);
}

static struct run *begin_run(uint64_t seed)
{
    struct run *run = kt_zalloc(sizeof(*run));

    run->seed = seed;
    kt_random_seed(&run->random, seed);
    run->memory = kt_memory_disk_create(seed * 31 + 7);
    kt_wal_model_init(&run->model);
    run->term = 1;
    synced(run);
    return run;
}

static void end_run(struct run *run)
{
    kt_wal_close(run->wal);
    kt_memory_disk_free(run->memory);
    kt_free(run);
}

static void run_seed(uint64_t seed, struct run *total)
{
    struct run *run = begin_run(seed);

    recover(run);
    for (unsigned i = 0; i < 8; i++) {
        kt_memory_disk_stop_at(run->memory, 1 + below(run, 60));
        while (do_something(run) && run->pending_count < PENDING_MAX - 64 &&
               run->model.last < KT_MODEL_ENTRIES_MAX - 64) {
        }
        crash(run);
        recover(run);
    }
    total->crashes += run->crashes;
    total->torn += run->torn;
    total->kept += run->kept;
    total->lost += run->lost;
    end_run(run);
}

static void crash__at_random__acknowledged_survives(void **state)
{
    struct run *total = kt_zalloc(sizeof(*total));
    const char *first = getenv("KT_SEED");
    uint64_t from = first ? strtoull(first, NULL, 10) : 1;

    (void)state;
    for (uint64_t seed = from; seed < from + (first ? 1 : 400); seed++)
        run_seed(seed, total);
    print_message("%llu crashes, %llu torn tails, %llu unsynced records survived, %llu did not\n",
                  (unsigned long long)total->crashes, (unsigned long long)total->torn, (unsigned long long)total->kept,
                  (unsigned long long)total->lost);
    /* The generator reaches what it is for. */
    if (!first) {
        assert_true(total->crashes > 3000 && total->torn > 200);
        assert_true(total->kept > 1000 && total->lost > 1000);
    }
    kt_free(total);
}

/* The same calls each time: each disk call of them is once the last before the lights go out. */
static void script(struct run *run)
{
    static const struct {
        kt_index back;
        size_t count;
        uint32_t len;
    } steps[] = {{0, 5, 100}, {0, 1, 9000}, {2, 3, 300}, {0, 40, 2000}, {30, 8, 50}, {0, 1, SEGMENT + 5}, {1, 9, 7000}};

    for (size_t i = 0; i < KT_COUNT(steps); i++) {
        kt_index index = run->model.last + 1 - steps[i].back;
        kt_term term = run->term + 1;

        if (steps[i].back > 0)
            note(run, true, index - 1, (struct kt_model_entry){0});
        for (size_t k = 0; k < steps[i].count; k++)
            note(run, false, index + k, (struct kt_model_entry){.term = term, .len = steps[i].len});
        if (kt_wal_model_append(&run->model, run->wal, index, steps[i].count, term, steps[i].len) != KT_OK)
            return;
        if (i == 3 && kt_wal_prepare(run->wal) != KT_OK)
            return;
        if (kt_wal_sync(run->wal) != KT_OK)
            return;
        synced(run);
        if (i % 2 == 0 && (kt_wal_mark(run->wal) != KT_OK || !do_vote(run)))
            return;
    }
    run->trimmed = 30;
    /* It fails if the disk stops there; that is as good an end of the script as any. */
    if (kt_wal_trim(run->wal, run->trimmed) != KT_OK)
        return;
}

static void crash__at_every_disk_call_of_a_script__acknowledged_survives(void **state)
{
    uint64_t calls = UINT64_MAX;

    (void)state;
    for (uint64_t n = 1; n <= calls; n++) {
        /* The first calls make the log: there the order of names matters, and few seeds lose the right ones. */
        for (uint64_t seed = 0; seed < (n < 20 ? 60 : 6); seed++) {
            struct run *run = begin_run(n * 100 + seed);
            struct kt_wal_found found;
            struct kt_error error;
            uint64_t before;

            kt_memory_disk_stop_at(run->memory, n);
            before = kt_memory_disk_changes(run->memory);
            if (open_wal(run, &found, &error) == KT_OK)
                script(run);
            if (kt_memory_disk_changes(run->memory) - before < n)
                calls = 0; /* the script came to its end before call n */
            crash(run);
            recover(run);
            end_run(run);
        }
    }
}

/* What a client would store to stop us: records that claim that all before them was synced, but for the salt. */
static void forge(uint8_t *bytes, size_t len, uint64_t claim)
{
    for (size_t at = 0; at + WAL_RECORD_BYTES <= len; at += WAL_RECORD_BYTES) {
        struct wal_record record = {
            .kind = WAL_ENTRY, .type = KT_ENTRY_COMMAND, .index = 42, .term = 1, .durable = (uint32_t)claim};

        wal_record_encode(&record, 0, 0, NULL, bytes + at);
    }
}

/* The records of a payload, be they a copy of our own or forged, do not pass for ours when the entry around is torn. */
static void crash__payload_looks_like_records__tail_is_cut(void **state)
{
    unsigned torn = 0;

    (void)state;
    for (uint64_t seed = 1; seed < 120; seed++) {
        struct run *run = begin_run(seed);
        struct kt_wal_found found;
        struct kt_error error;
        char name[WAL_NAME_MAX];
        struct kt_entry entry = {.index = 41, .term = 1, .type = KT_ENTRY_COMMAND};
        uint8_t *copy;

        assert_int_equal(open_wal(run, &found, &error), KT_OK);
        for (kt_index index = 1; index <= 40; index++) {
            assert_int_equal(kt_wal_model_append(&run->model, run->wal, index, 1, 1, 200), KT_OK);
            assert_int_equal(kt_wal_sync(run->wal), KT_OK);
        }
        synced(run);
        wal_segment_name(1, name);
        copy = kt_alloc(20000);
        if (seed % 2)
            memcpy(copy, kt_memory_disk_bytes(run->memory, name), 20000);
        else
            forge(copy, 20000, WAL_HEADER_BYTES + 40 * wal_record_size(200) + 8);
        entry.data = kt_slice(copy, 20000);
        assert_int_equal(kt_wal_append(run->wal, &entry, 1), KT_OK);
        kt_free(copy);
        kt_wal_close(run->wal);
        kt_memory_disk_crash(run->memory);
        if (open_wal(run, &found, &error) != KT_OK)
            fail_msg("seed %llu: %s", (unsigned long long)seed, error.text);
        assert_true(found.last == 40 || found.last == 41);
        torn += found.torn_bytes > 0;
        kt_wal_model_check(&run->model, run->wal, 1, 40);
        end_run(run);
    }
    assert_true(torn > 30);
}

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash__at_random__acknowledged_survives),
        cmocka_unit_test(crash__at_every_disk_call_of_a_script__acknowledged_survives),
        cmocka_unit_test(crash__payload_looks_like_records__tail_is_cut),
    };

    kt_log_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
