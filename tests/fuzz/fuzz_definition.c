/*
 * A definition as bytes: read as they are (no byte is trusted) and, if they are JSON, as a client's definition, whose
 * normal form must read again and print the same.
 */
#include <stdint.h>

#include "base/check.h"
#include "engines/machine/definition.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rules(struct definition *definition, struct kt_arena *arena)
{
    const struct definition_rule *rules;

    definition_index(definition, arena);
    for (uint32_t i = 0; i < definition->rule_count; i++) {
        uint32_t transition = definition->rules[i].transition;
        uint32_t count = definition_rules(definition, definition->rules[i].source,
                                          definition->transitions[transition].event, &rules);

        KT_CHECK(count > 0 && rules >= definition->rules && rules <= &definition->rules[i] &&
                 &definition->rules[i] < rules + count);
    }
}

/* Reads and, when it is one, prints a definition. */
static enum kt_code read_and_print(struct kt_slice text, struct kt_buf *out)
{
    struct definition definition;
    struct kt_arena arena;
    struct kt_error error;
    enum kt_code code;

    kt_arena_init(&arena);
    code = definition_read(text, &arena, &definition, &error);
    if (code == KT_OK) {
        definition_print(&definition, out);
        check_rules(&definition, &arena);
    } else {
        KT_CHECK(code == KT_BAD_REQUEST && error.text[0]);
    }
    kt_arena_release(&arena);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_slice text = kt_slice(data, size);
    struct kt_buf canonical, normal, again;
    struct kt_json *json;

    kt_buf_init(&canonical, 1u << 20);
    kt_buf_init(&normal, 1u << 20);
    kt_buf_init(&again, 1u << 20);
    (void)read_and_print(text, &again);
    kt_buf_clear(&again);
    if (kt_json_parse(text, &json, NULL) == KT_OK) {
        kt_json_print(json, true, &canonical);
        kt_json_free(json);
        if (kt_buf_code(&canonical) == KT_OK && read_and_print(kt_buf_slice(&canonical), &normal) == KT_OK) {
            KT_CHECK(kt_buf_code(&normal) == KT_OK);
            KT_CHECK(read_and_print(kt_buf_slice(&normal), &again) == KT_OK);
            KT_CHECK(kt_slice_equal(kt_buf_slice(&normal), kt_buf_slice(&again)));
        }
    }
    kt_buf_release(&canonical);
    kt_buf_release(&normal);
    kt_buf_release(&again);
    return 0;
}
