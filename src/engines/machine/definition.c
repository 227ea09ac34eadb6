#include "engines/machine/definition.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/map.h"
#include "engines/machine/machine_limits.h"
#include "engines/machine/text.h"
#include "wire/json.h"

#define NO_STATE UINT32_MAX

/* What a definition is read with. Positions are kept in the maps plus one, since a map holds no NULL. */
struct reading {
    struct kt_arena *arena;
    struct kt_error *error;
    struct definition *definition;
    struct kt_map states;
    struct kt_map unguarded; /* (source, event) pairs that have a transition without guard */
    size_t source_count;
    uint8_t *timers; /* by state: how many it sets; NULL until there is one */
};

/* The first failure of a reading, in words. */
#define REFUSE(reading, ...)    kt_error_set((reading)->error, KT_BAD_REQUEST, __VA_ARGS__)
#define STRUCTURE(reading, ...) REFUSE(reading, "JSON error: " __VA_ARGS__)
#define INVALID(reading, ...)   REFUSE(reading, "invalid machine definition: " __VA_ARGS__)
#define TEXT(slice)             (int)KT_MIN((slice).len, (size_t)KT_ERROR_TEXT_MAX), (const char *)(slice).data

/* What is being looked at, for the case that it is refused. */
static void look_at(struct reading *reading, const char *member, struct kt_slice state)
{
    reading->definition->fault.member = member;
    reading->definition->fault.state = state;
}

static uint32_t count_elements(struct kt_slice array)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;
    uint32_t count = 0;

    kt_json_iter_init(&iter, array);
    while (kt_json_iter_next(&iter, &key, &value))
        count++;
    return count;
}

static uint32_t find_state(const struct reading *reading, struct kt_slice name)
{
    void *found = kt_map_get(&reading->states, name);

    return found ? (uint32_t)((uintptr_t)found - 1) : NO_STATE;
}

static enum kt_code read_states(struct reading *reading, struct kt_slice array)
{
    struct kt_slice key, value, *states;
    struct kt_json_iter iter;
    uint32_t count;

    look_at(reading, "states", kt_slice("", 0));
    if (kt_json_text_kind(array) != KT_JSON_ARRAY)
        return STRUCTURE(reading, "field `states` must be an array of strings");
    count = count_elements(array);
    if (count > MACHINE_STATES_MAX)
        return INVALID(reading, "%u states, the limit is %u", count, MACHINE_STATES_MAX);
    states = kt_arena_alloc(reading->arena, (count + 1) * sizeof(*states));
    kt_json_iter_init(&iter, array);
    while (kt_json_iter_next(&iter, &key, &value)) {
        struct kt_slice *state = &states[reading->definition->state_count];

        if (!text_of_string(value, reading->arena, state))
            return STRUCTURE(reading, "field `states` must be an array of strings");
        if (state->len > MACHINE_NAME_BYTES_MAX)
            return INVALID(reading, "a state name is %zu bytes, the limit is %u", state->len, MACHINE_NAME_BYTES_MAX);
        if (find_state(reading, *state) != NO_STATE)
            continue;
        reading->definition->state_count++;
        kt_map_put(&reading->states, *state, (void *)(uintptr_t)reading->definition->state_count);
    }
    reading->definition->states = states;
    return KT_OK;
}

/* "from": one name or an array of names. */
static enum kt_code read_sources(struct reading *reading, uint32_t at, struct kt_slice value,
                                 struct definition_transition *transition)
{
    struct kt_slice key, element, *sources;
    struct kt_json_iter iter;
    uint32_t count = 1;

    look_at(reading, "from", kt_slice("", 0));
    if (kt_json_text_kind(value) == KT_JSON_ARRAY)
        count = count_elements(value);
    reading->source_count += count;
    if (reading->source_count > MACHINE_SOURCES_MAX)
        return INVALID(reading, "more than %u sources in all transitions", MACHINE_SOURCES_MAX);
    sources = kt_arena_alloc(reading->arena, (count + 1) * sizeof(*sources));
    transition->sources = sources;
    if (kt_json_text_kind(value) != KT_JSON_ARRAY) {
        if (!text_of_string(value, reading->arena, sources))
            return STRUCTURE(reading, "field `from` in transitions[%u] must be a string or an array of strings", at);
        transition->source_count = 1;
        return KT_OK;
    }
    kt_json_iter_init(&iter, value);
    while (kt_json_iter_next(&iter, &key, &element))
        if (!text_of_string(element, reading->arena, &sources[transition->source_count++]))
            return STRUCTURE(reading, "field `from` in transitions[%u] must be a string or an array of strings", at);
    return KT_OK;
}

/* A whole number of canonical text, at most 16 digits. */
static bool read_integer(struct kt_slice text, uint64_t *value)
{
    const char *at = text.data;

    if (text.len == 0 || text.len > 16)
        return false;
    *value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *value = 10 * *value + (uint64_t)(at[i] - '0');
    }
    return true;
}

/* A member that may be absent, or null, which is the same. */
static bool has_member(struct kt_slice object, const char *name, struct kt_slice *value)
{
    return kt_json_member(object, kt_slice_text(name), value) && kt_json_text_kind(*value) != KT_JSON_NULL;
}

static enum kt_code read_timer(struct reading *reading, uint32_t at, struct kt_slice object,
                               struct definition_transition *transition)
{
    struct kt_slice value, path;

    if (has_member(object, "after_ms", &value)) {
        look_at(reading, "after_ms", kt_slice("", 0));
        if (!read_integer(value, &transition->after_ms) || transition->after_ms < MACHINE_TIMER_MS_MIN ||
            transition->after_ms > MACHINE_TIMER_MS_MAX)
            return INVALID(reading, "`after_ms` in transitions[%u] must be an integer from %u to %llu", at,
                           MACHINE_TIMER_MS_MIN, (unsigned long long)MACHINE_TIMER_MS_MAX);
    }
    if (has_member(object, "after_ctx", &value)) {
        look_at(reading, "after_ctx", kt_slice("", 0));
        if (transition->after_ms > 0)
            return INVALID(reading, "transitions[%u] has both `after_ms` and `after_ctx`", at);
        if (!text_of_string(value, reading->arena, &path))
            return STRUCTURE(reading, "field `after_ctx` in transitions[%u] must be a string", at);
        if (path.len > MACHINE_NAME_BYTES_MAX || !guard_is_path(path))
            return INVALID(reading, "`after_ctx` in transitions[%u] must be the path of a context member, like \"due\"",
                           at);
        if (path.len >= 4 && memcmp(path.data, "ctx.", 4) == 0)
            return INVALID(reading, "`after_ctx` in transitions[%u] names the member without 'ctx.'", at);
        transition->after_ctx = path;
    }
    return KT_OK;
}

static enum kt_code read_transition(struct reading *reading, uint32_t at, struct kt_slice object,
                                    struct definition_transition *transition)
{
    struct definition_fault *fault = &reading->definition->fault;
    struct kt_slice value;
    enum kt_code code;

    *fault = (struct definition_fault){.in_transition = true, .transition = at};
    if (kt_json_text_kind(object) != KT_JSON_OBJECT)
        return STRUCTURE(reading, "transitions[%u] must be an object", at);
    look_at(reading, "from", kt_slice("", 0));
    if (!kt_json_member(object, kt_slice_text("from"), &value))
        return STRUCTURE(reading, "missing field `from` in transitions[%u]", at);
    code = read_sources(reading, at, value, transition);
    if (code != KT_OK)
        return code;
    look_at(reading, "event", kt_slice("", 0));
    if (!kt_json_member(object, kt_slice_text("event"), &value))
        return STRUCTURE(reading, "missing field `event` in transitions[%u]", at);
    if (!text_of_string(value, reading->arena, &transition->event))
        return STRUCTURE(reading, "field `event` in transitions[%u] must be a string", at);
    if (transition->event.len > MACHINE_ID_BYTES_MAX)
        return INVALID(reading, "the event of transitions[%u] is %zu bytes, the limit is %u", at, transition->event.len,
                       MACHINE_ID_BYTES_MAX);
    fault->event = transition->event;
    look_at(reading, "to", kt_slice("", 0));
    if (!kt_json_member(object, kt_slice_text("to"), &value))
        return STRUCTURE(reading, "missing field `to` in transitions[%u]", at);
    if (!text_of_string(value, reading->arena, &transition->target_name))
        return STRUCTURE(reading, "field `to` in transitions[%u] must be a string", at);
    if (has_member(object, "guard", &value)) {
        look_at(reading, "guard", kt_slice("", 0));
        if (!text_of_string(value, reading->arena, &transition->guard_text))
            return STRUCTURE(reading, "field `guard` in transitions[%u] must be a string", at);
        /* Told apart from no guard by its address, also when it is empty: an empty guard is refused later. */
        if (transition->guard_text.len == 0)
            transition->guard_text = kt_slice("", 0);
    }
    return read_timer(reading, at, object, transition);
}

static enum kt_code read_transitions(struct reading *reading, struct kt_slice array)
{
    struct definition_transition *transitions;
    struct kt_slice key, value;
    struct kt_json_iter iter;
    uint32_t count, at = 0;

    look_at(reading, "transitions", kt_slice("", 0));
    if (kt_json_text_kind(array) != KT_JSON_ARRAY)
        return STRUCTURE(reading, "field `transitions` must be an array of objects");
    count = count_elements(array);
    if (count > MACHINE_TRANSITIONS_MAX)
        return INVALID(reading, "%u transitions, the limit is %u", count, MACHINE_TRANSITIONS_MAX);
    transitions = kt_arena_zalloc(reading->arena, (count + 1) * sizeof(*transitions));
    kt_json_iter_init(&iter, array);
    for (; kt_json_iter_next(&iter, &key, &value); at++) {
        enum kt_code code = read_transition(reading, at, value, &transitions[at]);

        if (code != KT_OK)
            return code;
    }
    reading->definition->transitions = transitions;
    reading->definition->transition_count = at;
    return KT_OK;
}

/* A transition behind an unguarded one for the same source and event could never be taken. */
static enum kt_code check_repetition(struct reading *reading, uint32_t at,
                                     const struct definition_transition *transition)
{
    uint8_t pair[4 + MACHINE_ID_BYTES_MAX];
    enum kt_code code = KT_OK;

    memcpy(pair + 4, transition->event.data, transition->event.len);
    for (uint32_t i = 0; i < transition->source_count && code == KT_OK; i++) {
        uint32_t source = find_state(reading, transition->sources[i]);
        struct kt_slice key = kt_slice(pair, 4 + transition->event.len);

        look_at(reading, "from", transition->sources[i]);
        memcpy(pair, &source, sizeof(source));
        if (kt_map_get(&reading->unguarded, key))
            code = INVALID(reading, "duplicate transition from '%.*s' on event '%.*s' (transitions[%u])",
                           TEXT(transition->sources[i]), TEXT(transition->event), at);
        else if (!transition->guard)
            kt_map_put(&reading->unguarded, key, reading);
    }
    return code;
}

/* An instance's record has room for so many timers. */
static enum kt_code check_timers(struct reading *reading, uint32_t at, const struct definition_transition *transition)
{
    if (transition->after_ms == 0 && transition->after_ctx.len == 0)
        return KT_OK;
    reading->definition->timed = true;
    if (!reading->timers)
        reading->timers = kt_arena_zalloc(reading->arena, reading->definition->state_count);
    for (uint32_t i = 0; i < transition->source_count; i++) {
        look_at(reading, "from", transition->sources[i]);
        if (++reading->timers[find_state(reading, transition->sources[i])] > MACHINE_TIMERS_MAX)
            return INVALID(reading, "more than %u timers in state '%.*s' (transitions[%u])", MACHINE_TIMERS_MAX,
                           TEXT(transition->sources[i]), at);
    }
    return KT_OK;
}

static enum kt_code check_guard(struct reading *reading, uint32_t at, struct definition_transition *transition)
{
    struct guard *guard;
    struct kt_error error;
    enum kt_code code = guard_parse(transition->guard_text, reading->arena, &guard, &error);

    transition->guard = guard;
    return code == KT_OK ? code : kt_error_set(reading->error, code, "%s (transitions[%u])", error.text, at);
}

static enum kt_code check_transition(struct reading *reading, uint32_t at, struct definition_transition *transition)
{
    enum kt_code code;

    reading->definition->fault =
        (struct definition_fault){.in_transition = true, .transition = at, .event = transition->event};
    look_at(reading, "to", transition->target_name);
    transition->target = find_state(reading, transition->target_name);
    if (transition->target == NO_STATE)
        return INVALID(reading, "transition target '%.*s' not in states list (transitions[%u])",
                       TEXT(transition->target_name), at);
    if (transition->guard_text.data) {
        look_at(reading, "guard", kt_slice("", 0));
        if ((code = check_guard(reading, at, transition)) != KT_OK)
            return code;
    }
    for (uint32_t i = 0; i < transition->source_count; i++) {
        look_at(reading, "from", transition->sources[i]);
        if (find_state(reading, transition->sources[i]) == NO_STATE)
            return INVALID(reading, "transition source '%.*s' not in states list (transitions[%u])",
                           TEXT(transition->sources[i]), at);
    }
    code = check_repetition(reading, at, transition);
    return code == KT_OK ? check_timers(reading, at, transition) : code;
}

static enum kt_code read_whole(struct reading *reading, struct kt_slice text)
{
    struct definition *definition = reading->definition;
    struct kt_slice value, initial;
    enum kt_code code;

    if (text.len > MACHINE_DEFINITION_BYTES_MAX)
        return INVALID(reading, "%zu bytes, the limit is %u", text.len, MACHINE_DEFINITION_BYTES_MAX);
    if (kt_json_text_kind(text) != KT_JSON_OBJECT)
        return STRUCTURE(reading, "a machine definition must be an object");
    look_at(reading, "states", kt_slice("", 0));
    if (!kt_json_member(text, kt_slice_text("states"), &value))
        return STRUCTURE(reading, "missing field `states`");
    if ((code = read_states(reading, value)) != KT_OK)
        return code;
    look_at(reading, "initial", kt_slice("", 0));
    if (!kt_json_member(text, kt_slice_text("initial"), &value))
        return STRUCTURE(reading, "missing field `initial`");
    if (!text_of_string(value, reading->arena, &initial))
        return STRUCTURE(reading, "field `initial` must be a string");
    look_at(reading, "transitions", kt_slice("", 0));
    if (!kt_json_member(text, kt_slice_text("transitions"), &value))
        return STRUCTURE(reading, "missing field `transitions`");
    if ((code = read_transitions(reading, value)) != KT_OK)
        return code;
    if (has_member(text, "meta", &value))
        definition->meta = value;

    definition->fault = (struct definition_fault){.member = "initial", .state = initial};
    definition->initial = find_state(reading, initial);
    if (definition->initial == NO_STATE)
        return INVALID(reading, "initial state '%.*s' not in states list", TEXT(initial));
    for (uint32_t i = 0; i < definition->transition_count; i++) {
        /* The array is this reading's own until it is handed out. */
        code = check_transition(reading, i, (struct definition_transition *)&definition->transitions[i]);
        if (code != KT_OK)
            return code;
    }
    definition->fault = (struct definition_fault){0};
    return KT_OK;
}

enum kt_code definition_read(struct kt_slice text, struct kt_arena *arena, struct definition *definition,
                             struct kt_error *error)
{
    struct reading reading = {.arena = arena, .error = error, .definition = definition};
    enum kt_code code;

    memset(definition, 0, sizeof(*definition));
    kt_map_init(&reading.states);
    kt_map_init(&reading.unguarded);
    code = read_whole(&reading, text);
    kt_map_release(&reading.states);
    kt_map_release(&reading.unguarded);
    return code;
}

void definition_print(const struct definition *definition, struct kt_buf *out)
{
    struct kt_json_writer writer;

    kt_json_writer_init(&writer, out);
    kt_json_begin_object(&writer);
    kt_json_put_key(&writer, "states");
    kt_json_begin_array(&writer);
    for (uint32_t i = 0; i < definition->state_count; i++)
        kt_json_put_string(&writer, definition->states[i]);
    kt_json_end_array(&writer);
    kt_json_put_string_member(&writer, "initial", definition->states[definition->initial]);
    kt_json_put_key(&writer, "transitions");
    kt_json_begin_array(&writer);
    for (uint32_t i = 0; i < definition->transition_count; i++) {
        const struct definition_transition *transition = &definition->transitions[i];

        kt_json_begin_object(&writer);
        kt_json_put_key(&writer, "from");
        kt_json_begin_array(&writer);
        for (uint32_t k = 0; k < transition->source_count; k++)
            kt_json_put_string(&writer, transition->sources[k]);
        kt_json_end_array(&writer);
        kt_json_put_string_member(&writer, "event", transition->event);
        kt_json_put_string_member(&writer, "to", transition->target_name);
        if (transition->guard)
            kt_json_put_string_member(&writer, "guard", transition->guard_text);
        if (transition->after_ms > 0)
            kt_json_put_u64_member(&writer, "after_ms", transition->after_ms);
        if (transition->after_ctx.len > 0)
            kt_json_put_string_member(&writer, "after_ctx", transition->after_ctx);
        kt_json_end_object(&writer);
    }
    kt_json_end_array(&writer);
    if (definition->meta.len > 0)
        kt_json_put_raw_member(&writer, "meta", definition->meta);
    kt_json_end_object(&writer);
}

void definition_checksum(struct kt_slice normal_form, char out[9])
{
    static const char digits[] = "0123456789abcdef";
    uint32_t crc = kt_crc32c(0, normal_form.data, normal_form.len);

    for (unsigned i = 0; i < 8; i++)
        out[i] = digits[(crc >> (28 - 4 * i)) & 15];
    out[8] = '\0';
}

/* By source, event, then position: the last makes the order total, whatever the sort does with equal ones. */
static int compare_rules(const void *left, const void *right, void *data)
{
    const struct definition *definition = data;
    const struct definition_rule *a = left, *b = right;
    int order;

    if (a->source != b->source)
        return a->source < b->source ? -1 : 1;
    order =
        kt_slice_compare(definition->transitions[a->transition].event, definition->transitions[b->transition].event);
    if (order != 0)
        return order;
    return (a->transition > b->transition) - (a->transition < b->transition);
}

/* By source, then position. */
static int compare_timers(const void *left, const void *right)
{
    const struct definition_rule *a = left, *b = right;

    if (a->source != b->source)
        return a->source < b->source ? -1 : 1;
    return (a->transition > b->transition) - (a->transition < b->transition);
}

static bool is_timed(const struct definition *definition, const struct definition_rule *rule)
{
    const struct definition_transition *transition = &definition->transitions[rule->transition];

    return transition->after_ms > 0 || transition->after_ctx.len > 0;
}

static void index_timers(struct definition *definition, struct kt_arena *arena)
{
    struct definition_rule *timers;
    uint32_t count = 0;

    for (uint32_t i = 0; i < definition->rule_count; i++)
        count += is_timed(definition, &definition->rules[i]);
    definition->timer_count = count;
    if (count == 0)
        return;
    timers = kt_arena_alloc(arena, count * sizeof(*timers));
    count = 0;
    for (uint32_t i = 0; i < definition->rule_count; i++)
        if (is_timed(definition, &definition->rules[i]))
            timers[count++] = definition->rules[i];
    qsort(timers, count, sizeof(*timers), compare_timers);
    definition->timers = timers;
}

void definition_index(struct definition *definition, struct kt_arena *arena)
{
    struct definition_rule *rules;
    struct kt_map states;
    size_t count = 0;

    for (uint32_t i = 0; i < definition->transition_count; i++)
        count += definition->transitions[i].source_count;
    rules = kt_arena_alloc(arena, (count + 1) * sizeof(*rules));
    kt_map_init(&states);
    for (uint32_t i = 0; i < definition->state_count; i++)
        kt_map_put(&states, definition->states[i], (void *)(uintptr_t)(i + 1));
    count = 0;
    for (uint32_t i = 0; i < definition->transition_count; i++) {
        const struct definition_transition *transition = &definition->transitions[i];

        for (uint32_t k = 0; k < transition->source_count; k++)
            rules[count++] = (struct definition_rule){
                .source = (uint32_t)((uintptr_t)kt_map_get(&states, transition->sources[k]) - 1),
                .transition = i,
            };
    }
    kt_map_release(&states);
    qsort_r(rules, count, sizeof(*rules), compare_rules, definition);
    definition->rules = rules;
    definition->rule_count = (uint32_t)count;
    index_timers(definition, arena);
}

uint32_t definition_timers(const struct definition *definition, uint32_t source, const struct definition_rule **rules)
{
    uint32_t low = 0, high = definition->timer_count, end;

    *rules = NULL;
    if (high == 0)
        return 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (definition->timers[middle].source < source)
            low = middle + 1;
        else
            high = middle;
    }
    for (end = low; end < definition->timer_count && definition->timers[end].source == source; end++)
        ;
    *rules = definition->timers + low;
    return end - low;
}

/* <0, 0, >0: a rule against (source, event). */
static int compare_rule_to(const struct definition *definition, const struct definition_rule *rule, uint32_t source,
                           struct kt_slice event)
{
    if (rule->source != source)
        return rule->source < source ? -1 : 1;
    return kt_slice_compare(definition->transitions[rule->transition].event, event);
}

uint32_t definition_rules(const struct definition *definition, uint32_t source, struct kt_slice event,
                          const struct definition_rule **rules)
{
    uint32_t low = 0, high = definition->rule_count, end;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare_rule_to(definition, &definition->rules[middle], source, event) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (end = low; end < definition->rule_count; end++)
        if (compare_rule_to(definition, &definition->rules[end], source, event) != 0)
            break;
    *rules = definition->rules + low;
    return end - low;
}
