/* Cutting text for lines and errors. This folder only. */
#ifndef KT_BASE_TEXT_INTERNAL_H
#define KT_BASE_TEXT_INTERNAL_H

#include "base/types.h"

/*
 * The longest len' <= len such that text does not end inside a UTF-8 character (one that begins but lacks bytes). Looks
 * at the last three bytes only; bytes that are no UTF-8 anyway are left as they are.
 */
static inline size_t text_whole(const char *text, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t byte = (uint8_t)text[len - back];
        if ((byte & 0xc0) == 0x80)
            continue;
        size_t need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return need > back ? len - back : len;
    }
    return len;
}

#endif
