/*
 * What nodes say to each other: the payload of a peer connection's frame. Little-endian; the transport checks
 * integrity, this decodes and trusts nothing all the same.
 *
 *   u8 kind, then
 *   RAFT          u8 raft message type, its fields; AppendEntries: le32 count, then per entry varint term, u8 type,
 * string FORWARD       le64 term, le32 count, then count operations as strings, stamped with origin and sequence REPLY
 * le64 origin, le64 sequence, le64 term, the reply (engines/reply.h) PROBE         le64 term, le64 round: "is your term
 * still this, and do you follow me?" PROBE_YES     le64 term, le64 round READ          le64 term, le64 number: "which
 * index must a read see?" READ_INDEX    le64 number, le64 index
 */
#ifndef KT_CLUSTER_NODE_PEER_FRAME_H
#define KT_CLUSTER_NODE_PEER_FRAME_H

#include <raft.h>

#include "base/buf.h"
#include "cluster/log/entry.h"
#include "engines/reply.h"
#include "wire/reader.h"

enum kt_frame_kind {
    KT_FRAME_RAFT = 1,
    KT_FRAME_FORWARD,
    KT_FRAME_REPLY,
    KT_FRAME_PROBE,
    KT_FRAME_PROBE_YES,
    KT_FRAME_READ,
    KT_FRAME_READ_INDEX,
};

/* A buffer for one frame; larger than any entry with its header. */
void kt_frame_init(struct kt_buf *out);
/* Messages without payload: votes, results, timeout now. */
void kt_frame_raft(struct kt_buf *out, const struct raft_message *message);
/* The fields of an AppendEntries; then as many kt_frame_entry as count says. */
void kt_frame_append(struct kt_buf *out, const struct raft_append_entries *fields, uint32_t count);
void kt_frame_entry(struct kt_buf *out, const struct kt_entry *entry);
void kt_frame_pair(struct kt_buf *out, enum kt_frame_kind kind, uint64_t first, uint64_t second);
void kt_frame_reply(struct kt_buf *out, uint64_t origin, uint64_t sequence, const struct kt_reply *reply);

/*
 * Decodes a raft message whose kind byte was read. Entries of an AppendEntries: *entries is an array that the caller
 * frees (kt_entries_free), their payloads are copied into one shared chunk; message->append_entries.entries is left
 * NULL. KT_BAD_FRAME for anything malformed; nothing is allocated then.
 */
KT_MUST_USE enum kt_code kt_frame_read_raft(struct kt_reader *reader, struct raft_message *message,
                                            struct kt_entry **entries);
void kt_entries_free(struct kt_entry *entries, size_t count);

#endif
