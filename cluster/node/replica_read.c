/*
 * Linearizable reads by read index (raft dissertation, 6.4; without leases). The leader notes its commit index and asks
 * every voter "is your term still mine, and do you follow me?"; when a majority has said yes to a question sent after
 * the read came, no later leader existed when the read came, so a state that shows the noted index shows every write
 * acknowledged before it. One round serves all reads that waited for it; a follower joins with one request for all its
 * own.
 *
 * A read ends when the index is visible in this node's own state, or at its deadline.
 */
#include "base/alloc.h"
#include "cluster/node/replica_internal.h"

static void finish(struct kt_replica *replica, struct kt_read *read, enum kt_code code)
{
    kt_list_remove(&read->link);
    replica->read_count--;
    read->code = code;
    read->done(read);
}

void kt_replica_read(struct kt_replica *replica, struct kt_read *read)
{
    read->index = 0;
    read->number = 0;
    kt_list_append(&replica->reads_waiting, &read->link);
    replica->read_count++;
    if (replica->dead)
        finish(replica, read, KT_SHUTTING_DOWN);
}

/* The reads that asked under a number know their index now. */
static void know_index(struct kt_replica *replica, uint64_t number, kt_index index)
{
    struct kt_list *link = replica->reads_asked.next;
    bool unseen = false;

    while (link != &replica->reads_asked) {
        struct kt_read *read = KT_CONTAINER(link, struct kt_read, link);
        link = link->next;
        if (read->number != number)
            continue;
        read->index = index;
        if (index <= replica->visible) {
            finish(replica, read, KT_OK);
            continue;
        }
        kt_list_remove(&read->link);
        kt_list_append(&replica->reads_unseen, &read->link);
        unseen = true;
    }
    if (unseen)
        replica->host.want(replica->host.data, index);
}

void replica_reads_visible(struct kt_replica *replica)
{
    struct kt_list *link = replica->reads_unseen.next;

    while (link != &replica->reads_unseen) {
        struct kt_read *read = KT_CONTAINER(link, struct kt_read, link);
        link = link->next;
        if (read->index <= replica->visible)
            finish(replica, read, KT_OK);
    }
}

/* Gives all waiting reads one number; false if there are none. */
static bool number_waiting(struct kt_replica *replica, uint64_t *number)
{
    struct kt_list *link;

    if (kt_list_empty(&replica->reads_waiting))
        return false;
    *number = ++replica->ask_number;
    kt_list_each (link, &replica->reads_waiting)
        KT_CONTAINER(link, struct kt_read, link)->number = *number;
    kt_list_move(&replica->reads_asked, &replica->reads_waiting);
    return true;
}

/* ---- Rounds of a leader ---- */

static void add_asker(struct kt_replica *replica, kt_node_id peer, uint64_t number)
{
    if (replica->asker_count == replica->asker_cap) {
        replica->asker_cap = replica->asker_cap ? replica->asker_cap * 2 : 16;
        replica->askers = kt_realloc(replica->askers, replica->asker_cap * sizeof *replica->askers);
    }
    replica->askers[replica->asker_count++] = (struct round_asker){.peer = peer, .number = number};
}

static void end_round(struct kt_replica *replica, unsigned at)
{
    kt_free(replica->rounds[at].askers);
    replica->round_count--;
    memmove(&replica->rounds[at], &replica->rounds[at + 1], (replica->round_count - at) * sizeof replica->rounds[0]);
}

static void confirm(struct kt_replica *replica, unsigned at)
{
    struct round round = replica->rounds[at];

    replica->rounds[at].askers = NULL;
    end_round(replica, at);
    for (size_t i = 0; i < round.asker_count; i++) {
        struct kt_buf frame;
        if (round.askers[i].peer == 0) {
            know_index(replica, round.askers[i].number, round.index);
            continue;
        }
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_READ_INDEX, round.askers[i].number, round.index);
        replica_send(replica, round.askers[i].peer, &frame);
    }
    kt_free(round.askers);
}

static bool majority(const struct kt_replica *replica, uint32_t yes)
{
    return (size_t)__builtin_popcount(yes) > replica->member_count / 2;
}

static void ask(struct kt_replica *replica, struct round *round)
{
    round->sent_ms = replica->now;
    for (size_t i = 0; i < replica->member_count; i++) {
        struct kt_buf frame;
        if (round->yes >> i & 1u)
            continue;
        kt_frame_init(&frame);
        kt_frame_pair(&frame, KT_FRAME_PROBE, replica->raft.current_term, round->number);
        replica_send(replica, replica->members[i].id, &frame);
    }
}

static void begin_round(struct kt_replica *replica)
{
    struct round *round;
    uint64_t number;

    if (replica->round_count == REPLICA_ROUNDS || !replica_serves(replica))
        return;
    if (number_waiting(replica, &number))
        add_asker(replica, 0, number);
    if (replica->asker_count == 0)
        return;
    round = &replica->rounds[replica->round_count++];
    *round = (struct round){.number = ++replica->round_number,
                            .index = replica->raft.commit_index,
                            .askers = replica->askers,
                            .asker_count = replica->asker_count};
    replica->askers = NULL;
    replica->asker_count = replica->asker_cap = 0;
    for (size_t i = 0; i < replica->member_count; i++)
        if (replica->members[i].id == replica->self)
            round->yes |= 1u << i;
    if (majority(replica, round->yes))
        confirm(replica, replica->round_count - 1);
    else
        ask(replica, round);
}

void replica_probe_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader)
{
    kt_term term = kt_read_le64(reader);
    uint64_t round = kt_read_le64(reader);
    struct kt_buf frame;

    if (!kt_reader_done(reader) || replica->raft.current_term != term || replica->raft.state != RAFT_FOLLOWER ||
        replica->raft.follower_state.current_leader.id != from)
        return;
    kt_frame_init(&frame);
    kt_frame_pair(&frame, KT_FRAME_PROBE_YES, term, round);
    replica_send(replica, from, &frame);
}

void replica_probe_yes_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader)
{
    kt_term term = kt_read_le64(reader);
    uint64_t number = kt_read_le64(reader);

    if (!kt_reader_done(reader) || !replica_serves(replica) || replica->raft.current_term != term)
        return;
    for (unsigned at = 0; at < replica->round_count; at++) {
        struct round *round = &replica->rounds[at];
        /* A yes to a later question is one to every earlier one as well. */
        if (round->number > number)
            break;
        for (size_t i = 0; i < replica->member_count; i++)
            if (replica->members[i].id == from)
                round->yes |= 1u << i;
    }
    while (replica->round_count > 0 && majority(replica, replica->rounds[0].yes))
        confirm(replica, 0);
}

/* ---- Requests of a follower ---- */

void replica_read_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader)
{
    kt_term term = kt_read_le64(reader);
    uint64_t number = kt_read_le64(reader);

    if (!kt_reader_done(reader) || !replica_leads(replica) || term != replica->raft.current_term)
        return;
    /* A follower asks again when it hears nothing: what one of them can pile up here is bounded by its patience. */
    if (replica->asker_count < REPLICA_PROPOSALS_MAX)
        add_asker(replica, from, number);
}

void replica_read_index_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader)
{
    uint64_t number = kt_read_le64(reader);
    kt_index index = kt_read_le64(reader);

    (void)from;
    /* An answer to a number given up meanwhile finds no read: numbers are never used twice. */
    if (kt_reader_done(reader))
        know_index(replica, number, index);
}

static void ask_leader(struct kt_replica *replica)
{
    const struct member *leader = replica->leader != 0 ? replica_member(replica, replica->leader) : NULL;
    struct kt_buf frame;
    uint64_t number;

    if (leader == NULL || !leader->connected || !number_waiting(replica, &number))
        return;
    kt_frame_init(&frame);
    kt_frame_pair(&frame, KT_FRAME_READ, replica->raft.current_term, number);
    replica->asked_ms = replica->now;
    replica_send(replica, leader->id, &frame);
}

void replica_reads_flush(struct kt_replica *replica)
{
    if (replica_leads(replica))
        begin_round(replica);
    else
        ask_leader(replica);
}

void replica_reads_restart(struct kt_replica *replica)
{
    kt_list_move(&replica->reads_waiting, &replica->reads_asked);
    while (replica->round_count > 0)
        end_round(replica, replica->round_count - 1);
    kt_free(replica->askers);
    replica->askers = NULL;
    replica->asker_count = replica->asker_cap = 0;
}

static void sweep_list(struct kt_replica *replica, struct kt_list *list)
{
    struct kt_list *link = list->next;

    while (link != list) {
        struct kt_read *read = KT_CONTAINER(link, struct kt_read, link);
        link = link->next;
        if (replica->now >= read->deadline_ms)
            finish(replica, read, KT_UNAVAILABLE);
    }
}

void replica_reads_sweep(struct kt_replica *replica)
{
    sweep_list(replica, &replica->reads_waiting);
    sweep_list(replica, &replica->reads_asked);
    sweep_list(replica, &replica->reads_unseen);
    /* Questions may be lost with a connection: after a heartbeat or two they are asked again. */
    for (unsigned at = 0; at < replica->round_count; at++)
        if (replica->now >= replica->rounds[at].sent_ms + 2 * (kt_time_ms)replica->heartbeat_ms)
            ask(replica, &replica->rounds[at]);
    if (!replica_leads(replica) && !kt_list_empty(&replica->reads_asked) &&
        replica->now >= replica->asked_ms + 4 * (kt_time_ms)replica->heartbeat_ms)
        kt_list_move(&replica->reads_waiting, &replica->reads_asked);
}

void replica_read_release(struct kt_replica *replica)
{
    struct kt_read *read;

    replica_reads_restart(replica);
    kt_list_move(&replica->reads_waiting, &replica->reads_unseen);
    while ((read = kt_list_first(&replica->reads_waiting, struct kt_read, link)) != NULL)
        finish(replica, read, KT_SHUTTING_DOWN);
}
