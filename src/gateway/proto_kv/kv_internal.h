/* The inside of the key-value protocol: codec.c frames, errors.c codes, login.c who it is, session.c commands. */
#ifndef KT_GATEWAY_PROTO_KV_KV_INTERNAL_H
#define KT_GATEWAY_PROTO_KV_KV_INTERNAL_H

#include "gateway/proto_kv/proto_kv.h"

#define KV_LENGTH_BYTES 4           /* of a frame's length, which does not count itself */
#define KV_HEADER_BYTES 8           /* magic, version, flags, type, payload length */
#define KV_FRAME_MAX    (16u << 20) /* largest length: kv.md 1.1 */
#define KV_STATUS_BYTES 6           /* of a response body before its payload: status, payload length */

/* Status codes, revision A: kv.md 3.3. */
enum kv_status {
    KV_STATUS_MALFORMED = 1000,
    KV_STATUS_UNKNOWN_COMMAND = 1001,
    KV_STATUS_BAD_CREDENTIALS = 1002,
    KV_STATUS_BAD_REQUEST = 1003,
    KV_STATUS_UNAUTHORIZED = 1004,
    KV_STATUS_NO_COLLECTION = 1006,
    KV_STATUS_WRONG_ENGINE = 1007,
    KV_STATUS_NOT_FOUND = 1008,
    KV_STATUS_INTERNAL = 2000,
};

enum {
    KV_COMMAND_PING = 1,
    KV_COMMAND_VERSIONS = 2,
    KV_COMMAND_LOGIN = 100,
    KV_COMMAND_AUTH_STATUS = 101,
    /* The engine's, which declares them; here is what their payloads look like (session.c). */
    KV_COMMAND_GET = 2000,
    KV_COMMAND_SET = 2001,
    KV_COMMAND_SET_TTL = 2002,
    KV_COMMAND_DELETE = 2003,
    KV_COMMAND_EXISTS = 2004,
    KV_COMMAND_KEYS = 2005,
};

/* A command as it came; slices are borrowed from what arrived. */
struct kv_message {
    uint16_t id;
    struct kt_slice database, collection, payload;
    size_t used; /* bytes of the frame, its length included */
};

/*
 * Finds the first command in what arrived. KT_OK; KT_MORE; KT_BAD_REQUEST: the frame is whole and wrong, problem is the
 * text of the reply, used is set and the next frame can be read; KT_BAD_FRAME: the same and nothing more can be read.
 */
enum kt_code kv_split(struct kt_slice in, struct kv_message *message, const char **problem);

/* Writes one whole response frame into an empty buffer. One that is too large becomes an internal error. */
void kv_write_response(struct kt_buf *out, uint16_t status, struct kt_slice payload);

/* Per connection. */
struct kv_session {
    const struct kt_principal *login;     /* the last successful one; NULL: none */
    const struct kt_principal *principal; /* whose permissions commands have; NULL: a login is needed */
    uint16_t success_code;
};

/* begin, write, ready. */
void kv_answer(struct kt_conn *conn, uint16_t status, struct kt_slice payload);
void kv_answer_text(struct kt_conn *conn, uint16_t status, const char *text);

/* Command 100. A password is verified on the pool; the connection pauses meanwhile. */
void kv_login(struct kt_conn *conn, struct kt_slice payload);

/* How a code is answered. */
struct kv_error_row {
    uint16_t status;
    const char *prefix; /* of the payload; NULL: the payload is empty unless text is set */
    bool text;          /* the failure's sentence follows */
};

/* The one translation of result codes; kv.md 3.3. KT_OK has no row: its status is a setting. */
struct kv_error_row kv_error_row(enum kt_code code);

#endif
