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
/* Somebody follows everything: it becomes visible at the end of what is at hand, and under load after this time. */
#define PROMPT_AFTER_MS 2u

struct kt_applier {
    struct kt_applier_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct kt_task *head, *tail; /* batches */
    kt_index wanted;
    bool stopping;
    bool prompt;
    /* The thread's own. */
    size_t uncommitted;
    kt_time_ms uncommitted_ms; /* when the first of them was applied */
    /* Telling what is visible; guarded by the lock. */
    struct kt_task visible_task;
    bool visible_posted;
};

enum kt_code kt_apply_batch(struct kt_state *state, struct kt_apply_batch *batch, struct kt_error *error)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct kt_apply_item *item = &batch->items[i];
        struct kt_slice op = item->entry.type == KT_ENTRY_COMMAND ? item->entry.data : kt_slice(NULL, 0);
        enum kt_code code =
            kt_state_apply(state, item->entry.index, item->entry.term, op, item->wanted ? &item->reply : NULL, error);
        if (code != KT_OK)
            return code;
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

static void commit(struct kt_applier *applier)
{
    enum kt_code code;
    bool post;

    if (applier->uncommitted == 0)
        return;
    code = kt_state_commit(applier->options.state);
    if (code != KT_OK)
        kt_fatal("applier", "cannot commit the state: %s", kt_code_text(code));
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
    struct kt_error error = {0};
    enum kt_code code = kt_apply_batch(applier->options.state, batch, &error);

    if (code != KT_OK)
        kt_fatal("applier", "%s", error.text);
    if (applier->uncommitted == 0)
        applier->uncommitted_ms = kt_clock_ms();
    applier->uncommitted += batch->count;
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
    return applier->uncommitted >= COMMIT_AFTER_ENTRIES ||
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
    applier->stopping = true;
    pthread_cond_signal(&applier->wake);
    pthread_mutex_unlock(&applier->lock);
    pthread_join(applier->thread, NULL);
}

void kt_applier_free(struct kt_applier *applier)
{
    pthread_cond_destroy(&applier->wake);
    pthread_mutex_destroy(&applier->lock);
    kt_free(applier);
}
