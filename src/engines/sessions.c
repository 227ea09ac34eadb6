#include "engines/sessions.h"

#include "base/check.h"
#include "base/plant.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define ORIGIN_KEY_BYTES 8
#define REPLY_KEY_BYTES  16
#define IDLE_KEY_BYTES   16
#define RECORD_BYTES     24
#define MINUTE_MS        60000
/* An encoded reply: its body, its details and a few small things. */
#define SCRATCH_MAX (KT_REPLY_BYTES_MAX + (2u << 20))
/* Larger replies are rare; their memory is not kept. */
#define SCRATCH_KEPT (256u << 10)

enum kt_code kt_sessions_open(struct kt_sessions *sessions, struct kt_store *store, struct kt_error *error)
{
    enum kt_code code = kt_store_space(store, "session", &sessions->records, error);

    kt_buf_init(&sessions->scratch, SCRATCH_MAX);
    return code ? code : kt_store_space(store, "session_idle", &sessions->idle, error);
}

void kt_sessions_close(struct kt_sessions *sessions)
{
    kt_buf_release(&sessions->scratch);
}

/* Two numbers that sort as they count; every key of both keyspaces is one or its first half. */
static struct kt_slice pair_key(uint8_t key[16], uint64_t first, uint64_t second)
{
    kt_put_be64(key, first);
    kt_put_be64(key + 8, second);
    return kt_slice(key, 16);
}

static struct kt_slice origin_key(uint8_t key[ORIGIN_KEY_BYTES], uint64_t origin)
{
    kt_put_be64(key, origin);
    return kt_slice(key, ORIGIN_KEY_BYTES);
}

static enum kt_code read_session(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin,
                                 struct kt_session *session)
{
    uint8_t key[ORIGIN_KEY_BYTES];
    struct kt_reader in;
    struct kt_slice value;
    enum kt_code code;

    memset(session, 0, sizeof(*session));
    code = kt_txn_get(txn, sessions->records, origin_key(key, origin), &value);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code)
        return code;
    kt_reader_init(&in, value);
    session->known = true;
    session->done_below = kt_read_le64(&in);
    session->cleaned_below = kt_read_le64(&in);
    session->minute = kt_read_le64(&in);
    return kt_reader_done(&in) ? KT_OK : KT_CORRUPT;
}

static enum kt_code write_session(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin,
                                  const struct kt_session *session)
{
    uint8_t key[ORIGIN_KEY_BYTES], record[RECORD_BYTES];

    kt_put_le64(record, session->done_below);
    kt_put_le64(record + 8, session->cleaned_below);
    kt_put_le64(record + 16, session->minute);
    return kt_txn_put(txn, sessions->records, origin_key(key, origin), kt_slice(record, sizeof(record)));
}

/* The first reply of the operation's origin at or behind its sequence; KT_NOT_FOUND if there is none. */
static enum kt_code first_reply(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                                uint64_t *sequence, struct kt_slice *value)
{
    uint8_t first[REPLY_KEY_BYTES];
    struct kt_cursor *cursor;
    struct kt_slice key;
    enum kt_code code = kt_cursor_open(txn, sessions->records, &cursor);

    if (code)
        return code;
    code = kt_cursor_seek(cursor, pair_key(first, op->origin, op->sequence), &key, value);
    if (code == KT_OK && (key.len != REPLY_KEY_BYTES || kt_get_be64(key.data) != op->origin))
        code = KT_NOT_FOUND;
    if (code == KT_OK)
        *sequence = kt_get_be64((const uint8_t *)key.data + ORIGIN_KEY_BYTES);
    kt_cursor_close(cursor);
    return code;
}

enum kt_code kt_sessions_find(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                              struct kt_session *session, struct kt_reply *reply, bool *answered)
{
    struct kt_slice value;
    uint64_t sequence;
    enum kt_code code;

    KT_CHECK(op->origin != 0);
    *answered = false;
    code = read_session(sessions, txn, op->origin, session);
    if (code || !session->known)
        return code;
    if (op->sequence < session->done_below) {
        kt_reply_fail(reply, KT_STALE, "%s", kt_code_text(KT_STALE));
        *answered = true;
        return KT_OK;
    }
    code = first_reply(sessions, txn, op, &sequence, &value);
    if (code == KT_NOT_FOUND || KT_PLANTED("sessions-lost"))
        return KT_OK;
    if (code)
        return code;
    *answered = true;
    if (sequence == op->sequence)
        return kt_reply_decode(value, reply);
    /* It was refused once, and whoever asked has not heard of it; what came behind it was carried out meanwhile. */
    kt_reply_fail(reply, KT_UNAVAILABLE, "a later request of the same node was carried out before");
    reply->offset = 0;
    return KT_OK;
}

/* The sequences of a session's replies in [from, below), at most KT_SESSION_REMOVE_MAX of them. */
static enum kt_code list_replies(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin, uint64_t from,
                                 uint64_t below, uint64_t found[KT_SESSION_REMOVE_MAX], unsigned *count)
{
    uint8_t first[REPLY_KEY_BYTES];
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    enum kt_code code;

    *count = 0;
    code = kt_cursor_open(txn, sessions->records, &cursor);
    if (code)
        return code;
    code = kt_cursor_seek(cursor, pair_key(first, origin, from), &key, &value);
    while (code == KT_OK && key.len == REPLY_KEY_BYTES && kt_get_be64(key.data) == origin) {
        uint64_t sequence = kt_get_be64((const uint8_t *)key.data + 8);

        if (sequence >= below || *count == KT_SESSION_REMOVE_MAX)
            break;
        found[(*count)++] = sequence;
        code = kt_cursor_next(cursor, &key, &value);
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

static enum kt_code delete_reply(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin, uint64_t sequence)
{
    uint8_t key[REPLY_KEY_BYTES];

    return kt_txn_delete(txn, sessions->records, pair_key(key, origin, sequence));
}

/* Removes replies below done_below, a bounded number; cleaned_below tells how far it came. */
static enum kt_code clean(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin, struct kt_session *session)
{
    uint64_t found[KT_SESSION_REMOVE_MAX];
    enum kt_code code = KT_OK;
    unsigned count;

    if (session->done_below - session->cleaned_below <= KT_SESSION_REMOVE_MAX) {
        while (code == KT_OK && session->cleaned_below < session->done_below)
            code = delete_reply(sessions, txn, origin, session->cleaned_below++);
        return code;
    }
    code = list_replies(sessions, txn, origin, session->cleaned_below, session->done_below, found, &count);
    for (unsigned i = 0; code == KT_OK && i < count; i++)
        code = delete_reply(sessions, txn, origin, found[i]);
    session->cleaned_below = count < KT_SESSION_REMOVE_MAX ? session->done_below : found[count - 1] + 1;
    return code;
}

static enum kt_code move_idle(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t origin, bool known,
                              uint64_t from, uint64_t to)
{
    uint8_t key[IDLE_KEY_BYTES];
    enum kt_code code = KT_OK;

    if (known && from == to)
        return KT_OK;
    if (known)
        code = kt_txn_delete(txn, sessions->idle, pair_key(key, from, origin));
    return code ? code : kt_txn_put(txn, sessions->idle, pair_key(key, to, origin), kt_slice("", 0));
}

static enum kt_code put_reply(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                              const struct kt_reply *reply)
{
    struct kt_buf *scratch = &sessions->scratch;
    uint8_t key[REPLY_KEY_BYTES];
    enum kt_code code;

    kt_buf_clear(scratch);
    kt_reply_encode(reply, scratch);
    code = kt_buf_code(scratch);
    if (code == KT_OK)
        code = kt_txn_put(txn, sessions->records, pair_key(key, op->origin, op->sequence), kt_buf_slice(scratch));
    if (scratch->cap > SCRATCH_KEPT)
        kt_buf_release(scratch);
    return code;
}

enum kt_code kt_sessions_keep(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                              const struct kt_session *session, kt_time_ms time_ms, const struct kt_reply *reply)
{
    /* An origin cannot have the answer that is being made now. */
    uint64_t done_below = KT_MIN(op->done_below, op->sequence);
    uint64_t minute = time_ms / MINUTE_MS;
    struct kt_session next = *session;
    enum kt_code code;

    code = put_reply(sessions, txn, op, reply);
    if (code)
        return code;
    next.known = true;
    if (!session->known) {
        next.done_below = next.cleaned_below = done_below;
    } else if (minute == session->minute && done_below < session->done_below + KT_SESSION_STEP &&
               session->cleaned_below == session->done_below) {
        return KT_OK;
    }
    next.minute = minute;
    next.done_below = KT_MAX(next.done_below, done_below);
    code = clean(sessions, txn, op->origin, &next);
    if (code == KT_OK)
        code = write_session(sessions, txn, op->origin, &next);
    if (code == KT_OK)
        code = move_idle(sessions, txn, op->origin, session->known, session->minute, minute);
    return code ? code : kt_sessions_sweep(sessions, txn, time_ms);
}

/* The row of session_idle that is first; KT_NOT_FOUND if there is none. */
static enum kt_code longest_idle(struct kt_sessions *sessions, struct kt_txn *txn, uint64_t *minute, uint64_t *origin)
{
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    enum kt_code code;

    code = kt_cursor_open(txn, sessions->idle, &cursor);
    if (code)
        return code;
    code = kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value);
    if (code == KT_OK && key.len != IDLE_KEY_BYTES)
        code = KT_CORRUPT;
    if (code == KT_OK) {
        *minute = kt_get_be64(key.data);
        *origin = kt_get_be64((const uint8_t *)key.data + 8);
    }
    kt_cursor_close(cursor);
    return code;
}

enum kt_code kt_sessions_sweep(struct kt_sessions *sessions, struct kt_txn *txn, kt_time_ms time_ms)
{
    uint64_t found[KT_SESSION_REMOVE_MAX], minute, origin;
    uint8_t key[IDLE_KEY_BYTES];
    enum kt_code code;
    unsigned count;

    code = longest_idle(sessions, txn, &minute, &origin);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code)
        return code;
    if (time_ms / MINUTE_MS < KT_SESSION_IDLE_MINUTES || minute > time_ms / MINUTE_MS - KT_SESSION_IDLE_MINUTES)
        return KT_OK;
    code = list_replies(sessions, txn, origin, 0, UINT64_MAX, found, &count);
    for (unsigned i = 0; code == KT_OK && i < count; i++)
        code = delete_reply(sessions, txn, origin, found[i]);
    if (code || count == KT_SESSION_REMOVE_MAX)
        return code; /* the rest another time; the session's record stays as long */
    code = kt_txn_delete(txn, sessions->records, origin_key(key, origin));
    return code ? code : kt_txn_delete(txn, sessions->idle, pair_key(key, minute, origin));
}
