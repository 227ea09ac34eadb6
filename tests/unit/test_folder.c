/* The data folder: made, locked, and faithful to one node. */
#include "node/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state)
{
    char *path = strdup("/tmp/test_folder_XXXXXX");
    if (!mkdtemp(path))
        return -1;
    *state = path;
    return 0;
}

static int teardown(void **state)
{
    char name[256];
    const char *const leaves[] = {"/a/b/lock", "/a/b/identity", "/a/b/identity.new", "/a/b", "/a", ""};
    for (size_t i = 0; i < KT_COUNT(leaves); i++) {
        snprintf(name, sizeof(name), "%s%s", (const char *)*state, leaves[i]);
        remove(name);
    }
    free(*state);
    return 0;
}

static void in(char out[256], void **state)
{
    snprintf(out, 256, "%s/a/b", (const char *)*state);
}

static void open__new_path__makes_parents_and_identity(void **state)
{
    struct kt_folder folder;
    struct kt_error error;
    struct stat info;
    char path[256], name[512];

    in(path, state);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    snprintf(name, sizeof(name), "%s/identity", path);
    assert_int_equal(stat(name, &info), 0);
    kt_folder_close(&folder);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
}

static void open__in_use__is_refused_and_free_again_after_close(void **state)
{
    struct kt_folder folder, second;
    struct kt_error error;
    char path[256], pid[24];

    in(path, state);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    assert_int_equal(kt_folder_open(path, "west", 3, &second, &error), KT_BUSY);
    snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_non_null(strstr(error.text, pid));
    kt_folder_close(&folder);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
}

static void open__of_another_node_or_cluster__is_refused_with_both_names(void **state)
{
    struct kt_folder folder;
    struct kt_error error;
    char path[256];

    in(path, state);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
    assert_int_equal(kt_folder_open(path, "west", 4, &folder, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "cluster west,node 3"));
    assert_non_null(strstr(error.text, "node 4 of cluster west"));
    assert_int_equal(kt_folder_open(path, "east", 3, &folder, &error), KT_BAD_REQUEST);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
}

static void open__draft_left_by_a_crash__is_replaced(void **state)
{
    struct kt_folder folder;
    struct kt_error error;
    char path[256], name[512];

    in(path, state);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
    snprintf(name, sizeof(name), "%s/identity", path);
    assert_int_equal(remove(name), 0);
    snprintf(name, sizeof(name), "%s/identity.new", path);
    FILE *file = fopen(name, "we");
    fputs("clus", file);
    fclose(file);
    assert_int_equal(kt_folder_open(path, "west", 3, &folder, &error), KT_OK);
    kt_folder_close(&folder);
}

static void open__impossible_path__is_refused(void **state)
{
    struct kt_folder folder;
    struct kt_error error;
    (void)state;
    assert_int_equal(kt_folder_open("/proc/kontiki/data", "west", 3, &folder, &error), KT_IO_FAILED);
    assert_int_equal(kt_folder_open("", "west", 3, &folder, &error), KT_BAD_REQUEST);
    assert_int_equal(folder.lock, -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(open__new_path__makes_parents_and_identity),
        TEST(open__in_use__is_refused_and_free_again_after_close),
        TEST(open__of_another_node_or_cluster__is_refused_with_both_names),
        TEST(open__draft_left_by_a_crash__is_replaced),
        TEST(open__impossible_path__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
