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

/*
 * What lies below, as a table of functions like struct kt_disk, so that the simulator can lose what was not synced
 * there as well.
 */
struct kt_boot_disks {
    struct kt_disk *files; /* of the folder itself, whose names include "log"; borrowed */
    /* The folder "log" in it, made if it is missing: as kt_disk_open and kt_disk_close. */
    enum kt_code (*open_log)(void *data, struct kt_disk **log, int *error_number);
    void (*close_log)(void *data, struct kt_disk *log);
    /* Where the store finds a file of the folder, in out[KT_BOOT_PATH_BYTES]. */
    void (*path)(void *data, const char *name, char *out);
    void *data;
};

#define KT_BOOT_PATH_BYTES 4096

struct kt_boot {
    char *folder;
    struct kt_boot_disks disks;
    struct kt_disk *own_files; /* those of the disks, if they were opened here */
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
    struct kt_state_options state;     /* without the path */
    const struct kt_boot_disks *disks; /* copied; NULL: the real ones */
    uint64_t seed;                     /* of member ids and of the log's salts; 0: from the kernel. For a simulation */
};

/* Everything opened and in agreement, or an error that says what to do. */
KT_MUST_USE enum kt_code kt_boot(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error);
/* Closes log, state and folder. */
void kt_boot_close(struct kt_boot *boot);
/*
 * The member belongs to a cluster from now on; durable on return. A founding member has its first entry in the log by
 * then (founding.h): one whose power fails in between comes up as the same member.
 */
KT_MUST_USE enum kt_code kt_boot_found(struct kt_boot *boot, struct kt_error *error);
/* Marks the folder's data to be set aside at the next kt_boot; durable on return. Any thread, as kt_boot_adopt. */
KT_MUST_USE enum kt_code kt_boot_condemn(struct kt_boot *boot, struct kt_error *error);
/* "incoming.part" of the folder becomes "incoming.mdb", for the next kt_boot; durable on return. */
KT_MUST_USE enum kt_code kt_boot_adopt(struct kt_boot *boot, struct kt_error *error);

#endif
