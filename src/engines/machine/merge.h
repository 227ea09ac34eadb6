/* Merging a payload into a context. Any thread. */
#ifndef KT_ENGINES_MACHINE_MERGE_H
#define KT_ENGINES_MACHINE_MERGE_H

#include "base/arena.h"
#include "base/buf.h"

/*
 * Appends the object that has the context's members, in their order, with the values of the payload where it has the
 * same key, and then the payload's other members in theirs. Shallow: values are taken whole, null is a value. Both are
 * canonical JSON text of objects; what is none has no members. The result is canonical and depends on nothing else.
 */
void merge_objects(struct kt_slice ctx, struct kt_slice payload, struct kt_arena *arena, struct kt_buf *out);

#endif
