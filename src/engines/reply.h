/*
 * What a command answers, in the engine's own form: machine commands answer canonical JSON text of an object, key-value
 * commands an encoded value. The protocol wraps it. A failure carries a sentence and optional JSON details instead.
 * Results of operations are replicated and stored in idempotency records, so a reply has a binary form.
 */
#ifndef KT_ENGINES_REPLY_H
#define KT_ENGINES_REPLY_H

#include "base/buf.h"
#include "base/error.h"

#define KT_REPLY_BYTES_MAX (16u << 20) /* no protocol can carry more in one frame */

struct kt_reply {
    enum kt_code code;
    kt_index offset;              /* a write's WAL offset; the index of the state that a read saw */
    kt_term term;                 /* filled by the cluster for writes; not stored */
    struct kt_buf body;           /* owned; the result, empty on failure */
    struct kt_buf details;        /* owned; canonical JSON text of an object, or empty */
    char text[KT_ERROR_TEXT_MAX]; /* the failure in words, or "" for the code's own sentence */
};

void kt_reply_init(struct kt_reply *reply);
/* Frees what it owns; usable again as after init. */
void kt_reply_release(struct kt_reply *reply);
/* Empties it, keeping memory. */
void kt_reply_clear(struct kt_reply *reply);
/* Makes it a failure; what the body held is dropped. Returns the code. */
enum kt_code kt_reply_fail(struct kt_reply *reply, enum kt_code code, const char *format, ...) KT_PRINTF(3, 4);
enum kt_code kt_reply_fail_error(struct kt_reply *reply, const struct kt_error *error);
/* Moves the contents; target must be initialised and is released first; source is as after init. */
void kt_reply_move(struct kt_reply *target, struct kt_reply *source);

void kt_reply_encode(const struct kt_reply *reply, struct kt_buf *out);
/*
 * Into an initialised reply, which is emptied first. Total: KT_CORRUPT for anything kt_reply_encode did not write;
 * KT_NO_MEMORY. Copies the body.
 */
KT_MUST_USE enum kt_code kt_reply_decode(struct kt_slice bytes, struct kt_reply *reply);

#endif
