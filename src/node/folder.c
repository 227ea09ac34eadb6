/* The data folder's lock and identity. */
#include "node/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDENTITY_MAX 4608 /* bytes: the longest cluster name that settings allow, and what stands around it */

static enum kt_code make_folders(const char *path, struct kt_error *error)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(part))
        return kt_error_set(error, KT_BAD_REQUEST, "a data folder's path has 1..%zu bytes", sizeof(part) - 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST)
            return kt_error_errno(error, KT_IO_FAILED, errno, "making folder %.150s", part);
    }
    return KT_OK;
}

/* A new name in a folder is durable when the folder is synced. */
static enum kt_code sync_folder(const char *path, struct kt_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return failed ? kt_error_errno(error, KT_IO_FAILED, failed, "syncing folder %.150s", path) : KT_OK;
}

static enum kt_code take_lock(const char *path, struct kt_folder *folder, struct kt_error *error)
{
    char name[PATH_MAX + 8], owner[24] = "";

    snprintf(name, sizeof(name), "%s/lock", path);
    folder->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (folder->lock < 0)
        return kt_error_errno(error, KT_IO_FAILED, errno, "opening %.150s", name);
    if (flock(folder->lock, LOCK_EX | LOCK_NB) != 0) {
        int failed = errno;
        ssize_t len = pread(folder->lock, owner, sizeof(owner) - 1, 0);
        owner[len > 0 ? strcspn(owner, "\n") : 0] = '\0';
        if (failed != EWOULDBLOCK)
            return kt_error_errno(error, KT_IO_FAILED, failed, "locking %.150s", name);
        return kt_error_set(error, KT_BUSY, "data folder %.150s is in use by process %s", path, owner);
    }
    int len = snprintf(owner, sizeof(owner), "%ld\n", (long)getpid());
    if (ftruncate(folder->lock, 0) != 0 || pwrite(folder->lock, owner, (size_t)len, 0) != len)
        return kt_error_errno(error, KT_IO_FAILED, errno, "writing %.150s", name);
    return KT_OK;
}

static enum kt_code write_whole(const char *name, const char *text, struct kt_error *error)
{
    size_t len = strlen(text);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640), failed = 0;
    if (fd < 0)
        return kt_error_errno(error, KT_IO_FAILED, errno, "opening %.150s", name);
    errno = 0;
    if (write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
        failed = errno ? errno : ENOSPC;
    close(fd);
    return failed ? kt_error_errno(error, KT_IO_FAILED, failed, "writing %.150s", name) : KT_OK;
}

static enum kt_code check_identity(const char *path, const char *cluster, kt_node_id node, struct kt_error *error)
{
    char name[PATH_MAX + 16], draft[PATH_MAX + 32], wanted[IDENTITY_MAX], found[IDENTITY_MAX];

    snprintf(name, sizeof(name), "%s/identity", path);
    snprintf(wanted, sizeof(wanted), "cluster %s\nnode %llu\n", cluster, (unsigned long long)node);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t len = read(fd, found, sizeof(found) - 1);
        int failed = errno;
        close(fd);
        if (len < 0)
            return kt_error_errno(error, KT_IO_FAILED, failed, "reading %.150s", name);
        found[len] = '\0';
        if (strcmp(found, wanted) == 0)
            return KT_OK;
        for (char *at = found; *at; at++) {
            if (*at == '\n')
                *at = at[1] ? ',' : '\0';
        }
        return kt_error_set(error, KT_BAD_REQUEST,
                            "data folder %.80s belongs to another node (%.80s); this is node %llu of cluster %.40s",
                            path, found, (unsigned long long)node, cluster);
    }
    if (errno != ENOENT)
        return kt_error_errno(error, KT_IO_FAILED, errno, "opening %.150s", name);
    /* Renaming makes it appear whole or not at all. */
    snprintf(draft, sizeof(draft), "%s/identity.new", path);
    enum kt_code code = write_whole(draft, wanted, error);
    if (code != KT_OK)
        return code;
    if (rename(draft, name) != 0)
        return kt_error_errno(error, KT_IO_FAILED, errno, "renaming %.150s", draft);
    return sync_folder(path, error);
}

enum kt_code kt_folder_open(const char *path, const char *cluster, kt_node_id node, struct kt_folder *folder,
                            struct kt_error *error)
{
    folder->lock = -1;
    enum kt_code code = make_folders(path, error);
    if (code == KT_OK)
        code = take_lock(path, folder, error);
    if (code == KT_OK)
        code = check_identity(path, cluster, node, error);
    if (code != KT_OK)
        kt_folder_close(folder);
    return code;
}

void kt_folder_close(struct kt_folder *folder)
{
    if (folder->lock >= 0)
        close(folder->lock);
    folder->lock = -1;
}
