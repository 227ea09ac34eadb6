/*
 * The log writer's thread: group commit. Writes are queued; all that are there when the thread turns to the queue form
 * one group: votes and entries in the order given, then one sync, then the completions, in order. The next group
 * collects meanwhile. A failure other than a full disk ends the process through the fail call. On a full disk entries
 * wait until there is room, and what was submitted behind them with them; only trimming does not, as it may make the
 * room.
 */
#ifndef KT_CLUSTER_LOG_LOG_WRITER_H
#define KT_CLUSTER_LOG_LOG_WRITER_H

#include "base/task.h"
#include "cluster/log/wal.h"

/* One thing to make durable; embedded by its sender, who owns it again when done runs. */
struct kt_log_write {
    struct kt_task task; /* of the queue, and of the mailbox that done is posted to */
    bool votes;          /* term and vote are to be written, before the entries */
    kt_term term;
    kt_node_id vote;
    kt_index trim;            /* entries up to here, whole files of them, are forgotten, after the rest; 0: none */
    struct kt_entry *entries; /* borrowed until done; may be NULL */
    size_t count;
    enum kt_code code; /* KT_OK when durable. The writer retries a full disk until there is room. */
    void (*done)(struct kt_log_write *write);
    void *owner; /* whoever set done */
};

struct kt_log_writer;

struct kt_log_writer_options {
    struct kt_wal *wal;                                            /* borrowed until close */
    struct kt_mailbox *mailbox;                                    /* done runs on the thread that drains it */
    void (*fail)(void *data, enum kt_code code, const char *text); /* on the writer's thread; does not return */
    void (*full)(void *data, bool full); /* the disk became full, or has room again; writer's thread */
    void *data;
};

/* KT_NO_MEMORY: no thread could be made. */
KT_MUST_USE enum kt_code kt_log_writer_start(const struct kt_log_writer_options *options,
                                             struct kt_log_writer **writer);
/* Any one thread, in order. */
void kt_log_writer_submit(struct kt_log_writer *writer, struct kt_log_write *write);
/*
 * From now on a full disk is not waited out: writes that wait for room, and all after them, end with KT_DISK_FULL, not
 * durable. For a stop. Any thread.
 */
void kt_log_writer_hurry(struct kt_log_writer *writer);
/*
 * Finishes what was submitted, then ends the threads and frees; NULL is fine. Only if the disk is full then, writes
 * that wait for room end with KT_DISK_FULL, not durable. What is done is in the mailbox on return.
 */
void kt_log_writer_stop(struct kt_log_writer *writer);
/*
 * Microseconds since the current disk operation (a vote, a group's write, its sync) began, 0 if none is under way: for
 * the stall watch. Waiting for room on a full disk does not count. Any thread.
 */
uint64_t kt_log_writer_busy_us(struct kt_log_writer *writer);

#endif
