#include "engines/machine/merge.h"

#include <stdlib.h>

#include "wire/json.h"

struct member {
    struct kt_slice key, value;
    bool used;
};

/* The payload's members; sorted holds them by key, for contexts with many. */
struct members {
    struct member *list;
    struct member **sorted; /* NULL: so few that looking at all is faster */
    size_t count;
};

#define FEW 8

static int compare_members(const void *left, const void *right)
{
    const struct member *const *a = left, *const *b = right;

    return kt_slice_compare((*a)->key, (*b)->key);
}

static void collect(struct members *members, struct kt_slice payload, struct kt_arena *arena)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;
    size_t count = 0;

    kt_json_iter_init(&iter, payload);
    while (kt_json_iter_next(&iter, &key, &value))
        count++;
    members->list = kt_arena_alloc(arena, (count + 1) * sizeof(*members->list));
    members->sorted = count > FEW ? kt_arena_alloc(arena, count * sizeof(*members->sorted)) : NULL;
    members->count = 0;
    kt_json_iter_init(&iter, payload);
    while (members->count < count && kt_json_iter_next(&iter, &key, &value)) {
        struct member *member = &members->list[members->count];

        *member = (struct member){.key = key, .value = value};
        if (members->sorted)
            members->sorted[members->count] = member;
        members->count++;
    }
    if (members->sorted)
        qsort(members->sorted, members->count, sizeof(*members->sorted), compare_members);
}

static struct member *find(const struct members *members, struct kt_slice key)
{
    struct member wanted = {.key = key}, *pointer = &wanted, **found;

    if (members->sorted) {
        found = bsearch(&pointer, members->sorted, members->count, sizeof(*members->sorted), compare_members);
        return found ? *found : NULL;
    }
    for (size_t i = 0; i < members->count; i++)
        if (kt_slice_equal(members->list[i].key, key))
            return &members->list[i];
    return NULL;
}

/* Keys are written as they stand in canonical text, escapes included. */
static void put_member(struct kt_buf *out, bool *comma, struct kt_slice key, struct kt_slice value)
{
    kt_buf_append_text(out, *comma ? ",\"" : "\"");
    kt_buf_append_slice(out, key);
    kt_buf_append_text(out, "\":");
    kt_buf_append_slice(out, value);
    *comma = true;
}

void merge_objects(struct kt_slice ctx, struct kt_slice payload, struct kt_arena *arena, struct kt_buf *out)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;
    struct members members;
    bool comma = false;

    collect(&members, kt_json_text_kind(payload) == KT_JSON_OBJECT ? payload : kt_slice("{}", 2), arena);
    kt_buf_append_u8(out, '{');
    if (kt_json_text_kind(ctx) == KT_JSON_OBJECT) {
        kt_json_iter_init(&iter, ctx);
        while (kt_json_iter_next(&iter, &key, &value)) {
            struct member *replacement = find(&members, key);

            if (replacement) {
                replacement->used = true;
                value = replacement->value;
            }
            put_member(out, &comma, key, value);
        }
    }
    for (size_t i = 0; i < members.count; i++)
        if (!members.list[i].used)
            put_member(out, &comma, members.list[i].key, members.list[i].value);
    kt_buf_append_u8(out, '}');
}
