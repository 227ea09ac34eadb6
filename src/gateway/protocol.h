/*
 * A protocol plugs into the gateway: functions from bytes to requests and from replies to bytes. The gateway owns
 * sockets, buffers, order, back-pressure, limits and closing; a protocol never sees a socket. io thread.
 *
 * For each connection the gateway calls take with everything that has arrived and not been consumed. take consumes at
 * most one message: it sets *used and either answers at once (kt_answer_now), or starts a request whose done calls
 * kt_answer_ready, or needs more bytes (KT_MORE, *used 0). Answers leave in the order in which they were begun.
 */
#ifndef KT_GATEWAY_PROTOCOL_H
#define KT_GATEWAY_PROTOCOL_H

#include "base/buf.h"
#include "dispatch/dispatch.h"

struct kt_conn;

/* The place of one answer in the order of its connection. */
struct kt_answer;

struct kt_protocol {
    const char *name;       /* also the settings key: listen.kv */
    size_t conn_size;       /* of its per-connection state, zeroed */
    size_t frame_bytes_max; /* the largest message it accepts, with its framing */
    /* Names of its operations that no engine declares, NULL behind the last; may be NULL. For metrics. */
    const char *const *operations;
    /* Names of the errors that it counts, NULL behind the last; may be NULL. */
    const char *const *errors;
    /* The name under which it counts an engine's command, or NULL if it has none for it. */
    const char *(*command_name)(const struct kt_command *command);
    /* Whether it can serve with these settings, asked by kt_gateway_listen; may be NULL: with any. */
    enum kt_code (*check)(const void *settings, struct kt_error *error);
    /* settings: what kt_gateway_listen was given for it. */
    void (*open)(struct kt_conn *conn, const void *settings);
    void (*close)(struct kt_conn *conn);
    /* KT_OK (used > 0), KT_MORE, or any other code: the connection is closed after what was answered so far was sent.
     */
    enum kt_code (*take)(struct kt_conn *conn, struct kt_slice in, size_t *used);
    /* There is room for pushed messages again (kt_conn_push_room); may be NULL for a protocol that pushes nothing. */
    void (*room)(struct kt_conn *conn);
};

void *kt_conn_state(struct kt_conn *conn);
const void *kt_conn_settings(struct kt_conn *conn);
struct kt_dispatch *kt_conn_dispatch(struct kt_conn *conn);
struct kt_lane *kt_conn_lane(struct kt_conn *conn);
/* What INFO shows of the gateway. */
unsigned kt_conn_count(struct kt_conn *conn);
unsigned kt_conn_count_max(struct kt_conn *conn);

/* Takes the next place in the order of answers. Lives until kt_answer_ready and its bytes were queued. */
struct kt_answer *kt_answer_begin(struct kt_conn *conn);
/* Where the answer's bytes are written; its ceiling is the protocol's frame limit. */
struct kt_buf *kt_answer_buf(struct kt_answer *answer);
/* NULL when the connection is gone: what is written then goes nowhere, kt_answer_ready must still be called. */
struct kt_conn *kt_answer_conn(struct kt_answer *answer);
/* The answer may leave as soon as those before it have. The answer is the gateway's again. */
void kt_answer_ready(struct kt_answer *answer);
/* begin, append, ready. */
void kt_answer_now(struct kt_conn *conn, struct kt_slice bytes);
/*
 * Between the two take is not called: what the connection sent behind a message must see that message's effect. Calls
 * nest. Only while an answer is under way, so that the connection lives.
 */
void kt_conn_pause(struct kt_conn *conn);
void kt_conn_resume(struct kt_conn *conn);
/*
 * Messages that answer nothing. They leave in their place among the answers: behind those that were begun before. If
 * there is no room for one more, the protocol's room is called when there is; a connection that is ending never has
 * any. The contents of message are taken.
 */
bool kt_conn_push_room(struct kt_conn *conn);
void kt_conn_push(struct kt_conn *conn, struct kt_buf *message);
/* While more holds than releases were called, silence does not close the connection: it waits for events. */
void kt_conn_hold(struct kt_conn *conn);
void kt_conn_release(struct kt_conn *conn);
/* No more is read; closes when every answer begun so far has been sent. */
void kt_conn_finish(struct kt_conn *conn);

#endif
