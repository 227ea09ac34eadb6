/* The real disk: files of one folder, through system calls relative to it. */
#include "cluster/log/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

#define LOCK_NAME  "lock"
#define ZERO_BYTES (1u << 20) /* one write of zeros: large enough that the calls do not count */
#define ZERO_SYNC  4          /* writes of zeros between two syncs */

struct real_disk {
    struct kt_disk base;
    int folder;
    int lock;
    atomic_uint_fast64_t bytes_written, bytes_read, writes, reads, syncs;
};

struct real_file {
    struct kt_file base;
    struct real_disk *disk;
    int fd;
};

static void add(atomic_uint_fast64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static struct real_disk *disk_of(const struct kt_file *file)
{
    return KT_CONTAINER(file, struct real_file, base)->disk;
}

static int folder_of(const struct kt_disk *disk)
{
    return KT_CONTAINER(disk, struct real_disk, base)->folder;
}

static int fd_of(const struct kt_file *file)
{
    return KT_CONTAINER(file, struct real_file, base)->fd;
}

static int real_open(struct kt_disk *disk, const char *path, bool create, struct kt_file **file)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0);
    struct real_file *opened;
    int fd;

    do {
        fd = openat(folder_of(disk), path, flags, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    opened = kt_alloc(sizeof(*opened));
    *opened =
        (struct real_file){.base = {.ops = disk->ops}, .disk = KT_CONTAINER(disk, struct real_disk, base), .fd = fd};
    *file = &opened->base;
    return 0;
}

static void real_close(struct kt_file *file)
{
    struct real_file *closed = KT_CONTAINER(file, struct real_file, base);

    close(closed->fd);
    kt_free(closed);
}

/* Drops what was written from the front of the parts. */
static void advance(struct iovec **parts, int *count, size_t written)
{
    while (*count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (*count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
}

static int write_parts(struct kt_file *file, uint64_t offset, const struct iovec *parts, int count)
{
    struct iovec some[IOV_MAX];

    while (count > 0) {
        int n = KT_MIN(count, IOV_MAX);
        struct iovec *left = some;

        memcpy(some, parts, (size_t)n * sizeof(*some));
        parts += n;
        count -= n;
        while (n > 0) {
            ssize_t written = pwritev(fd_of(file), left, n, (off_t)offset);

            if (written < 0 && errno == EINTR)
                continue;
            if (written < 0)
                return -errno;
            offset += (uint64_t)written;
            advance(&left, &n, (size_t)written);
        }
    }
    return 0;
}

static int real_write(struct kt_file *file, uint64_t offset, const struct iovec *parts, int count)
{
    struct real_disk *disk = disk_of(file);
    uint64_t bytes = 0;

    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    add(&disk->writes, 1);
    add(&disk->bytes_written, bytes);
    return write_parts(file, offset, parts, count);
}

static int64_t real_read(struct kt_file *file, uint64_t offset, void *out, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t got = pread(fd_of(file), (uint8_t *)out + done, len - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    add(&disk_of(file)->reads, 1);
    add(&disk_of(file)->bytes_read, done);
    return (int64_t)done;
}

/* Not repeated when interrupted by an error: a second fdatasync may report success for pages that the first one lost.
 */
static int real_sync(struct kt_file *file)
{
    int status;

    do {
        status = fdatasync(fd_of(file));
    } while (status < 0 && errno == EINTR);
    if (status < 0)
        return -errno;
    add(&disk_of(file)->syncs, 1);
    return 0;
}

/*
 * Synced now and then: a whole segment of dirty pages, flushed at once, would hold up the syncs of the log itself for
 * as long as the disk takes for it, which comes near an election timeout.
 */
static int write_zeros(struct kt_file *file, uint64_t bytes)
{
    uint8_t *zeros = kt_zalloc(ZERO_BYTES);
    int status = 0;

    for (uint64_t at = 0; at < bytes && status == 0; at += ZERO_BYTES) {
        struct iovec part = {.iov_base = zeros, .iov_len = (size_t)KT_MIN(ZERO_BYTES, bytes - at)};

        status = write_parts(file, at, &part, 1);
        if (status == 0 && (at / ZERO_BYTES) % ZERO_SYNC == ZERO_SYNC - 1)
            status = real_sync(file);
    }
    kt_free(zeros);
    return status;
}

static int real_allocate(struct kt_file *file, uint64_t bytes)
{
    int status;

    /* First the reservation: it finds out about a full disk at once, and gives the file few extents. */
    do {
        status = fallocate(fd_of(file), 0, 0, (off_t)bytes);
    } while (status < 0 && errno == EINTR);
    if (status < 0 && errno != EOPNOTSUPP)
        return -errno;
    /* Then zeros: a reserved block that was never written costs a change of metadata at its first write. */
    return write_zeros(file, bytes);
}

static int64_t real_size(struct kt_file *file)
{
    struct stat st;

    return fstat(fd_of(file), &st) < 0 ? -errno : (int64_t)st.st_size;
}

static int real_rename(struct kt_disk *disk, const char *from, const char *to)
{
    return renameat(folder_of(disk), from, folder_of(disk), to) < 0 ? -errno : 0;
}

static int real_remove(struct kt_disk *disk, const char *path)
{
    return unlinkat(folder_of(disk), path, 0) < 0 ? -errno : 0;
}

static int real_sync_folder(struct kt_disk *disk)
{
    return fsync(folder_of(disk)) < 0 ? -errno : 0;
}

static int real_list(struct kt_disk *disk, void (*each)(void *data, const char *name), void *data)
{
    int fd = openat(folder_of(disk), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int status;

    if (!folder) {
        status = -errno;
        if (fd >= 0)
            close(fd);
        return status;
    }
    for (errno = 0; (entry = readdir(folder)); errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(data, entry->d_name);
    status = -errno;
    closedir(folder);
    return status;
}

static const struct kt_disk_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .write = real_write,
    .read = real_read,
    .sync = real_sync,
    .allocate = real_allocate,
    .size = real_size,
    .rename = real_rename,
    .remove = real_remove,
    .sync_folder = real_sync_folder,
    .list = real_list,
};

/* Makes the folder if it is missing, and the name of a new one durable. 0 or a negative errno. */
static int make_folder(const char *path)
{
    char *copy;
    int parent, status = 0;

    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    copy = kt_text_dup(path);
    parent = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || fsync(parent) < 0)
        status = -errno;
    if (parent >= 0)
        close(parent);
    kt_free(copy);
    return status;
}

/* The lock lasts as long as the descriptor: a process that dies, however it dies, gives it back. */
static int take_lock(int folder, int *lock)
{
    int status;

    *lock = openat(folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*lock < 0)
        return -errno;
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    status = -errno;
    close(*lock);
    return status;
}

enum kt_code kt_disk_open(const char *folder, struct kt_disk **disk, int *error_number)
{
    struct real_disk *opened;
    int fd = -1, lock = -1;
    int status = make_folder(folder);

    *disk = NULL;
    if (status == 0) {
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        status = fd < 0 ? -errno : take_lock(fd, &lock);
    }
    if (status) {
        if (fd >= 0)
            close(fd);
        *error_number = -status;
        if (status == -EWOULDBLOCK)
            return KT_BUSY;
        return status == -ENOSPC || status == -EDQUOT ? KT_DISK_FULL : KT_IO_FAILED;
    }
    opened = kt_zalloc(sizeof(*opened));
    opened->base.ops = &real_ops;
    opened->folder = fd;
    opened->lock = lock;
    *disk = &opened->base;
    *error_number = 0;
    return KT_OK;
}

void kt_disk_counters(const struct kt_disk *disk, struct kt_disk_counters *counters)
{
    const struct real_disk *real = KT_CONTAINER(disk, struct real_disk, base);

    *counters = (struct kt_disk_counters){
        .bytes_written = atomic_load(&real->bytes_written),
        .bytes_read = atomic_load(&real->bytes_read),
        .writes = atomic_load(&real->writes),
        .reads = atomic_load(&real->reads),
        .syncs = atomic_load(&real->syncs),
    };
}

void kt_disk_close(struct kt_disk *disk)
{
    struct real_disk *closed;

    if (!disk)
        return;
    closed = KT_CONTAINER(disk, struct real_disk, base);
    close(closed->lock);
    close(closed->folder);
    kt_free(closed);
}
