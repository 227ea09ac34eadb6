/* The inside of the replica, shared by replica*.c. Everything here runs where the host calls the replica. */
#ifndef KT_CLUSTER_NODE_REPLICA_INTERNAL_H
#define KT_CLUSTER_NODE_REPLICA_INTERNAL_H

#include <raft.h>

#include "base/random.h"
#include "cluster/node/peer_frame.h"
#include "cluster/node/replica.h"

_Static_assert(RAFT_VERSION_NUMBER == 2201, "the driver is written against the core of libraft 0.22.1");

/* Ceilings, each with its reason. */
#define REPLICA_MEMBERS_MAX 16
/* Entries kept in memory for followers that are a little behind and for the applier; what is not durable is always
 * kept. */
#define REPLICA_WINDOW_BYTES (32u << 20)
/* Entries on the way to one follower and not acknowledged: covers the bandwidth of a fast link times its delay. */
#define REPLICA_STREAM_BYTES (8u << 20)
/* Entries in one AppendEntries frame: large enough to amortise a frame, small enough to keep heartbeats flowing. */
#define REPLICA_FRAME_BYTES   (1u << 20)
#define REPLICA_FRAME_ENTRIES 4096u
/* The core's own window; the byte window above is the one that binds for large entries. */
#define REPLICA_INFLIGHT_ENTRIES 65536u
/* Requests of this node that wait for their result: beyond it the client is told to try again. */
#define REPLICA_PROPOSALS_MAX  65536u
#define REPLICA_PROPOSAL_BYTES (256u << 20)
/* What other nodes forwarded and is not yet in the log; they send no more than their own share, so this is a last
 * resort. */
#define REPLICA_INTAKE_BYTES (512u << 20)
/* Entries with the applier: enough to keep it busy while the next are gathered. */
#define REPLICA_APPLY_BATCHES 4u
#define REPLICA_APPLY_BYTES   (1u << 20)
#define REPLICA_APPLY_ENTRIES 1024u
/* Read rounds under way: a new one may start before the last is confirmed, so that a read waits one round trip, not
 * two. */
#define REPLICA_ROUNDS 8u
/* After so long without an answer from the leader a forwarded request is sent again; its record makes that safe. */
#define REPLICA_RESEND_MS 1000u
/* Checkpoints of the state's hash that are remembered: a node that is further behind is compared when it has caught up.
 */
#define REPLICA_CHECKS 16u
/* A member that joins becomes a voter when it lacks no more than this. */
#define REPLICA_CAUGHT_UP 1024u
#define REPLICA_JOIN_MS   500u
/* One that is no voter and hears of no leader for so many election timeouts asks to be taken in again. */
#define REPLICA_LOST_ELECTIONS 4u
/* Deadlines are looked at this often while anything waits. */
#define REPLICA_SWEEP_MS 20u

/* Entries in memory, consecutive. */
struct window_slot {
    struct kt_entry entry;
    uint64_t write; /* number of the log write that carries it */
};

struct window {
    struct window_slot *slots; /* ring; cap is a power of two */
    size_t cap;
    kt_index first, next; /* [first, next) are here */
    size_t bytes;
};

/* A log write under way; the public part is what the host sees. */
struct log_write {
    struct kt_log_write write;
    uint64_t number;
    struct kt_entry entries[];
};

/* A frame that waits for a vote to become durable. */
struct held_frame {
    struct kt_list link;
    kt_node_id to;
    uint64_t after; /* vote number */
    struct kt_buf frame;
};

/* What this leader sends one follower: entries [next, end) are still to be sent; see replica_stream.c. */
struct stream {
    kt_index start; /* where the stream began, and the term of the entry before */
    kt_term start_term;
    kt_index next, end;
    kt_term prev_term;   /* of entry next - 1 */
    size_t flight_bytes; /* sent and not acknowledged */
    struct {
        kt_index last;
        size_t bytes;
    } flight[256];
    unsigned flight_head, flight_count;
    kt_index told;       /* commit index in the last frame */
    bool fetching;       /* a read of the log for this stream is with the host */
    uint64_t epoch;      /* counts restarts: a fetch of an earlier one is thrown away */
    kt_time_ms moved_ms; /* last time something was acknowledged or the stream restarted */
};

struct member {
    kt_node_id id;
    char *address;
    kt_member_id member; /* which life of it the configuration names; 0: none */
    bool voter;
    bool connected;
    bool short_of_room;   /* it told that its disk is */
    bool told_short;      /* what it was told of this node's */
    kt_member_id joining; /* leader: the member that asks to take this node's place; 0: none */
    kt_index offered;     /* leader: to this member, the state up to here; 0: nothing since it answered */
    struct stream stream;
};

struct stream_fetch {
    struct kt_log_read read;
    struct kt_list kept; /* at start only */
    bool for_apply;
    size_t member;
    uint64_t epoch;
    kt_term term;
};

/* Who waits for the entry at an index that this leader appended in its term. */
struct ticket {
    kt_node_id peer; /* 0: a proposal of this node */
    uint64_t origin;
    uint64_t sequence; /* 0: nobody */
};

/* An operation that another node forwarded. */
struct forwarded {
    struct kt_list link;
    kt_node_id peer;
    size_t len;
    uint8_t op[];
};

/* Who asked for a read index: this node's reads of that number, or another node. */
struct round_asker {
    kt_node_id peer; /* 0: this node */
    uint64_t number;
};

struct round {
    uint64_t number;
    kt_index index;
    kt_time_ms sent_ms;
    uint32_t yes; /* bit per member */
    struct round_asker *askers;
    size_t asker_count;
};

/*
 * The leader's word that this node shall lead next (TimeoutNow), come before the entries it stands behind were durable
 * here: the core would ignore it, and the leader would wait a whole election timeout for nothing.
 */
struct turn {
    struct member *from; /* NULL: none */
    struct raft_message message;
    kt_time_ms until_ms; /* later the leader has given up */
};

struct kt_replica {
    struct raft raft;
    struct kt_replica_host host;
    kt_node_id self;
    kt_member_id member;
    struct member members[REPLICA_MEMBERS_MAX];
    size_t member_count;
    unsigned election_ms, heartbeat_ms;
    struct kt_random random;
    kt_time_ms now;
    bool dead; /* the host was told of a fatal failure: nothing is done any more */

    /* What is known of the role, as last looked at. */
    unsigned short role;
    kt_term term;
    kt_node_id leader;
    kt_index barrier;    /* leader: the first index of its own term */
    bool full;           /* the disk below the log or the state is: nothing can be written at the moment */
    bool low;            /* little is left there: nothing that needs more of it is taken */
    kt_time_ms short_ms; /* leader and full or low: when handing over was begun; 0: not yet */
    bool barrier_needed; /* leader without an entry of its own term yet */
    uint64_t elections;
    struct turn turn;

    /* Log. */
    struct window window;
    uint64_t write_number;
    uint64_t votes_issued, votes_done;
    struct kt_list held;
    const struct kt_entry *incoming; /* entries of the event being stepped, from index incoming_first */
    kt_index incoming_first;
    size_t incoming_count;
    kt_index first; /* first entry in the log */

    /* Applier. */
    kt_index handed; /* last entry given to the applier */
    kt_index applied, visible;
    unsigned batches;
    bool apply_fetching;

    /* Proposals of this node, oldest first; those from unsent on are with no leader. */
    uint64_t origin, sequence;
    struct kt_list proposals;
    size_t proposal_count, proposal_bytes;
    kt_time_ms resend_ms; /* last time the leader answered or was sent anything again */
    kt_time_ms swept_ms;
    kt_time_ms stamped_ms; /* last time put on an operation */
    struct kt_list intake; /* struct forwarded */
    size_t intake_bytes;
    struct ticket *tickets; /* ring by index: [tickets_first, tickets_next) */
    size_t tickets_cap;
    kt_index tickets_first, tickets_next;

    /* Reads. */
    struct kt_list reads_waiting; /* for a round or a request to the leader to begin */
    struct kt_list reads_asked;   /* number tells which */
    struct kt_list reads_unseen;  /* know their index, wait until it is visible; by index */
    size_t read_count;
    uint64_t ask_number;
    kt_time_ms asked_ms; /* last time a request went to the leader */
    struct round rounds[REPLICA_ROUNDS];
    unsigned round_count;
    uint64_t round_number;
    struct round_asker *askers; /* other nodes that wait for the next round */
    size_t asker_count, asker_cap;

    /* Members. */
    struct kt_buf founding; /* data of the cluster's first entry, for nodes that come up empty */
    kt_index named;         /* of the configuration that named this member first, as far as is known; 0: none did */
    kt_time_ms joined_ms;   /* last time this node asked to be a member */
    kt_time_ms heard_ms;    /* last time a leader spoke to this member */

    /* Hashes of the state, as the members told them; a ring by index. */
    struct check {
        kt_index index;
        uint64_t hash[REPLICA_MEMBERS_MAX];
        uint32_t known; /* bit per member */
    } checks[REPLICA_CHECKS];
};

/* replica.c */
struct member *replica_member(struct kt_replica *replica, kt_node_id id);
/* Submits one entry made here, not an operation; *index gets its place. A code of the core. */
int replica_submit(struct kt_replica *replica, enum kt_entry_type type, struct kt_slice data, kt_index *index);
struct kt_frame_ends replica_ends(const struct kt_replica *replica, const struct member *member);
void replica_end(struct kt_replica *replica, enum kt_end why, const char *format, ...) KT_PRINTF(3, 4);
/* One step of the core and all it asks for. A code of the core, 0 if it went well. */
int replica_step(struct kt_replica *replica, struct raft_event *event);
void replica_fatal(struct kt_replica *replica, enum kt_code code, const char *format, ...) KT_PRINTF(3, 4);
/* Through the host, or held until the votes before it are durable. false: dropped. */
bool replica_send(struct kt_replica *replica, kt_node_id to, struct kt_buf *frame);
bool replica_leads(const struct kt_replica *replica);
/* To the connected voter that has most of the log; with_room: among those that have disk space. */
void replica_hand_leadership(struct kt_replica *replica, bool with_room);
/* Leads, its own term's entry is committed, and no transfer is under way: it may answer what needs certainty. */
bool replica_serves(const struct kt_replica *replica);

/* Ends the node if the core refused what it must not. */
void replica_fail_step(struct kt_replica *replica, const char *what, int rv);

/* replica_receive.c */
void replica_raft_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);
/* Entries became durable: the turn that waited for them may have come. */
void replica_take_waiting_turn(struct kt_replica *replica);

/* replica_log.c */
const struct kt_entry *replica_entry(const struct kt_replica *replica, kt_index index);
/* Puts the entries of an update into the window and gives them to the host, with the vote if there is one. */
void replica_persist(struct kt_replica *replica, const struct raft_update *update);
/* A log write with the next number and nothing in it yet. */
struct log_write *replica_log_write(struct kt_replica *replica);
void replica_hand_over(struct kt_replica *replica);
void replica_apply_fetched(struct kt_replica *replica, struct stream_fetch *fetch);
void replica_log_release(struct kt_replica *replica);

/* replica_stream.c */
void replica_streams_reset(struct kt_replica *replica);
void replica_stream_reset(struct kt_replica *replica, struct member *member);
/* The core wants entries sent, or a heartbeat. */
void replica_stream_want(struct kt_replica *replica, struct member *member, const struct raft_append_entries *fields);
void replica_stream_acknowledged(struct kt_replica *replica, struct member *member,
                                 const struct raft_append_entries_result *result);
void replica_stream_fetched(struct kt_replica *replica, struct stream_fetch *fetch);
void replica_streams_tick(struct kt_replica *replica);
void replica_streams_flush(struct kt_replica *replica);

/* replica_propose.c */
void replica_propose_flush(struct kt_replica *replica);
void replica_forward_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader);
void replica_reply_received(struct kt_replica *replica, struct kt_reader *reader);
/* The leader or its term changed, or the way to it broke: what it has must be sent again. */
void replica_proposals_resend(struct kt_replica *replica);
void replica_tickets_clear(struct kt_replica *replica);
/* The entry just submitted is nobody's. */
void replica_ticket_skip(struct kt_replica *replica);
bool replica_ticket_wanted(const struct kt_replica *replica, kt_index index);
void replica_ticket_answer(struct kt_replica *replica, kt_index index, struct kt_reply *reply);
void replica_proposals_sweep(struct kt_replica *replica);
void replica_propose_release(struct kt_replica *replica);

/* replica_member.c */
/* Reads who is a member from the core's configuration. */
void replica_members_refresh(struct kt_replica *replica);
/* Remembers the cluster's first entry, if this is it. */
void replica_note_founding(struct kt_replica *replica, const struct kt_entry *entry);
size_t replica_voters(const struct kt_replica *replica);
void replica_hello_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);
/* This node leads now: who asked an earlier leader, or this one in an earlier term, may be gone since. */
void replica_members_lead(struct kt_replica *replica);
void replica_join_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);
void replica_say_hello(struct kt_replica *replica, kt_node_id to);
/* One step of changing members, if one is due. */
void replica_members_tick(struct kt_replica *replica);

/* replica_snapshot.c */
void replica_offer(struct kt_replica *replica, struct member *member, const struct raft_install_snapshot *fields);
/*
 * After a refusal was given to the core: one that it ignored, because the state was offered up to another index than
 * the one refused. A code of the core.
 */
int replica_offer_refused(struct kt_replica *replica, struct member *member, const struct raft_message *message);
void replica_offer_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);

/* replica_room.c */
enum room {
    ROOM_FINE,
    ROOM_ELSEWHERE, /* short of it, and another node is about to take over: everything waits */
    ROOM_LOW,       /* only what frees space is taken */
    ROOM_NONE       /* nothing is */
};

/* What this node, as a leader, may take into the log. */
enum room replica_room(const struct kt_replica *replica);
bool replica_short(const struct kt_replica *replica);
/* Whether an encoded operation frees space. */
bool replica_op_frees(struct kt_slice bytes);
void replica_room_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);
/* Tells the others, hands over. */
void replica_room_tick(struct kt_replica *replica);

/* replica_check.c */
/* A member that was away is told what it missed: it may come to these entries yet. */
void replica_check_tell(struct kt_replica *replica, const struct member *member);
void replica_check_note(struct kt_replica *replica, kt_index index, uint64_t hash);
void replica_check_received(struct kt_replica *replica, struct member *member, struct kt_reader *reader);

/* replica_read.c */
void replica_reads_flush(struct kt_replica *replica);
void replica_probe_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader);
void replica_probe_yes_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader);
void replica_read_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader);
void replica_read_index_received(struct kt_replica *replica, kt_node_id from, struct kt_reader *reader);
/* Rounds are void: their reads wait again. */
void replica_reads_restart(struct kt_replica *replica);
void replica_reads_visible(struct kt_replica *replica);
void replica_reads_sweep(struct kt_replica *replica);
void replica_read_release(struct kt_replica *replica);

#endif
