/* The inside of libkontiki: one connection (link.c), the retrying call (client.c), the two protocols. */
#ifndef KT_CLIENT_INTERNAL_H
#define KT_CLIENT_INTERNAL_H

#include "base/address.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "client/tls.h"
#include "kontiki/client.h"

#define LINK_INPUT_BYTES_MAX                                                                                           \
    (KONTIKI_FRAME_BYTES_MAX + (128u << 10)) /* a frame, its header and the longest extension */

/* How far a request came in one attempt. */
enum fate {
    FATE_ANSWERED, /* the result says what the server said (or that nothing was to be sent) */
    FATE_NOT_SENT, /* no server can have acted on it */
    FATE_LOST,     /* it left whole, and no answer came */
};

/* One connection to one of a list of endpoints. */
struct link {
    struct kt_address addresses[KONTIKI_ENDPOINTS_MAX];
    char *texts[KONTIKI_ENDPOINTS_MAX];
    size_t count;
    size_t at; /* the endpoint that is used */
    unsigned connect_ms;
    int fd;                                 /* -1: not connected */
    bool greeted;                           /* the protocol's own beginning is done on this connection */
    struct kt_buf in;                       /* read and not consumed */
    const struct link_tls_context *context; /* of the client; NULL: plain */
    struct link_tls tls;
};

/* Parses and copies the endpoints. */
KT_MUST_USE enum kt_code link_init(struct link *link, const char *const *endpoints, size_t count, unsigned connect_ms,
                                   struct kt_error *error);
void link_release(struct link *link);
/* Connected and, as far as can be seen, still alive; else connects anew. deadline_ms on kt_clock_ms. */
KT_MUST_USE enum kt_code link_open(struct link *link, kt_time_ms deadline_ms, struct kt_error *error);
void link_close(struct link *link);
/* The connection is given up and the next endpoint's turn comes. */
void link_next(struct link *link);
/* Sends all of it; on failure the connection is closed, and what was sent is no whole request. */
KT_MUST_USE enum kt_code link_send(struct link *link, struct kt_slice bytes, kt_time_ms deadline_ms,
                                   struct kt_error *error);
/* KT_OK: something can be read (or the connection ended); KT_MORE: nothing came until the deadline; both leave it open.
 */
KT_MUST_USE enum kt_code link_wait(struct link *link, kt_time_ms deadline_ms, struct kt_error *error);
/* At least so many bytes are in link->in; on failure the connection is closed. */
KT_MUST_USE enum kt_code link_fill(struct link *link, size_t bytes, kt_time_ms deadline_ms, struct kt_error *error);
const char *link_endpoint(const struct link *link);
/* It was given up for a reason that lasts until somebody changes certificates or options. */
bool link_is_hopeless(const struct link *link);

struct kontiki_client {
    struct link machine, kv;
    struct link_tls_context *tls; /* of machine calls; NULL: plain */
    char *token, *user, *password, *api_key;
    unsigned timeout_ms, attempt_ms;
    bool retry_unknown;
    uint64_t next_id; /* of machine requests */
};

/* One call: what is sent, and what sending it again would mean. */
struct call {
    struct link *link;
    struct kt_slice request; /* whole, with its framing */
    bool changes;            /* it may change something: a lost answer leaves a question */
    bool repeatable;         /* sending it twice does no harm */
    /* Connects and greets if need be, sends, and waits for the answer until the deadline. */
    enum fate (*attempt)(struct kontiki_client *client, const struct call *call, kt_time_ms deadline_ms,
                         struct kontiki_result *result);
    uint64_t id;
};

/* Attempts until there is an answer to be given; fills the result and returns its code. */
enum kt_code call_run(struct kontiki_client *client, const struct call *call, struct kontiki_result *result);

/* Empties the result without freeing and sets code and sentence. */
enum kt_code result_fail(struct kontiki_result *result, enum kt_code code, const char *format, ...) KT_PRINTF(3, 4);
/* Takes the buffer's bytes as the body. */
void result_take_body(struct kontiki_result *result, struct kt_buf *body);

/* Frames and answers as bytes, for the protocols and for tests. */
struct rcp_frame {
    size_t header_len, payload_len;
    uint32_t crc;
    bool has_crc;
};
#define RCP_HEADER_BYTES 18u
/* Appends a frame around a payload. */
void rcp_frame_write(struct kt_buf *out, struct kt_slice payload);
/* header: RCP_HEADER_BYTES bytes. KT_BAD_FRAME with a sentence if no frame begins so. */
KT_MUST_USE enum kt_code rcp_frame_read(const uint8_t *header, struct rcp_frame *frame, struct kt_error *error);
/*
 * The next whole frame of link->in: KT_OK and its payload, borrowed until *used bytes are consumed; KT_MORE: it is not
 * there yet; KT_BAD_FRAME with a sentence.
 */
KT_MUST_USE enum kt_code rcp_frame_peek(const struct link *link, struct kt_slice *payload, size_t *used,
                                        struct kt_error *error);
/* One request, framed. One that does not fit fails the buffer. */
void rcp_request_write(uint64_t id, const char *op, struct kt_slice params, struct kt_buf *frame);
/*
 * A response's JSON into the result. KT_OK: it answers the request with this id (result->code may be an error's).
 * KT_MORE: it answers no request (an event). KT_BAD_FRAME: it is not what a server says.
 */
KT_MUST_USE enum kt_code rcp_answer_read(struct kt_slice payload, uint64_t id, struct kontiki_result *result,
                                         struct kt_error *error);
/* A response message behind its length: status and payload into the result. */
KT_MUST_USE enum kt_code kv_answer_read(struct kt_slice message, struct kontiki_result *result, struct kt_error *error);

#endif
