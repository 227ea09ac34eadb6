/* The inside of a node, shared by node*.c: its queues, and what the virtual threads offer the replica's host. */
#ifndef KT_SIM_NODE_INTERNAL_H
#define KT_SIM_NODE_INTERNAL_H

#include "cluster.h"

static inline struct sim_world *world_of(const struct sim_node *node)
{
    return &node->cluster->world;
}

static inline unsigned long long id_of(const struct sim_node *node)
{
    return (unsigned long long)node->id;
}

static inline void queue_put(struct sim_queue *queue, struct kt_task *task)
{
    task->next = NULL;
    if (queue->last)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
}

static inline void queue_put_first(struct sim_queue *queue, struct kt_task *task)
{
    task->next = queue->first;
    queue->first = task;
    if (!queue->last)
        queue->last = task;
}

static inline struct kt_task *queue_take(struct sim_queue *queue)
{
    struct kt_task *task = queue->first;
    if (task) {
        queue->first = task->next;
        if (!queue->first)
            queue->last = NULL;
    }
    return task;
}

static inline struct kt_log_write *write_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_log_write, task) : NULL;
}

static inline struct kt_apply_batch *batch_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_apply_batch, task) : NULL;
}

static inline struct kt_log_read *fetch_take(struct sim_queue *queue)
{
    struct kt_task *task = queue_take(queue);
    return task ? KT_CONTAINER(task, struct kt_log_read, task) : NULL;
}

/* node_log.c: the replica's host */
void sim_node_persist(void *data, struct kt_log_write *write);
void sim_node_fetch(void *data, struct kt_log_read *read);
/* The log failed: so it must if the disk was to end, and the node ends too; else it is a fault of the log. */
void sim_node_log_failed(struct sim_node *node, const char *what, enum kt_code code);

/* node_apply.c: the replica's host */
void sim_node_apply(void *data, struct kt_apply_batch *batch);
void sim_node_want(void *data, kt_index index);
/* Sets the state file back to the copy. */
void sim_node_restore(struct sim_node *node);

#endif
