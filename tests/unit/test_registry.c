/* What the engines declare, as a whole: numbers and names are unique and everything declared can be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engines/registry.h"

#define COMMANDS_MAX 256

static size_t all_commands(const struct kt_command *commands[COMMANDS_MAX], size_t engines[COMMANDS_MAX])
{
    const struct kt_command *command;
    size_t at = 0, count = 0, engine;

    while ((command = kt_command_next(&at, &engine)) != NULL) {
        assert_true(count < COMMANDS_MAX);
        engines[count] = engine;
        commands[count++] = command;
    }
    return count;
}

static void engines__have__ids_and_names_of_their_own(void **unused)
{
    (void)unused;
    assert_true(kt_engine_count > 0);
    for (size_t i = 0; i < kt_engine_count; i++) {
        assert_int_not_equal(kt_engines[i]->id, 0);
        assert_non_null(kt_engines[i]->open);
        assert_non_null(kt_engines[i]->close);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(kt_engines[i]->id, kt_engines[j]->id);
            assert_string_not_equal(kt_engines[i]->name, kt_engines[j]->name);
        }
    }
}

static void commands__on_every_wire__are_unique(void **unused)
{
    const struct kt_command *commands[COMMANDS_MAX];
    size_t engines[COMMANDS_MAX], count = all_commands(commands, engines);

    (void)unused;
    assert_true(count >= 6);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct kt_command *a = commands[i], *b = commands[j];

            assert_string_not_equal(a->name, b->name);
            if (a->wire.rcp && b->wire.rcp)
                assert_string_not_equal(a->wire.rcp, b->wire.rcp);
            assert_true(a->wire.kv_a == 0 || a->wire.kv_a != b->wire.kv_a);
            assert_true(a->wire.kv_b == 0 || a->wire.kv_b != b->wire.kv_b);
        }
    }
}

static void commands__as_declared__are_whole(void **unused)
{
    const struct kt_command *commands[COMMANDS_MAX];
    size_t engines[COMMANDS_MAX], count = all_commands(commands, engines);

    (void)unused;
    for (size_t i = 0; i < count; i++) {
        const struct kt_command *command = commands[i];
        char prefix[32];

        snprintf(prefix, sizeof(prefix), "%s.", kt_engines[engines[i]]->name);
        assert_memory_equal(command->name, prefix, strlen(prefix));
        assert_true(command->wire.rcp || command->wire.kv_a || command->wire.kv_b);
        assert_true(command->needs == KT_PERMISSION_READ || command->needs == KT_PERMISSION_WRITE ||
                    command->needs == KT_PERMISSION_ADMIN);
        assert_true((command->kind == KT_WRITE) == (command->prepare != NULL));
        assert_true((command->kind == KT_READ) == (command->query != NULL));
        assert_false(command->scans && command->kind == KT_WRITE);
        assert_non_null(command->doc);
        assert_non_null(command->errors);
        for (const enum kt_code *error = command->errors; *error != KT_OK; error++)
            assert_true(kt_code_class(*error) == KT_CLIENT);
    }
}

static void expect_rows_in_their_struct(const struct kt_struct *type)
{
    assert_true(type->count <= 64);
    assert_true(type->size >= sizeof(uint64_t));
    for (size_t i = 0; i < type->count; i++) {
        assert_true(type->fields[i].offset >= sizeof(uint64_t));
        assert_true(type->fields[i].offset < type->size);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(type->fields[i].name, type->fields[j].name);
            assert_int_not_equal(type->fields[i].offset, type->fields[j].offset);
        }
    }
}

static void structs__of_commands_and_operations__have_rows_of_their_own(void **unused)
{
    const struct kt_command *commands[COMMANDS_MAX];
    size_t engines[COMMANDS_MAX], count = all_commands(commands, engines);

    (void)unused;
    for (size_t i = 0; i < count; i++)
        expect_rows_in_their_struct(&commands[i]->params);
    for (size_t i = 0; i < kt_engine_count; i++) {
        for (size_t j = 0; j < kt_engines[i]->op_count; j++)
            expect_rows_in_their_struct(&kt_engines[i]->ops[j]->body);
    }
}

static void operations__of_every_engine__carry_its_id_and_are_unique(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < kt_engine_count; i++) {
        const struct kt_engine *engine = kt_engines[i];

        for (size_t j = 0; j < engine->op_count; j++) {
            size_t found = 99;

            assert_int_equal(engine->ops[j]->code >> 8, engine->id);
            assert_int_not_equal(engine->ops[j]->code & 0xff, 0);
            assert_non_null(engine->ops[j]->apply);
            assert_ptr_equal(kt_op_kind(engine->ops[j]->code, &found), engine->ops[j]); /* so no other has its code */
            assert_int_equal(found, i);
        }
    }
    assert_null(kt_op_kind(0, NULL));
    assert_null(kt_op_kind(0xffff, NULL));
    assert_null(kt_op_kind(KT_OP_CODE(KT_ENGINE_KV, 255), NULL));
}

static void commands__looked_up_by_any_name__are_found(void **unused)
{
    const struct kt_command *commands[COMMANDS_MAX];
    size_t engines[COMMANDS_MAX], count = all_commands(commands, engines), engine;

    (void)unused;
    for (size_t i = 0; i < count; i++) {
        const struct kt_command *command = commands[i];

        engine = 99;
        assert_ptr_equal(kt_command_by_name(command->name, &engine), command);
        assert_int_equal(engine, engines[i]);
        if (command->wire.rcp)
            assert_ptr_equal(kt_command_by_rcp(kt_slice_text(command->wire.rcp), NULL), command);
        if (command->wire.kv_a)
            assert_ptr_equal(kt_command_by_kv('a', command->wire.kv_a, NULL), command);
        if (command->wire.kv_b)
            assert_ptr_equal(kt_command_by_kv('b', command->wire.kv_b, NULL), command);
    }
    assert_ptr_equal(kt_command_by_kv('a', 2000, &engine), kt_command_by_name("kv.get", NULL));
    assert_string_equal(kt_engines[engine]->name, "kv");
    assert_null(kt_command_by_name("kv.nothing", NULL));
    assert_null(kt_command_by_rcp(kt_slice_text("NOTHING"), NULL));
    assert_null(kt_command_by_rcp(kt_slice(NULL, 0), NULL));
    assert_null(kt_command_by_kv('a', 0, NULL));
    assert_null(kt_command_by_kv('b', 0, NULL));
    assert_null(kt_command_by_kv('c', 2000, NULL));
    assert_null(kt_command_by_kv('a', 9999, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engines__have__ids_and_names_of_their_own),
        cmocka_unit_test(commands__on_every_wire__are_unique),
        cmocka_unit_test(commands__as_declared__are_whole),
        cmocka_unit_test(structs__of_commands_and_operations__have_rows_of_their_own),
        cmocka_unit_test(operations__of_every_engine__carry_its_id_and_are_unique),
        cmocka_unit_test(commands__looked_up_by_any_name__are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
