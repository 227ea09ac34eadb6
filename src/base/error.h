/* A failure told in words: written once, where it is understood, and passed on. Owned by the caller; no allocation. */
#ifndef KT_BASE_ERROR_H
#define KT_BASE_ERROR_H

#include "base/types.h"

#define KT_ERROR_TEXT_MAX 256

struct kt_error {
    enum kt_code code;
    char text[KT_ERROR_TEXT_MAX]; /* lower case, no function names, with the value; cut at a whole UTF-8 character */
};

/* Fills the error and returns its code, so that "return kt_error_set(...)" is one line. The error may be NULL. */
enum kt_code kt_error_set(struct kt_error *error, enum kt_code code, const char *format, ...) KT_PRINTF(3, 4);
/* The same with ": <strerror>" of an errno value appended, which a long sentence is cut for. */
enum kt_code kt_error_errno(struct kt_error *error, enum kt_code code, int number, const char *format, ...)
    KT_PRINTF(4, 5);

#endif
