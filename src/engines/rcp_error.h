/*
 * Result codes under the names of RCP: 16 names and no more, since clients hold closed lists (rstmdb.md 2.4). The
 * protocol answers with them, and the state-machine engine writes them into the results of a batch's items, which are
 * replicated: what a code maps to never changes. Any thread.
 */
#ifndef KT_ENGINES_RCP_ERROR_H
#define KT_ENGINES_RCP_ERROR_H

#include "base/types.h"

struct kt_rcp_error {
    const char *code;   /* "GUARD_FAILED" */
    bool retryable;     /* the same request may succeed later */
    const char *reason; /* what details name when the code says less than is known; NULL: nothing */
};

/* Of any code, KT_OK too (which is no error: INTERNAL_ERROR). */
struct kt_rcp_error kt_rcp_error(enum kt_code code);

#endif
