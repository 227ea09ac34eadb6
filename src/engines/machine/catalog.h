/* The machines in the store: names, definitions, groups, and the compiled definitions in memory. */
#ifndef KT_ENGINES_MACHINE_CATALOG_H
#define KT_ENGINES_MACHINE_CATALOG_H

#include "engines/machine/machine_internal.h"

struct catalog_machine {
    uint32_t id;
    uint64_t version_count;
};

/* KT_OK, KT_NOT_FOUND (also for a name longer than any), or the store's failure. */
KT_MUST_USE enum kt_code catalog_find(const struct machine *machine, struct kt_txn *txn, struct kt_slice name,
                                      struct catalog_machine *found);
/* The group of a machine's state; KT_NOT_FOUND if no version has it. */
KT_MUST_USE enum kt_code catalog_group(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                       struct kt_slice state, uint32_t *group);
/*
 * The compiled definition of a version, from memory or the store. Applier's thread; valid until the next call. hash is
 * that of its record, or 0: not known. KT_NOT_FOUND, KT_CORRUPT, or the store's failure.
 */
KT_MUST_USE enum kt_code catalog_compiled(struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                          uint32_t version, uint64_t *hash, const struct compiled **compiled);

/*
 * The definition of a version, read and indexed into the arena: for queries. KT_NOT_FOUND, KT_CORRUPT, or the store's
 * failure. Any thread.
 */
KT_MUST_USE enum kt_code catalog_definition(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                            uint32_t version, struct kt_arena *arena, struct definition *definition);

void compiled_cache_init(struct compiled_cache *cache);
void compiled_cache_release(struct compiled_cache *cache);

#endif
