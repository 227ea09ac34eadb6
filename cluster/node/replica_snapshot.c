/*
 * The log is trimmed, because the state is its own snapshot: what the core calls one is a mark (index, term,
 * configuration). A follower that lacks entries which are gone is offered the state itself. It fetches a copy over a
 * connection of its own, and starts again from it; the core of that follower never installs anything.
 */
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/replica_internal.h"

void kt_replica_trim(struct kt_replica *replica, kt_index durable, kt_index index)
{
    struct raft *raft = &replica->raft;
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    struct log_write *write;
    struct raft_buffer bytes;

    /* The mark carries the configuration in force at its index, so there must be no later one yet. */
    if (replica->dead || durable > replica->applied || durable <= raft->trail.snapshot.index || index >= durable ||
        index < replica->first || raft->configuration_uncommitted_index != 0 ||
        raft->configuration_committed_index > durable || durable - index > UINT32_MAX)
        return;
    if (raft_configuration_encode(&raft->configuration, &bytes) != 0)
        return;
    if (raft_configuration_decode(&bytes, &event.snapshot.metadata.configuration) != 0) {
        raft_free(bytes.base);
        return;
    }
    raft_free(bytes.base);
    event.snapshot.metadata.index = durable;
    event.snapshot.metadata.configuration_index = raft->configuration_committed_index;
    event.snapshot.trailing = (unsigned)(durable - index);
    if (replica_step(replica, &event) != 0)
        return;
    replica->first = index + 1;
    write = replica_log_write(replica);
    write->write.trim = index;
    replica->host.persist(replica->host.data, &write->write);
    kt_info("replica", "the log begins at entry %llu now", (unsigned long long)replica->first);
}

void replica_offer(struct kt_replica *replica, struct member *member, const struct raft_install_snapshot *fields)
{
    struct kt_buf frame;

    member->offered = fields->last_index;
    kt_frame_init(&frame);
    kt_frame_pair(&frame, KT_FRAME_OFFER, fields->term, fields->last_index);
    replica_send(replica, member->id, &frame);
}

/*
 * Heartbeats to a member that fetches the state stand on the leader's mark. When it is refused, the core offers the
 * state again, unless the mark has moved on since the last offer: then it takes every refusal for an old one and waits
 * for a fetch that may long have failed. So it is told again in terms of what it offered.
 */
int replica_offer_refused(struct kt_replica *replica, struct member *member, const struct raft_message *message)
{
    struct raft_message again = *message;
    struct raft_append_entries_result *result = &again.append_entries_result;
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = &again};
    raft_index match;

    if (result->rejected == 0 && result->last_log_index >= member->offered)
        member->offered = 0;
    if (KT_PLANTED("offer-once") || result->rejected == 0 || member->offered == 0 ||
        result->rejected == member->offered || !replica_leads(replica) || result->term != replica->raft.current_term ||
        raft_match_index(&replica->raft, member->member, &match) != 0 || match >= member->offered)
        return 0;
    result->rejected = member->offered;
    result->last_log_index = KT_MIN(result->last_log_index, member->offered - 1);
    return replica_step(replica, &event);
}

void replica_offer_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader)
{
    kt_term term = kt_read_le64(reader);
    kt_index index = kt_read_le64(reader);
    struct raft_message result = {.type = RAFT_APPEND_ENTRIES_RESULT};
    struct kt_frame_ends ends = replica_ends(replica, member);
    struct kt_buf frame;

    if (!kt_reader_done(reader) || term != replica->raft.current_term || replica->leader != member->id)
        return;
    if (replica->applied < index && !KT_PLANTED("offer-early")) {
        replica->host.fetch_state(replica->host.data, member->id, index);
        return;
    }
    /* What is applied is committed, so a leader of a later term has it: the logs agree up to there. */
    result.append_entries_result.term = term;
    result.append_entries_result.last_log_index = KT_PLANTED("offer-early") ? index : replica->applied;
    kt_frame_init(&frame);
    kt_frame_raft(&frame, &ends, &result);
    replica_send(replica, member->id, &frame);
}
