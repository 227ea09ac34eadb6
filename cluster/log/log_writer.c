/*
 * Two threads: the writer, and a helper that fills the next segment with zeros so that no group waits for that. The
 * helper only ever calls kt_wal_prepare; a spare is in the log's list or in one thread's hands, see spare.c.
 */
#include "cluster/log/log_writer.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

#define GROUP_BYTES   (8u << 20) /* payload of a group: at 1 GB/s and a sync it still ends within some 10 ms */
#define GROUP_ENTRIES 4096u      /* and its entries: bounds the array below */
#define FULL_RETRY_MS 100
#define MARK_AFTER_MS 20 /* idle for so long: long enough to cost nothing under load */

struct kt_log_writer {
    struct kt_log_writer_options options;
    pthread_t thread, helper;
    atomic_uint_fast64_t busy_since_us; /* 0: nothing under way */

    pthread_mutex_t lock;
    pthread_cond_t work; /* the queue is no longer empty, or stopping */
    pthread_cond_t helper_work;
    struct kt_task *head, *tail;
    bool stopping, hurried;
    bool prepare; /* asked of the helper */
    bool helper_stopping;

    /* The writer's thread alone. */
    struct kt_task *group;    /* writes under way, in order */
    struct kt_entry *entries; /* of several writes, so that they become one append */
    bool full;
    bool marked; /* nothing was synced since the last mark */
    /*
     * KT_OK, or what all later writes end with: a failure, or a full disk that was given up when stopping (what comes
     * after entries that are not written cannot be written either).
     */
    enum kt_code ended;
};

static struct kt_log_write *write_of(struct kt_task *task)
{
    return KT_CONTAINER(task, struct kt_log_write, task);
}

static void run_done(struct kt_task *task)
{
    struct kt_log_write *write = write_of(task);

    write->done(write);
}

/* Condition variables wait on the monotonic clock: a step of the wall clock neither hurries nor delays them. */
static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct timespec after_ms(unsigned ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

static void begin_busy(struct kt_log_writer *writer)
{
    atomic_store(&writer->busy_since_us, KT_MAX(kt_clock_us(), 1));
}

static void end_busy(struct kt_log_writer *writer)
{
    atomic_store(&writer->busy_since_us, 0);
}

uint64_t kt_log_writer_busy_us(struct kt_log_writer *writer)
{
    uint64_t since = atomic_load(&writer->busy_since_us), now;

    if (since == 0)
        return 0;
    now = kt_clock_us();
    return now > since ? now - since : 1;
}

/* Tells once; should the call return, nothing more is written and everything ends with the code. */
static void fail(struct kt_log_writer *writer, enum kt_code code)
{
    if (writer->ended != KT_OK && writer->ended != KT_DISK_FULL)
        return;
    writer->ended = code;
    writer->options.fail(writer->options.data, code, "the log cannot be written");
}

static void set_full(struct kt_log_writer *writer, bool full)
{
    if (writer->full == full)
        return;
    writer->full = full;
    if (writer->options.full)
        writer->options.full(writer->options.data, full);
}

/* The highest index whose entries may go, as the writes of a list ask; 0: none does. */
static kt_index trim_asked(struct kt_task *task)
{
    kt_index index = 0;

    for (; task; task = task->next)
        index = KT_MAX(index, write_of(task)->trim);
    return index;
}

/*
 * What is to be removed is removed also while entries before it wait for room: that may be what makes room. Asking
 * again does no harm, so the write keeps its place in the queue.
 */
static enum kt_code trim_early(struct kt_log_writer *writer)
{
    kt_index index = trim_asked(writer->group);
    enum kt_code code;

    pthread_mutex_lock(&writer->lock);
    index = KT_MAX(index, trim_asked(writer->head));
    pthread_mutex_unlock(&writer->lock);
    if (index == 0)
        return KT_OK;
    begin_busy(writer);
    code = kt_wal_sync(writer->options.wal);
    if (code == KT_OK)
        code = kt_wal_trim(writer->options.wal, index);
    end_busy(writer);
    return code;
}

/* Waits until there may be room again; false: not any more, because the writer is being stopped or in a hurry. */
static bool wait_for_room(struct kt_log_writer *writer)
{
    struct timespec at = after_ms(FULL_RETRY_MS);
    bool waits;
    int status = 0;

    pthread_mutex_lock(&writer->lock);
    while (!writer->stopping && !writer->hurried && status != ETIMEDOUT) {
        /* New work also signals, and is no reason to try earlier. */
        status = pthread_cond_timedwait(&writer->work, &writer->lock, &at);
    }
    waits = !writer->stopping && !writer->hurried;
    pthread_mutex_unlock(&writer->lock);
    return waits;
}

/* One append, again and again while the disk is full. */
static enum kt_code append(struct kt_log_writer *writer, const struct kt_entry *entries, size_t count)
{
    enum kt_code code;

    for (;;) {
        begin_busy(writer);
        code = kt_wal_append(writer->options.wal, entries, count);
        end_busy(writer);
        if (code != KT_DISK_FULL) {
            set_full(writer, false);
            return code;
        }
        set_full(writer, true);
        if (!wait_for_room(writer))
            return code;
        code = trim_early(writer);
        if (code != KT_OK)
            return code;
    }
}

/* The last vote stands for all of the group: nobody hears of the earlier ones before it is durable. */
static enum kt_code write_votes(struct kt_log_writer *writer)
{
    const struct kt_log_write *last = NULL;
    enum kt_code code;

    for (struct kt_task *task = writer->group; task; task = task->next)
        if (write_of(task)->votes)
            last = write_of(task);
    if (!last)
        return KT_OK;
    begin_busy(writer);
    code = kt_wal_vote(writer->options.wal, last->term, last->vote);
    end_busy(writer);
    return code;
}

/*
 * Entries that continue each other go into one append, so into one write. One that goes back (a truncation) begins a
 * new append. Returns the code of the first append that failed; *complete: the first write whose entries are not all
 * written.
 */
static enum kt_code write_entries(struct kt_log_writer *writer, struct kt_task **complete)
{
    struct kt_task *begun = writer->group; /* the first write of the append being collected */
    size_t count = 0;
    enum kt_code code = KT_OK;

    for (struct kt_task *task = writer->group; task; task = task->next) {
        const struct kt_log_write *write = write_of(task);
        bool continues =
            count == 0 || write->count == 0 || write->entries[0].index == writer->entries[count - 1].index + 1;

        if (count > 0 && (!continues || count + write->count > GROUP_ENTRIES)) {
            code = append(writer, writer->entries, count);
            count = 0;
            if (code != KT_OK)
                break;
            begun = task;
        }
        if (write->count > GROUP_ENTRIES) {
            code = append(writer, write->entries, write->count);
            if (code != KT_OK)
                break;
            begun = task->next;
        } else if (write->count > 0) {
            memcpy(writer->entries + count, write->entries, write->count * sizeof(struct kt_entry));
            count += write->count;
        }
    }
    if (code == KT_OK && count > 0)
        code = append(writer, writer->entries, count);
    *complete = code == KT_OK ? NULL : begun;
    return code;
}

/* Hands every write of the group back, in order: those before `stuck` are durable. */
static void complete(struct kt_log_writer *writer, const struct kt_task *stuck, enum kt_code code)
{
    bool durable = true;

    while (writer->group) {
        struct kt_task *task = writer->group;

        writer->group = task->next;
        task->next = NULL;
        durable = durable && task != stuck;
        write_of(task)->code = durable ? KT_OK : code;
        /* From here on the write is its sender's. */
        kt_mailbox_post(writer->options.mailbox, task, run_done);
    }
}

static void process_group(struct kt_log_writer *writer)
{
    struct kt_task *stuck = writer->group;
    enum kt_code code = writer->ended, synced;

    if (code == KT_OK)
        code = write_votes(writer);
    if (code == KT_OK)
        code = write_entries(writer, &stuck);
    if (code == KT_OK || code == KT_DISK_FULL) {
        begin_busy(writer);
        synced = kt_wal_sync(writer->options.wal);
        if (synced == KT_OK && trim_asked(writer->group) > 0)
            synced = kt_wal_trim(writer->options.wal, trim_asked(writer->group));
        end_busy(writer);
        if (synced != KT_OK) {
            stuck = writer->group;
            code = synced;
        }
    }
    if (code == KT_DISK_FULL) {
        writer->ended = code;
    } else if (code != KT_OK) {
        stuck = writer->group;
        fail(writer, code);
    }
    writer->marked = false;
    complete(writer, stuck, code);
}

/*
 * Moves writes from the queue to the group, up to the ceilings but at least one. One that trims is a group of its own:
 * removing files takes time, and nobody's acknowledgement is to wait for it. Under the lock.
 */
static void take_group(struct kt_log_writer *writer)
{
    struct kt_task *last = NULL;
    size_t bytes = 0, entries = 0;

    writer->group = writer->head;
    for (struct kt_task *task = writer->head; task; last = task, task = task->next) {
        const struct kt_log_write *write = write_of(task);

        for (size_t i = 0; i < write->count; i++)
            bytes += write->entries[i].data.len;
        entries += write->count;
        if (last && (bytes > GROUP_BYTES || entries > GROUP_ENTRIES || write->trim > 0 || write_of(last)->trim > 0))
            break;
    }
    writer->head = last->next;
    last->next = NULL;
    if (!writer->head)
        writer->tail = NULL;
}

static void ask_helper(struct kt_log_writer *writer)
{
    if (!kt_wal_wants_prepare(writer->options.wal))
        return;
    pthread_mutex_lock(&writer->lock);
    writer->prepare = true;
    pthread_cond_signal(&writer->helper_work);
    pthread_mutex_unlock(&writer->lock);
}

/* Under the lock. True: there is a group; false: stopped with nothing left. */
static bool wait_for_group(struct kt_log_writer *writer)
{
    struct timespec idle = after_ms(MARK_AFTER_MS);

    while (!writer->head && !writer->stopping) {
        if (writer->marked || writer->ended != KT_OK) {
            pthread_cond_wait(&writer->work, &writer->lock);
        } else if (pthread_cond_timedwait(&writer->work, &writer->lock, &idle) == ETIMEDOUT && !writer->head) {
            enum kt_code code;

            pthread_mutex_unlock(&writer->lock);
            writer->marked = true;
            code = kt_wal_mark(writer->options.wal);
            if (code != KT_OK)
                fail(writer, code);
            pthread_mutex_lock(&writer->lock);
        }
    }
    if (!writer->head)
        return false;
    take_group(writer);
    return true;
}

static void *run_writer(void *data)
{
    struct kt_log_writer *writer = data;

    pthread_setname_np(pthread_self(), "log writer");
    pthread_mutex_lock(&writer->lock);
    while (wait_for_group(writer)) {
        pthread_mutex_unlock(&writer->lock);
        process_group(writer);
        ask_helper(writer);
        pthread_mutex_lock(&writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    /* A planned end leaves no doubt about where the log ends. */
    if (writer->ended == KT_OK) {
        enum kt_code code = kt_wal_mark(writer->options.wal);

        if (code != KT_OK)
            fail(writer, code);
    }
    return NULL;
}

/* Under the lock: until there is something to prepare, or may be room again after a full disk. */
static void helper_wait(struct kt_log_writer *writer, bool full)
{
    struct timespec at = after_ms(FULL_RETRY_MS);
    int status = 0;

    while (full && !writer->helper_stopping && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&writer->helper_work, &writer->lock, &at);
    while (!writer->helper_stopping && !writer->prepare)
        pthread_cond_wait(&writer->helper_work, &writer->lock);
}

static void *run_helper(void *data)
{
    struct kt_log_writer *writer = data;
    bool full = false;

    pthread_setname_np(pthread_self(), "log helper");
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        enum kt_code code;

        helper_wait(writer, full);
        if (writer->helper_stopping)
            break;
        writer->prepare = false;
        pthread_mutex_unlock(&writer->lock);
        /* A failure other than a full disk is the log's from now on: the writer meets it and ends the process. */
        code = kt_wal_prepare(writer->options.wal);
        if (code == KT_DISK_FULL && !full)
            kt_warn("log", "no room to prepare the next segment");
        full = code == KT_DISK_FULL;
        pthread_mutex_lock(&writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

static void free_writer(struct kt_log_writer *writer)
{
    pthread_cond_destroy(&writer->helper_work);
    pthread_cond_destroy(&writer->work);
    pthread_mutex_destroy(&writer->lock);
    kt_free(writer->entries);
    kt_free(writer);
}

static void stop_helper(struct kt_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->helper_stopping = true;
    pthread_cond_signal(&writer->helper_work);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->helper, NULL);
}

enum kt_code kt_log_writer_start(const struct kt_log_writer_options *options, struct kt_log_writer **writer)
{
    struct kt_log_writer *started = kt_zalloc(sizeof(*started));

    *writer = NULL;
    started->options = *options;
    started->entries = kt_alloc(GROUP_ENTRIES * sizeof(struct kt_entry));
    atomic_init(&started->busy_since_us, 0);
    pthread_mutex_init(&started->lock, NULL);
    init_cond(&started->work);
    init_cond(&started->helper_work);
    if (pthread_create(&started->helper, NULL, run_helper, started) != 0) {
        free_writer(started);
        return KT_NO_MEMORY;
    }
    if (pthread_create(&started->thread, NULL, run_writer, started) != 0) {
        stop_helper(started);
        free_writer(started);
        return KT_NO_MEMORY;
    }
    *writer = started;
    return KT_OK;
}

void kt_log_writer_submit(struct kt_log_writer *writer, struct kt_log_write *write)
{
    bool wake;

    write->task.next = NULL;
    pthread_mutex_lock(&writer->lock);
    KT_CHECK(!writer->stopping);
    wake = !writer->head;
    if (writer->tail)
        writer->tail->next = &write->task;
    else
        writer->head = &write->task;
    writer->tail = &write->task;
    if (wake)
        pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

void kt_log_writer_hurry(struct kt_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->hurried = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

void kt_log_writer_stop(struct kt_log_writer *writer)
{
    if (!writer)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    /* After the writer: it may wait for what the helper prepares. */
    stop_helper(writer);
    free_writer(writer);
}
