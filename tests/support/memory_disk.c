#include "support/memory_disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/random.h"

#define BLOCK     512u
#define NAME_MAX_ 64u

/* Bytes written since the last sync. */
struct write {
    uint64_t offset;
    size_t len;
    uint8_t *bytes;
};

struct inode {
    unsigned refs; /* names, changes of names, open files */
    uint8_t *now, *synced;
    uint64_t now_len, synced_len, now_cap, synced_cap;
    struct write *writes;
    size_t write_count, write_cap;
};

struct name {
    char text[NAME_MAX_];
    struct inode *inode;
};

struct names {
    struct name *list; /* sorted */
    size_t count, cap;
};

/* One change of the folder: `gone` vanishes (if not empty), then `name` is `inode` (if not NULL). */
struct change {
    char gone[NAME_MAX_];
    char name[NAME_MAX_];
    struct inode *inode;
};

struct kt_memory_disk {
    struct kt_disk base; /* first: what the log holds is what we are */
    pthread_mutex_t lock;
    struct kt_random random;
    struct names now, synced;
    struct change *changes;
    size_t change_count, change_cap;
    uint64_t boot; /* files opened in an earlier one are dead */
    unsigned open_files;
    bool freed; /* waits for its open files */
    unsigned fail_sync, fail_write;
    uint64_t stop_at, calls;
    uint64_t space;
};

struct memory_file {
    struct kt_file base;
    struct kt_memory_disk *memory;
    struct inode *inode;
    uint64_t boot;
};

static struct kt_memory_disk *memory_of(struct kt_disk *disk)
{
    return KT_CONTAINER(disk, struct kt_memory_disk, base);
}

static struct memory_file *file_of(struct kt_file *file)
{
    return KT_CONTAINER(file, struct memory_file, base);
}

static void forget_writes(struct inode *inode)
{
    for (size_t i = 0; i < inode->write_count; i++)
        kt_free(inode->writes[i].bytes);
    inode->write_count = 0;
}

static void drop_inode(struct inode *inode)
{
    if (!inode || --inode->refs > 0)
        return;
    forget_writes(inode);
    kt_free(inode->writes);
    kt_free(inode->now);
    kt_free(inode->synced);
    kt_free(inode);
}

static void grow(uint8_t **bytes, uint64_t *len, uint64_t *cap, uint64_t to)
{
    if (to <= *len)
        return;
    if (to > *cap) {
        *cap = KT_MAX(to, *cap * 2);
        *bytes = kt_realloc(*bytes, *cap);
    }
    memset(*bytes + *len, 0, to - *len);
    *len = to;
}

static int compare_names(const void *a, const void *b)
{
    const struct name *left = a, *right = b;

    return strcmp(left->text, right->text);
}

static struct name *find(const struct names *names, const char *text)
{
    struct name key;

    if (names->count == 0 || strlen(text) >= NAME_MAX_)
        return NULL;
    snprintf(key.text, sizeof(key.text), "%s", text);
    return bsearch(&key, names->list, names->count, sizeof(key), compare_names);
}

static void set_name(struct names *names, const char *text, struct inode *inode)
{
    struct name *name = find(names, text);

    inode->refs++;
    if (name) {
        drop_inode(name->inode);
        name->inode = inode;
        return;
    }
    if (names->count == names->cap) {
        names->cap = names->cap ? names->cap * 2 : 8;
        names->list = kt_realloc(names->list, names->cap * sizeof(*names->list));
    }
    KT_CHECK(strlen(text) < NAME_MAX_);
    /* Mostly the last one: segments are named in order. */
    size_t at = names->count++;
    for (; at > 0 && strcmp(text, names->list[at - 1].text) < 0; at--)
        names->list[at] = names->list[at - 1];
    snprintf(names->list[at].text, sizeof(names->list[at].text), "%s", text);
    names->list[at].inode = inode;
}

static bool unset_name(struct names *names, const char *text)
{
    struct name *name = find(names, text);

    if (!name)
        return false;
    drop_inode(name->inode);
    names->count--;
    memmove(name, name + 1, (size_t)(names->list + names->count - name) * sizeof(*name));
    return true;
}

static void clear_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        drop_inode(names->list[i].inode);
    names->count = 0;
}

static void copy_names(struct names *to, const struct names *from)
{
    clear_names(to);
    for (size_t i = 0; i < from->count; i++)
        set_name(to, from->list[i].text, from->list[i].inode);
}

static void forget_changes(struct kt_memory_disk *memory)
{
    for (size_t i = 0; i < memory->change_count; i++)
        drop_inode(memory->changes[i].inode);
    memory->change_count = 0;
}

/* Makes the change now, and remembers it until the folder is synced. */
static void change_names(struct kt_memory_disk *memory, const char *gone, const char *name, struct inode *inode)
{
    struct change *change;

    if (memory->change_count == memory->change_cap) {
        memory->change_cap = memory->change_cap ? memory->change_cap * 2 : 8;
        memory->changes = kt_realloc(memory->changes, memory->change_cap * sizeof(*memory->changes));
    }
    change = &memory->changes[memory->change_count++];
    memset(change, 0, sizeof(*change));
    if (inode)
        inode->refs++;
    change->inode = inode;
    if (name) {
        snprintf(change->name, sizeof(change->name), "%s", name);
        set_name(&memory->now, name, inode);
    }
    if (gone) {
        snprintf(change->gone, sizeof(change->gone), "%s", gone);
        unset_name(&memory->now, gone);
    }
}

/* Counts a call that changes something; a negative errno if it must not happen. */
static int change_call(struct kt_memory_disk *memory)
{
    memory->calls++;
    return memory->stop_at && memory->calls >= memory->stop_at ? -EIO : 0;
}

static int take_space(struct kt_memory_disk *memory, const struct inode *inode, uint64_t end)
{
    uint64_t more = end > inode->now_len ? end - inode->now_len : 0;

    if (more > memory->space)
        return -ENOSPC;
    if (memory->space != UINT64_MAX)
        memory->space -= more;
    return 0;
}

static int memory_open(struct kt_disk *disk, const char *path, bool create, struct kt_file **file)
{
    struct kt_memory_disk *memory = memory_of(disk);
    struct memory_file *opened;
    struct name *name;
    int status = 0;

    pthread_mutex_lock(&memory->lock);
    name = find(&memory->now, path);
    if (create)
        status = change_call(memory);
    if (status == 0 && create && name)
        status = -EEXIST;
    if (status == 0 && !create && !name)
        status = -ENOENT;
    if (status == 0) {
        struct inode *inode = name ? name->inode : kt_zalloc(sizeof(*inode));

        if (create)
            change_names(memory, NULL, path, inode);
        opened = kt_alloc(sizeof(*opened));
        *opened = (struct memory_file){
            .base = {.ops = memory->base.ops}, .memory = memory, .inode = inode, .boot = memory->boot};
        inode->refs++;
        memory->open_files++;
        *file = &opened->base;
    }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static void free_memory(struct kt_memory_disk *memory)
{
    clear_names(&memory->now);
    clear_names(&memory->synced);
    kt_free(memory->now.list);
    kt_free(memory->synced.list);
    forget_changes(memory);
    kt_free(memory->changes);
    pthread_mutex_destroy(&memory->lock);
    kt_free(memory);
}

static void memory_close(struct kt_file *file)
{
    struct memory_file *closed = file_of(file);
    struct kt_memory_disk *memory = closed->memory;
    bool last;

    pthread_mutex_lock(&memory->lock);
    drop_inode(closed->inode);
    kt_free(closed);
    memory->open_files--;
    last = memory->freed && memory->open_files == 0;
    pthread_mutex_unlock(&memory->lock);
    if (last)
        free_memory(memory);
}

static bool is_dead(const struct memory_file *file)
{
    return file->boot != file->memory->boot || file->memory->freed;
}

static void write_part(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct write *write;

    if (len == 0)
        return;
    grow(&inode->now, &inode->now_len, &inode->now_cap, offset + len);
    memcpy(inode->now + offset, bytes, len);
    if (inode->write_count == inode->write_cap) {
        inode->write_cap = inode->write_cap ? inode->write_cap * 2 : 8;
        inode->writes = kt_realloc(inode->writes, inode->write_cap * sizeof(*inode->writes));
    }
    write = &inode->writes[inode->write_count++];
    *write = (struct write){.offset = offset, .len = len, .bytes = kt_alloc(len)};
    memcpy(write->bytes, bytes, len);
}

static int memory_write(struct kt_file *base, uint64_t offset, const struct iovec *parts, int count)
{
    struct memory_file *file = file_of(base);
    struct kt_memory_disk *memory = file->memory;
    uint64_t len = 0;
    uint64_t allowed;
    int status;

    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    allowed = len;
    pthread_mutex_lock(&memory->lock);
    status = is_dead(file) ? -EIO : change_call(memory);
    if (status == 0)
        status = take_space(memory, file->inode, offset + len);
    else
        allowed = 0;
    if (status == 0 && memory->fail_write > 0 && --memory->fail_write == 0) {
        status = -EIO;
        allowed = len > 0 ? kt_random_below(&memory->random, len) : 0;
    } else if (status) {
        allowed = 0;
    }
    for (int i = 0; i < count && allowed > 0; i++) {
        size_t part = (size_t)KT_MIN(parts[i].iov_len, allowed);

        write_part(file->inode, offset, parts[i].iov_base, part);
        offset += part;
        allowed -= part;
    }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static int64_t memory_read(struct kt_file *base, uint64_t offset, void *out, size_t len)
{
    struct memory_file *file = file_of(base);
    int64_t got = 0;

    pthread_mutex_lock(&file->memory->lock);
    if (is_dead(file)) {
        got = -EIO;
    } else if (offset < file->inode->now_len) {
        got = (int64_t)KT_MIN(len, file->inode->now_len - offset);
        memcpy(out, file->inode->now + offset, (size_t)got);
    }
    pthread_mutex_unlock(&file->memory->lock);
    return got;
}

static void apply_write(struct inode *inode, const struct write *write, uint64_t from, uint64_t to)
{
    uint64_t begin = KT_MAX(from, write->offset);
    uint64_t end = KT_MIN(to, write->offset + write->len);

    if (begin >= end)
        return;
    grow(&inode->synced, &inode->synced_len, &inode->synced_cap, end);
    memcpy(inode->synced + begin, write->bytes + (begin - write->offset), end - begin);
}

static void sync_inode(struct inode *inode)
{
    for (size_t i = 0; i < inode->write_count; i++)
        apply_write(inode, &inode->writes[i], 0, UINT64_MAX);
    grow(&inode->synced, &inode->synced_len, &inode->synced_cap, inode->now_len);
    forget_writes(inode);
}

static int sync_call(struct kt_memory_disk *memory)
{
    int status = change_call(memory);

    if (status == 0 && memory->fail_sync > 0 && --memory->fail_sync == 0)
        status = -EIO;
    return status;
}

static int memory_sync(struct kt_file *base)
{
    struct memory_file *file = file_of(base);
    int status;

    pthread_mutex_lock(&file->memory->lock);
    status = is_dead(file) ? -EIO : sync_call(file->memory);
    if (status == 0)
        sync_inode(file->inode);
    pthread_mutex_unlock(&file->memory->lock);
    return status;
}

static int memory_allocate(struct kt_file *base, uint64_t bytes)
{
    struct memory_file *file = file_of(base);
    int status;

    pthread_mutex_lock(&file->memory->lock);
    status = is_dead(file) ? -EIO : change_call(file->memory);
    if (status == 0)
        status = take_space(file->memory, file->inode, bytes);
    if (status == 0) {
        uint8_t *zeros = kt_zalloc(bytes);

        write_part(file->inode, 0, zeros, bytes);
        kt_free(zeros);
    }
    pthread_mutex_unlock(&file->memory->lock);
    return status;
}

static int64_t memory_size(struct kt_file *base)
{
    struct memory_file *file = file_of(base);
    int64_t size;

    pthread_mutex_lock(&file->memory->lock);
    size = is_dead(file) ? -EIO : (int64_t)file->inode->now_len;
    pthread_mutex_unlock(&file->memory->lock);
    return size;
}

static int memory_rename(struct kt_disk *disk, const char *from, const char *to)
{
    struct kt_memory_disk *memory = memory_of(disk);
    struct name *name;
    int status;

    pthread_mutex_lock(&memory->lock);
    status = change_call(memory);
    name = find(&memory->now, from);
    if (status == 0 && !name)
        status = -ENOENT;
    if (status == 0)
        change_names(memory, from, to, name->inode);
    pthread_mutex_unlock(&memory->lock);
    return status;
}

/* A file without a name gives its space back. */
static void give_space(struct kt_memory_disk *memory, const struct inode *inode)
{
    if (memory->space != UINT64_MAX)
        memory->space += inode->now_len;
}

static int memory_remove(struct kt_disk *disk, const char *path)
{
    struct kt_memory_disk *memory = memory_of(disk);
    struct name *name;
    int status;

    pthread_mutex_lock(&memory->lock);
    status = change_call(memory);
    name = find(&memory->now, path);
    if (status == 0 && !name)
        status = -ENOENT;
    if (status == 0) {
        give_space(memory, name->inode);
        change_names(memory, path, NULL, NULL);
    }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static int memory_sync_folder(struct kt_disk *disk)
{
    struct kt_memory_disk *memory = memory_of(disk);
    int status;

    pthread_mutex_lock(&memory->lock);
    status = sync_call(memory);
    if (status == 0) {
        copy_names(&memory->synced, &memory->now);
        forget_changes(memory);
    }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static int memory_list(struct kt_disk *disk, void (*each)(void *data, const char *name), void *data)
{
    struct kt_memory_disk *memory = memory_of(disk);

    /* The lock is not held across the call: a copy of the names is walked. */
    struct names copy = {0};

    pthread_mutex_lock(&memory->lock);
    copy_names(&copy, &memory->now);
    pthread_mutex_unlock(&memory->lock);
    for (size_t i = 0; i < copy.count; i++)
        each(data, copy.list[i].text);
    pthread_mutex_lock(&memory->lock);
    clear_names(&copy);
    pthread_mutex_unlock(&memory->lock);
    kt_free(copy.list);
    return 0;
}

static const struct kt_disk_ops memory_ops = {
    .open = memory_open,
    .close = memory_close,
    .write = memory_write,
    .read = memory_read,
    .sync = memory_sync,
    .allocate = memory_allocate,
    .size = memory_size,
    .rename = memory_rename,
    .remove = memory_remove,
    .sync_folder = memory_sync_folder,
    .list = memory_list,
};

struct kt_memory_disk *kt_memory_disk_create(uint64_t seed)
{
    struct kt_memory_disk *memory = kt_zalloc(sizeof(*memory));

    memory->base.ops = &memory_ops;
    pthread_mutex_init(&memory->lock, NULL);
    kt_random_seed(&memory->random, seed);
    memory->space = UINT64_MAX;
    return memory;
}

void kt_memory_disk_free(struct kt_memory_disk *memory)
{
    bool busy;

    if (!memory)
        return;
    pthread_mutex_lock(&memory->lock);
    memory->freed = true;
    busy = memory->open_files > 0;
    pthread_mutex_unlock(&memory->lock);
    if (!busy)
        free_memory(memory);
}

struct kt_disk *kt_memory_disk_disk(struct kt_memory_disk *memory)
{
    return &memory->base;
}

/* How much of what is unsynced a crash keeps: all three extremes happen in life, and mixtures. */
enum mood { KEEP_NONE, KEEP_ALL, KEEP_SOME };

static enum mood choose_mood(struct kt_random *random)
{
    static const enum mood moods[] = {KEEP_NONE, KEEP_ALL, KEEP_SOME, KEEP_SOME};

    return moods[kt_random_below(random, KT_COUNT(moods))];
}

/* One block: the first writes to it, and sometimes a piece of the next. */
static void crash_block(struct kt_memory_disk *memory, struct inode *inode, uint64_t from, enum mood mood)
{
    uint64_t to = from + BLOCK;
    size_t touching = 0, kept;

    for (size_t i = 0; i < inode->write_count; i++)
        touching += inode->writes[i].offset < to && inode->writes[i].offset + inode->writes[i].len > from;
    if (touching == 0)
        return;
    kept = mood == KEEP_ALL ? touching : mood == KEEP_NONE ? 0 : kt_random_below(&memory->random, touching + 1);
    for (size_t i = 0; i < inode->write_count; i++) {
        const struct write *write = &inode->writes[i];

        if (write->offset >= to || write->offset + write->len <= from)
            continue;
        if (kept == 0) {
            if (mood == KEEP_SOME && kt_random_below(&memory->random, 8) == 0)
                apply_write(inode, write, from, from + 8 * kt_random_below(&memory->random, BLOCK / 8));
            return;
        }
        apply_write(inode, write, from, to);
        kept--;
    }
}

static int compare_offsets(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static void crash_inode(struct kt_memory_disk *memory, struct inode *inode)
{
    enum mood mood = choose_mood(&memory->random);
    uint64_t *blocks = NULL;
    size_t count = 0, cap = 0;

    if (mood == KEEP_ALL) {
        sync_inode(inode);
    } else if (mood == KEEP_SOME && inode->write_count > 0) {
        for (size_t i = 0; i < inode->write_count; i++) {
            const struct write *write = &inode->writes[i];

            for (uint64_t at = write->offset / BLOCK; at * BLOCK < write->offset + write->len; at++) {
                if (count == cap) {
                    cap = cap ? cap * 2 : 64;
                    blocks = kt_realloc(blocks, cap * sizeof(*blocks));
                }
                blocks[count++] = at * BLOCK;
            }
        }
        qsort(blocks, count, sizeof(*blocks), compare_offsets);
        for (size_t i = 0; i < count; i++)
            if (i == 0 || blocks[i] != blocks[i - 1])
                crash_block(memory, inode, blocks[i], mood);
        kt_free(blocks);
    }
    forget_writes(inode);
    inode->now_len = 0;
    grow(&inode->now, &inode->now_len, &inode->now_cap, inode->synced_len);
    if (inode->synced_len > 0)
        memcpy(inode->now, inode->synced, inode->synced_len);
}

static void crash_names(struct kt_memory_disk *memory)
{
    enum mood mood = choose_mood(&memory->random);

    for (size_t i = 0; i < memory->change_count; i++) {
        const struct change *change = &memory->changes[i];

        if (mood == KEEP_NONE || (mood == KEEP_SOME && kt_random_below(&memory->random, 2) == 0))
            continue;
        if (change->name[0])
            set_name(&memory->synced, change->name, change->inode);
        if (change->gone[0])
            unset_name(&memory->synced, change->gone);
    }
    forget_changes(memory);
    copy_names(&memory->now, &memory->synced);
}

void kt_memory_disk_crash(struct kt_memory_disk *memory)
{
    pthread_mutex_lock(&memory->lock);
    crash_names(memory);
    for (size_t i = 0; i < memory->now.count; i++)
        crash_inode(memory, memory->now.list[i].inode);
    memory->boot++;
    pthread_mutex_unlock(&memory->lock);
}

void kt_memory_disk_kill(struct kt_memory_disk *memory)
{
    pthread_mutex_lock(&memory->lock);
    memory->boot++;
    pthread_mutex_unlock(&memory->lock);
}

void kt_memory_disk_fail_sync(struct kt_memory_disk *memory, unsigned n)
{
    pthread_mutex_lock(&memory->lock);
    memory->fail_sync = n;
    pthread_mutex_unlock(&memory->lock);
}

void kt_memory_disk_fail_write(struct kt_memory_disk *memory, unsigned n)
{
    pthread_mutex_lock(&memory->lock);
    memory->fail_write = n;
    pthread_mutex_unlock(&memory->lock);
}

void kt_memory_disk_stop_at(struct kt_memory_disk *memory, uint64_t n)
{
    pthread_mutex_lock(&memory->lock);
    memory->stop_at = n ? memory->calls + n : 0;
    pthread_mutex_unlock(&memory->lock);
}

uint64_t kt_memory_disk_changes(struct kt_memory_disk *memory)
{
    uint64_t calls;

    pthread_mutex_lock(&memory->lock);
    calls = memory->calls;
    pthread_mutex_unlock(&memory->lock);
    return calls;
}

void kt_memory_disk_space(struct kt_memory_disk *memory, uint64_t bytes)
{
    pthread_mutex_lock(&memory->lock);
    memory->space = bytes;
    pthread_mutex_unlock(&memory->lock);
}

bool kt_memory_disk_flip(struct kt_memory_disk *memory, const char *name, uint64_t offset, unsigned bit)
{
    struct name *found = find(&memory->now, name);

    if (!found || offset >= found->inode->now_len)
        return false;
    found->inode->now[offset] ^= (uint8_t)(1u << bit);
    if (offset < found->inode->synced_len)
        found->inode->synced[offset] ^= (uint8_t)(1u << bit);
    return true;
}

int64_t kt_memory_disk_size(struct kt_memory_disk *memory, const char *name)
{
    struct name *found = find(&memory->now, name);

    return found ? (int64_t)found->inode->now_len : -1;
}

const uint8_t *kt_memory_disk_bytes(struct kt_memory_disk *memory, const char *name)
{
    struct name *found = find(&memory->now, name);

    return found ? found->inode->now : NULL;
}

void kt_memory_disk_put(struct kt_memory_disk *memory, const char *name, const void *bytes, size_t len)
{
    struct inode *inode = kt_zalloc(sizeof(*inode));

    inode->refs = 1;
    write_part(inode, 0, bytes, len);
    sync_inode(inode);
    set_name(&memory->now, name, inode);
    set_name(&memory->synced, name, inode);
    drop_inode(inode);
}

bool kt_memory_disk_lose(struct kt_memory_disk *memory, const char *name)
{
    bool lost = unset_name(&memory->now, name);

    return unset_name(&memory->synced, name) || lost;
}

const char *kt_memory_disk_name(struct kt_memory_disk *memory, size_t i)
{
    return i < memory->now.count ? memory->now.list[i].text : NULL;
}

static void copy_bytes(uint8_t **to, uint64_t *to_len, uint64_t *to_cap, const uint8_t *from, uint64_t len)
{
    grow(to, to_len, to_cap, len);
    if (len > 0)
        memcpy(*to, from, len);
}

struct kt_memory_disk *kt_memory_disk_copy(struct kt_memory_disk *memory, uint64_t seed)
{
    struct kt_memory_disk *copy = kt_memory_disk_create(seed);

    for (size_t i = 0; i < memory->now.count; i++) {
        const struct name *name = &memory->now.list[i];
        struct inode *inode = kt_zalloc(sizeof(*inode));

        inode->refs = 1;
        copy_bytes(&inode->now, &inode->now_len, &inode->now_cap, name->inode->now, name->inode->now_len);
        copy_bytes(&inode->synced, &inode->synced_len, &inode->synced_cap, name->inode->now, name->inode->now_len);
        set_name(&copy->now, name->text, inode);
        set_name(&copy->synced, name->text, inode);
        drop_inode(inode);
    }
    return copy;
}
