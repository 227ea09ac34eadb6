#include "support/test_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"

#define PATH_MAX_ 512

char *kt_test_folder_create(void)
{
    const char *parent = getenv("TMPDIR");
    char path[PATH_MAX_];
    int n = snprintf(path, sizeof(path), "%s/kontiki-test-XXXXXX", parent ? parent : "/tmp");

    KT_CHECK(n > 0 && n < PATH_MAX_);
    KT_CHECK(mkdtemp(path) != NULL);
    return kt_text_dup(path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void kt_test_folder_remove(char *folder)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    kt_free(folder);
}
