/* The books, for check.c and check_boot.c. */
#ifndef KT_SIM_CHECK_INTERNAL_H
#define KT_SIM_CHECK_INTERNAL_H

#include "cluster.h"

struct sim_books *check_books_of(struct sim_node *node);
/* An entry is seen on a node: check 1. */
void check_entry_known(struct sim_node *node, const struct kt_entry *entry, uint64_t hash);
bool check_item_equal(struct sim_item a, struct sim_item b);
/* What the cluster knows of an index; lives until the next call. */
struct sim_committed *check_committed_at(struct sim_check *check, kt_index index);

/* index is at most last + 1; what was behind it is gone. */
void check_log_put(struct sim_log *log, kt_index index, struct sim_item item);
void check_log_copy(struct sim_log *to, const struct sim_log *from);
/* 0 if it is not there. */
kt_term check_log_term(const struct sim_log *log, kt_index index);

#endif
