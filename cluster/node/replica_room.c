/*
 * Disk space. A node is short of room when its log cannot grow (full), or when so little is left that growth is to stop
 * before that happens (low). Members tell each other. A leader that is short hands over to one that is not; until that
 * has happened, what is here waits. If nobody has more room, it goes on leading and refuses at once what needs room:
 * while it is low, operations that free space go through.
 *
 *   fine ── low ──▶ another voter has room: hand over, hold everything ──▶ follower: forwards like any other
 *    ▲               nobody has, or nobody takes over: refuse growth, take what frees space
 *    └── room again: everything is taken
 *
 * What was with a leader once is never refused, because it may be in the log already: "out of disk space" means not
 * done.
 */
#include "base/log.h"
#include "cluster/node/replica_internal.h"
#include "engines/engine.h"
#include "engines/registry.h"

/* A hand-over that did not happen within this time is given up... */
#define ROOM_HAND_OVER_MS 2000u
/* ...and tried again after this, counted from its beginning. */
#define ROOM_AGAIN_MS 10000u

bool replica_short(const struct kt_replica *replica)
{
    return replica->full || replica->low;
}

static void set_room(struct kt_replica *replica, bool full, bool low)
{
    bool before = replica_short(replica);

    replica->full = full;
    replica->low = low;
    if (before != replica_short(replica))
        replica->short_ms = 0;
}

void kt_replica_disk_full(struct kt_replica *replica, bool full)
{
    set_room(replica, full, replica->low);
}

void kt_replica_disk_low(struct kt_replica *replica, bool low)
{
    set_room(replica, replica->full, low);
}

static bool has_room_elsewhere(const struct kt_replica *replica)
{
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        if (member->id != replica->self && member->connected && member->voter && !member->short_of_room)
            return true;
    }
    return false;
}

/* Handing over is worth waiting for. */
static bool may_hand_over(const struct kt_replica *replica)
{
    return has_room_elsewhere(replica) &&
           (replica->short_ms == 0 || replica->now < replica->short_ms + ROOM_HAND_OVER_MS);
}

enum room replica_room(const struct kt_replica *replica)
{
    if (!replica_short(replica))
        return ROOM_FINE;
    if (may_hand_over(replica))
        return ROOM_ELSEWHERE;
    return replica->full ? ROOM_NONE : ROOM_LOW;
}

bool replica_op_frees(struct kt_slice bytes)
{
    const struct kt_op_kind *kind;
    struct kt_op op;

    if (kt_op_decode(bytes, &op) != KT_OK)
        return false;
    kind = kt_op_kind(op.code, NULL);
    return kind != NULL && kind->frees;
}

void replica_room_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    uint64_t is_short = kt_read_le64(reader);

    (void)kt_read_le64(reader);
    if (kt_reader_done(reader) && member->id != replica->self)
        member->short_of_room = is_short != 0;
}

static void tell(struct kt_replica *replica)
{
    bool is_short = replica_short(replica);

    for (size_t i = 0; i < replica->member_count; i++) {
        struct member *member = &replica->members[i];
        struct kt_buf frame;
        if (member->id == replica->self || !member->connected || member->told_short == is_short)
            continue;
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_ROOM, is_short, 0);
        if (replica_send(replica, member->id, &frame))
            member->told_short = is_short;
    }
}

void replica_room_tick(struct kt_replica *replica)
{
    tell(replica);
    if (!replica_short(replica) || !replica_leads(replica)) {
        replica->short_ms = 0;
        return;
    }
    if (!has_room_elsewhere(replica))
        return;
    if (replica->short_ms == 0 || replica->now >= replica->short_ms + ROOM_AGAIN_MS) {
        kt_info("replica", "hands leadership over: this node is out of disk space");
        replica->short_ms = replica->now;
    }
    if (may_hand_over(replica))
        replica_hand_leadership(replica, true);
}
