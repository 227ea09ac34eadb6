/*
 * Who belongs to the cluster. The configuration in the log names members: one life of a node each, voters or standbys.
 * A node that comes up without data is a new member: it asks to be taken in (JOIN), and the leader, one change at a
 * time and each committed before the next, removes the member that was this node before, adds the new one as a standby,
 * and makes it a voter once it has caught up (raft dissertation, 4.1 and 4.2.1).
 *
 *   old member, voter ──JOIN──▶ removed ──▶ new member, standby ──caught up──▶ voter
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/replica_internal.h"

static const struct raft_configuration *configuration(const struct kt_replica *replica)
{
    return &replica->raft.configuration;
}

size_t replica_voters(const struct kt_replica *replica)
{
    size_t voters = 0;
    for (unsigned i = 0; i < configuration(replica)->n; i++)
        voters += configuration(replica)->servers[i].role == RAFT_VOTER;
    return voters;
}

static const struct raft_server *server_of(const struct kt_replica *replica, kt_node_id node)
{
    for (unsigned i = 0; i < configuration(replica)->n; i++)
        if (kt_member_node(configuration(replica)->servers[i].id) == node)
            return &configuration(replica)->servers[i];
    return NULL;
}

void replica_members_refresh(struct kt_replica *replica)
{
    for (size_t i = 0; i < replica->member_count; i++) {
        struct member *member = &replica->members[i];
        const struct raft_server *server = server_of(replica, member->id);
        kt_member_id now = server != NULL ? server->id : 0;

        if (member->member != now) {
            member->member = now;
            member->offered = 0;
            replica_stream_reset(replica, member);
        }
        member->voter = server != NULL && server->role == RAFT_VOTER;
        if (member->id == replica->self && now == replica->member && replica->named == 0)
            replica->named = replica->raft.configuration_uncommitted_index != 0
                                 ? replica->raft.configuration_uncommitted_index
                                 : replica->raft.configuration_committed_index;
    }
}

/* ---- Hello ---- */

void replica_say_hello(struct kt_replica *replica, kt_node_id to)
{
    struct kt_buf frame;

    /* A hello without the cluster's first entry is that of a node that belongs to none: this one does. */
    if (replica->founding.len == 0)
        return;
    kt_frame_init(&frame);
    kt_frame_hello(&frame, replica->member, kt_buf_slice(&replica->founding));
    replica_send(replica, to, &frame);
}

void replica_hello_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    struct kt_hello hello;

    if (kt_frame_read_hello(reader, &hello) != KT_OK)
        return;
    if (hello.founding.len == 0) {
        /* It waits to learn whether there is a cluster. */
        replica_say_hello(replica, member->id);
    } else if (replica->founding.len == 0) {
        kt_buf_append_slice(&replica->founding, hello.founding);
    } else if (!kt_slice_equal(hello.founding, kt_buf_slice(&replica->founding))) {
        kt_fail("replica", "node %llu belongs to another cluster: it was founded apart from this one",
                (unsigned long long)member->id);
    }
}

void replica_note_founding(struct kt_replica *replica, const struct kt_entry *entry)
{
    if (entry->index == 1 && entry->type == KT_ENTRY_CHANGE && replica->founding.len == 0)
        kt_buf_append_slice(&replica->founding, entry->data);
}

/* ---- Joining ---- */

/*
 * A member in its own view may be none in the leader's: the configuration that took it in was lost with the leader that
 * proposed it, before it was committed, and nobody sends it the log that says so. Then it is no voter yet.
 */
static bool is_outside(const struct kt_replica *replica, const struct member *self)
{
    if (self->member != replica->member)
        return true;
    return !KT_PLANTED("join-once") && !self->voter &&
           replica->now >= replica->heard_ms + REPLICA_LOST_ELECTIONS * replica->election_ms;
}

static void ask_to_join(struct kt_replica *replica)
{
    struct member *self = replica_member(replica, replica->self);

    if (!is_outside(replica, self) || replica->now < replica->joined_ms + REPLICA_JOIN_MS)
        return;
    replica->joined_ms = replica->now;
    for (size_t i = 0; i < replica->member_count; i++) {
        struct kt_buf frame;
        if (!replica->members[i].connected || &replica->members[i] == self)
            continue;
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_JOIN, replica->member, 0);
        replica_send(replica, replica->members[i].id, &frame);
    }
}

void replica_members_lead(struct kt_replica *replica)
{
    for (size_t i = 0; i < replica->member_count; i++)
        replica->members[i].joining = replica->members[i].offered = 0;
}

void replica_join_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    kt_member_id joining = kt_read_le64(reader);

    (void)kt_read_le64(reader);
    if (!kt_reader_done(reader) || kt_member_node(joining) != member->id || joining == member->id)
        return;
    if (replica_leads(replica) && member->member != joining)
        member->joining = joining;
}

/* Proposes the present configuration with one change. */
static void change(struct kt_replica *replica, kt_member_id remove, kt_member_id add, kt_member_id promote,
                   const char *address)
{
    struct raft_configuration next;
    struct raft_buffer bytes;
    kt_index index;

    raft_configuration_init(&next);
    for (unsigned i = 0; i < configuration(replica)->n; i++) {
        const struct raft_server *server = &configuration(replica)->servers[i];
        if (server->id != remove)
            KT_CHECK(raft_configuration_add(&next, server->id, server->address,
                                            server->id == promote ? RAFT_VOTER : server->role) == 0);
    }
    if (add != 0)
        KT_CHECK(raft_configuration_add(&next, add, address, RAFT_STANDBY) == 0);
    KT_CHECK(raft_configuration_encode(&next, &bytes) == 0);
    raft_configuration_close(&next);
    if (replica_submit(replica, KT_ENTRY_CHANGE, kt_slice(bytes.base, bytes.len), &index) == 0)
        replica_ticket_skip(replica);
    raft_free(bytes.base);
}

static bool caught_up(struct kt_replica *replica, const struct member *member)
{
    raft_index match;

    return member->connected && raft_match_index(&replica->raft, member->member, &match) == 0 &&
           match >= replica->raft.configuration_committed_index && match + REPLICA_CAUGHT_UP >= replica->window.next;
}

static void take_in(struct kt_replica *replica, struct member *member)
{
    if (member->member != 0) {
        kt_info("replica", "node %llu comes back without its data: its former member is removed",
                (unsigned long long)member->id);
        change(replica, member->member, 0, 0, NULL);
    } else {
        kt_info("replica", "node %llu joins", (unsigned long long)member->id);
        change(replica, 0, member->joining, 0, member->address);
        member->joining = 0;
    }
}

void replica_members_tick(struct kt_replica *replica)
{
    if (!replica_leads(replica))
        ask_to_join(replica);
    if (!replica_serves(replica) || replica->full)
        return;
    for (size_t i = 0; i < replica->member_count && replica->raft.configuration_uncommitted_index == 0; i++) {
        struct member *member = &replica->members[i];
        if (member->id == replica->self)
            continue;
        if (member->joining != 0 && member->joining != member->member) {
            take_in(replica, member);
        } else if (member->member != 0 && !member->voter && caught_up(replica, member)) {
            kt_info("replica", "node %llu has caught up: it becomes a voter", (unsigned long long)member->id);
            change(replica, 0, 0, member->member, NULL);
        }
    }
}
