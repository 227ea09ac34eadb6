#include "engines/machine/timer.h"

#include "engines/machine/catalog.h"
#include "engines/machine/event.h"
#include "wire/writer.h"

/* due64 created_index64 created_serial32 transition32 */
#define TIMER_KEY_BYTES (8 + INSTANCE_ORDER_BYTES + 4)
/* How often the leader looks for timers that were set since, where definitions with timers are. */
#define TIMER_POLL_MS 100u

static struct kt_slice timer_key(uint8_t key[TIMER_KEY_BYTES], const struct instance *instance,
                                 const struct instance_timer *timer)
{
    kt_put_be64(key, timer->due_ms);
    instance_order(key + 8, instance->created_index, instance->created_serial);
    kt_put_be32(key + 8 + INSTANCE_ORDER_BYTES, timer->transition);
    return kt_slice(key, TIMER_KEY_BYTES);
}

/* When a transition's timer is due; false: it sets none. */
static bool due_time(const struct definition_transition *transition, struct kt_slice ctx, kt_time_ms entered_ms,
                     uint64_t *work_bytes, kt_time_ms *due_ms)
{
    struct kt_slice value;
    double time;

    if (transition->after_ms > 0) {
        *due_ms = entered_ms + transition->after_ms;
        return true;
    }
    if (!guard_find(ctx, transition->after_ctx, &value, work_bytes) || kt_json_text_kind(value) != KT_JSON_NUMBER)
        return false;
    time = kt_json_text_double(value);
    if (!(time >= 0) || time > (double)(UINT64_C(1) << 53))
        return false;
    *due_ms = (kt_time_ms)time;
    return true;
}

void timers_set(const struct compiled *compiled, struct instance *instance, kt_time_ms entered_ms, kt_time_ms now_ms)
{
    uint64_t work_bytes = MACHINE_GUARD_WORK_BYTES_MAX;
    const struct definition_rule *rules;
    uint32_t count = definition_timers(&compiled->definition, instance->state_at, &rules);

    instance->timer_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct definition_transition *transition = &compiled->definition.transitions[rules[i].transition];
        struct instance_timer *timer;
        kt_time_ms due_ms;

        if (i > 0 && rules[i].transition == rules[i - 1].transition)
            continue; /* the source is named twice */
        if (instance->timer_count == MACHINE_TIMERS_MAX ||
            !due_time(transition, instance->ctx, entered_ms, &work_bytes, &due_ms))
            continue;
        timer = &instance->timers[instance->timer_count++];
        timer->transition = rules[i].transition;
        timer->due_ms = KT_MAX(due_ms, now_ms + MACHINE_TIMER_MS_MIN);
        timer->event = transition->event;
    }
}

enum kt_code timers_replace(struct machine *machine, struct kt_txn *txn, const struct instance *before,
                            const struct instance *after, struct kt_slice id)
{
    uint8_t key[TIMER_KEY_BYTES];
    enum kt_code code = KT_OK;

    for (uint32_t i = 0; before && i < before->timer_count && code == KT_OK; i++)
        code = kt_txn_delete(txn, machine->timers, timer_key(key, before, &before->timers[i]));
    for (uint32_t i = 0; after && i < after->timer_count && code == KT_OK; i++)
        code = kt_txn_put(txn, machine->timers, timer_key(key, after, &after->timers[i]), id);
    return code;
}

/* The first timer: KT_OK with its key copied and the id borrowed, or KT_NOT_FOUND. */
static enum kt_code find_first(const struct machine *machine, struct kt_txn *txn, uint8_t key[TIMER_KEY_BYTES],
                               struct kt_slice *id)
{
    struct kt_slice found;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, machine->timers, &cursor);

    if (code != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, kt_slice("", 0), &found, id);
    if (code == KT_OK && found.len != TIMER_KEY_BYTES)
        code = KT_CORRUPT;
    if (code == KT_OK)
        memcpy(key, found.data, TIMER_KEY_BYTES);
    kt_cursor_close(cursor);
    return code;
}

enum kt_code timers_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                         kt_time_ms *next_ms)
{
    struct machine_fire_op body = {.given = 1, .max = MACHINE_FIRE_MAX};
    uint8_t key[TIMER_KEY_BYTES];
    uint64_t definitions;
    struct kt_slice id;
    enum kt_code code = instance_count(machine, txn, 't', 0, &definitions);

    if (code != KT_OK || definitions == 0)
        return code;
    *next_ms = KT_MIN(*next_ms, now_ms + TIMER_POLL_MS);
    code = find_first(machine, txn, key, &id);
    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_OK : code;
    if (kt_get_be64(key) > now_ms) {
        *next_ms = KT_MIN(*next_ms, kt_get_be64(key));
        return KT_OK;
    }
    *next_ms = now_ms;
    kt_op_begin(op, machine_op_fire.code);
    kt_struct_encode(&machine_op_fire.body, &body, op);
    return kt_buf_code(op);
}

/* Firing. */

struct firing {
    struct machine *machine;
    struct kt_txn *txn;
    const struct kt_apply *apply;
    uint64_t fired, passed;
    uint64_t ctx_bytes;  /* of the instances so far */
    uint64_t work_bytes; /* left for guards */
    bool stop;
};

static void drop_timer(struct instance *instance, uint32_t at)
{
    instance->timer_count--;
    memmove(&instance->timers[at], &instance->timers[at + 1],
            (instance->timer_count - at) * sizeof(instance->timers[0]));
}

/* The guard says no: the instance stays as it is, without the timer. */
static enum kt_code pass(struct firing *firing, const struct instance_key *key, struct kt_slice id,
                         const struct instance *before, uint32_t at)
{
    struct machine *machine = firing->machine;
    struct instance after = *before;
    enum kt_code code;

    drop_timer(&after, at);
    kt_buf_clear(&machine->record);
    instance_encode(&after, key, id, &machine->record);
    if (kt_buf_code(&machine->record) != KT_OK)
        return KT_INTERNAL;
    code = kt_txn_put(firing->txn, machine->instances, kt_slice(key->bytes, key->len), kt_buf_slice(&machine->record));
    if (code == KT_OK)
        code = timers_replace(machine, firing->txn, before, &after, id);
    firing->passed++;
    return code;
}

/* One due timer; id is not borrowed from the transaction. Whatever happens, the timer is gone afterwards. */
static enum kt_code fire(struct firing *firing, const uint8_t row[TIMER_KEY_BYTES], struct kt_slice id)
{
    struct machine *machine = firing->machine;
    const struct definition_transition *transition;
    const struct compiled *compiled;
    struct event_write write = {.id = id};
    struct instance before, after;
    uint8_t key[TIMER_KEY_BYTES];
    uint64_t hash;
    uint32_t at = 0;
    bool holds;
    enum kt_code code = instance_find(machine, firing->txn, id, &write.key, &before);

    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code;
    while (at < before.timer_count &&
           memcmp(timer_key(key, &before, &before.timers[at]).data, row, TIMER_KEY_BYTES) != 0)
        at++;
    hash = before.definition_hash;
    code = catalog_compiled(machine, firing->txn, before.machine_id, before.version, &hash, &compiled);
    if (code == KT_NOT_FOUND || at == before.timer_count ||
        (code == KT_OK && before.timers[at].transition >= compiled->definition.transition_count))
        code = KT_CORRUPT; /* a row and its record tell of the same timer */
    if (code != KT_OK)
        return code;
    transition = &compiled->definition.transitions[before.timers[at].transition];
    holds = !transition->guard || guard_evaluate(transition->guard, before.ctx, &firing->work_bytes);
    if (firing->work_bytes == 0 && firing->fired + firing->passed > 0) {
        firing->stop = true; /* with the whole amount next time */
        return KT_OK;
    }
    firing->ctx_bytes += before.ctx.len;
    if (!holds || firing->work_bytes == 0)
        return pass(firing, &write.key, id, &before, at);
    after = before;
    event_take(compiled, transition, firing->apply, &after);
    after.has_event_id = false;
    after.event_id = kt_slice("", 0);
    write.before = &before;
    write.after = &after;
    write.event = transition->event;
    write.payload = kt_slice("", 0);
    timers_set(compiled, &after, firing->apply->time_ms, firing->apply->time_ms);
    kt_buf_clear(&machine->record);
    if ((code = event_write_begin(machine, firing->txn, firing->apply, &write)) != KT_OK)
        return code;
    firing->fired++;
    return event_write_end(machine, firing->txn, &write);
}

enum kt_code machine_fire_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                struct kt_reply *reply)
{
    const struct machine_fire_op *op = body;
    struct machine *machine = state;
    struct firing firing = {.machine = machine, .txn = txn, .apply = apply, .work_bytes = MACHINE_GUARD_WORK_BYTES_MAX};
    uint64_t max = KT_MIN(op->max, (uint64_t)MACHINE_FIRE_MAX);
    struct kt_json_writer writer;

    machine_begin(machine);
    while (firing.fired + firing.passed < max && firing.ctx_bytes < MACHINE_FIRE_BYTES && !firing.stop) {
        uint8_t row[TIMER_KEY_BYTES];
        struct kt_slice id;
        enum kt_code code = find_first(machine, txn, row, &id);

        if (code == KT_NOT_FOUND || (code == KT_OK && kt_get_be64(row) > apply->time_ms))
            break;
        if (code == KT_OK)
            code = fire(&firing, row, kt_arena_dup(&machine->arena, id));
        if (code != KT_OK)
            return code;
    }
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "fired", firing.fired);
    kt_json_put_u64_member(&writer, "passed", firing.passed);
    kt_json_end_object(&writer);
    return kt_buf_code(&reply->body) == KT_OK ? KT_OK : KT_INTERNAL;
}
