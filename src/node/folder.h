/*
 * The data folder: one node's alone. A lock keeps a second process out; an identity file written at first use keeps a
 * folder from being used by another node or cluster, which would make a voter forget what it promised.
 */
#ifndef KT_NODE_FOLDER_H
#define KT_NODE_FOLDER_H

#include "base/error.h"

struct kt_folder {
    int lock; /* descriptor that holds the lock, -1: not open */
};

/*
 * Makes the folder (and its parents), takes the lock, checks or writes the identity. Durable before it returns.
 * KT_BUSY: another process has it; KT_BAD_REQUEST: it belongs to another node; KT_IO_FAILED. Blocking.
 */
KT_MUST_USE enum kt_code kt_folder_open(const char *path, const char *cluster, kt_node_id node,
                                        struct kt_folder *folder, struct kt_error *error);
void kt_folder_close(struct kt_folder *folder);

#endif
