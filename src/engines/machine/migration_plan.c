/* The declared mapping of a migration, made ready: states by name, members of the context by key. */
#include "engines/machine/migration.h"
#include "engines/machine/text.h"

/* What happens to one member of a context. Keys are canonical: as between the quotes in canonical text. */
struct plan_member {
    struct plan_member *next; /* in the order of the mapping */
    struct kt_slice key;
    bool removed;
    struct plan_member *to;   /* the member whose name it takes; NULL: it keeps its own */
    struct plan_member *from; /* the member that takes this name; NULL: none */
    bool has_default;
    struct kt_slice value; /* the default */
    bool seen;             /* in the context at hand */
};

/* The plain text of a key of canonical text, whose quotes stand around it. */
static struct kt_slice plain_key(struct kt_slice key, struct kt_arena *arena)
{
    struct kt_slice plain = key;

    if (!text_of_string(kt_slice((const char *)key.data - 1, key.len + 2), arena, &plain))
        return key;
    return plain;
}

/* The inside of a canonical string. */
static struct kt_slice inside(struct kt_slice string)
{
    return string.len >= 2 ? kt_slice((const char *)string.data + 1, string.len - 2) : kt_slice("", 0);
}

static struct plan_member *member_of(struct migration_plan *plan, struct kt_slice key)
{
    struct plan_member *member = kt_map_get(&plan->members, key);

    if (!member) {
        member = kt_arena_zalloc(plan->arena, sizeof(*member));
        member->key = key;
        kt_map_put(&plan->members, key, member);
        *plan->last = member;
        plan->last = &member->next;
    }
    return member;
}

static void plan_states(struct migration_plan *plan, const struct migration *migration, const struct definition *to)
{
    struct kt_slice key, value, *name;
    struct kt_json_iter iter;

    kt_json_iter_init(&iter, migration->states);
    while (kt_json_iter_next(&iter, &key, &value)) {
        name = kt_arena_zalloc(plan->arena, sizeof(*name));
        if (text_of_string(value, plan->arena, name))
            kt_map_put(&plan->states, plain_key(key, plan->arena), name);
    }
    for (uint32_t i = 0; i < to->state_count; i++)
        kt_map_put(&plan->targets, to->states[i], (void *)(uintptr_t)(i + 1));
}

void migration_plan_init(struct migration_plan *plan, const struct migration *migration, const struct definition *to,
                         struct kt_arena *arena)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;

    memset(plan, 0, sizeof(*plan));
    plan->arena = arena;
    plan->last = &plan->first;
    kt_map_init(&plan->states);
    kt_map_init(&plan->targets);
    kt_map_init(&plan->members);
    plan_states(plan, migration, to);
    kt_json_iter_init(&iter, migration->ctx_removed);
    while (kt_json_iter_next(&iter, &key, &value))
        member_of(plan, inside(value))->removed = true;
    kt_json_iter_init(&iter, migration->ctx_renames);
    while (kt_json_iter_next(&iter, &key, &value)) {
        struct plan_member *member = member_of(plan, key);

        member->to = member_of(plan, inside(value));
        member->to->from = member; /* of several that want one name the last has it */
    }
    kt_json_iter_init(&iter, migration->ctx_defaults);
    while (kt_json_iter_next(&iter, &key, &value)) {
        struct plan_member *member = member_of(plan, key);

        member->has_default = true;
        member->value = value;
    }
}

void migration_plan_release(struct migration_plan *plan)
{
    kt_map_release(&plan->states);
    kt_map_release(&plan->targets);
    kt_map_release(&plan->members);
}

struct kt_slice migration_plan_name(const struct migration_plan *plan, struct kt_slice state)
{
    const struct kt_slice *name = kt_map_get(&plan->states, state);

    return name ? *name : state;
}

enum migration_reason migration_plan_state(const struct migration_plan *plan, struct kt_slice state, uint32_t *target)
{
    const struct kt_slice *name = kt_map_get(&plan->states, state);
    const void *found = kt_map_get(&plan->targets, name ? *name : state);

    if (!found)
        return name ? MIGRATION_UNKNOWN_TARGET : MIGRATION_NO_MAPPING;
    *target = (uint32_t)((uintptr_t)found - 1);
    return MIGRATION_MOVES;
}

static void put_member(struct kt_buf *out, bool *comma, struct kt_slice key, struct kt_slice value)
{
    kt_buf_append_text(out, *comma ? ",\"" : "\"");
    kt_buf_append_slice(out, key);
    kt_buf_append_text(out, "\":");
    kt_buf_append_slice(out, value);
    *comma = true;
}

static bool is_renamed(const struct plan_member *member)
{
    return member->to && !member->removed && member->to->from == member;
}

/* Another member of the context takes this one's name. */
static bool is_replaced(const struct plan_member *member)
{
    return member->from && member->from->seen && is_renamed(member->from);
}

static bool keeps_name(const struct plan_member *member)
{
    return !member->removed && !member->to && !is_replaced(member);
}

void migration_plan_ctx(struct migration_plan *plan, struct kt_slice ctx, struct kt_buf *out)
{
    struct plan_member *member;
    struct kt_slice key, value;
    struct kt_json_iter iter;
    bool comma = false;

    for (member = plan->first; member; member = member->next)
        member->seen = false;
    kt_json_iter_init(&iter, ctx);
    while (plan->first && kt_json_iter_next(&iter, &key, &value))
        if ((member = kt_map_get(&plan->members, key)) != NULL)
            member->seen = true;
    kt_buf_append_u8(out, '{');
    kt_json_iter_init(&iter, ctx);
    while (kt_json_iter_next(&iter, &key, &value)) {
        member = kt_map_get(&plan->members, key);
        if (!member || keeps_name(member))
            put_member(out, &comma, key, value);
        else if (is_renamed(member))
            put_member(out, &comma, member->to->key, value);
    }
    for (member = plan->first; member; member = member->next)
        if (member->has_default && !(member->seen && keeps_name(member)) && !is_replaced(member))
            put_member(out, &comma, member->key, member->value);
    kt_buf_append_u8(out, '}');
}
