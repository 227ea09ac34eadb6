#include "engines/registry.h"

#include "engines/kv/kv.h"
#include "engines/machine/machine.h"

/* The order is the engines' position everywhere; their ids are what is stored. */
const struct kt_engine *const kt_engines[] = {
    &kt_kv_engine,
    &kt_machine_engine,
};
const size_t kt_engine_count = KT_COUNT(kt_engines);

const struct kt_command *kt_command_next(size_t *at, size_t *engine)
{
    size_t left = *at;

    for (size_t i = 0; i < kt_engine_count; i++) {
        if (left < kt_engines[i]->command_count) {
            ++*at;
            if (engine)
                *engine = i;
            return kt_engines[i]->commands[left];
        }
        left -= kt_engines[i]->command_count;
    }
    return NULL;
}

const struct kt_command *kt_command_by_rcp(struct kt_slice op, size_t *engine)
{
    for (size_t i = 0; i < kt_engine_count; i++) {
        for (size_t j = 0; j < kt_engines[i]->command_count; j++) {
            const struct kt_command *command = kt_engines[i]->commands[j];

            if (command->wire.rcp && kt_slice_is(op, command->wire.rcp)) {
                if (engine)
                    *engine = i;
                return command;
            }
        }
    }
    return NULL;
}

const struct kt_command *kt_command_by_kv(unsigned revision, uint16_t id, size_t *engine)
{
    if (id == 0 || (revision != 'a' && revision != 'b'))
        return NULL;
    for (size_t i = 0; i < kt_engine_count; i++) {
        for (size_t j = 0; j < kt_engines[i]->command_count; j++) {
            const struct kt_command *command = kt_engines[i]->commands[j];

            if ((revision == 'a' ? command->wire.kv_a : command->wire.kv_b) == id) {
                if (engine)
                    *engine = i;
                return command;
            }
        }
    }
    return NULL;
}

const struct kt_command *kt_command_by_name(const char *name, size_t *engine)
{
    const struct kt_command *command;
    size_t at = 0;

    while ((command = kt_command_next(&at, engine)) != NULL) {
        if (strcmp(command->name, name) == 0)
            return command;
    }
    return NULL;
}

const struct kt_op_kind *kt_op_kind(uint16_t code, size_t *engine)
{
    for (size_t i = 0; i < kt_engine_count; i++) {
        if (kt_engines[i]->id != code >> 8)
            continue;
        for (size_t j = 0; j < kt_engines[i]->op_count; j++) {
            if (kt_engines[i]->ops[j]->code == code) {
                if (engine)
                    *engine = i;
                return kt_engines[i]->ops[j];
            }
        }
    }
    return NULL;
}
