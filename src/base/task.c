/* The mailbox: a list under a lock, taken whole by its reader, so a sender waits for a few instructions at most. */
#include "base/task.h"

#include "base/check.h"

void kt_mailbox_init(struct kt_mailbox *mailbox, void (*wake)(void *data), void *data)
{
    *mailbox = (struct kt_mailbox){.wake = wake, .data = data};
    KT_CHECK(pthread_mutex_init(&mailbox->lock, NULL) == 0);
}

void kt_mailbox_release(struct kt_mailbox *mailbox)
{
    KT_CHECK(pthread_mutex_destroy(&mailbox->lock) == 0);
}

void kt_mailbox_post(struct kt_mailbox *mailbox, struct kt_task *task, void (*run)(struct kt_task *task))
{
    task->next = NULL;
    task->run = run;
    /* Once the task is in the list the receiver may run it, and with it the mailbox may go: copies for the wake. */
    void (*wake)(void *) = mailbox->wake;
    void *data = mailbox->data;
    pthread_mutex_lock(&mailbox->lock);
    bool was_empty = !mailbox->head;
    if (was_empty)
        mailbox->head = task;
    else
        mailbox->tail->next = task;
    mailbox->tail = task;
    pthread_mutex_unlock(&mailbox->lock);
    if (was_empty && wake)
        wake(data);
}

size_t kt_mailbox_drain(struct kt_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct kt_task *task = mailbox->head;
    mailbox->head = mailbox->tail = NULL;
    pthread_mutex_unlock(&mailbox->lock);
    size_t count = 0;
    while (task) {
        struct kt_task *next = task->next; /* its run may free it */
        task->run(task);
        task = next;
        count++;
    }
    return count;
}
