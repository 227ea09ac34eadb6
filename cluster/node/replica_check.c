/*
 * Equal logs must make equal states. Every node tells the others the hash of its state at every KT_CHECK_ENTRIES-th
 * entry; one that differs from a majority of the voters has a damaged state (memory, disk, a bug) and must not answer
 * any more.
 */
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/replica_internal.h"

static struct check *check_at(struct kt_replica *replica, kt_index index)
{
    struct check *check = &replica->checks[index / KT_CHECK_ENTRIES % REPLICA_CHECKS];

    if (check->index > index)
        return NULL; /* too old to compare */
    if (check->index < index) {
        check->index = index;
        check->known = 0;
    }
    return check;
}

static void compare(struct kt_replica *replica, const struct check *check)
{
    size_t self = (size_t)(replica_member(replica, replica->self) - replica->members);

    if (!(check->known >> self & 1u) || KT_PLANTED("hash-ignored"))
        return;
    for (size_t i = 0; i < replica->member_count; i++) {
        size_t same = 0;
        if (!(check->known >> i & 1u) || check->hash[i] == check->hash[self])
            continue;
        for (size_t j = 0; j < replica->member_count; j++)
            same += (check->known >> j & 1u) && replica->members[j].voter && check->hash[j] == check->hash[i];
        if (same > replica_voters(replica) / 2) {
            replica_end(replica, KT_END_DIVERGED,
                        "the state at entry %llu has hash %016llx here and %016llx on a majority of the nodes",
                        (unsigned long long)check->index, (unsigned long long)check->hash[self],
                        (unsigned long long)check->hash[i]);
            return;
        }
    }
}

static void note(struct kt_replica *replica, const struct member *member, kt_index index, uint64_t hash)
{
    size_t at = (size_t)(member - replica->members);
    struct check *check = check_at(replica, index);

    if (check == NULL)
        return;
    check->hash[at] = hash;
    check->known |= 1u << at;
    compare(replica, check);
}

void replica_check_tell(struct kt_replica *replica, const struct member *member)
{
    size_t self = (size_t)(replica_member(replica, replica->self) - replica->members);

    for (size_t i = 0; i < REPLICA_CHECKS; i++) {
        const struct check *check = &replica->checks[i];
        struct kt_buf frame;
        if (!(check->known >> self & 1u))
            continue;
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_CHECK, check->index, check->hash[self]);
        replica_send(replica, member->id, &frame);
    }
}

void replica_check_note(struct kt_replica *replica, kt_index index, uint64_t hash)
{
    for (size_t i = 0; i < replica->member_count; i++) {
        struct kt_buf frame;
        if (!replica->members[i].connected || replica->members[i].id == replica->self)
            continue;
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_CHECK, index, hash);
        replica_send(replica, replica->members[i].id, &frame);
    }
    note(replica, replica_member(replica, replica->self), index, hash);
}

void replica_check_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    kt_index index = kt_read_le64(reader);
    uint64_t hash = kt_read_le64(reader);

    if (kt_reader_done(reader) && index % KT_CHECK_ENTRIES == 0)
        note(replica, member, index, hash);
}
