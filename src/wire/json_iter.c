/*
 * Walking canonical text in place. Nothing here recurses or allocates, and no pointer passes the end: text that is not
 * canonical after all makes an iterator end early or yield a slice of it, never more.
 */
#include "wire/json.h"
#include "wire/json_internal.h"

/* at is on an opening quote: the place behind the closing one, or NULL. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end; at++) {
        at += json_plain_run(at, end);
        if (at == end)
            break;
        if (*at == '"')
            return at + 1;
        if (*at == '\\')
            at++; /* whatever it escapes, the next byte does not end the string */
    }
    return NULL;
}

/* at is on a bracket: the place behind its partner, or NULL. Kinds of brackets are not told apart: they match or the
 * text was not canonical. */
static const char *skip_container(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        switch (*at) {
        case '"':
            at = skip_string(at, end);
            if (!at)
                return NULL;
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return at + 1;
            break;
        default:
            break;
        }
        at++;
    }
    return NULL;
}

/* The place behind the value that begins at at, or NULL if there is none. */
static const char *skip_value(const char *at, const char *end)
{
    if (at == end)
        return NULL;
    if (*at == '"')
        return skip_string(at, end);
    if (*at == '{' || *at == '[')
        return skip_container(at, end);
    const char *from = at;
    while (at < end && *at != ',' && *at != '}' && *at != ']' && *at != ':' && *at != '"')
        at++;
    return at == from ? NULL : at;
}

void kt_json_iter_init(struct kt_json_iter *iter, struct kt_slice canonical)
{
    const char *at = canonical.len ? canonical.data : "", *end = at + canonical.len;
    bool container = at < end && (*at == '{' || *at == '[');
    *iter = (struct kt_json_iter){.at = container ? at + 1 : end, .end = end};
}

static bool stop(struct kt_json_iter *iter)
{
    iter->at = iter->end;
    return false;
}

bool kt_json_iter_next(struct kt_json_iter *iter, struct kt_slice *key, struct kt_slice *value)
{
    const char *at = iter->at, *end = iter->end;
    *key = kt_slice("", 0);
    if (at < end && *at == ',')
        at++;
    const char *behind = skip_value(at, end);
    if (!behind)
        return stop(iter);
    /* A string in front of a colon was a key; only members of objects have one. */
    if (*at == '"' && behind < end && *behind == ':') {
        *key = kt_slice(at + 1, (size_t)(behind - at) - 2);
        at = behind + 1;
        behind = skip_value(at, end);
        if (!behind)
            return stop(iter);
    }
    *value = kt_slice(at, (size_t)(behind - at));
    iter->at = behind;
    return true;
}

bool kt_json_member(struct kt_slice canonical, struct kt_slice key, struct kt_slice *value)
{
    struct kt_json_iter iter;
    struct kt_slice name, found;
    if (canonical.len == 0 || *(const char *)canonical.data != '{')
        return false;
    kt_json_iter_init(&iter, canonical);
    while (kt_json_iter_next(&iter, &name, &found)) {
        if (kt_slice_equal(name, key)) {
            *value = found;
            return true;
        }
    }
    return false;
}

enum kt_json_kind kt_json_text_kind(struct kt_slice canonical)
{
    if (canonical.len == 0)
        return KT_JSON_NULL;
    char first = *(const char *)canonical.data;
    switch (first) {
    case '{':
        return KT_JSON_OBJECT;
    case '[':
        return KT_JSON_ARRAY;
    case '"':
        return KT_JSON_STRING;
    case 't':
    case 'f':
        return KT_JSON_BOOL;
    default:
        return first == '-' || (first >= '0' && first <= '9') ? KT_JSON_NUMBER : KT_JSON_NULL;
    }
}

double kt_json_text_double(struct kt_slice canonical)
{
    struct json_number number;
    const char *at = canonical.len ? canonical.data : "";
    return json_number_read(at, at + canonical.len, &number) ? number.value : 0.0;
}
