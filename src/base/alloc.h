/*
 * Memory. Small allocations that a node cannot live without end the process when they fail (kt_alloc and friends);
 * sizes that come from outside are bounded before (buf.h) and answered with KT_NO_MEMORY (kt_try_alloc).
 * Any thread. Memory is released with kt_free, which takes NULL.
 */
#ifndef KT_BASE_ALLOC_H
#define KT_BASE_ALLOC_H

#include "base/types.h"

/* Never NULL; the contents are undefined. */
void *kt_alloc(size_t size);
/* Never NULL; zeroed. */
void *kt_zalloc(size_t size);
/* Never NULL; as realloc. */
void *kt_realloc(void *old, size_t size);
/* May be NULL. */
void *kt_try_alloc(size_t size);
void *kt_try_realloc(void *old, size_t size);
void kt_free(void *memory);
/* A NUL-terminated copy; the caller frees it. */
char *kt_text_dup(const char *text);
char *kt_slice_dup_text(struct kt_slice bytes);

/*
 * For tests: the n-th kt_try_* call from now fails (1 is the next), once. 0 switches it off. Of the
 * calling thread only. */
void kt_alloc_fail_at(unsigned n);
/* For code that allocates through a foreign library: counts as one kt_try_* call, true if that one is to fail. */
bool kt_alloc_fails(void);

#endif
