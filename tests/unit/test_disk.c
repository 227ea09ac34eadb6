/* The real disk, in a folder of its own. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "cluster/log/disk.h"
#include "support/test_folder.h"

struct fixture {
    char *folder;
    struct kt_disk *disk;
};

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));
    int error_number;

    f->folder = kt_test_folder_create();
    *state = f;
    return kt_disk_open(f->folder, &f->disk, &error_number) == KT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kt_disk_close(f->disk);
    kt_test_folder_remove(f->folder);
    kt_free(f);
    return 0;
}

static struct kt_file *create(struct fixture *f, const char *name)
{
    struct kt_file *file;

    assert_int_equal(f->disk->ops->open(f->disk, name, true, &file), 0);
    return file;
}

static void open__missing_folder__is_created(void **state)
{
    struct fixture *f = *state;
    char path[512];
    struct kt_disk *disk;
    struct stat st;
    int error_number;

    snprintf(path, sizeof(path), "%s/below", f->folder);
    assert_int_equal(kt_disk_open(path, &disk, &error_number), KT_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    kt_disk_close(disk);
    snprintf(path, sizeof(path), "%s/not/there", f->folder);
    assert_int_equal(kt_disk_open(path, &disk, &error_number), KT_IO_FAILED);
    assert_int_equal(error_number, ENOENT);
    assert_null(disk);
}

static void open__second_time__refused_until_closed(void **state)
{
    struct fixture *f = *state;
    struct kt_disk *second;
    int error_number;

    assert_int_equal(kt_disk_open(f->folder, &second, &error_number), KT_BUSY);
    assert_int_equal(error_number, EWOULDBLOCK);
    assert_null(second);
    kt_disk_close(f->disk);
    assert_int_equal(kt_disk_open(f->folder, &f->disk, &error_number), KT_OK);
}

static void open__holder_was_killed__lock_is_free(void **state)
{
    struct fixture *f = *state;
    int error_number, status;
    pid_t child;

    kt_disk_close(f->disk);
    f->disk = NULL;
    child = fork();
    if (child == 0) {
        struct kt_disk *disk;

        if (kt_disk_open(f->folder, &disk, &error_number) == KT_OK)
            abort();
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(kt_disk_open(f->folder, &f->disk, &error_number), KT_OK);
}

static void open__path_is_a_file__refused(void **state)
{
    struct fixture *f = *state;
    char path[512];
    struct kt_disk *disk;
    int error_number;

    f->disk->ops->close(create(f, "file"));
    snprintf(path, sizeof(path), "%s/file", f->folder);
    assert_int_equal(kt_disk_open(path, &disk, &error_number), KT_IO_FAILED);
    assert_int_equal(error_number, ENOTDIR);
}

static void write__more_parts_than_one_call_takes__all_arrive(void **state)
{
    struct fixture *f = *state;
    struct kt_file *file = create(f, "a");
    size_t count = 3000;
    struct iovec *parts = kt_alloc(count * sizeof(*parts));
    uint8_t *bytes = kt_alloc(count * 3), *back = kt_alloc(count * 3);

    for (size_t i = 0; i < count * 3; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){.iov_base = bytes + i * 3, .iov_len = 3};
    assert_int_equal(file->ops->write(file, 11, parts, (int)count), 0);
    assert_int_equal(file->ops->sync(file), 0);
    assert_int_equal(file->ops->size(file), count * 3 + 11);
    assert_int_equal(file->ops->read(file, 11, back, count * 3), count * 3);
    assert_memory_equal(bytes, back, count * 3);
    file->ops->close(file);
    kt_free(parts);
    kt_free(bytes);
    kt_free(back);
}

static void counters__of_calls_and_bytes__leave_reservations_out(void **state)
{
    struct fixture *f = *state;
    struct kt_file *file = create(f, "counted");
    struct iovec parts[] = {{.iov_base = "abc", .iov_len = 3}, {.iov_base = "defg", .iov_len = 4}};
    struct kt_disk_counters counters;
    char bytes[16];

    assert_int_equal(f->disk->ops->open(f->disk, "missing", false, &file), -ENOENT);
    assert_int_equal(file->ops->allocate(file, 1u << 20), 0);
    assert_int_equal(file->ops->write(file, 0, parts, 2), 0);
    assert_int_equal(file->ops->write(file, 7, parts, 1), 0);
    assert_int_equal(file->ops->read(file, 2, bytes, 5), 5);
    assert_int_equal(file->ops->sync(file), 0);
    kt_disk_counters(f->disk, &counters);
    assert_int_equal(counters.writes, 2);
    assert_int_equal(counters.bytes_written, 10);
    assert_int_equal(counters.reads, 1);
    assert_int_equal(counters.bytes_read, 5);
    assert_int_equal(counters.syncs, 1);
    file->ops->close(file);
}

static void read__past_the_end__short(void **state)
{
    struct fixture *f = *state;
    struct kt_file *file = create(f, "a");
    struct iovec part = {.iov_base = "0123456789", .iov_len = 10};
    char back[20];

    assert_int_equal(file->ops->write(file, 0, &part, 1), 0);
    assert_int_equal(file->ops->read(file, 4, back, sizeof(back)), 6);
    assert_memory_equal(back, "456789", 6);
    assert_int_equal(file->ops->read(file, 10, back, sizeof(back)), 0);
    assert_int_equal(file->ops->read(file, 100, back, sizeof(back)), 0);
    file->ops->close(file);
}

static void allocate__over_contents__zeros_in_real_blocks(void **state)
{
    struct fixture *f = *state;
    struct kt_file *file = create(f, "a");
    struct iovec part = {.iov_base = "dirt", .iov_len = 4};
    size_t size = (1u << 20) + 12345;
    uint8_t *back = kt_alloc(size);
    char path[512];
    struct stat st;

    assert_int_equal(file->ops->write(file, 100, &part, 1), 0);
    assert_int_equal(file->ops->allocate(file, size), 0);
    assert_int_equal(file->ops->sync(file), 0);
    assert_int_equal(file->ops->size(file), size);
    assert_int_equal(file->ops->read(file, 0, back, size), size);
    for (size_t i = 0; i < size; i++)
        assert_true(back[i] == 0);
    snprintf(path, sizeof(path), "%s/a", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= size);
    file->ops->close(file);
    kt_free(back);
}

/* The limit of file sizes stands in for a disk that refuses: both fail the reservation before anything is written. */
static void allocate__refused__says_why(void **state)
{
    struct fixture *f = *state;
    struct kt_file *file = create(f, "a");
    struct rlimit before, small;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(file->ops->allocate(file, 1 << 20), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    file->ops->close(file);
}

struct names {
    unsigned count;
    bool a, b, lock;
};

static void see(void *data, const char *name)
{
    struct names *names = data;

    names->count++;
    names->a = names->a || strcmp(name, "a") == 0;
    names->b = names->b || strcmp(name, "b") == 0;
    names->lock = names->lock || strcmp(name, "lock") == 0;
}

static void names__renamed_and_removed__listed_as_they_are(void **state)
{
    struct fixture *f = *state;
    const struct kt_disk_ops *ops = f->disk->ops;
    struct names names = {0};
    struct kt_file *file;

    ops->close(create(f, "a"));
    assert_int_equal(ops->open(f->disk, "a", true, &file), -EEXIST);
    assert_int_equal(ops->open(f->disk, "b", false, &file), -ENOENT);
    assert_int_equal(ops->rename(f->disk, "a", "b"), 0);
    assert_int_equal(ops->rename(f->disk, "a", "b"), -ENOENT);
    assert_int_equal(ops->sync_folder(f->disk), 0);
    assert_int_equal(ops->list(f->disk, see, &names), 0);
    assert_int_equal(names.count, 2);
    assert_true(names.b && names.lock && !names.a);
    assert_int_equal(ops->remove(f->disk, "b"), 0);
    assert_int_equal(ops->remove(f->disk, "b"), -ENOENT);
    names = (struct names){0};
    assert_int_equal(ops->list(f->disk, see, &names), 0);
    assert_int_equal(names.count, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(open__missing_folder__is_created),
        TEST(open__second_time__refused_until_closed),
        TEST(open__holder_was_killed__lock_is_free),
        TEST(open__path_is_a_file__refused),
        TEST(write__more_parts_than_one_call_takes__all_arrive),
        TEST(counters__of_calls_and_bytes__leave_reservations_out),
        TEST(read__past_the_end__short),
        TEST(allocate__over_contents__zeros_in_real_blocks),
        TEST(allocate__refused__says_why),
        TEST(names__renamed_and_removed__listed_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
