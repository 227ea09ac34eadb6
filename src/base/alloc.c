/* Memory from the C library: the process ends, or the caller is told. A size of zero is a size of one: never NULL. */
#include "base/alloc.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"

/* Per thread, so that a test that arms it does not race with threads that only allocate. */
static _Thread_local unsigned fail_countdown;

bool kt_alloc_fails(void)
{
    return fail_countdown != 0 && --fail_countdown == 0;
}

static void *must(void *memory, size_t size)
{
    if (!memory)
        kt_fatal("memory", "out of memory for %zu bytes", size);
    return memory;
}

void *kt_alloc(size_t size)
{
    return must(malloc(size ? size : 1), size);
}

void *kt_zalloc(size_t size)
{
    return must(calloc(1, size ? size : 1), size);
}

void *kt_realloc(void *old, size_t size)
{
    return must(realloc(old, size ? size : 1), size);
}

void *kt_try_alloc(size_t size)
{
    return kt_alloc_fails() ? NULL : malloc(size ? size : 1);
}

void *kt_try_realloc(void *old, size_t size)
{
    return kt_alloc_fails() ? NULL : realloc(old, size ? size : 1);
}

void kt_free(void *memory)
{
    free(memory);
}

char *kt_text_dup(const char *text)
{
    return kt_slice_dup_text(kt_slice_text(text));
}

char *kt_slice_dup_text(struct kt_slice bytes)
{
    KT_CHECK(bytes.len < SIZE_MAX);
    char *copy = kt_alloc(bytes.len + 1);
    if (bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    copy[bytes.len] = '\0';
    return copy;
}

void kt_alloc_fail_at(unsigned n)
{
    fail_countdown = n;
}
