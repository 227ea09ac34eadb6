/*
 * Client work on the pool, with a share for each class: a flood of logins or of scans delays its own kind, never the
 * replica's reading of the log.
 */
#include "base/check.h"
#include "dispatch/dispatch_internal.h"

static const unsigned running_max[KT_POOL_CLASSES] = {[KT_POOL_SCAN] = 2, [KT_POOL_LOGIN] = 1};

void pool_init(struct kt_dispatch *dispatch)
{
    for (int i = 0; i < KT_POOL_CLASSES; i++)
        kt_list_init(&dispatch->pool[i].waiting);
}

static void run(uv_work_t *handle)
{
    struct kt_pool_work *work = KT_CONTAINER(handle, struct kt_pool_work, work);

    work->run(work);
}

static void begin(struct kt_pool_work *work);

static void done(uv_work_t *handle, int status)
{
    struct kt_pool_work *work = KT_CONTAINER(handle, struct kt_pool_work, work);
    struct pool_queue *queue = &work->dispatch->pool[work->class];
    struct kt_pool_work *next = kt_list_first(&queue->waiting, struct kt_pool_work, link);

    KT_CHECK(status == 0); /* nobody cancels */
    queue->running--;
    queue->count--;
    if (next) {
        kt_list_remove(&next->link);
        begin(next);
    }
    work->done(work);
}

static void begin(struct kt_pool_work *work)
{
    int rc = uv_queue_work(work->dispatch->options.loop, &work->work, run, done);

    KT_CHECK(rc == 0);
    work->dispatch->pool[work->class].running++;
}

void kt_dispatch_work(struct kt_dispatch *dispatch, enum kt_pool_class class, struct kt_pool_work *work)
{
    struct pool_queue *queue = &dispatch->pool[class];

    work->dispatch = dispatch;
    work->class = class;
    queue->count++;
    if (queue->running < running_max[class])
        begin(work);
    else
        kt_list_append(&queue->waiting, &work->link);
}
