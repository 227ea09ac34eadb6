#include "cluster/node/applier.h"

#include <errno.h>
#include <time.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

/* Nobody waits for the state: a commit costs a sync, so it may wait this long... */
#define COMMIT_AFTER_MS 20u
/* ...unless so many entries are uncommitted, which bounds what a restart applies again and the transaction's dirty
 * pages. */
#define COMMIT_AFTER_ENTRIES 4096u
/* ...and what they hold in memory, here and in the transaction. */
#define COMMIT_AFTER_BYTES (64u << 20)
#define FULL_RETRY_MS      100u
/* Somebody follows everything: it becomes visible at the end of what is at hand, and under load after this time. */
#define PROMPT_AFTER_MS 2u

struct kt_applier {
    struct kt_applier_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct kt_task *head, *tail; /* batches */
    kt_index wanted;
    bool stopping, hurried;
    bool prompt;
    /* The thread's own. */
    bool full;
    bool given_up;         /* hurried while the disk was full: nothing is applied any more */
    struct kt_entry *kept; /* what is applied and not committed, each with a reference */
    size_t kept_count, kept_cap, kept_bytes;
    size_t uncommitted;
    kt_time_ms uncommitted_ms; /* when the first of them was applied */
    /* Telling what is visible; guarded by the lock. */
    struct kt_task visible_task;
    bool visible_posted;
};

static enum kt_code apply_entry(struct kt_state *state, const struct kt_entry *entry, struct kt_reply *reply,
                                struct kt_error *error)
{
    /* A state that came from another node may be ahead of what this node's log is given. */
    if (entry->index <= kt_state_applied(state).index)
        return KT_OK;
    if (entry->type == KT_ENTRY_CHANGE)
        return kt_state_apply_members(state, entry->index, entry->term, entry->data, error);
    return kt_state_apply(state, entry->index, entry->term,
                          entry->type == KT_ENTRY_COMMAND ? entry->data : kt_slice(NULL, 0), reply, error);
}

enum kt_code kt_apply_batch(struct kt_state *state, struct kt_apply_batch *batch, struct kt_error *error)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct kt_apply_item *item = &batch->items[i];
        const struct kt_entry *entry = &item->entry;
        enum kt_code code = apply_entry(state, entry, item->wanted ? &item->reply : NULL, error);

        if (code != KT_OK)
            return code;
        if (entry->index % KT_CHECK_ENTRIES == 0) {
            batch->check_index = entry->index;
            batch->check_hash = kt_state_applied(state).hash;
        }
    }
    return KT_OK;
}

static void tell_applied(struct kt_task *task)
{
    struct kt_apply_batch *batch = KT_CONTAINER(task, struct kt_apply_batch, task);
    struct kt_applier *applier = batch->applier;
    applier->options.applied(applier->options.data, batch);
}

static void tell_visible(struct kt_task *task)
{
    struct kt_applier *applier = KT_CONTAINER(task, struct kt_applier, visible_task);

    pthread_mutex_lock(&applier->lock);
    applier->visible_posted = false;
    pthread_mutex_unlock(&applier->lock);
    applier->options.visible(applier->options.data, kt_state_visible(applier->options.state));
}

/* ---- The full disk ---- */

static void keep(struct kt_applier *applier, const struct kt_apply_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (applier->kept_count == applier->kept_cap) {
            applier->kept_cap = applier->kept_cap ? applier->kept_cap * 2 : 1024;
            applier->kept = kt_realloc(applier->kept, applier->kept_cap * sizeof *applier->kept);
        }
        applier->kept[applier->kept_count] = batch->items[i].entry;
        if (applier->kept[applier->kept_count].chunk != NULL)
            kt_chunk_acquire(applier->kept[applier->kept_count].chunk);
        applier->kept_bytes += batch->items[i].entry.data.len;
        applier->kept_count++;
    }
}

static void forget(struct kt_applier *applier)
{
    for (size_t i = 0; i < applier->kept_count; i++)
        kt_chunk_drop(applier->kept[i].chunk);
    applier->kept_count = 0;
    applier->kept_bytes = 0;
}

static void set_full(struct kt_applier *applier, bool full)
{
    if (applier->full == full)
        return;
    applier->full = full;
    if (applier->options.full != NULL)
        applier->options.full(applier->options.data, full);
}

/* False: not any more, because somebody is in a hurry. */
static bool await_room(struct kt_applier *applier)
{
    kt_time_ms due = kt_clock_ms() + FULL_RETRY_MS;
    struct timespec until = {.tv_sec = (time_t)(due / 1000), .tv_nsec = (long)(due % 1000) * 1000000};
    bool waits = true;

    set_full(applier, true);
    pthread_mutex_lock(&applier->lock);
    while (!applier->hurried && waits)
        waits = pthread_cond_timedwait(&applier->wake, &applier->lock, &until) != ETIMEDOUT;
    waits = !applier->hurried;
    pthread_mutex_unlock(&applier->lock);
    if (!waits) {
        applier->given_up = true;
        applier->uncommitted = 0;
        forget(applier);
    }
    return waits;
}

/* Applies what is kept again: the state forgot it when it met the full disk. KT_DISK_FULL: it met it again. */
static enum kt_code apply_kept(struct kt_applier *applier, struct kt_error *error)
{
    enum kt_code code = KT_OK;

    for (size_t i = 0; i < applier->kept_count && code == KT_OK; i++)
        code = apply_entry(applier->options.state, &applier->kept[i], NULL, error);
    return code;
}

static void commit(struct kt_applier *applier)
{
    struct kt_error error = {.text = ""};
    enum kt_code code;
    bool post;

    if (applier->uncommitted == 0)
        return;
    while ((code = kt_state_commit(applier->options.state)) == KT_DISK_FULL) {
        do {
            if (!await_room(applier))
                return;
            code = apply_kept(applier, &error);
        } while (code == KT_DISK_FULL);
        if (code != KT_OK)
            kt_fatal("applier", "%s", error.text);
    }
    if (code != KT_OK)
        kt_fatal("applier", "cannot commit the state: %s", kt_code_text(code));
    set_full(applier, false);
    forget(applier);
    applier->uncommitted = 0;
    pthread_mutex_lock(&applier->lock);
    post = !applier->visible_posted;
    applier->visible_posted = true;
    pthread_mutex_unlock(&applier->lock);
    if (post)
        kt_mailbox_post(applier->options.mailbox, &applier->visible_task, tell_visible);
}

static void apply(struct kt_applier *applier, struct kt_apply_batch *batch)
{
    struct kt_error error = {.text = ""};
    enum kt_code code = applier->given_up ? KT_OK : kt_apply_batch(applier->options.state, batch, &error);

    while (code == KT_DISK_FULL && await_room(applier)) {
        for (size_t i = 0; i < batch->count; i++)
            if (batch->items[i].wanted)
                kt_reply_clear(&batch->items[i].reply);
        code = apply_kept(applier, &error);
        if (code == KT_OK)
            code = kt_apply_batch(applier->options.state, batch, &error);
    }
    if (code != KT_OK && code != KT_DISK_FULL)
        kt_fatal("applier", "%s", error.text);
    batch->given_up = applier->given_up;
    if (!applier->given_up) {
        if (applier->uncommitted == 0)
            applier->uncommitted_ms = kt_clock_ms();
        applier->uncommitted += batch->count;
        keep(applier, batch);
    }
    batch->applier = applier;
    kt_mailbox_post(applier->options.mailbox, &batch->task, tell_applied);
}

static unsigned commit_after_ms(const struct kt_applier *applier)
{
    return applier->prompt ? PROMPT_AFTER_MS : COMMIT_AFTER_MS;
}

/* Waits until there is a batch, a commit is due, or the end; true if a commit is due. Called with the lock. */
static bool await_work(struct kt_applier *applier)
{
    while (applier->head == NULL && !applier->stopping) {
        struct timespec until;
        kt_time_ms due;

        if (applier->uncommitted == 0) {
            pthread_cond_wait(&applier->wake, &applier->lock);
            continue;
        }
        due = applier->uncommitted_ms + COMMIT_AFTER_MS;
        if (applier->prompt || applier->wanted > kt_state_visible(applier->options.state) || kt_clock_ms() >= due)
            return true;
        until.tv_sec = (time_t)(due / 1000);
        until.tv_nsec = (long)(due % 1000) * 1000000;
        pthread_cond_timedwait(&applier->wake, &applier->lock, &until);
    }
    return applier->uncommitted >= COMMIT_AFTER_ENTRIES || applier->kept_bytes >= COMMIT_AFTER_BYTES ||
           (applier->uncommitted > 0 && (kt_clock_ms() >= applier->uncommitted_ms + commit_after_ms(applier) ||
                                         (applier->wanted > kt_state_visible(applier->options.state) &&
                                          applier->wanted <= kt_state_applied(applier->options.state).index)));
}

static void *run(void *data)
{
    struct kt_applier *applier = data;

    pthread_setname_np(pthread_self(), "applier");
    pthread_mutex_lock(&applier->lock);
    for (;;) {
        bool due = await_work(applier);
        struct kt_task *task = applier->head;

        if (!due && task != NULL) {
            applier->head = task->next;
            if (applier->head == NULL)
                applier->tail = NULL;
        }
        if (!due && task == NULL)
            break; /* stopping, and nothing is left */
        pthread_mutex_unlock(&applier->lock);
        if (due)
            commit(applier);
        else
            apply(applier, KT_CONTAINER(task, struct kt_apply_batch, task));
        pthread_mutex_lock(&applier->lock);
    }
    pthread_mutex_unlock(&applier->lock);
    commit(applier);
    return NULL;
}

struct kt_applier *kt_applier_start(const struct kt_applier_options *options)
{
    struct kt_applier *applier = kt_zalloc(sizeof *applier);
    pthread_condattr_t monotonic;

    applier->options = *options;
    pthread_mutex_init(&applier->lock, NULL);
    /* kt_clock_ms is CLOCK_MONOTONIC, so deadlines of the condition are too. */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&applier->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    KT_CHECK(pthread_create(&applier->thread, NULL, run, applier) == 0);
    return applier;
}

void kt_applier_submit(struct kt_applier *applier, struct kt_apply_batch *batch)
{
    pthread_mutex_lock(&applier->lock);
    batch->task.next = NULL;
    if (applier->tail != NULL)
        applier->tail->next = &batch->task;
    else
        applier->head = &batch->task;
    applier->tail = &batch->task;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
}

void kt_applier_want(struct kt_applier *applier, kt_index index)
{
    pthread_mutex_lock(&applier->lock);
    if (index > applier->wanted)
        applier->wanted = index;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
}

void kt_applier_hurry(struct kt_applier *applier)
{
    pthread_mutex_lock(&applier->lock);
    applier->hurried = true;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
}

void kt_applier_prompt(struct kt_applier *applier, bool prompt)
{
    pthread_mutex_lock(&applier->lock);
    applier->prompt = prompt;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
}

void kt_applier_stop(struct kt_applier *applier)
{
    pthread_mutex_lock(&applier->lock);
    applier->stopping = applier->hurried = true;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
    pthread_join(applier->thread, NULL);
}

void kt_applier_free(struct kt_applier *applier)
{
    pthread_cond_destroy(&applier->wake);
    pthread_mutex_destroy(&applier->lock);
    kt_free(applier->kept);
    kt_free(applier);
}
