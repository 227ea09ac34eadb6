/*
 * A log in memory that says what the durable one must hold: entries of seeded sizes whose bytes follow from index and
 * term, so that a misread entry shows.
 */
#ifndef KT_TESTS_SUPPORT_WAL_MODEL_H
#define KT_TESTS_SUPPORT_WAL_MODEL_H

#include "base/random.h"
#include "cluster/log/wal.h"

#define KT_MODEL_ENTRIES_MAX 4096

struct kt_model_entry {
    kt_term term;
    uint32_t len;
};

struct kt_wal_model {
    kt_index first, last;                                    /* first: 1, or behind what the log was reset to */
    kt_term term;                                            /* of the newest entry made */
    struct kt_model_entry entries[KT_MODEL_ENTRIES_MAX + 1]; /* by index */
};

void kt_wal_model_init(struct kt_wal_model *model);
/* Fills an entry of the model's index; its chunk is the caller's. */
struct kt_entry kt_wal_model_entry(kt_index index, kt_term term, uint32_t len);
/* Appends `count` entries of `len` bytes from index on (at most last + 1), to model and log. */
enum kt_code kt_wal_model_append(struct kt_wal_model *model, struct kt_wal *wal, kt_index index, size_t count,
                                 kt_term term, uint32_t len);
/* The log begins anew behind (index, term), in model and log. */
enum kt_code kt_wal_model_reset(struct kt_wal_model *model, struct kt_wal *wal, kt_index index, kt_term term);
/* The same in the model alone. */
void kt_wal_model_forget(struct kt_wal_model *model, kt_index index, kt_term term);
/* The log's entries from first to last are the model's, byte for byte; fails the test, naming the place, if not. */
void kt_wal_model_check(const struct kt_wal_model *model, struct kt_wal *wal, kt_index first, kt_index last);
/* Type of the entry of an index. */
enum kt_entry_type kt_wal_model_type(kt_index index);

#endif
