/* The inside of the RCP protocol: codec.c bytes and envelopes, errors.c codes, session.c the session, info.c INFO,
 * wal_stats.c WAL_STATS, watch.c subscriptions. */
#ifndef KT_GATEWAY_PROTO_RCP_RCP_INTERNAL_H
#define KT_GATEWAY_PROTO_RCP_RCP_INTERNAL_H

#include "gateway/proto_rcp/proto_rcp.h"
#include "wire/json.h"

#define RCP_HEADER_BYTES    18
#define RCP_EXTENSION_MAX   65535u      /* header_len is 16 bits */
#define RCP_PAYLOAD_MAX     (16u << 20) /* of a frame or a line, in both directions: rstmdb.md 1.1 */
#define RCP_ID_BYTES_MAX    256         /* rstmdb.md 2.1; keeps an answer's envelope small */
#define RCP_TRACE_BYTES_MAX 128         /* longer trace ids are replaced by one of ours */
#define RCP_BATCH_OPS_MAX   100         /* told in INFO */
#define RCP_LIST_MAX        1000        /* told in HELLO */
#define RCP_SUBSCRIPTIONS   100         /* told in HELLO */

/* How a message came, and so how it is answered. */
enum rcp_encoding { RCP_FRAME, RCP_LINE };

struct rcp_message {
    enum rcp_encoding encoding;
    struct kt_slice payload; /* borrowed from what arrived; an empty line has none */
    size_t used;             /* bytes of the message with its framing */
};

/*
 * Finds the first message in what arrived. scanned: how far a line without its end was looked at, kept by the caller
 * between calls, 0 for a new message. KT_OK, KT_MORE, or KT_BAD_FRAME and KT_BAD_VERSION with a sentence: the stream
 * cannot be followed any further; encoding is set also then (the fallback's if the first byte tells nothing).
 */
enum kt_code rcp_split(struct kt_slice in, enum rcp_encoding fallback, size_t *scanned, struct rcp_message *message,
                       struct kt_error *error);

/* What an answer repeats of its request. */
struct rcp_head {
    enum rcp_encoding encoding;
    struct kt_slice id;    /* JSON text of a string or an integer */
    struct kt_slice trace; /* plain UTF-8 */
};

/* A request as it came. Borrowed from the JSON tree. */
struct rcp_envelope {
    struct kt_slice op;
    const struct kt_json *params; /* an object, or NULL */
    struct kt_slice trace;        /* empty: none was given */
};

/*
 * Reads the envelope of a parsed message. The id's JSON text is appended to id (empty if none can be read), also when
 * the rest is wrong: KT_BAD_REQUEST with a sentence. Of members that are given twice the last one counts, as everywhere
 * in a tree.
 */
enum kt_code rcp_envelope_read(const struct kt_json *json, struct rcp_envelope *envelope, struct kt_buf *id,
                               struct kt_error *error);

struct rcp_meta {
    kt_time_ms wall_ms;
    bool leads;
    kt_index wal_offset; /* 0: left out */
};

struct rcp_failure {
    const char *code;
    const char *message;
    bool retryable;
    struct kt_slice details; /* JSON text of an object, or empty */
};

/* Write one whole message in place of what the buffer holds. A result that does not fit the largest payload is replaced
 * by an error that says so. */
void rcp_write_result(struct kt_buf *out, const struct rcp_head *head, const struct rcp_meta *meta,
                      struct kt_slice result);
void rcp_write_failure(struct kt_buf *out, const struct rcp_head *head, const struct rcp_meta *meta,
                       const struct rcp_failure *failure);

/*
 * One whole message that answers nothing. rest: members, each with a comma before it. What does not fit the largest
 * payload fails the buffer.
 */
void rcp_write_push(struct kt_buf *out, enum rcp_encoding encoding, const char *type, struct kt_slice subscription_id,
                    struct kt_slice rest);

/* The failure of a reply; details that it does not have are made in the arena. leader: 0 if none is known. */
void rcp_failure_of(const struct kt_reply *reply, kt_node_id leader, struct kt_arena *arena,
                    struct rcp_failure *failure);

/* The command behind INFO, which reads the engines' counters. */
extern const struct kt_command rcp_info;
/* Its parameters as of now, in the arena. */
void *rcp_info_params(struct kt_conn *conn, struct kt_arena *arena);
/* Appends ,"features":[...] less the comma: what this version carries out, and tls if the listener has it. */
void rcp_put_features(struct kt_json_writer *writer, bool tls);

/* The command behind WAL_STATS, and its parameters as of now, in the arena. */
extern const struct kt_command rcp_wal_stats;
void *rcp_wal_stats_params(struct kt_conn *conn, struct kt_arena *arena);

/* The subscriptions of a session; embedded in it. */
struct rcp_watches {
    struct kt_conn *conn;
    struct kt_list open;
    unsigned count; /* with those whose answer is under way */
    bool lines;     /* events are lines */
};

struct subscription;

void rcp_watches_init(struct rcp_watches *watches, struct kt_conn *conn);
/* One more is asked for; false: there are too many. Ends in rcp_watches_fail or in rcp_watches_answer and _open. */
bool rcp_watches_begin(struct rcp_watches *watches);
void rcp_watches_fail(struct rcp_watches *watches);
/* A new subscription, whose id is added to the result: the text of an object with members. */
struct subscription *rcp_watches_answer(struct rcp_watches *watches, struct kt_buf *result);
/* Its answer is on its way: events may follow. */
void rcp_watches_open(struct subscription *subscription, const struct kt_request *request);
/* false: there is none of this id. */
bool rcp_watches_remove(struct rcp_watches *watches, struct kt_slice id);
void rcp_watches_close(struct rcp_watches *watches);
/* The connection has room for events again. */
void rcp_watches_room(struct rcp_watches *watches);

#endif
