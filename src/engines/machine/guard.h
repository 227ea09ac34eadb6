/*
 * Guards: boolean expressions over an instance's context, compiled when a machine is put.
 *
 *   expr       := and ( "||" and )*
 *   and        := unary ( "&&" unary )*
 *   unary      := "!" unary | primary
 *   primary    := "(" expr ")" | comparison
 *   comparison := field [ ("==" | "!=") literal | (">=" | "<=" | ">" | "<") number ]
 *   field      := "ctx." ( ASCII letter | digit | "_" | "." | any other than ASCII )+
 *   literal    := "true" | "false" | "null" | string | number
 *   string     := '"' bytes, where a backslash keeps the next one from ending it; nothing is unescaped '"'
 *   number     := "-"? digit* [ "." digit* ], at least one digit
 *
 * White space is free between tokens. A negation takes the whole comparison that follows. Text behind a complete
 * expression is refused: it would be a guard that means less than it says. Evaluation never fails: a missing field is
 * null, kinds are not converted, numbers are equal when they differ by less than 2^-52, arrays and objects equal
 * nothing.
 */
#ifndef KT_ENGINES_MACHINE_GUARD_H
#define KT_ENGINES_MACHINE_GUARD_H

#include "base/arena.h"
#include "base/error.h"

struct guard;

/*
 * Compiles text (UTF-8; not kept) into a guard that lives in the arena. KT_BAD_REQUEST with "invalid guard expression:
 * ..." in the error, and *guard NULL. Any bytes are safe, recursion is bounded. Any thread.
 */
KT_MUST_USE enum kt_code guard_parse(struct kt_slice text, struct kt_arena *arena, struct guard **guard,
                                     struct kt_error *error);

/*
 * The guard's verdict on a context (canonical JSON text; what is no object behaves as an empty one). No allocation, no
 * recursion. *work_bytes is lowered by the bytes of context looked at; when it would pass zero it becomes zero, the
 * evaluation ends, and the verdict is false and means nothing. Any thread.
 */
bool guard_evaluate(const struct guard *guard, struct kt_slice ctx, uint64_t *work_bytes);

/*
 * The member of a context that a path (a field without "ctx.") leads to; a missing one is null. The work is counted as
 * by guard_evaluate; false when it is used up. Any thread.
 */
bool guard_find(struct kt_slice ctx, struct kt_slice path, struct kt_slice *value, uint64_t *work_bytes);
/* Text that can be the path of a field. */
bool guard_is_path(struct kt_slice text);

/* The fields that a guard names, in the order of its text, repeated ones too: how many, and the path of one. */
size_t guard_field_count(const struct guard *guard);
struct kt_slice guard_field(const struct guard *guard, size_t at);

#endif
