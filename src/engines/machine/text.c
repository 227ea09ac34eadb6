#include "engines/machine/text.h"

#include "base/hash.h"

/* One escape behind its backslash; the number of its bytes, or 0 for none of canonical text. */
static size_t unescape(const char *at, size_t left, char *out)
{
    static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    const char *found;
    uint8_t code[2];

    if (left == 0)
        return 0;
    if (*at == 'u') {
        /* Only control characters are written as \u00xx. */
        if (left < 5 || !kt_unhex(kt_slice(at + 1, 4), code, sizeof(code)) || code[0] != 0 || code[1] >= 0x80)
            return 0;
        *out = (char)code[1];
        return 5;
    }
    found = memchr(names, *at, sizeof(names) - 1);
    if (!found)
        return 0;
    *out = values[found - names];
    return 1;
}

bool text_of_string(struct kt_slice canonical, struct kt_arena *arena, struct kt_slice *plain)
{
    const char *at = canonical.data, *end;
    size_t len = 0;
    char *out;

    if (canonical.len < 2 || at[0] != '"' || at[canonical.len - 1] != '"')
        return false;
    end = at + canonical.len - 1;
    at++;
    if (at == end || !memchr(at, '\\', (size_t)(end - at))) {
        *plain = kt_slice(at, (size_t)(end - at));
        return true;
    }
    out = kt_arena_alloc(arena, (size_t)(end - at));
    while (at < end) {
        if (*at != '\\') {
            out[len++] = *at++;
            continue;
        }
        size_t used = unescape(at + 1, (size_t)(end - at) - 1, out + len);

        if (used == 0)
            return false;
        len++;
        at += 1 + used;
    }
    *plain = kt_slice(out, len);
    return true;
}
