/*
 * A disk in memory that forgets what was not synced (cluster/log/disk.h). Every choice comes from the seed: the same
 * calls on the same seed give the same disk, bit for bit.
 *
 * What a crash does to a file: each block of 512 bytes keeps a prefix of the writes to it since the last sync, chosen
 * per block (a write that crosses blocks is torn); now and then a block ends inside a write. Bytes that were synced and
 * not written since are safe. What it does to names: those of the last folder sync are there; of the changes since, a
 * subset is made, each whole or not at all.
 *
 * Calls take a lock, so that threads may use one disk; the order of their calls is then no longer the seed's.
 */
#ifndef KT_TESTS_SUPPORT_MEMORY_DISK_H
#define KT_TESTS_SUPPORT_MEMORY_DISK_H

#include "cluster/log/disk.h"

struct kt_memory_disk;

struct kt_memory_disk *kt_memory_disk_create(uint64_t seed);
/* Files still open fail from now on and must still be closed; NULL is fine. */
void kt_memory_disk_free(struct kt_memory_disk *memory);
/* Borrowed; lives as long as the memory disk. */
struct kt_disk *kt_memory_disk_disk(struct kt_memory_disk *memory);

/*
 * The power fails: what is left of the unsynced writes becomes durable. Open files answer -EIO from now on; they are
 * closed before or after, as it suits.
 */
void kt_memory_disk_crash(struct kt_memory_disk *memory);
/* The same, but everything written survives: the process died, the machine lived. */
void kt_memory_disk_kill(struct kt_memory_disk *memory);

/* The n-th sync of a file or of the folder from now (1: the next) fails with EIO and makes nothing durable. 0: none. */
void kt_memory_disk_fail_sync(struct kt_memory_disk *memory, unsigned n);
/* The n-th write from now fails with EIO; a prefix of it is written. 0: none. */
void kt_memory_disk_fail_write(struct kt_memory_disk *memory, unsigned n);
/*
 * From the n-th call on that changes anything (create, write, sync, allocate, rename, remove), all such calls fail with
 * EIO. 0: never.
 */
void kt_memory_disk_stop_at(struct kt_memory_disk *memory, uint64_t n);
/* Such calls so far. */
uint64_t kt_memory_disk_changes(struct kt_memory_disk *memory);
/* Files together may grow by so many bytes more, then ENOSPC. UINT64_MAX: no limit. */
void kt_memory_disk_space(struct kt_memory_disk *memory, uint64_t bytes);

/* Damage at rest and a look inside; false or -1: no such file or offset. */
bool kt_memory_disk_flip(struct kt_memory_disk *memory, const char *name, uint64_t offset, unsigned bit);
int64_t kt_memory_disk_size(struct kt_memory_disk *memory, const char *name);
/* The current bytes of a file; borrowed until the next call. */
const uint8_t *kt_memory_disk_bytes(struct kt_memory_disk *memory, const char *name);
/* Writes a file whole, durably, as if it had always been there. */
void kt_memory_disk_put(struct kt_memory_disk *memory, const char *name, const void *bytes, size_t len);
/* Removes a name durably. */
bool kt_memory_disk_lose(struct kt_memory_disk *memory, const char *name);
/* The i-th name in alphabetical order, NULL at the end; borrowed until the next change. */
const char *kt_memory_disk_name(struct kt_memory_disk *memory, size_t i);
/* An independent copy with its current and synced contents; nothing is open in it. */
struct kt_memory_disk *kt_memory_disk_copy(struct kt_memory_disk *memory, uint64_t seed);

#endif
