/* Group commit on its thread, over the memory disk and, once, over a real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <pthread.h>
#include <sched.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/log/log_writer.h"
#include "cluster/log/wal_internal.h"
#include "support/memory_disk.h"
#include "support/test_folder.h"
#include "support/wal_model.h"

#define SEGMENT (64u << 10)

/* A disk between the log and the memory disk, whose syncs can be held back. */
struct gate {
    struct kt_disk base;
    struct kt_disk *below;
    struct kt_disk_ops ops;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;  /* a sync waits */
    bool waiting; /* one does */
    unsigned syncs;
};

struct gate_file {
    struct kt_file base;
    struct kt_file *below;
    struct gate *gate;
};

struct fixture {
    struct kt_memory_disk *memory;
    struct gate gate;
    struct kt_wal *wal;
    struct kt_wal_found found;
    struct kt_wal_model model;
    struct kt_mailbox mailbox;
    struct kt_log_writer *writer;
    /* Under the lock: what the threads told. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool mail;
    unsigned fulls, not_fulls;
    enum kt_code failed;
    /* Of the draining thread. */
    unsigned done;
};

struct sent {
    struct kt_log_write write;
    struct fixture *f;
    unsigned number;
    struct kt_entry entries[40];
};

static struct gate_file *gate_file(struct kt_file *file)
{
    return KT_CONTAINER(file, struct gate_file, base);
}

static int gate_open(struct kt_disk *disk, const char *path, bool create, struct kt_file **file)
{
    struct gate *gate = KT_CONTAINER(disk, struct gate, base);
    struct gate_file *opened = kt_alloc(sizeof(*opened));
    int status;

    *opened = (struct gate_file){.base = {.ops = &gate->ops}, .gate = gate};
    status = gate->below->ops->open(gate->below, path, create, &opened->below);
    if (status)
        kt_free(opened);
    else
        *file = &opened->base;
    return status;
}

static void gate_close(struct kt_file *file)
{
    gate_file(file)->below->ops->close(gate_file(file)->below);
    kt_free(gate_file(file));
}

static int gate_write(struct kt_file *file, uint64_t offset, const struct iovec *parts, int count)
{
    return gate_file(file)->below->ops->write(gate_file(file)->below, offset, parts, count);
}

static int64_t gate_read(struct kt_file *file, uint64_t offset, void *out, size_t len)
{
    return gate_file(file)->below->ops->read(gate_file(file)->below, offset, out, len);
}

static int gate_sync(struct kt_file *file)
{
    struct gate *gate = gate_file(file)->gate;

    pthread_mutex_lock(&gate->lock);
    gate->syncs++;
    while (gate->closed) {
        gate->waiting = true;
        pthread_cond_broadcast(&gate->changed);
        pthread_cond_wait(&gate->changed, &gate->lock);
    }
    gate->waiting = false;
    pthread_mutex_unlock(&gate->lock);
    return gate_file(file)->below->ops->sync(gate_file(file)->below);
}

static int gate_allocate(struct kt_file *file, uint64_t bytes)
{
    return gate_file(file)->below->ops->allocate(gate_file(file)->below, bytes);
}

static int64_t gate_size(struct kt_file *file)
{
    return gate_file(file)->below->ops->size(gate_file(file)->below);
}

static struct kt_disk *below(struct kt_disk *disk)
{
    return KT_CONTAINER(disk, struct gate, base)->below;
}

static int gate_rename(struct kt_disk *disk, const char *from, const char *to)
{
    return below(disk)->ops->rename(below(disk), from, to);
}

static int gate_remove(struct kt_disk *disk, const char *path)
{
    return below(disk)->ops->remove(below(disk), path);
}

static int gate_sync_folder(struct kt_disk *disk)
{
    return below(disk)->ops->sync_folder(below(disk));
}

static int gate_list(struct kt_disk *disk, void (*each)(void *data, const char *name), void *data)
{
    return below(disk)->ops->list(below(disk), each, data);
}

static void init_gate(struct gate *gate, struct kt_disk *disk)
{
    gate->ops = (struct kt_disk_ops){
        .open = gate_open,
        .close = gate_close,
        .write = gate_write,
        .read = gate_read,
        .sync = gate_sync,
        .allocate = gate_allocate,
        .size = gate_size,
        .rename = gate_rename,
        .remove = gate_remove,
        .sync_folder = gate_sync_folder,
        .list = gate_list,
    };
    gate->base.ops = &gate->ops;
    gate->below = disk;
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
}

static void set_gate(struct gate *gate, bool closed)
{
    pthread_mutex_lock(&gate->lock);
    gate->closed = closed;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void wait_for_sync(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    while (!gate->waiting)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static unsigned syncs(struct gate *gate)
{
    unsigned n;

    pthread_mutex_lock(&gate->lock);
    n = gate->syncs;
    pthread_mutex_unlock(&gate->lock);
    return n;
}

static void tell(struct fixture *f, bool *flag, unsigned *count)
{
    pthread_mutex_lock(&f->lock);
    if (flag)
        *flag = true;
    if (count)
        (*count)++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void wake(void *data)
{
    struct fixture *f = data;

    tell(f, &f->mail, NULL);
}

static void on_fail(void *data, enum kt_code code, const char *text)
{
    struct fixture *f = data;

    KT_CHECK(text != NULL);
    pthread_mutex_lock(&f->lock);
    f->failed = code;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void on_full(void *data, bool full)
{
    struct fixture *f = data;

    tell(f, NULL, full ? &f->fulls : &f->not_fulls);
}

static void start(struct fixture *f)
{
    struct kt_log_writer_options options = {
        .wal = f->wal, .mailbox = &f->mailbox, .fail = on_fail, .full = on_full, .data = f};

    assert_int_equal(kt_log_writer_start(&options, &f->writer), KT_OK);
}

static void open_wal(struct fixture *f)
{
    struct kt_wal_options options = {.disk = &f->gate.base, .segment_bytes = SEGMENT, .seed = 5};
    struct kt_error error;

    if (kt_wal_open(&options, &f->wal, &f->found, &error) != KT_OK)
        fail_msg("%s", error.text);
}

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    *state = f;
    f->memory = kt_memory_disk_create(3);
    init_gate(&f->gate, kt_memory_disk_disk(f->memory));
    kt_wal_model_init(&f->model);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    kt_mailbox_init(&f->mailbox, wake, f);
    open_wal(f);
    start(f);
    return 0;
}

static void stop(struct fixture *f)
{
    kt_log_writer_stop(f->writer);
    f->writer = NULL;
    while (kt_mailbox_drain(&f->mailbox) > 0) {
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    set_gate(&f->gate, false);
    stop(f);
    kt_mailbox_release(&f->mailbox);
    kt_wal_close(f->wal);
    kt_memory_disk_free(f->memory);
    pthread_mutex_destroy(&f->gate.lock);
    pthread_cond_destroy(&f->gate.changed);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    kt_free(f);
    return 0;
}

static void on_done(struct kt_log_write *write)
{
    struct sent *sent = KT_CONTAINER(write, struct sent, write);

    assert_int_equal(sent->number, sent->f->done);
    sent->f->done++;
}

/* Entries of the model, from index on; released by release_sent. */
static struct sent *make_sent(struct fixture *f, unsigned number, kt_index index, size_t count, kt_term term,
                              uint32_t len)
{
    struct sent *sent = kt_zalloc(sizeof(*sent));

    sent->f = f;
    sent->number = number;
    assert_true(count <= KT_COUNT(sent->entries) && index + count <= KT_MODEL_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++) {
        sent->entries[i] = kt_wal_model_entry(index + i, term, len);
        f->model.entries[index + i] = (struct kt_model_entry){.term = term, .len = len};
    }
    if (count > 0)
        f->model.last = index + count - 1;
    sent->write.entries = sent->entries;
    sent->write.count = count;
    sent->write.done = on_done;
    sent->write.code = KT_INTERNAL;
    return sent;
}

static void release_sent(struct sent *sent)
{
    for (size_t i = 0; i < sent->write.count; i++)
        kt_chunk_drop(sent->entries[i].chunk);
    kt_free(sent);
}

static void drain_until(struct fixture *f, unsigned done)
{
    while (f->done < done) {
        pthread_mutex_lock(&f->lock);
        while (!f->mail)
            pthread_cond_wait(&f->changed, &f->lock);
        f->mail = false;
        pthread_mutex_unlock(&f->lock);
        kt_mailbox_drain(&f->mailbox);
    }
}

static void submit__many__done_in_order_and_durable(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[300];
    unsigned before = syncs(&f->gate), segments;
    uint64_t bytes;

    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        sent[i] = make_sent(f, i, 1 + i * 5, 5, 1 + i / 50, 100 + i);
        kt_log_writer_submit(f->writer, &sent[i]->write);
    }
    drain_until(f, KT_COUNT(sent));
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        assert_int_equal(sent[i]->write.code, KT_OK);
        release_sent(sent[i]);
    }
    assert_true(syncs(&f->gate) > before);
    stop(f);
    kt_wal_usage(f->wal, &bytes, &segments);
    assert_true(segments > 4);
    kt_wal_close(f->wal);
    /* Nothing that was done may hang on bytes that were not synced. */
    kt_memory_disk_crash(f->memory);
    open_wal(f);
    assert_int_equal(f->found.last, 1500);
    kt_wal_model_check(&f->model, f->wal, 1, 1500);
    start(f);
}

static void submit__while_a_sync_is_under_way__one_more_group(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[50];
    unsigned before;
    uint64_t changes;

    set_gate(&f->gate, true);
    sent[0] = make_sent(f, 0, 1, 1, 1, 50);
    kt_log_writer_submit(f->writer, &sent[0]->write);
    wait_for_sync(&f->gate);
    before = syncs(&f->gate);
    changes = kt_memory_disk_changes(f->memory);
    for (unsigned i = 1; i < KT_COUNT(sent); i++) {
        sent[i] = make_sent(f, i, 1 + i, 1, 1, 50);
        kt_log_writer_submit(f->writer, &sent[i]->write);
    }
    assert_true(kt_log_writer_busy_us(f->writer) > 0);
    assert_int_equal(f->done, 0);
    set_gate(&f->gate, false);
    drain_until(f, KT_COUNT(sent));
    /* The first sync ended, then all the others together: one write, one sync, and perhaps the note of an idle moment.
     */
    assert_int_equal(syncs(&f->gate), before + 1);
    assert_in_range(kt_memory_disk_changes(f->memory), changes + 3, changes + 4);
    for (unsigned i = 0; i < KT_COUNT(sent); i++)
        release_sent(sent[i]);
}

static void busy__idle__zero(void **state)
{
    struct fixture *f = *state;
    struct sent *sent = make_sent(f, 0, 1, 1, 1, 50);

    assert_int_equal(kt_log_writer_busy_us(f->writer), 0);
    kt_log_writer_submit(f->writer, &sent->write);
    drain_until(f, 1);
    assert_int_equal(kt_log_writer_busy_us(f->writer), 0);
    release_sent(sent);
}

static void votes__with_entries_and_truncations__last_one_wins(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[5];

    set_gate(&f->gate, true);
    sent[0] = make_sent(f, 0, 1, 20, 1, 500);
    sent[1] = make_sent(f, 1, 21, 0, 0, 0);
    sent[2] = make_sent(f, 2, 11, 5, 2, 500);
    sent[3] = make_sent(f, 3, 13, 30, 3, 700);
    sent[4] = make_sent(f, 4, 0, 0, 0, 0);
    sent[1]->write.votes = true;
    sent[1]->write.term = 2;
    sent[1]->write.vote = 3;
    sent[3]->write.votes = true;
    sent[3]->write.term = 3;
    sent[3]->write.vote = 1;
    for (unsigned i = 0; i < KT_COUNT(sent); i++)
        kt_log_writer_submit(f->writer, &sent[i]->write);
    set_gate(&f->gate, false);
    drain_until(f, KT_COUNT(sent));
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        assert_int_equal(sent[i]->write.code, KT_OK);
        release_sent(sent[i]);
    }
    stop(f);
    kt_wal_close(f->wal);
    kt_memory_disk_crash(f->memory);
    open_wal(f);
    assert_int_equal(f->found.term, 3);
    assert_int_equal(f->found.vote, 1);
    assert_int_equal(f->found.last, 42);
    kt_wal_model_check(&f->model, f->wal, 1, 42);
    start(f);
}

static void submit__disk_full__waits_for_room_and_tells(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[20];

    kt_memory_disk_space(f->memory, 0);
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        sent[i] = make_sent(f, i, 1 + i * 10, 10, 1, 1000);
        kt_log_writer_submit(f->writer, &sent[i]->write);
    }
    pthread_mutex_lock(&f->lock);
    while (f->fulls == 0)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    /* Between two tries nothing is under way. */
    while (kt_log_writer_busy_us(f->writer) > 0)
        sched_yield();
    kt_memory_disk_space(f->memory, UINT64_MAX);
    drain_until(f, KT_COUNT(sent));
    pthread_mutex_lock(&f->lock);
    assert_int_equal(f->fulls, f->not_fulls);
    assert_int_equal(f->failed, KT_OK);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        assert_int_equal(sent[i]->write.code, KT_OK);
        release_sent(sent[i]);
    }
    kt_wal_model_check(&f->model, f->wal, 1, 200);
}

static void stop__disk_full__ends_with_what_is_durable(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[20];
    unsigned durable = 0;

    kt_memory_disk_space(f->memory, 0);
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        sent[i] = make_sent(f, i, 1 + i * 10, 10, 1, 1000);
        kt_log_writer_submit(f->writer, &sent[i]->write);
    }
    pthread_mutex_lock(&f->lock);
    while (f->fulls == 0)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    stop(f);
    assert_int_equal(f->done, KT_COUNT(sent));
    while (durable < KT_COUNT(sent) && sent[durable]->write.code == KT_OK)
        durable++;
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        assert_int_equal(sent[i]->write.code, i < durable ? KT_OK : KT_DISK_FULL);
        release_sent(sent[i]);
    }
    kt_memory_disk_space(f->memory, UINT64_MAX);
    kt_wal_close(f->wal);
    kt_memory_disk_crash(f->memory);
    open_wal(f);
    assert_true(f->found.last >= durable * 10);
    kt_wal_model_check(&f->model, f->wal, 1, f->found.last);
    start(f);
}

static void submit__sync_fails__told_once_and_nothing_is_done_well(void **state)
{
    struct fixture *f = *state;
    struct sent *sent[3];

    kt_memory_disk_fail_sync(f->memory, 1);
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        sent[i] = make_sent(f, i, 1 + i, 1, 1, 50);
        kt_log_writer_submit(f->writer, &sent[i]->write);
    }
    drain_until(f, KT_COUNT(sent));
    pthread_mutex_lock(&f->lock);
    assert_int_equal(f->failed, KT_IO_FAILED);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < KT_COUNT(sent); i++) {
        assert_int_equal(sent[i]->write.code, KT_IO_FAILED);
        release_sent(sent[i]);
    }
}

static void idle__after_a_group__end_is_noted(void **state)
{
    struct fixture *f = *state;
    struct sent *sent = make_sent(f, 0, 1, 3, 1, 50);
    struct kt_error error;
    struct kt_wal_options options = {.disk = &f->gate.base, .segment_bytes = SEGMENT};
    uint64_t changes;
    char name[WAL_NAME_MAX];

    kt_log_writer_submit(f->writer, &sent->write);
    drain_until(f, 1);
    changes = kt_memory_disk_changes(f->memory);
    stop(f);
    /* Noted while idle or at the stop, but once. */
    assert_in_range(kt_memory_disk_changes(f->memory), changes, changes + 1);
    release_sent(sent);
    kt_wal_close(f->wal);
    f->wal = NULL;
    wal_segment_name(1, name);
    assert_true(kt_memory_disk_flip(f->memory, name, WAL_HEADER_BYTES + 2 * wal_record_size(50) + 70, 1));
    assert_int_equal(kt_wal_open(&options, &f->wal, &f->found, &error), KT_CORRUPT);
    assert_true(kt_memory_disk_flip(f->memory, name, WAL_HEADER_BYTES + 2 * wal_record_size(50) + 70, 1));
    open_wal(f);
    start(f);
}

struct reader {
    struct fixture *f;
    atomic_bool end;
    uint64_t reads, missed;
};

/* A thread of its own, so KT_CHECK. Whatever is read is what was written at that index in that term, and terms never go
 * back along the log. */
static void *read_along(void *data)
{
    struct reader *reader = data;
    struct kt_wal *wal = reader->f->wal;
    struct kt_entry entries[64];

    for (uint64_t seed = 1; !atomic_load(&reader->end); seed++) {
        kt_index first = kt_wal_first(wal), last = kt_wal_last(wal);
        kt_index index = first + (last >= first ? seed * 7919 % (last - first + 1) : 0);
        size_t count = 0;
        enum kt_code code = kt_wal_read(wal, index, last, 100000, entries, KT_COUNT(entries), &count);

        if (code == KT_NOT_FOUND) {
            reader->missed++;
            continue;
        }
        KT_CHECK(code == KT_OK);
        reader->reads++;
        for (size_t i = 0; i < count; i++) {
            struct kt_entry expected = kt_wal_model_entry(index + i, entries[i].term, (uint32_t)entries[i].data.len);

            KT_CHECK(entries[i].index == index + i);
            KT_CHECK(i == 0 || entries[i].term >= entries[i - 1].term);
            KT_CHECK(kt_slice_equal(entries[i].data, expected.data));
            kt_chunk_drop(expected.chunk);
            kt_chunk_drop(entries[i].chunk);
        }
        (void)kt_wal_term(wal, index);
    }
    return NULL;
}

static void run_readers(struct fixture *f, unsigned rounds)
{
    struct reader readers[2];
    pthread_t threads[2];
    struct kt_random random;
    kt_term term = f->model.entries[f->model.last].term + 1;
    unsigned sent_count = 0;

    for (size_t i = 0; i < KT_COUNT(readers); i++) {
        readers[i] = (struct reader){.f = f};
        atomic_init(&readers[i].end, false);
        pthread_create(&threads[i], NULL, read_along, &readers[i]);
    }
    kt_random_seed(&random, 99);
    for (unsigned round = 0; round < rounds; round++) {
        kt_index index = f->model.last + 1;
        struct sent *sent;

        if (round % 4 == 3 && index > kt_wal_first(f->wal) + 30) {
            index -= 1 + kt_random_below(&random, 30);
            term++;
        }
        sent = make_sent(f, sent_count++, index, 1 + kt_random_below(&random, 39), term,
                         (uint32_t)kt_random_below(&random, 3000));
        kt_log_writer_submit(f->writer, &sent->write);
        /* Beside the writer, and far behind what it may still truncate. */
        if (round % 10 == 9)
            assert_int_equal(kt_wal_trim(f->wal, f->model.last - 100), KT_OK);
        drain_until(f, sent_count);
        assert_int_equal(sent->write.code, KT_OK);
        release_sent(sent);
    }
    for (size_t i = 0; i < KT_COUNT(readers); i++) {
        atomic_store(&readers[i].end, true);
        pthread_join(threads[i], NULL);
        assert_true(readers[i].reads > 10);
    }
    kt_wal_model_check(&f->model, f->wal, kt_wal_first(f->wal), f->model.last);
}

static void read__while_written_truncated_and_trimmed__never_wrong(void **state)
{
    run_readers(*state, 150);
}

static void real_disk__written_read_and_reopened__whole(void **state)
{
    struct fixture *f = *state;
    char *folder = kt_test_folder_create();
    struct kt_disk *disk, *memory = f->gate.below;
    int error_number;

    stop(f);
    kt_wal_close(f->wal);
    assert_int_equal(kt_disk_open(folder, &disk, &error_number), KT_OK);
    f->gate.below = disk;
    for (unsigned round = 0; round < 3; round++) {
        open_wal(f);
        assert_int_equal(f->found.last, f->model.last);
        f->done = 0;
        start(f);
        run_readers(f, 50);
        stop(f);
        kt_wal_close(f->wal);
    }
    kt_disk_close(disk);
    kt_test_folder_remove(folder);
    f->gate.below = memory;
    open_wal(f);
    f->done = 0;
    start(f);
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
        TEST(submit__many__done_in_order_and_durable),
        TEST(submit__while_a_sync_is_under_way__one_more_group),
        TEST(busy__idle__zero),
        TEST(votes__with_entries_and_truncations__last_one_wins),
        TEST(submit__disk_full__waits_for_room_and_tells),
        TEST(stop__disk_full__ends_with_what_is_durable),
        TEST(submit__sync_fails__told_once_and_nothing_is_done_well),
        TEST(idle__after_a_group__end_is_noted),
        TEST(read__while_written_truncated_and_trimmed__never_wrong),
        TEST(real_disk__written_read_and_reopened__whole),
    };

    kt_log_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
