/*
 * The files below the log, as a table of functions, so that the simulator can put a disk in their place that forgets
 * what was not synced. Paths are relative to the folder that the disk was opened on. Calls block; the log's writer
 * thread makes them (reads also come from other threads). Failures are negative errno values, as of the system call.
 */
#ifndef KT_CLUSTER_LOG_DISK_H
#define KT_CLUSTER_LOG_DISK_H

#include <sys/uio.h>

#include "base/types.h"

struct kt_disk;
struct kt_file;

struct kt_disk_ops {
    /* create: must not exist yet. */
    int (*open)(struct kt_disk *disk, const char *path, bool create, struct kt_file **file);
    void (*close)(struct kt_file *file);
    /* Whole or failed. */
    int (*write)(struct kt_file *file, uint64_t offset, const struct iovec *parts, int count);
    /* Bytes read, fewer only at the end of the file. */
    int64_t (*read)(struct kt_file *file, uint64_t offset, void *out, size_t len);
    /* Data and what is needed to find it is durable (fdatasync). */
    int (*sync)(struct kt_file *file);
    /*
     * Makes the first `bytes` bytes zeros in reserved blocks, so that later writes neither need space nor change
     * metadata. Also on a file that has contents. Not durable before sync. -ENOSPC: some of it may have been done.
     */
    int (*allocate)(struct kt_file *file, uint64_t bytes);
    int64_t (*size)(struct kt_file *file);
    /* Atomic replacement within the folder. */
    int (*rename)(struct kt_disk *disk, const char *from, const char *to);
    int (*remove)(struct kt_disk *disk, const char *path);
    /* Names created, renamed and removed so far are durable. */
    int (*sync_folder)(struct kt_disk *disk);
    /* Calls each name in no particular order. */
    int (*list)(struct kt_disk *disk, void (*each)(void *data, const char *name), void *data);
};

/* Embedded first in whatever implements it. */
struct kt_disk {
    const struct kt_disk_ops *ops;
};

struct kt_file {
    const struct kt_disk_ops *ops;
};

/*
 * The real one: creates the folder if it is missing and takes an exclusive lock on "<folder>/lock". KT_BUSY: another
 * process (or another open in this one) holds the lock; KT_DISK_FULL; else KT_IO_FAILED, always with *error_number.
 * open, write, read, sync, size and close may be called on any thread, each file's writes on one at a time.
 */
KT_MUST_USE enum kt_code kt_disk_open(const char *folder, struct kt_disk **disk, int *error_number);
/* The same without the lock: of a folder that whoever opens it has locked in another way. Never KT_BUSY. */
KT_MUST_USE enum kt_code kt_disk_open_unlocked(const char *folder, struct kt_disk **disk, int *error_number);
/*
 * For looking at a folder that no node runs on: nothing is created, locked for others or changed; what would change
 * something fails with -EROFS. KT_BUSY: a running node holds the lock. KT_NOT_FOUND: no such folder; else KT_IO_FAILED,
 * always with *error_number. A node does not start on the folder while it is open.
 */
KT_MUST_USE enum kt_code kt_disk_open_read_only(const char *folder, struct kt_disk **disk, int *error_number);
/* What was done through the real disk since it was opened; reserving space for later writes does not count. */
struct kt_disk_counters {
    uint64_t bytes_written, bytes_read;
    uint64_t writes, reads, syncs; /* calls */
};

/* Of a disk of kt_disk_open. Any thread; each number for itself is true. */
void kt_disk_counters(const struct kt_disk *disk, struct kt_disk_counters *counters);
/* All its files are closed; NULL is fine. */
void kt_disk_close(struct kt_disk *disk);

#endif
