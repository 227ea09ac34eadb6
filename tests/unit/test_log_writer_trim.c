/* What the log writer does with trimming: beside the entries it groups, and while they wait for room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/log/log_writer.h"
#include "support/memory_disk.h"
#include "support/wal_model.h"

#define SEGMENT     (64u << 10)
#define DEADLINE_MS 20000

struct fixture {
    struct kt_memory_disk *memory;
    struct kt_wal *wal;
    struct kt_log_writer *writer;
    struct kt_mailbox mailbox;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool mail;          /* the mailbox asked to be drained */
    atomic_bool full;   /* as the writer told */
    atomic_int failure; /* enum kt_code of the fail call */
    struct kt_wal_model model;
};

static void wake(void *data)
{
    struct fixture *f = data;

    pthread_mutex_lock(&f->lock);
    f->mail = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static void told_full(void *data, bool full)
{
    struct fixture *f = data;

    atomic_store(&f->full, full);
    wake(f);
}

static void told_failed(void *data, enum kt_code code, const char *text)
{
    struct fixture *f = data;

    (void)text;
    atomic_store(&f->failure, (int)code);
}

static void open_wal(struct fixture *f)
{
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(f->memory), .segment_bytes = SEGMENT, .seed = 7};
    struct kt_wal_found found;
    struct kt_error error;

    assert_int_equal(kt_wal_open(&options, &f->wal, &found, &error), KT_OK);
}

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));
    struct kt_log_writer_options options = {.mailbox = &f->mailbox, .fail = told_failed, .full = told_full, .data = f};

    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->wake, NULL);
    kt_mailbox_init(&f->mailbox, wake, f);
    kt_wal_model_init(&f->model);
    f->memory = kt_memory_disk_create(1);
    open_wal(f);
    options.wal = f->wal;
    *state = f;
    return kt_log_writer_start(&options, &f->writer) == KT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kt_log_writer_stop(f->writer);
    kt_mailbox_drain(&f->mailbox);
    kt_mailbox_release(&f->mailbox);
    kt_wal_close(f->wal);
    kt_memory_disk_free(f->memory);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->lock);
    kt_free(f);
    return 0;
}

/* Waits for the threads' news, and takes the mail. */
static void await(struct fixture *f, bool (*met)(struct fixture *f, const void *what), const void *what)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_MS / 1000;
    for (;;) {
        pthread_mutex_lock(&f->lock);
        f->mail = false;
        pthread_mutex_unlock(&f->lock);
        kt_mailbox_drain(&f->mailbox);
        if (met(f, what))
            return;
        pthread_mutex_lock(&f->lock);
        while (!f->mail)
            if (pthread_cond_timedwait(&f->wake, &f->lock, &until) != 0)
                fail_msg("nothing came from the writer");
        pthread_mutex_unlock(&f->lock);
    }
}

struct write {
    struct kt_log_write write;
    struct kt_entry *entries;
    bool done;
};

static void write_done(struct kt_log_write *log_write)
{
    struct write *write = KT_CONTAINER(log_write, struct write, write);

    for (size_t i = 0; i < log_write->count; i++)
        kt_chunk_drop(log_write->entries[i].chunk);
    kt_free(write->entries);
    write->entries = NULL;
    write->done = true;
}

static bool is_done(struct fixture *f, const void *what)
{
    (void)f;
    return ((const struct write *)what)->done;
}

static bool is_full(struct fixture *f, const void *what)
{
    (void)what;
    return atomic_load(&f->full);
}

/* count entries from index on; none: a write that only votes or trims. */
static void submit(struct fixture *f, struct write *write, kt_index index, size_t count, kt_term term, uint32_t len)
{
    write->write.done = write_done;
    write->entries = count > 0 ? kt_alloc(count * sizeof(*write->entries)) : NULL;
    for (size_t i = 0; i < count; i++) {
        write->entries[i] = kt_wal_model_entry(index + i, term, len);
        f->model.entries[index + i] = (struct kt_model_entry){.term = term, .len = len};
    }
    if (count > 0)
        f->model.last = index + count - 1;
    write->write.entries = write->entries;
    write->write.count = count;
    kt_log_writer_submit(f->writer, &write->write);
}

static unsigned segments_of(struct fixture *f)
{
    unsigned segments;
    uint64_t bytes;

    kt_wal_usage(f->wal, &bytes, &segments);
    return segments;
}

static void trim__done__files_are_gone_and_stay_gone(void **state)
{
    struct fixture *f = *state;
    struct write fill = {0}, trim = {.write = {.trim = 300}}, more = {0};
    unsigned before;
    kt_index first;

    submit(f, &fill, 1, 400, 1, 1000);
    await(f, is_done, &fill);
    before = segments_of(f);
    submit(f, &trim, 0, 0, 0, 0);
    submit(f, &more, 401, 5, 1, 10);
    await(f, is_done, &trim);
    assert_int_equal(trim.write.code, KT_OK);
    assert_true(segments_of(f) < before);
    first = kt_wal_first(f->wal);
    assert_true(first > 200 && first <= 301);
    await(f, is_done, &more);
    kt_log_writer_stop(f->writer);
    f->writer = NULL;
    kt_wal_close(f->wal);
    kt_memory_disk_crash(f->memory);
    open_wal(f);
    assert_int_equal(kt_wal_first(f->wal), first);
    kt_wal_model_check(&f->model, f->wal, first, 405);
}

/* One write may carry both: first its entries, then what is forgotten. */
static void trim__with_entries_that_go_back__after_them(void **state)
{
    struct fixture *f = *state;
    struct write fill = {0}, both = {.write = {.trim = 19}};

    submit(f, &fill, 1, 400, 1, 1000);
    submit(f, &both, 20, 5, 2, 10);
    await(f, is_done, &both);
    assert_int_equal(both.write.code, KT_OK);
    assert_int_equal(kt_wal_first(f->wal), 20);
    assert_int_equal(kt_wal_last(f->wal), 24);
    kt_wal_model_check(&f->model, f->wal, 20, 24);
}

/* The room that a write waits for is made by the trim that stands behind it in the queue. */
static void full__trim_behind_waiting_write__is_done_and_makes_room(void **state)
{
    struct fixture *f = *state;
    struct write first = {0}, waiting = {0}, trim = {.write = {.trim = 390}};
    kt_time_ms deadline;
    unsigned before;

    submit(f, &first, 1, 400, 1, 1000);
    await(f, is_done, &first);
    before = segments_of(f);
    kt_memory_disk_space(f->memory, 0);
    submit(f, &waiting, 401, 200, 1, 1000);
    await(f, is_full, NULL);
    submit(f, &trim, 0, 0, 0, 0);
    /* A removed file is room on a real disk; this one counts what files grow by, so it is told. */
    deadline = kt_clock_ms() + DEADLINE_MS;
    while (segments_of(f) >= before)
        assert_true(kt_clock_ms() < deadline);
    kt_memory_disk_space(f->memory, UINT64_MAX);
    await(f, is_done, &waiting);
    await(f, is_done, &trim);
    assert_int_equal(waiting.write.code, KT_OK);
    assert_int_equal(trim.write.code, KT_OK);
    assert_true(kt_wal_first(f->wal) > 300);
    kt_wal_model_check(&f->model, f->wal, kt_wal_first(f->wal), 600);
}

static void sync__fails__told_and_every_write_ends_with_it(void **state)
{
    struct fixture *f = *state;
    struct write first = {0}, second = {0}, trim = {.write = {.trim = 5}};

    kt_memory_disk_fail_sync(f->memory, 1);
    submit(f, &first, 1, 5, 1, 100);
    await(f, is_done, &first);
    assert_int_equal(first.write.code, KT_IO_FAILED);
    assert_int_equal(atomic_load(&f->failure), KT_IO_FAILED);
    submit(f, &second, 6, 5, 1, 100);
    submit(f, &trim, 0, 0, 0, 0);
    await(f, is_done, &trim);
    assert_int_equal(second.write.code, KT_IO_FAILED);
    assert_int_equal(trim.write.code, KT_IO_FAILED);
}

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(trim__done__files_are_gone_and_stay_gone),
        TEST(trim__with_entries_that_go_back__after_them),
        TEST(full__trim_behind_waiting_write__is_done_and_makes_room),
        TEST(sync__fails__told_and_every_write_ends_with_it),
    };

    kt_log_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
