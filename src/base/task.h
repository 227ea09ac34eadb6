/*
 * How threads talk: a task is a struct that its sender embeds in what it sends; a mailbox is the queue of a thread.
 * A mailbox never allocates, so it is bounded by the number of structs that embed a task, which their owners bound.
 */
#ifndef KT_BASE_TASK_H
#define KT_BASE_TASK_H

#include <pthread.h>

#include "base/types.h"

struct kt_task {
    struct kt_task *next;
    void (*run)(struct kt_task *task); /* on the receiving thread */
};

struct kt_mailbox {
    pthread_mutex_t lock;
    struct kt_task *head, *tail;
    void (*wake)(void *data); /* called on the sender's thread, without the lock, when the mailbox was empty */
    void *data;
};

void kt_mailbox_init(struct kt_mailbox *mailbox, void (*wake)(void *data), void *data);
void kt_mailbox_release(struct kt_mailbox *mailbox);
/* Any thread. In order per sender. The task must not be in a mailbox already. */
void kt_mailbox_post(struct kt_mailbox *mailbox, struct kt_task *task, void (*run)(struct kt_task *task));
/* The receiving thread: runs what is there now, in order; returns how many. A run may reuse or free its task. */
size_t kt_mailbox_drain(struct kt_mailbox *mailbox);

#endif
