/* Strings of canonical JSON text in plain form. Any thread. */
#ifndef KT_ENGINES_MACHINE_TEXT_H
#define KT_ENGINES_MACHINE_TEXT_H

#include "base/arena.h"

/*
 * The characters of a canonical JSON string: borrowed from it when it holds no escapes, else in the arena. False if the
 * value is no string, or holds an escape that canonical text does not use.
 */
bool text_of_string(struct kt_slice canonical, struct kt_arena *arena, struct kt_slice *plain);

#endif
