/* Filling a struct kt_error: formatted aside first, because the arguments may be the text that is being replaced. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text_internal.h"

/* Formats behind the len bytes that text holds already; returns the new length, cut at a whole character. */
static size_t format_at(char text[KT_ERROR_TEXT_MAX], size_t len, const char *format, va_list args)
{
    int n = vsnprintf(text + len, KT_ERROR_TEXT_MAX - len, format, args);
    if (n < 0) {
        text[len] = '\0';
        return len;
    }
    if ((size_t)n < KT_ERROR_TEXT_MAX - len)
        return len + (size_t)n;
    len = text_whole(text, KT_ERROR_TEXT_MAX - 1);
    text[len] = '\0';
    return len;
}

static size_t format_more(char text[KT_ERROR_TEXT_MAX], size_t len, const char *format, ...) KT_PRINTF(3, 4);

static size_t format_more(char text[KT_ERROR_TEXT_MAX], size_t len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    len = format_at(text, len, format, args);
    va_end(args);
    return len;
}

enum kt_code kt_error_set(struct kt_error *error, enum kt_code code, const char *format, ...)
{
    if (!error)
        return code;
    char text[KT_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    size_t len = format_at(text, 0, format, args);
    va_end(args);
    memcpy(error->text, text, len + 1);
    error->code = code;
    return code;
}

enum kt_code kt_error_errno(struct kt_error *error, enum kt_code code, int number, const char *format, ...)
{
    if (!error)
        return code;
    char text[KT_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    size_t len = format_at(text, 0, format, args);
    va_end(args);
    char reason[128];
    len = format_more(text, len, ": %s", strerror_r(number, reason, sizeof(reason)));
    memcpy(error->text, text, len + 1);
    error->code = code;
    return code;
}
