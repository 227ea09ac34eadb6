/*
 * A node's data folder, and how it comes up whatever it was left in.
 *
 *   member          which member this folder is of, and whether it belongs to a cluster yet
 *   log/            the log
 *   state.mdb       the state
 *   incoming.mdb    a whole, synced copy of another node's state that is to take the place of this one's
 *   incoming.part   one that is still arriving; worth nothing
 *   aside           marks a setting aside under way
 *   *.damaged-N     what was set aside; never touched again
 *
 * Damage (a log or state that cannot be read, or that disagree) is never repaired by guessing. In a cluster of several
 * nodes the files are set aside and the node comes up empty, as a new member, to get its data from the others; alone it
 * does not start.
 */
#ifndef KT_CLUSTER_NODE_BOOT_H
#define KT_CLUSTER_NODE_BOOT_H

#include "cluster/log/wal.h"
#include "engines/state.h"

struct kt_boot {
    char *folder;
    kt_member_id member;
    bool founded; /* belongs to a cluster; false: nothing was ever stored */
    struct kt_disk *disk;
    struct kt_wal *wal;
    struct kt_wal_found found;
    struct kt_state *state;
};

struct kt_boot_options {
    const char *folder;
    kt_node_id self;
    bool alone; /* no other node could give the data back */
    uint64_t segment_bytes;
    struct kt_state_options state; /* without the path */
};

/* Everything opened and in agreement, or an error that says what to do. */
KT_MUST_USE enum kt_code kt_boot(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error);
/* Closes log, state and folder. */
void kt_boot_close(struct kt_boot *boot);
/* The member belongs to a cluster from now on; durable on return. Before anything is written to the log. */
KT_MUST_USE enum kt_code kt_boot_found(struct kt_boot *boot, struct kt_error *error);
/* Marks the folder's data to be set aside at the next kt_boot; durable on return. */
KT_MUST_USE enum kt_code kt_boot_condemn(const char *folder, struct kt_error *error);
/* "<folder>/incoming.part" becomes "<folder>/incoming.mdb", for the next kt_boot; durable on return. */
KT_MUST_USE enum kt_code kt_boot_adopt(const char *folder, struct kt_error *error);

#endif
