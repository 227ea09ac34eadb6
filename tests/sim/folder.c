#include "folder.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"

#define NAMES_MAX  48u
#define TEXT_BYTES 40u
#define PATH_BYTES 300u

enum kind { SMALL, STORE, LOG };

/* What a name stands for. */
struct object {
    unsigned refs;
    enum kind kind;
    bool synced;
    uint8_t *bytes; /* SMALL */
    size_t len;
    char path[PATH_BYTES];         /* STORE */
    struct kt_memory_disk *memory; /* LOG */
};

struct names {
    struct {
        char text[TEXT_BYTES];
        struct object *object;
    } list[NAMES_MAX];
    unsigned count;
};

struct sim_folder {
    struct kt_disk base;
    struct kt_boot_disks disks;
    struct sim_world *world;
    char place[256];
    uint64_t seed, number; /* of objects */
    struct names *history; /* [0] is synced, the last is now */
    size_t count, cap;
    bool full, dead;
    uint64_t stop_at; /* changes until then; 0: never */
};

struct open_file {
    struct kt_file base;
    struct sim_folder *folder;
    struct object *object;
};

/* ---- Objects and names ---- */

static struct object *object_create(enum kind kind)
{
    struct object *object = kt_zalloc(sizeof(*object));
    object->kind = kind;
    return object;
}

static void remove_store(const char *path)
{
    char lock[PATH_BYTES + 8];
    snprintf(lock, sizeof(lock), "%s-lock", path);
    unlink(path);
    unlink(lock);
}

static void object_drop(struct object *object)
{
    if (--object->refs > 0)
        return;
    if (object->kind == STORE)
        remove_store(object->path);
    kt_memory_disk_free(object->memory);
    kt_free(object->bytes);
    kt_free(object);
}

static void names_acquire(struct names *names)
{
    for (unsigned i = 0; i < names->count; i++)
        names->list[i].object->refs++;
}

static void names_drop(struct names *names)
{
    for (unsigned i = 0; i < names->count; i++)
        object_drop(names->list[i].object);
}

static struct names *now(const struct sim_folder *folder)
{
    return &folder->history[folder->count - 1];
}

static struct object *find(const struct sim_folder *folder, const char *name)
{
    const struct names *names = now(folder);
    for (unsigned i = 0; i < names->count; i++)
        if (strcmp(names->list[i].text, name) == 0)
            return names->list[i].object;
    return NULL;
}

/* A new state of the names, to be changed. */
static struct names *change(struct sim_folder *folder)
{
    if (folder->count == folder->cap) {
        folder->cap = folder->cap ? folder->cap * 2 : 4;
        folder->history = kt_realloc(folder->history, folder->cap * sizeof(*folder->history));
    }
    folder->history[folder->count] = folder->history[folder->count - 1];
    names_acquire(&folder->history[folder->count]);
    folder->count++;
    return now(folder);
}

static void unset(struct names *names, const char *name)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (strcmp(names->list[i].text, name) == 0) {
            object_drop(names->list[i].object);
            names->list[i] = names->list[--names->count];
            return;
        }
    }
}

static void set(struct names *names, const char *name, struct object *object)
{
    object->refs++;
    unset(names, name);
    KT_CHECK(names->count < NAMES_MAX && strlen(name) < TEXT_BYTES);
    memcpy(names->list[names->count].text, name, strlen(name) + 1);
    names->list[names->count++].object = object;
}

/* Only the n-th state is left. */
static void settle(struct sim_folder *folder, size_t n)
{
    for (size_t i = 0; i < folder->count; i++)
        if (i != n)
            names_drop(&folder->history[i]);
    folder->history[0] = folder->history[n];
    folder->count = 1;
}

/* ---- The disk ---- */

static struct sim_folder *folder_of(struct kt_disk *disk)
{
    return KT_CONTAINER(disk, struct sim_folder, base);
}

static struct open_file *file_of(struct kt_file *file)
{
    return KT_CONTAINER(file, struct open_file, base);
}

static int change_call(struct sim_folder *folder)
{
    if (folder->stop_at > 0 && --folder->stop_at == 0)
        folder->dead = true;
    return folder->dead ? -EIO : 0;
}

static int folder_open(struct kt_disk *disk, const char *path, bool create, struct kt_file **file)
{
    struct sim_folder *folder = folder_of(disk);
    struct object *object = find(folder, path);
    int status = create ? change_call(folder) : 0;
    if (status == 0 && create && object)
        status = -EEXIST;
    if (status == 0 && create && folder->full)
        status = -ENOSPC;
    if (status == 0 && !create && !object)
        status = -ENOENT;
    if (status < 0)
        return status;
    if (create) {
        object = object_create(SMALL);
        set(change(folder), path, object);
    }
    struct open_file *opened = kt_alloc(sizeof(*opened));
    *opened = (struct open_file){.base = {.ops = disk->ops}, .folder = folder, .object = object};
    object->refs++;
    *file = &opened->base;
    return 0;
}

static void folder_close(struct kt_file *file)
{
    object_drop(file_of(file)->object);
    kt_free(file_of(file));
}

static int folder_write(struct kt_file *file, uint64_t offset, const struct iovec *parts, int count)
{
    struct object *object = file_of(file)->object;
    int status = change_call(file_of(file)->folder);
    for (int i = 0; i < count && status == 0; i++) {
        object->bytes = kt_realloc(object->bytes, KT_MAX(object->len, offset + parts[i].iov_len) + 1);
        memcpy(object->bytes + offset, parts[i].iov_base, parts[i].iov_len);
        offset += parts[i].iov_len;
        object->len = KT_MAX(object->len, offset);
        object->synced = false;
    }
    return status;
}

static int64_t folder_read(struct kt_file *file, uint64_t offset, void *out, size_t len)
{
    const struct object *object = file_of(file)->object;
    KT_CHECK(object->kind == SMALL);
    if (offset >= object->len)
        return 0;
    len = KT_MIN(len, object->len - offset);
    memcpy(out, object->bytes + offset, len);
    return (int64_t)len;
}

static int folder_sync(struct kt_file *file)
{
    int status = change_call(file_of(file)->folder);
    if (status == 0)
        file_of(file)->object->synced = true;
    return status;
}

static int folder_allocate(struct kt_file *file, uint64_t bytes)
{
    (void)file;
    (void)bytes;
    return -EOPNOTSUPP; /* nothing here needs it */
}

static int64_t folder_size(struct kt_file *file)
{
    return (int64_t)file_of(file)->object->len;
}

static int folder_rename(struct kt_disk *disk, const char *from, const char *to)
{
    struct sim_folder *folder = folder_of(disk);
    struct object *object = find(folder, from);
    int status = change_call(folder);
    if (status == 0 && !object)
        status = -ENOENT;
    if (status == 0) {
        struct names *names = change(folder);
        set(names, to, object);
        unset(names, from);
    }
    return status;
}

static int folder_remove(struct kt_disk *disk, const char *path)
{
    struct sim_folder *folder = folder_of(disk);
    if (!find(folder, path))
        return -ENOENT;
    int status = change_call(folder);
    if (status == 0)
        unset(change(folder), path);
    return status;
}

static int folder_sync_folder(struct kt_disk *disk)
{
    struct sim_folder *folder = folder_of(disk);
    int status = change_call(folder);
    if (status == 0)
        settle(folder, folder->count - 1);
    return status;
}

static int folder_list(struct kt_disk *disk, void (*each)(void *data, const char *name), void *data)
{
    const struct names *names = now(folder_of(disk));
    for (unsigned i = 0; i < names->count; i++)
        each(data, names->list[i].text);
    return 0;
}

static const struct kt_disk_ops folder_ops = {
    .open = folder_open,
    .close = folder_close,
    .write = folder_write,
    .read = folder_read,
    .sync = folder_sync,
    .allocate = folder_allocate,
    .size = folder_size,
    .rename = folder_rename,
    .remove = folder_remove,
    .sync_folder = folder_sync_folder,
    .list = folder_list,
};

/* ---- What the boot is given ---- */

static enum kt_code open_log(void *data, struct kt_disk **log, int *error_number)
{
    struct sim_folder *folder = data;
    if (!find(folder, "log")) {
        int status = change_call(folder);
        if (status < 0) {
            *error_number = -status;
            return KT_IO_FAILED;
        }
        struct object *object = object_create(LOG);
        object->memory = kt_memory_disk_create(folder->seed + ++folder->number);
        kt_memory_disk_space(object->memory, folder->full ? 0 : UINT64_MAX);
        set(change(folder), "log", object);
        settle(folder, folder->count - 1); /* kt_disk_open makes the name durable */
    }
    *log = kt_memory_disk_disk(find(folder, "log")->memory);
    return KT_OK;
}

static void close_log(void *data, struct kt_disk *log)
{
    (void)data;
    (void)log;
}

static void path_of(void *data, const char *name, char *out)
{
    snprintf(out, KT_BOOT_PATH_BYTES, "%s", sim_folder_path(data, name));
}

struct sim_folder *sim_folder_create(struct sim_world *world, const char *place, uint64_t seed)
{
    struct sim_folder *folder = kt_zalloc(sizeof(*folder));
    folder->base.ops = &folder_ops;
    folder->world = world;
    folder->seed = seed;
    snprintf(folder->place, sizeof(folder->place), "%s", place);
    folder->disks = (struct kt_boot_disks){
        .files = &folder->base, .open_log = open_log, .close_log = close_log, .path = path_of, .data = folder};
    folder->cap = 4;
    folder->count = 1;
    folder->history = kt_zalloc(folder->cap * sizeof(*folder->history));
    return folder;
}

void sim_folder_free(struct sim_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        names_drop(&folder->history[i]);
    kt_free(folder->history);
    kt_free(folder);
}

const struct kt_boot_disks *sim_folder_disks(struct sim_folder *folder)
{
    return &folder->disks;
}

struct kt_memory_disk *sim_folder_log(struct sim_folder *folder)
{
    const struct object *log = find(folder, "log");
    return log ? log->memory : NULL;
}

const char *sim_folder_path(struct sim_folder *folder, const char *name)
{
    struct object *object = find(folder, name);
    if (!object) {
        object = object_create(STORE);
        snprintf(object->path, sizeof(object->path), "%s-%llu", folder->place, (unsigned long long)++folder->number);
        set(change(folder), name, object);
    }
    KT_CHECK(object->kind == STORE);
    return object->path;
}

const char *sim_folder_receive(struct sim_folder *folder, const char *name)
{
    if (find(folder, name))
        unset(change(folder), name);
    return sim_folder_path(folder, name);
}

bool sim_folder_has(const struct sim_folder *folder, const char *name)
{
    return find(folder, name) != NULL;
}

unsigned sim_folder_count(const struct sim_folder *folder, const char *prefix)
{
    const struct names *names = now(folder);
    unsigned count = 0;
    for (unsigned i = 0; i < names->count; i++)
        count += strncmp(names->list[i].text, prefix, strlen(prefix)) == 0;
    return count;
}

/* ---- What happens to it ---- */

/* The contents of what was not synced: a piece of it. The store brings a file of its own up again by itself. */
static void cut_short(struct sim_folder *folder, struct object *object, const char *name)
{
    if (object->synced || object->kind == LOG)
        return;
    if (object->kind == SMALL)
        object->len = sim_below(folder->world, SIM_DISK, object->len + 1);
    else if (strncmp(name, "incoming", 8) == 0 && truncate(object->path, 4096) != 0)
        KT_CHECK(errno == ENOENT);
}

void sim_folder_crash(struct sim_folder *folder, bool power)
{
    struct kt_memory_disk *log;
    folder->dead = false;
    folder->stop_at = 0;
    if (power) {
        settle(folder, sim_below(folder->world, SIM_DISK, folder->count));
        struct names *names = now(folder);
        for (unsigned i = 0; i < names->count; i++)
            cut_short(folder, names->list[i].object, names->list[i].text);
    }
    log = sim_folder_log(folder);
    if (log) {
        kt_memory_disk_stop_at(log, 0);
        kt_memory_disk_fail_sync(log, 0);
    }
    if (log && power)
        kt_memory_disk_crash(log);
    else if (log)
        kt_memory_disk_kill(log);
}

void sim_folder_wipe(struct sim_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        names_drop(&folder->history[i]);
    memset(&folder->history[0], 0, sizeof(folder->history[0]));
    folder->count = 1;
}

void sim_folder_full(struct sim_folder *folder, bool full)
{
    struct kt_memory_disk *log = sim_folder_log(folder);
    folder->full = full;
    if (log)
        kt_memory_disk_space(log, full ? 0 : UINT64_MAX);
}

void sim_folder_stop_at(struct sim_folder *folder, uint64_t n)
{
    folder->stop_at = n;
}
