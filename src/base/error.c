/* Filling a struct kt_error: formatted aside first, because the arguments may be the text that is being replaced. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text_internal.h"

/* Formats at most size - 1 bytes, cut at a whole character, and a NUL; returns the length. */
static size_t format_within(char *text, size_t size, const char *format, va_list args)
{
    int n = vsnprintf(text, size, format, args);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= size)
        len = text_whole(text, size - 1);
    text[len] = '\0';
    return len;
}

enum kt_code kt_error_set(struct kt_error *error, enum kt_code code, const char *format, ...)
{
    if (!error)
        return code;
    char text[KT_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    size_t len = format_within(text, sizeof(text), format, args);
    va_end(args);
    memcpy(error->text, text, len + 1);
    error->code = code;
    return code;
}

enum kt_code kt_error_errno(struct kt_error *error, enum kt_code code, int number, const char *format, ...)
{
    if (!error)
        return code;
    char text[KT_ERROR_TEXT_MAX], reason_text[128];
    const char *reason = strerror_r(number, reason_text, sizeof(reason_text));
    /* The reason is what a long sentence must not push out; the library's reasons are a few words. */
    size_t reason_len = KT_MIN(strlen(reason), sizeof(reason_text) - 1);
    va_list args;
    va_start(args, format);
    size_t len = format_within(text, sizeof(text) - reason_len - 2, format, args);
    va_end(args);
    memcpy(text + len, ": ", 2);
    memcpy(text + len + 2, reason, reason_len);
    text[len + 2 + reason_len] = '\0';
    memcpy(error->text, text, len + reason_len + 3);
    error->code = code;
    return code;
}
