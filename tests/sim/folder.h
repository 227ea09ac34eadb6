/*
 * A node's data folder (cluster/node/boot.h) in the simulation: names and small files in memory, the log on a memory
 * disk, the store's files in a real folder, where LMDB can open them.
 *
 * A name changes at once and for good with the next sync of the folder; a power loss in between takes back the latest
 * changes, as many as chance says, as a file system with a journal does. The contents of a file that was not synced may
 * be cut short by it. The store's own commits are node.h's concern.
 */
#ifndef KT_SIM_FOLDER_H
#define KT_SIM_FOLDER_H

#include "cluster/node/boot.h"
#include "support/memory_disk.h"
#include "world.h"

struct sim_folder;

/* place: a real folder and the beginning of file names in it. */
struct sim_folder *sim_folder_create(struct sim_world *world, const char *place, uint64_t seed);
/* With all its files. Nothing in it is open. */
void sim_folder_free(struct sim_folder *folder);

/* What kt_boot works on; lives as long as the folder. */
const struct kt_boot_disks *sim_folder_disks(struct sim_folder *folder);
/* The disk below the log in use; NULL if there is no log. */
struct kt_memory_disk *sim_folder_log(struct sim_folder *folder);
/* Path of a store's file, which need not exist yet; lives until the name changes. */
const char *sim_folder_path(struct sim_folder *folder, const char *name);
/* The same for a file that another node's state arrives in: new and not synced. */
const char *sim_folder_receive(struct sim_folder *folder, const char *name);
bool sim_folder_has(const struct sim_folder *folder, const char *name);
/* Names that begin like this. */
unsigned sim_folder_count(const struct sim_folder *folder, const char *prefix);

/* The process ended; power: the machine with it. Nothing is open. */
void sim_folder_crash(struct sim_folder *folder, bool power);
/* Everything is gone. Nothing is open. */
void sim_folder_wipe(struct sim_folder *folder);
/* No new files; the log's own limit is the memory disk's. */
void sim_folder_full(struct sim_folder *folder, bool full);
/* From the n-th change from now on every change fails, until the crash. 0: never. */
void sim_folder_stop_at(struct sim_folder *folder, uint64_t n);

#endif
