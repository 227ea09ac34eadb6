#include "engines/machine/idempotency.h"

#include "base/hash.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* A kept answer. */
struct answer {
    kt_time_ms time_ms;
    uint8_t operation;
    struct kt_slice instance;
    struct kt_slice key;
    struct kt_slice reply;
};

static enum kt_code decode_answer(struct kt_slice record, struct answer *answer)
{
    struct kt_reader reader;

    kt_reader_init(&reader, record);
    answer->time_ms = kt_read_varint(&reader);
    answer->operation = kt_read_u8(&reader);
    answer->instance = kt_read_string(&reader);
    answer->key = kt_read_string(&reader);
    answer->reply = kt_read_string(&reader);
    return kt_reader_done(&reader) ? KT_OK : KT_CORRUPT;
}

static bool is_expired(const struct answer *answer, kt_time_ms now_ms)
{
    return now_ms >= answer->time_ms && now_ms - answer->time_ms >= MACHINE_REPLY_LIFETIME_MS;
}

static void hash_key(uint8_t out[16], uint8_t operation, struct kt_slice instance, struct kt_slice key)
{
    uint8_t head[9];

    head[0] = operation;
    kt_put_be64(head + 1, instance.len); /* so that no part of one slice can pass for part of the other */
    for (unsigned half = 0; half < 2; half++) {
        uint64_t hash = kt_hash64(0x6f6e63652d616e64ull + half, head, sizeof(head));

        hash = kt_hash64(hash, instance.data, instance.len);
        kt_put_be64(out + 8 * half, kt_hash64(hash, key.data, key.len));
    }
}

/* The answers under the hash, into the slot. */
static enum kt_code find_bucket(const struct machine *machine, struct kt_txn *txn, struct idempotency_slot *slot)
{
    struct kt_slice value;
    enum kt_code code = kt_txn_get(txn, machine->reply_keys, kt_slice(slot->hash, sizeof(slot->hash)), &value);

    slot->count = 0;
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code != KT_OK)
        return code;
    if (value.len > sizeof(slot->answers) || value.len % IDEMPOTENCY_ANSWER_KEY_BYTES != 0)
        return KT_CORRUPT;
    memcpy(slot->answers, value.data, value.len);
    slot->count = (unsigned)(value.len / IDEMPOTENCY_ANSWER_KEY_BYTES);
    return KT_OK;
}

static void remove_from_slot(struct idempotency_slot *slot, unsigned at)
{
    slot->count--;
    memmove(slot->answers[at], slot->answers[at + 1], (slot->count - at) * sizeof(slot->answers[0]));
}

enum kt_code idempotency_find(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                              const struct idempotency_key *key, struct idempotency_slot *slot, struct kt_reply *reply)
{
    enum kt_code code;

    slot->expired = false;
    if (key->key.len == 0)
        return KT_NOT_FOUND;
    hash_key(slot->hash, (uint8_t)key->operation, key->instance, key->key);
    if ((code = find_bucket(machine, txn, slot)) != KT_OK)
        return code;
    for (unsigned i = 0; i < slot->count; i++) {
        struct kt_slice record, name = kt_slice(slot->answers[i], IDEMPOTENCY_ANSWER_KEY_BYTES);
        struct answer answer;

        code = kt_txn_get(txn, machine->replies, name, &record);
        if (code != KT_OK)
            return code == KT_NOT_FOUND ? KT_CORRUPT : code;
        if ((code = decode_answer(record, &answer)) != KT_OK)
            return code;
        if (answer.operation != key->operation || !kt_slice_equal(answer.instance, key->instance) ||
            !kt_slice_equal(answer.key, key->key))
            continue;
        if (!is_expired(&answer, apply->time_ms))
            return kt_reply_decode(answer.reply, reply);
        slot->expired = true;
        memcpy(slot->expired_answer, slot->answers[i], IDEMPOTENCY_ANSWER_KEY_BYTES);
        remove_from_slot(slot, i);
        return KT_NOT_FOUND;
    }
    if (slot->count == MACHINE_REPLY_BUCKET_MAX)
        return kt_reply_fail(reply, KT_TOO_LARGE, "too many idempotency keys share one hash");
    return KT_NOT_FOUND;
}

static enum kt_code put_bucket(struct machine *machine, struct kt_txn *txn, const struct idempotency_slot *slot)
{
    struct kt_slice name = kt_slice(slot->hash, sizeof(slot->hash));

    if (slot->count == 0)
        return kt_txn_delete(txn, machine->reply_keys, name);
    return kt_txn_put(txn, machine->reply_keys, name, kt_slice(slot->answers, slot->count * sizeof(slot->answers[0])));
}

/* The oldest answer: KT_OK with its key copied and the rest borrowed, or KT_NOT_FOUND. */
static enum kt_code find_oldest(const struct machine *machine, struct kt_txn *txn,
                                uint8_t name[IDEMPOTENCY_ANSWER_KEY_BYTES], struct answer *answer)
{
    struct kt_slice key, record;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, machine->replies, &cursor);

    if (code != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, kt_slice("", 0), &key, &record);
    if (code == KT_OK && key.len != IDEMPOTENCY_ANSWER_KEY_BYTES)
        code = KT_CORRUPT;
    if (code == KT_OK) {
        memcpy(name, key.data, IDEMPOTENCY_ANSWER_KEY_BYTES);
        code = decode_answer(record, answer);
    }
    kt_cursor_close(cursor);
    return code;
}

enum kt_code idempotency_expired(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, bool *expired)
{
    uint8_t name[IDEMPOTENCY_ANSWER_KEY_BYTES];
    struct answer answer;
    enum kt_code code = find_oldest(machine, txn, name, &answer);

    *expired = code == KT_OK && is_expired(&answer, now_ms);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

/* Removes expired answers, oldest first, at most max of them. */
static enum kt_code forget(struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, uint64_t max,
                           uint64_t *forgotten)
{
    for (*forgotten = 0; *forgotten < max; ++*forgotten) {
        uint8_t name[IDEMPOTENCY_ANSWER_KEY_BYTES];
        struct idempotency_slot slot;
        struct answer answer;
        enum kt_code code = find_oldest(machine, txn, name, &answer);

        if (code == KT_NOT_FOUND || (code == KT_OK && !is_expired(&answer, now_ms)))
            return KT_OK;
        if (code != KT_OK)
            return code;
        hash_key(slot.hash, answer.operation, answer.instance, answer.key);
        if ((code = find_bucket(machine, txn, &slot)) != KT_OK)
            return code;
        for (unsigned i = slot.count; i > 0; i--)
            if (memcmp(slot.answers[i - 1], name, sizeof(name)) == 0)
                remove_from_slot(&slot, i - 1);
        if ((code = put_bucket(machine, txn, &slot)) != KT_OK)
            return code;
        if ((code = kt_txn_delete(txn, machine->replies, kt_slice(name, sizeof(name)))) != KT_OK)
            return code;
    }
    return KT_OK;
}

/* A name that no other answer of the same entry has. */
static enum kt_code new_name(const struct machine *machine, struct kt_txn *txn, kt_index index,
                             uint8_t name[IDEMPOTENCY_ANSWER_KEY_BYTES])
{
    struct kt_slice record;
    enum kt_code code = KT_OK;

    kt_put_be64(name, index);
    for (uint32_t serial = 0; code == KT_OK; serial++) {
        kt_put_be32(name + 8, serial);
        code = kt_txn_get(txn, machine->replies, kt_slice(name, IDEMPOTENCY_ANSWER_KEY_BYTES), &record);
    }
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code idempotency_keep(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                              const struct idempotency_key *key, const struct idempotency_slot *found,
                              const struct kt_reply *reply)
{
    struct kt_buf *record = &machine->record, encoded;
    struct idempotency_slot slot;
    uint8_t *name;
    uint64_t forgotten;
    enum kt_code code;

    if (key->key.len == 0)
        return KT_OK;
    slot = *found;
    name = slot.answers[slot.count++];
    if ((code = new_name(machine, txn, apply->index, name)) != KT_OK)
        return code;
    kt_buf_init(&encoded, MACHINE_RECORD_BYTES_MAX);
    kt_reply_encode(reply, &encoded);
    kt_buf_clear(record);
    kt_write_varint(record, apply->time_ms);
    kt_buf_append_u8(record, (uint8_t)key->operation);
    kt_write_string(record, key->instance);
    kt_write_string(record, key->key);
    kt_write_string(record, kt_buf_slice(&encoded));
    /* Both fit by the ceilings of what goes in: only memory can be wanting. */
    code = kt_buf_code(&encoded) == KT_OK && kt_buf_code(record) == KT_OK ? KT_OK : KT_INTERNAL;
    kt_buf_release(&encoded);
    if (code == KT_OK)
        code = kt_txn_put(txn, machine->replies, kt_slice(name, IDEMPOTENCY_ANSWER_KEY_BYTES), kt_buf_slice(record));
    if (code == KT_OK && slot.expired)
        code = kt_txn_delete(txn, machine->replies, kt_slice(slot.expired_answer, sizeof(slot.expired_answer)));
    if (code == KT_OK)
        code = put_bucket(machine, txn, &slot);
    if (code == KT_OK)
        code = forget(machine, txn, apply->time_ms, MACHINE_FORGET_INLINE, &forgotten);
    return code;
}

enum kt_code machine_forget_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply)
{
    const struct machine_forget_op *op = body;
    struct machine *machine = state;
    struct kt_json_writer writer;
    uint64_t forgotten;
    enum kt_code code;

    machine_begin(machine);
    code = forget(machine, txn, apply->time_ms, KT_MIN(op->max, (uint64_t)MACHINE_FORGET_MAX), &forgotten);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "forgotten", forgotten);
    kt_json_end_object(&writer);
    return kt_buf_code(&reply->body) == KT_OK ? KT_OK : KT_INTERNAL;
}
