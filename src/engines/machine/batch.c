/*
 * BATCH: several operations in one log entry, carried out in order by the same functions as alone, each seeing what the
 * ones before it did. Their offset is the entry's, the same for all.
 *
 *   atomic       all or nothing: the first failure undoes what came before and fails the batch
 *   best_effort  every operation has its own result
 *
 * The entry's items are (le16 code, string body): an operation of the log under its code, a query under one of the
 * codes below, or, in a best-effort batch, what prepare refused.
 */
#include "base/check.h"
#include "engines/machine/idempotency.h"
#include "engines/rcp_error.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* Stored: appended, never reused. Not operations: nothing but a batch carries them. */
enum {
    ITEM_GET_MACHINE = KT_OP_CODE(KT_ENGINE_MACHINE, 0x80),
    ITEM_LIST_MACHINES = KT_OP_CODE(KT_ENGINE_MACHINE, 0x81),
    ITEM_GET_INSTANCE = KT_OP_CODE(KT_ENGINE_MACHINE, 0x82),
    ITEM_LIST_INSTANCES = KT_OP_CODE(KT_ENGINE_MACHINE, 0x83),
    ITEM_REFUSED = KT_OP_CODE(KT_ENGINE_MACHINE, 0x8f),
};

/* As long as the answers of a batch are shorter than this, any operation's answer has room behind them. */
#define ROOMY_BYTES (4u << 20)

_Static_assert(MACHINE_BATCH_REPLY_BYTES_MAX + MACHINE_BATCH_MAX * (6 * KT_ERROR_TEXT_MAX + 256) <= KT_REPLY_BYTES_MAX,
               "the sentences of a batch always have room");
_Static_assert(ROOMY_BYTES + MACHINE_CTX_BYTES_MAX + (1u << 20) <= MACHINE_BATCH_REPLY_BYTES_MAX,
               "an event's answer is its context and a few names");

/* What may be in a batch. */
struct item_kind {
    const char *rcp;
    uint16_t code;
    const struct kt_op_kind *op; /* NULL: a query */
};

static const struct item_kind item_kinds[] = {
    {"CREATE_INSTANCE", MACHINE_OP_CREATE, &machine_op_create},
    {"APPLY_EVENT", MACHINE_OP_EVENT, &machine_op_event},
    {"DELETE_INSTANCE", MACHINE_OP_DELETE, &machine_op_delete},
    {"PUT_MACHINE", MACHINE_OP_PUT, &machine_op_put},
    {"GET_MACHINE", ITEM_GET_MACHINE, NULL},
    {"LIST_MACHINES", ITEM_LIST_MACHINES, NULL},
    {"GET_INSTANCE", ITEM_GET_INSTANCE, NULL},
    {"LIST_INSTANCES", ITEM_LIST_INSTANCES, NULL},
};

/* The body of any item, decoded. */
union item_body {
    struct machine_put_op put;
    struct machine_create_op create;
    struct kt_machine_delete_params delete;
    struct kt_machine_event_params event;
    struct kt_machine_get_params get;
    struct kt_machine_list_params list;
    struct kt_machine_instance_params instance;
    struct kt_machine_instances_params instances;
};

static const struct kt_command *command_of(const struct item_kind *kind)
{
    for (size_t i = 0; i < MACHINE_COMMAND_COUNT; i++)
        if (machine_commands[i]->wire.rcp && strcmp(machine_commands[i]->wire.rcp, kind->rcp) == 0)
            return machine_commands[i];
    KT_CHECK(!"every item is a command");
    return NULL;
}

static const struct kt_struct *body_of(const struct item_kind *kind)
{
    return kind->op ? &kind->op->body : &command_of(kind)->params;
}

/* Preparing. */

struct preparing {
    const struct kt_call *call;
    bool atomic;
    uint64_t rows; /* that the lists of the batch may look at together */
    struct kt_buf *items;
    struct kt_reply *reply;
};

/* The whole batch is refused because of one item. */
static enum kt_code refuse_batch(struct kt_reply *reply, uint32_t at, const struct kt_reply *item)
{
    struct kt_rcp_error error = kt_rcp_error(item->code);
    const char *text = item->text[0] ? item->text : kt_code_text(item->code);
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_BAD_REQUEST, "batch failed at operation %u: %s", at, text);
    kt_buf_clear(&reply->details);
    kt_json_writer_init(&writer, &reply->details);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "code", error.code);
    if (item->details.len > 0)
        kt_json_put_raw_member(&writer, "details", kt_buf_slice(&item->details));
    kt_json_put_u64_member(&writer, "index", at);
    kt_json_put_text_member(&writer, "message", text);
    kt_json_end_object(&writer);
    return KT_BAD_REQUEST;
}

static const struct item_kind *kind_of(const struct kt_json *op)
{
    for (size_t i = 0; i < KT_COUNT(item_kinds); i++)
        if (kt_slice_is(kt_json_string(op), item_kinds[i].rcp))
            return &item_kinds[i];
    return NULL;
}

/* A list in a batch runs on the applier's thread, which everybody waits for: what it may walk over is counted. */
static enum kt_code check_list(struct preparing *preparing, const struct item_kind *kind, const union item_body *body,
                               struct kt_reply *reply)
{
    uint64_t limit = MACHINE_LIST_DEFAULT, offset;

    if (kind->code == ITEM_LIST_MACHINES) {
        if (!KT_GIVEN(&body->list, KT_MACHINE_LIST_LIMIT))
            return kt_reply_fail(reply, KT_BAD_REQUEST, "LIST_MACHINES in a batch needs a limit");
        limit = body->list.limit;
        offset = body->list.offset;
    } else if (kind->code == ITEM_LIST_INSTANCES) {
        if (KT_GIVEN(&body->instances, KT_MACHINE_INSTANCES_STATE) &&
            !KT_GIVEN(&body->instances, KT_MACHINE_INSTANCES_MACHINE))
            return kt_reply_fail(reply, KT_BAD_REQUEST, "LIST_INSTANCES by state in a batch needs a machine");
        if (KT_GIVEN(&body->instances, KT_MACHINE_INSTANCES_LIMIT))
            limit = body->instances.limit;
        offset = body->instances.offset;
    } else {
        return KT_OK;
    }
    limit = KT_MIN(limit, (uint64_t)MACHINE_LIST_MAX);
    preparing->rows += limit + KT_MIN(offset, (uint64_t)MACHINE_LIST_MAX + 1);
    if (preparing->rows > MACHINE_LIST_MAX)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "the lists of a batch look at more than %u entries",
                             MACHINE_LIST_MAX);
    return KT_OK;
}

/* Turns one item's parameters into its code and body; what they are refused for is in the reply. */
static enum kt_code prepare_item(struct preparing *preparing, const struct item_kind *kind,
                                 const struct kt_json *params, struct kt_buf *body, struct kt_reply *reply)
{
    const struct kt_command *command = command_of(kind);
    void *values = kt_arena_zalloc(preparing->call->arena, command->params.size);
    struct kt_error error;
    enum kt_code code;

    code = kt_struct_from_json(&command->params, params, preparing->call->arena, values, &error);
    if (code != KT_OK)
        return kt_reply_fail_error(reply, &error);
    if (kind->op) {
        if ((code = command->prepare(preparing->call, values, body, reply)) == KT_OK)
            kt_buf_consume(body, KT_OP_HEADER_BYTES);
        return code;
    }
    if ((code = check_list(preparing, kind, values, reply)) == KT_OK)
        kt_struct_encode(&command->params, values, body);
    return code;
}

static void put_item(struct kt_buf *items, uint16_t code, struct kt_slice body)
{
    kt_write_le16(items, code);
    kt_write_string(items, body);
}

/* In a best-effort batch a refused item is a result like any other, in its place. */
static void put_refused(struct kt_buf *items, const struct kt_reply *reply)
{
    struct kt_buf encoded;

    kt_buf_init(&encoded, KT_REPLY_BYTES_MAX);
    kt_reply_encode(reply, &encoded);
    put_item(items, ITEM_REFUSED, kt_buf_slice(&encoded));
    kt_buf_release(&encoded);
}

/* An item that is no operation, or none for a batch, refuses the batch in both modes: it was built wrongly. */
static enum kt_code read_item(struct preparing *preparing, uint32_t at, const struct kt_json *item)
{
    const struct kt_json *op = kt_json_get(item, "op"), *params = kt_json_get(item, "params");
    const struct item_kind *kind;
    struct kt_reply reply;
    struct kt_buf body;
    enum kt_code code;

    kt_reply_init(&reply);
    kt_buf_init(&body, preparing->items->max);
    if (!kt_json_is(item, KT_JSON_OBJECT)) {
        code = kt_reply_fail(&reply, KT_BAD_REQUEST, "an operation must be an object");
        refuse_batch(preparing->reply, at, &reply);
    } else if (!kt_json_is(op, KT_JSON_STRING)) {
        code = kt_reply_fail(&reply, KT_BAD_REQUEST, op ? "field 'op' must be a string" : "missing field 'op'");
        refuse_batch(preparing->reply, at, &reply);
    } else if ((kind = kind_of(op)) == NULL) {
        struct kt_slice name = kt_json_string(op);

        code = kt_reply_fail(&reply, KT_BAD_REQUEST, "operation '%.*s' cannot be in a batch",
                             (int)KT_MIN(name.len, (size_t)64), (const char *)name.data);
        refuse_batch(preparing->reply, at, &reply);
    } else if ((code = prepare_item(preparing, kind, params, &body, &reply)) == KT_OK) {
        put_item(preparing->items, kind->code, kt_buf_slice(&body));
        if ((code = kt_buf_code(&body)) != KT_OK)
            kt_reply_fail(preparing->reply, code, "the batch does not fit a log entry of %zu bytes", body.max);
    } else if (kt_code_class(code) != KT_CLIENT) {
        kt_reply_fail(preparing->reply, code, "%s", reply.text);
    } else if (preparing->atomic) {
        code = refuse_batch(preparing->reply, at, &reply);
    } else {
        put_refused(preparing->items, &reply);
        code = KT_OK;
    }
    kt_buf_release(&body);
    kt_reply_release(&reply);
    return code;
}

static enum kt_code read_items(struct preparing *preparing, struct kt_slice text)
{
    struct kt_reply *reply = preparing->reply;
    struct kt_json *ops, *item;
    struct kt_error error;
    enum kt_code code = KT_OK;
    uint32_t at = 0;

    if (kt_json_text_kind(text) != KT_JSON_ARRAY)
        return kt_reply_fail(reply, KT_BAD_REQUEST,
                             text.len > 0 ? "field 'ops' must be an array" : "missing ops array");
    if (kt_json_parse_in(preparing->call->arena, text, &ops, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    if (kt_json_count(ops) > MACHINE_BATCH_MAX)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "batch size %zu exceeds limit %u", kt_json_count(ops),
                             MACHINE_BATCH_MAX);
    for (item = kt_json_first(ops); item && code == KT_OK; item = kt_json_next(item))
        code = read_item(preparing, at++, item);
    return code;
}

enum kt_code machine_batch_prepare(const struct kt_call *call, const void *parameters, struct kt_buf *op,
                                   struct kt_reply *reply)
{
    const struct kt_machine_batch_params *params = parameters;
    struct machine_batch_op body = {.given = 7, .idempotency_key = params->idempotency_key};
    struct preparing preparing = {.call = call, .reply = reply};
    struct kt_buf items;
    enum kt_code code;

    if (KT_GIVEN(params, KT_MACHINE_BATCH_MODE) && kt_slice_is(params->mode, "atomic"))
        preparing.atomic = body.atomic = true;
    else if (KT_GIVEN(params, KT_MACHINE_BATCH_MODE) && !kt_slice_is(params->mode, "best_effort"))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "field 'mode' must be \"atomic\" or \"best_effort\"");
    kt_buf_init(&items, op->max);
    preparing.items = &items;
    code = read_items(&preparing, params->ops);
    if (code == KT_OK) {
        body.items = kt_buf_slice(&items);
        kt_op_begin(op, machine_op_batch.code);
        kt_struct_encode(&machine_op_batch.body, &body, op);
        code = kt_buf_code(&items) != KT_OK ? kt_buf_code(&items) : kt_buf_code(op);
        if (code != KT_OK)
            kt_reply_fail(reply, code, "the batch does not fit a log entry of %zu bytes", op->max);
    }
    kt_buf_release(&items);
    return code;
}

/* Carrying out. */

struct batch_item {
    const struct item_kind *kind; /* NULL: refused */
    struct kt_slice body;
};

/* All items, before anything is done. False if these bytes were not written by prepare. */
static bool decode_items(struct kt_slice bytes, struct batch_item items[MACHINE_BATCH_MAX], uint32_t *count)
{
    struct kt_reader reader;

    kt_reader_init(&reader, bytes);
    for (*count = 0; kt_reader_left(&reader) > 0; ++*count) {
        struct batch_item *item;
        uint16_t code = kt_read_le16(&reader);

        if (*count == MACHINE_BATCH_MAX)
            return false;
        item = &items[*count];
        item->kind = NULL;
        item->body = kt_read_string(&reader);
        for (size_t i = 0; i < KT_COUNT(item_kinds); i++)
            if (item_kinds[i].code == code)
                item->kind = &item_kinds[i];
        if (!kt_reader_ok(&reader))
            return false;
        if (item->kind) {
            union item_body body;

            if (kt_struct_decode(body_of(item->kind), item->body, &body) != KT_OK)
                return false;
        } else if (code != ITEM_REFUSED) {
            return false;
        }
    }
    return true;
}

/* The bytes of a refusal come from the log: of a success, or of nothing at all, there is none. */
static enum kt_code take_refusal(struct kt_slice body, struct kt_reply *reply)
{
    enum kt_code code = kt_reply_decode(body, reply);

    if (code == KT_NO_MEMORY)
        return code;
    if (code != KT_OK || kt_code_class(reply->code) != KT_CLIENT)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "damaged item");
    return reply->code;
}

static enum kt_code run_item(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                             const struct batch_item *item, struct kt_reply *reply)
{
    union item_body body;
    enum kt_code code;

    kt_reply_clear(reply);
    reply->offset = apply->index;
    if (!item->kind)
        return take_refusal(item->body, reply);
    if (kt_struct_decode(body_of(item->kind), item->body, &body) != KT_OK)
        return KT_CORRUPT;
    if (item->kind->op) {
        code = item->kind->op->apply(machine, txn, apply, &body, reply);
    } else {
        struct kt_arena arena;
        struct kt_call call = {
            .state = machine, .arena = &arena, .txn = txn, .now_ms = apply->time_ms, .index = apply->index};

        kt_arena_init(&arena);
        code = command_of(item->kind)->query(&call, &body, reply);
        kt_arena_release(&arena);
    }
    if (code == KT_OK && kt_buf_code(&reply->body) != KT_OK)
        return kt_buf_code(&reply->body);
    return code;
}

static void put_result(struct kt_json_writer *writer, const struct kt_reply *item)
{
    struct kt_rcp_error error;

    kt_json_begin_object(writer);
    kt_json_put_key(writer, "error");
    if (item->code == KT_OK) {
        kt_json_put_null(writer);
        kt_json_put_raw_member(writer, "result", kt_buf_slice(&item->body));
        kt_json_put_text_member(writer, "status", "ok");
    } else {
        error = kt_rcp_error(item->code);
        kt_json_begin_object(writer);
        kt_json_put_text_member(writer, "code", error.code);
        if (item->details.len > 0)
            kt_json_put_raw_member(writer, "details", kt_buf_slice(&item->details));
        kt_json_put_text_member(writer, "message", item->text[0] ? item->text : kt_code_text(item->code));
        kt_json_put_bool_member(writer, "retryable", error.retryable);
        kt_json_end_object(writer);
        kt_json_put_key(writer, "result");
        kt_json_put_null(writer);
        kt_json_put_text_member(writer, "status", "error");
    }
    kt_json_end_object(writer);
}

static bool fits(const struct kt_buf *body, const struct kt_reply *item)
{
    return body->len + item->body.len + item->details.len + 256 <= MACHINE_BATCH_REPLY_BYTES_MAX;
}

static enum kt_code fail_room(struct kt_reply *item)
{
    return kt_reply_fail(item, KT_TOO_LARGE, "the answer of the batch would be larger than %u bytes",
                         MACHINE_BATCH_REPLY_BYTES_MAX);
}

/* One item whose failure leaves the others alone. A failure writes nothing by itself; want of room is undone. */
static enum kt_code run_alone(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                              const struct batch_item *item, const struct kt_buf *body, struct kt_reply *result)
{
    bool nested = item->kind && item->kind->op && body->len > ROOMY_BYTES;
    uint64_t hash = kt_txn_hash(txn);
    enum kt_code code = nested ? kt_txn_nest(txn) : KT_OK;

    if (code != KT_OK)
        return code;
    code = run_item(machine, txn, apply, item, result);
    if (code != KT_OK && kt_code_class(code) != KT_CLIENT)
        return code;
    KT_CHECK(code == KT_OK || kt_txn_hash(txn) == hash);
    if (code == KT_OK && !fits(body, result)) {
        if (nested)
            kt_txn_nest_undo(txn);
        fail_room(result);
        return KT_OK;
    }
    /* The sentence alone always has room: all of them are shorter than what is kept free for them. */
    if (!fits(body, result))
        kt_buf_clear(&result->details);
    result->code = code;
    return nested ? kt_txn_nest_keep(txn) : KT_OK;
}

/* The items in order, their results behind each other. An atomic batch ends at its first failure. */
static enum kt_code run_items(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply, bool atomic,
                              const struct batch_item *items, uint32_t count, struct kt_reply *reply)
{
    struct kt_json_writer writer;
    struct kt_reply result;
    enum kt_code code = KT_OK;

    kt_reply_init(&result);
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_key(&writer, "results");
    kt_json_begin_array(&writer);
    for (uint32_t i = 0; i < count && code == KT_OK; i++) {
        if (atomic) {
            code = run_item(machine, txn, apply, &items[i], &result);
            if (code == KT_OK && !fits(&reply->body, &result))
                code = fail_room(&result);
            result.code = code;
            if (code != KT_OK && kt_code_class(code) == KT_CLIENT)
                code = refuse_batch(reply, i, &result);
        } else {
            code = run_alone(machine, txn, apply, &items[i], &reply->body, &result);
        }
        if (code == KT_OK)
            put_result(&writer, &result);
    }
    if (code == KT_OK) {
        kt_json_end_array(&writer);
        kt_json_put_u64_member(&writer, "wal_offset", apply->index);
        kt_json_end_object(&writer);
        code = kt_buf_code(&reply->body) == KT_OK ? KT_OK : KT_INTERNAL; /* it was seen to fit */
    }
    kt_reply_release(&result);
    return code;
}

/*
 * Keeps the batch's own answer. The place for it is looked up again, because the items have kept answers, and forgotten
 * old ones, since. If they took the last place under the same hash, which takes intent, the answer is not kept.
 */
static enum kt_code keep_answer(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                const struct idempotency_key *once, const struct kt_reply *reply)
{
    struct idempotency_slot slot;
    struct kt_reply found;
    enum kt_code code;

    kt_reply_init(&found);
    code = idempotency_find(machine, txn, apply, once, &slot, &found);
    kt_reply_release(&found);
    if (code == KT_TOO_LARGE)
        return KT_OK;
    return code == KT_NOT_FOUND ? idempotency_keep(machine, txn, apply, once, &slot, reply) : KT_INTERNAL;
}

enum kt_code machine_batch_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply)
{
    const struct machine_batch_op *op = body;
    struct machine *machine = state;
    struct idempotency_key once = {.operation = IDEMPOTENCY_BATCH, .key = op->idempotency_key};
    struct batch_item items[MACHINE_BATCH_MAX];
    struct idempotency_slot slot;
    struct kt_error error;
    bool nested;
    uint32_t count;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_batch.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    if (!decode_items(op->items, items, &count))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "damaged batch");
    code = idempotency_find(machine, txn, apply, &once, &slot, reply);
    if (code != KT_NOT_FOUND)
        return code;
    nested = op->atomic && count > 1;
    if (nested && (code = kt_txn_nest(txn)) != KT_OK)
        return code;
    code = run_items(machine, txn, apply, op->atomic, items, count, reply);
    if (code != KT_OK) {
        if (nested && kt_code_class(code) == KT_CLIENT)
            kt_txn_nest_undo(txn);
        return code;
    }
    if (nested && (code = kt_txn_nest_keep(txn)) != KT_OK)
        return code;
    return once.key.len > 0 ? keep_answer(machine, txn, apply, &once, reply) : KT_OK;
}
