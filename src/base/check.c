/* The end of a process whose programmer was wrong: a line, then a core dump. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void kt_check_failed(const char *condition, const char *file, int line)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "%s:%d: check failed: %s\n", file, line, condition);
    if (len >= (int)sizeof(text))
        len = (int)sizeof(text) - 1;
    /* The process ends either way: a failed write changes nothing. */
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
        abort();
    abort();
}
