#include "engines/state.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engines/registry.h"
#include "engines/sessions.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define STATE_FORMAT   1u
#define POSITION_BYTES 32
/* A configuration names at most a few dozen members. */
#define MEMBERS_BYTES_MAX (64u << 10)
/* Memory of a reply that nobody waits for; larger ones are rare. */
#define UNWANTED_KEPT (256u << 10)
/* How often the engines are asked for background work; and at the latest after one of them kept the others waiting. */
#define TICK_MS          1000u
#define TICK_AFTER_OP_MS 100u

struct kt_state {
    struct kt_store *store;
    void **engines; /* kt_engine_count of them */
    size_t engines_open;
    kt_space meta;
    struct kt_sessions sessions;
    struct kt_changes changes;

    /* The applier's. */
    struct kt_txn *txn;                /* open since the first entry behind the last commit */
    struct kt_state_position position; /* with what txn holds */
    struct kt_state_position committed;
    kt_index members_index;
    struct kt_buf members, founding; /* as the meta keyspace holds them */
    struct kt_reply unwanted;        /* the reply when nobody waits */
    void *body;                      /* a decoded operation; large enough for any kind */

    _Atomic kt_index visible;
    atomic_size_t tick_next;
};

static struct kt_slice position_key(void)
{
    return kt_slice_text("position");
}

/* Absent: nothing was ever applied. */
static enum kt_code read_position(struct kt_txn *txn, kt_space meta, struct kt_state_position *position)
{
    struct kt_reader in;
    struct kt_slice value;
    enum kt_code code;

    memset(position, 0, sizeof(*position));
    code = kt_txn_get(txn, meta, position_key(), &value);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code)
        return code;
    kt_reader_init(&in, value);
    position->index = kt_read_le64(&in);
    position->term = kt_read_le64(&in);
    position->time_ms = kt_read_le64(&in);
    position->hash = kt_read_le64(&in);
    return kt_reader_done(&in) ? KT_OK : KT_CORRUPT;
}

static enum kt_code write_position(struct kt_txn *txn, kt_space meta, const struct kt_state_position *position)
{
    uint8_t record[POSITION_BYTES];

    kt_put_le64(record, position->index);
    kt_put_le64(record + 8, position->term);
    kt_put_le64(record + 16, position->time_ms);
    kt_put_le64(record + 24, position->hash);
    return kt_txn_put(txn, meta, position_key(), kt_slice(record, sizeof(record)));
}

/* A store without a format is new and gets ours; one of another version is refused before anything is read from it. */
static enum kt_code claim_format(struct kt_state *state, struct kt_error *error)
{
    struct kt_slice key = kt_slice_text("format"), value;
    struct kt_txn *txn;
    uint8_t format[4];
    enum kt_code code;

    code = kt_txn_begin_write(state->store, &txn);
    if (code)
        return kt_error_set(error, code, "cannot read the state: %s", kt_code_text(code));
    code = kt_txn_get(txn, state->meta, key, &value);
    if (code == KT_NOT_FOUND) {
        kt_put_le32(format, STATE_FORMAT);
        code = kt_txn_put(txn, state->meta, key, kt_slice(format, sizeof(format)));
        if (code == KT_OK)
            code = kt_txn_commit(txn);
        else
            kt_txn_abort(txn);
        return code ? kt_error_set(error, code, "cannot begin a new state: %s", kt_code_text(code)) : KT_OK;
    }
    if (code == KT_OK && (value.len != sizeof(format) || kt_get_le32(value.data) != STATE_FORMAT))
        code = kt_error_set(error, KT_CORRUPT, "the state on disk has a format that this version does not know");
    else if (code)
        code = kt_error_set(error, code, "cannot read the state: %s", kt_code_text(code));
    kt_txn_abort(txn);
    return code;
}

static enum kt_code open_engines(struct kt_state *state, const struct kt_engine_options *options,
                                 struct kt_error *error)
{
    size_t body_bytes = sizeof(uint64_t);

    state->engines = kt_zalloc(kt_engine_count * sizeof(*state->engines));
    for (size_t i = 0; i < kt_engine_count; i++) {
        enum kt_code code = kt_engines[i]->open(state->store, options, &state->engines[i], error);

        if (code)
            return code;
        state->engines_open++;
        for (size_t j = 0; j < kt_engines[i]->op_count; j++)
            body_bytes = KT_MAX(body_bytes, kt_engines[i]->ops[j]->body.size);
    }
    state->body = kt_zalloc(body_bytes);
    return KT_OK;
}

/* Absent: no entry that names members was applied. */
static enum kt_code read_members(struct kt_state *state, struct kt_txn *txn)
{
    struct kt_slice value;
    enum kt_code code = kt_txn_get(txn, state->meta, kt_slice_text("founding"), &value);

    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code)
        return code;
    kt_buf_append_slice(&state->founding, value);
    code = kt_txn_get(txn, state->meta, kt_slice_text("members"), &value);
    if (code)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code;
    if (value.len < sizeof(uint64_t))
        return KT_CORRUPT;
    state->members_index = kt_get_le64(value.data);
    kt_buf_append_slice(&state->members, value);
    return KT_OK;
}

static enum kt_code load_position(struct kt_state *state, struct kt_error *error)
{
    struct kt_txn *txn;
    enum kt_code code;

    code = kt_txn_begin_read(state->store, &txn);
    if (code == KT_OK) {
        code = read_position(txn, state->meta, &state->committed);
        if (code == KT_OK)
            code = read_members(state, txn);
        kt_txn_abort(txn);
    }
    if (code)
        return kt_error_set(error, code, "cannot read the position of the state: %s", kt_code_text(code));
    state->position = state->committed;
    atomic_store(&state->visible, state->committed.index);
    return KT_OK;
}

enum kt_code kt_state_open(const struct kt_state_options *options, struct kt_state **out, struct kt_error *error)
{
    struct kt_state *state = kt_zalloc(sizeof(*state));
    enum kt_code code;

    *out = NULL;
    kt_reply_init(&state->unwanted);
    kt_buf_init(&state->members, MEMBERS_BYTES_MAX);
    kt_buf_init(&state->founding, MEMBERS_BYTES_MAX);
    atomic_init(&state->visible, 0);
    atomic_init(&state->tick_next, 0);
    code = kt_store_open(&options->store, &state->store, error);
    if (code) {
        kt_buf_release(&state->members);
        kt_buf_release(&state->founding);
        kt_free(state);
        return code;
    }
    code = kt_store_space(state->store, "meta", &state->meta, error);
    if (code == KT_OK)
        code = claim_format(state, error);
    if (code == KT_OK)
        code = kt_sessions_open(&state->sessions, state->store, error);
    if (code == KT_OK)
        code = kt_changes_open(state->store, &state->changes, error);
    if (code == KT_OK)
        code = open_engines(state, &options->engines, error);
    if (code == KT_OK)
        code = load_position(state, error);
    if (code) {
        kt_state_close(state);
        return code;
    }
    *out = state;
    return KT_OK;
}

/* Forgets what is not committed. */
static void roll_back(struct kt_state *state)
{
    if (state->txn)
        kt_txn_abort(state->txn);
    state->txn = NULL;
    state->position = state->committed;
}

void kt_state_close(struct kt_state *state)
{
    if (!state)
        return;
    roll_back(state);
    while (state->engines_open > 0) {
        state->engines_open--;
        kt_engines[state->engines_open]->close(state->engines[state->engines_open]);
    }
    kt_free(state->engines);
    kt_free(state->body);
    kt_sessions_close(&state->sessions);
    kt_reply_release(&state->unwanted);
    kt_buf_release(&state->members);
    kt_buf_release(&state->founding);
    kt_store_close(state->store);
    kt_free(state);
}

struct kt_store *kt_state_store(struct kt_state *state)
{
    return state->store;
}

const struct kt_changes *kt_state_changes(const struct kt_state *state)
{
    return &state->changes;
}

void *kt_state_engine(struct kt_state *state, size_t engine)
{
    KT_CHECK(engine < kt_engine_count);
    return state->engines[engine];
}

struct kt_state_position kt_state_applied(const struct kt_state *state)
{
    return state->position;
}

/*
 * Runs the engine. A result is KT_OK or of the client's class; everything else means that this node cannot tell what
 * the others will see, and stops it.
 */
static enum kt_code run(struct kt_state *state, const struct kt_op_kind *kind, size_t engine,
                        const struct kt_apply *apply, struct kt_reply *reply, struct kt_error *error)
{
    enum kt_code code = kind->apply(state->engines[engine], state->txn, apply, state->body, reply);
    enum kt_code built = kt_buf_code(&reply->body) ? kt_buf_code(&reply->body) : kt_buf_code(&reply->details);

    if (code != KT_OK && kt_code_class(code) != KT_CLIENT)
        return kt_error_set(error, code, "%s at index %" PRIu64 " failed: %s", kind->name, apply->index,
                            reply->text[0] ? reply->text : kt_code_text(code));
    if (built == KT_NO_MEMORY)
        return kt_error_set(error, built, "%s at index %" PRIu64 ": no memory for its result", kind->name,
                            apply->index);
    reply->code = code;
    /* The operation is done and cannot be refused any more; all nodes come to this alike. */
    if (built)
        kt_reply_fail(reply, KT_OUTCOME_UNKNOWN, "%s is done, but its result is too large to be told", kind->name);
    return KT_OK;
}

static enum kt_code apply_op(struct kt_state *state, kt_index index, struct kt_slice entry, struct kt_reply *reply,
                             struct kt_error *error)
{
    const struct kt_op_kind *kind;
    struct kt_session session;
    struct kt_apply apply;
    bool answered = false;
    struct kt_op op;
    enum kt_code code;
    size_t engine;

    if (kt_op_decode(entry, &op))
        return kt_error_set(error, KT_CORRUPT, "entry %" PRIu64 " (%zu bytes) is no operation that this version knows",
                            index, entry.len);
    kind = kt_op_kind(op.code, &engine);
    if (!kind)
        return kt_error_set(error, KT_CORRUPT, "entry %" PRIu64 " carries operation 0x%04x, unknown to this version",
                            index, op.code);
    if (kt_struct_decode(&kind->body, op.body, state->body))
        return kt_error_set(error, KT_CORRUPT, "entry %" PRIu64 " carries a damaged %s (0x%04x)", index, kind->name,
                            op.code);

    state->position.time_ms = KT_MAX(state->position.time_ms, op.time_ms);
    apply = (struct kt_apply){.index = index, .time_ms = state->position.time_ms};
    if (op.origin) {
        code = kt_sessions_find(&state->sessions, state->txn, &op, &session, reply, &answered);
        if (code)
            return kt_error_set(error, code, "cannot read a session at index %" PRIu64, index);
        if (answered)
            return KT_OK;
    }
    code = run(state, kind, engine, &apply, reply, error);
    if (code)
        return code;
    if (op.origin)
        code = kt_sessions_keep(&state->sessions, state->txn, &op, &session, apply.time_ms, reply);
    else
        code = kt_sessions_sweep(&state->sessions, state->txn, apply.time_ms);
    return code ? kt_error_set(error, code, "cannot keep a session at index %" PRIu64, index) : KT_OK;
}

static enum kt_code begin_entry(struct kt_state *state, kt_index index, kt_term term, struct kt_error *error)
{
    enum kt_code code;

    KT_CHECK(index == state->position.index + 1);
    KT_CHECK(term >= state->position.term);
    if (state->txn)
        return KT_OK;
    code = kt_txn_begin_write(state->store, &state->txn);
    if (code) {
        state->txn = NULL;
        return kt_error_set(error, code, "cannot write at index %" PRIu64 ": %s", index, kt_code_text(code));
    }
    kt_txn_hash_set(state->txn, state->position.hash);
    return KT_OK;
}

static void end_entry(struct kt_state *state, kt_index index, kt_term term)
{
    state->position.index = index;
    state->position.term = term;
    state->position.hash = kt_txn_hash(state->txn);
}

enum kt_code kt_state_apply(struct kt_state *state, kt_index index, kt_term term, struct kt_slice entry,
                            struct kt_reply *reply, struct kt_error *error)
{
    enum kt_code code;

    if (!reply) {
        reply = &state->unwanted;
        if (reply->body.cap > UNWANTED_KEPT)
            kt_reply_release(reply);
    }
    kt_reply_clear(reply);
    reply->offset = index;
    code = begin_entry(state, index, term, error);
    if (code)
        return code;
    if (entry.len > 0) {
        code = apply_op(state, index, entry, reply, error);
        if (code) {
            roll_back(state);
            return code;
        }
    }
    end_entry(state, index, term);
    return KT_OK;
}

enum kt_code kt_state_apply_members(struct kt_state *state, kt_index index, kt_term term, struct kt_slice configuration,
                                    struct kt_error *error)
{
    enum kt_code code = begin_entry(state, index, term, error);

    if (code)
        return code;
    if (state->founding.len == 0) {
        kt_buf_append_slice(&state->founding, configuration);
        code = kt_txn_put(state->txn, state->meta, kt_slice_text("founding"), configuration);
    }
    kt_buf_clear(&state->members);
    kt_write_le64(&state->members, index);
    kt_buf_append_slice(&state->members, configuration);
    if (code == KT_OK)
        code = kt_buf_code(&state->members);
    if (code == KT_OK)
        code = kt_txn_put(state->txn, state->meta, kt_slice_text("members"), kt_buf_slice(&state->members));
    if (code) {
        roll_back(state);
        return kt_error_set(error, code, "cannot keep the members at index %" PRIu64 ": %s", index, kt_code_text(code));
    }
    state->members_index = index;
    end_entry(state, index, term);
    return KT_OK;
}

struct kt_state_members kt_state_members(const struct kt_state *state)
{
    struct kt_state_members members = {.index = state->members_index, .founding = kt_buf_slice(&state->founding)};

    if (members.index != 0)
        members.configuration = kt_slice(state->members.data + sizeof(uint64_t), state->members.len - sizeof(uint64_t));
    return members;
}

enum kt_code kt_state_commit(struct kt_state *state)
{
    enum kt_code code;

    if (!state->txn)
        return KT_OK;
    /* Not part of the hash: nodes commit at different entries. */
    code = write_position(state->txn, state->meta, &state->position);
    if (code) {
        roll_back(state);
        return code;
    }
    code = kt_txn_commit(state->txn);
    state->txn = NULL;
    if (code) {
        roll_back(state);
        return code;
    }
    state->committed = state->position;
    atomic_store_explicit(&state->visible, state->position.index, memory_order_release);
    return KT_OK;
}

kt_index kt_state_visible(const struct kt_state *state)
{
    return atomic_load_explicit(&state->visible, memory_order_acquire);
}

enum kt_code kt_state_position_of(struct kt_state *state, struct kt_txn *txn, struct kt_state_position *position)
{
    return read_position(txn, state->meta, position);
}

enum kt_code kt_state_tick(struct kt_state *state, kt_time_ms wall_ms, struct kt_buf *op, kt_time_ms *next_ms)
{
    size_t first = atomic_load(&state->tick_next);
    struct kt_state_position position;
    kt_time_ms now_ms, wanted_ms;
    struct kt_txn *txn;
    enum kt_code code;

    *next_ms = wall_ms + TICK_MS;
    code = kt_txn_begin_read(state->store, &txn);
    if (code)
        return code;
    code = read_position(txn, state->meta, &position);
    now_ms = code == KT_OK ? KT_MAX(wall_ms, position.time_ms) : wall_ms;
    wanted_ms = now_ms + TICK_MS;
    for (size_t i = 0; code == KT_OK && op->len == 0 && i < kt_engine_count; i++) {
        size_t engine = (first + i) % kt_engine_count;

        atomic_store(&state->tick_next, engine + 1);
        if (kt_engines[engine]->tick)
            code = kt_engines[engine]->tick(state->engines[engine], txn, now_ms, op, &wanted_ms);
        if (code == KT_OK)
            code = kt_buf_code(op);
        /* Those who were not asked because of this operation must not wait for long. */
        if (op->len > 0 && i + 1 < kt_engine_count)
            wanted_ms = KT_MIN(wanted_ms, now_ms + TICK_AFTER_OP_MS);
    }
    kt_txn_abort(txn);
    if (code)
        kt_buf_clear(op);
    else
        *next_ms = wall_ms + (KT_MAX(wanted_ms, now_ms) - now_ms);
    return code;
}

void kt_op_describe(struct kt_slice entry, struct kt_buf *out)
{
    const struct kt_op_kind *kind;
    struct kt_op op;
    void *body;

    if (entry.len == 0) {
        kt_buf_append_text(out, "nothing");
        return;
    }
    if (kt_op_decode(entry, &op)) {
        kt_buf_printf(out, "no known operation, %zu bytes", entry.len);
        return;
    }
    kind = kt_op_kind(op.code, NULL);
    if (!kind) {
        kt_buf_printf(out, "unknown operation 0x%04x, %zu bytes", op.code, op.body.len);
        return;
    }
    kt_buf_append_text(out, kind->name);
    body = kt_alloc(kind->body.size);
    if (kt_struct_decode(&kind->body, op.body, body)) {
        kt_buf_printf(out, " damaged, %zu bytes", op.body.len);
    } else if (op.body.len > 1) { /* one byte says that no field was given */
        kt_buf_append_u8(out, ' ');
        kt_struct_describe(&kind->body, body, out);
    }
    kt_free(body);
}
