/* The engines, listed once; and commands and operations by name and number. Read-only, any thread. */
#ifndef KT_ENGINES_REGISTRY_H
#define KT_ENGINES_REGISTRY_H

#include "engines/engine.h"

#define KT_ENGINE_KV      1
#define KT_ENGINE_MACHINE 2

extern const struct kt_engine *const kt_engines[];
extern const size_t kt_engine_count;

/* Walks all commands: at starts at 0; NULL at the end. engine (may be NULL) gets the position in kt_engines. */
const struct kt_command *kt_command_next(size_t *at, size_t *engine);
const struct kt_command *kt_command_by_rcp(struct kt_slice op, size_t *engine);
const struct kt_command *kt_command_by_kv(unsigned revision, uint16_t id, size_t *engine); /* revision 'a' or 'b' */
const struct kt_command *kt_command_by_name(const char *name, size_t *engine);
/* NULL if this version does not know the code. */
const struct kt_op_kind *kt_op_kind(uint16_t code, size_t *engine);

#endif
