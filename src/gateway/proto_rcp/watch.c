/*
 * Subscriptions of one session: from the answer that begins one to its end with UNWATCH, BYE or the connection. What is
 * told, and when, is dispatch/watch.h's; here events become messages (rstmdb.md 10.3).
 */
#include <stdio.h>

#include "base/random.h"
#include "dispatch/metrics.h"
#include "dispatch/watch.h"
#include "engines/machine/change.h"
#include "engines/machine/machine.h"
#include "gateway/proto_rcp/rcp_internal.h"

/* Room for a message's beginning and end around its rest. */
#define PUSH_EXTRA 256

struct subscription {
    struct kt_list link;
    struct rcp_watches *watches;
    struct kt_watch *watch;
    struct kt_arena arena; /* of this struct and the filter */
    struct kt_machine_filter filter;
    bool include_ctx;
    char id[48];
};

void rcp_watches_init(struct rcp_watches *watches, struct kt_conn *conn)
{
    watches->conn = conn;
    kt_list_init(&watches->open);
}

bool rcp_watches_begin(struct rcp_watches *watches)
{
    if (watches->count >= RCP_SUBSCRIPTIONS)
        return false;
    watches->count++;
    return true;
}

void rcp_watches_fail(struct rcp_watches *watches)
{
    watches->count--;
}

static enum kt_subscription_kind kind_of(const struct subscription *subscription)
{
    return subscription->filter.instance_id.len > 0 ? KT_SUBSCRIPTION_INSTANCE : KT_SUBSCRIPTION_ALL;
}

static struct kt_metrics *metrics_of(const struct subscription *subscription)
{
    return kt_dispatch_metrics(kt_conn_dispatch(subscription->watches->conn));
}

static void push(struct subscription *subscription, const char *type, struct kt_slice rest)
{
    struct kt_buf message;

    kt_buf_init(&message, RCP_HEADER_BYTES + RCP_PAYLOAD_MAX);
    kt_buf_reserve(&message, RCP_HEADER_BYTES + PUSH_EXTRA + rest.len);
    rcp_write_push(&message, subscription->watches->lines ? RCP_LINE : RCP_FRAME, type, kt_slice_text(subscription->id),
                   rest);
    kt_conn_push(subscription->watches->conn, &message);
}

static bool wants(const void *data, const struct kt_change *change)
{
    const struct subscription *subscription = data;
    struct kt_machine_change event;

    return kt_machine_filter_wants(&subscription->filter, change, &event);
}

static bool room(void *data)
{
    struct subscription *subscription = data;

    return kt_conn_push_room(subscription->watches->conn);
}

/* Everything behind the subscription's id, which is the same for all that see the event in this form. */
static void write_event(const struct kt_change *change, const struct kt_machine_change *event, bool ctx, bool payload,
                        struct kt_buf *out)
{
    struct kt_json_writer writer;

    kt_buf_clear(out);
    kt_json_writer_init(&writer, out);
    writer.comma = true;
    kt_json_put_string_member(&writer, "instance_id", event->instance_id);
    kt_json_put_string_member(&writer, "machine", event->machine);
    kt_json_put_u64_member(&writer, "version", event->version);
    kt_json_put_u64_member(&writer, "wal_offset", change->index);
    kt_json_put_string_member(&writer, "from_state", event->from_state);
    kt_json_put_string_member(&writer, "to_state", event->to_state);
    kt_json_put_string_member(&writer, "event", event->event);
    kt_json_put_raw_member(&writer, "payload",
                           payload && event->payload.len > 0 ? event->payload : kt_slice_text("null"));
    if (ctx)
        kt_json_put_raw_member(&writer, "ctx", event->ctx);
    /* Events of one entry share an offset: this tells them apart, for from_number of a later subscription. */
    if (change->number > 0)
        kt_json_put_u64_member(&writer, "number", change->number);
    if (!payload)
        kt_json_put_bool_member(&writer, "omitted", true);
}

static void on_event(void *data, struct kt_watch_event *event)
{
    struct subscription *subscription = data;
    struct kt_buf *form = &event->forms[subscription->include_ctx];
    struct kt_machine_change change;

    if (form->len == 0) {
        if (kt_machine_change_read(&event->change, &change) != KT_OK)
            return;
        write_event(&event->change, &change, subscription->include_ctx, true, form);
        /* Payload and context may each be half a message and together too much: the context holds the payload. */
        if (form->len > RCP_PAYLOAD_MAX - PUSH_EXTRA)
            write_event(&event->change, &change, subscription->include_ctx, false, form);
    }
    push(subscription, "event", kt_buf_slice(form));
    metrics_of(subscription)->events[kind_of(subscription)]++;
}

static void on_lagging(void *data, kt_index oldest)
{
    struct kt_json_writer writer;
    struct kt_buf rest;

    kt_buf_init(&rest, 256);
    kt_json_writer_init(&writer, &rest);
    writer.comma = true;
    kt_json_put_text_member(&writer, "reason", "events were removed from the change log before they were delivered");
    kt_json_put_u64_member(&writer, "resumes_at", oldest);
    push(data, "lagging", kt_buf_slice(&rest));
    kt_buf_release(&rest);
}

static void release(void *data)
{
    struct subscription *subscription = data;
    struct kt_arena arena = subscription->arena;

    kt_arena_release(&arena);
}

struct subscription *rcp_watches_answer(struct rcp_watches *watches, struct kt_buf *result)
{
    struct kt_arena arena;
    struct subscription *subscription;
    char uuid[37];

    kt_arena_init(&arena);
    subscription = kt_arena_zalloc(&arena, sizeof(*subscription));
    subscription->watches = watches;
    subscription->arena = arena;
    kt_uuid(uuid);
    snprintf(subscription->id, sizeof(subscription->id), "sub-%s", uuid);
    /* The result is an object with members. */
    result->len--;
    kt_buf_printf(result, ",\"subscription_id\":\"%s\"}", subscription->id);
    return subscription;
}

static struct kt_machine_watch_params copy_params(const struct kt_machine_watch_params *params, struct kt_arena *arena)
{
    struct kt_machine_watch_params copy = *params;

    copy.instance_id = kt_arena_dup(arena, params->instance_id);
    copy.machines = kt_arena_dup(arena, params->machines);
    copy.from_states = kt_arena_dup(arena, params->from_states);
    copy.to_states = kt_arena_dup(arena, params->to_states);
    copy.events = kt_arena_dup(arena, params->events);
    return copy;
}

void rcp_watches_open(struct subscription *subscription, const struct kt_request *request)
{
    struct rcp_watches *watches = subscription->watches;
    struct kt_machine_watch_params params = copy_params(request->params, &subscription->arena);
    struct kt_machine_watch_start start;

    kt_machine_watch_begin(&params, request->reply.offset, &subscription->arena, &subscription->filter, &start);
    subscription->include_ctx = start.include_ctx;
    struct kt_watch_options options = {
        .engine = kt_engines[request->engine]->id,
        .topic = subscription->filter.instance_id,
        .index = start.index,
        .number = start.number,
        .fresh = start.fresh,
        .wants = wants,
        .room = room,
        .event = on_event,
        .lagging = on_lagging,
        .release = release,
        .data = subscription,
    };
    kt_list_append(&watches->open, &subscription->link);
    metrics_of(subscription)->subscriptions[kind_of(subscription)]++;
    kt_conn_hold(watches->conn);
    subscription->watch = kt_watch_open(request->dispatch, &options);
}

static void end(struct subscription *subscription)
{
    kt_list_remove(&subscription->link);
    metrics_of(subscription)->subscriptions[kind_of(subscription)]--;
    subscription->watches->count--;
    kt_conn_release(subscription->watches->conn);
    kt_watch_close(subscription->watch); /* the subscription may be gone now */
}

bool rcp_watches_remove(struct rcp_watches *watches, struct kt_slice id)
{
    struct kt_list *link;

    kt_list_each (link, &watches->open) {
        struct subscription *subscription = KT_CONTAINER(link, struct subscription, link);

        if (kt_slice_is(id, subscription->id)) {
            end(subscription);
            return true;
        }
    }
    return false;
}

void rcp_watches_close(struct rcp_watches *watches)
{
    struct subscription *subscription;

    while ((subscription = kt_list_first(&watches->open, struct subscription, link)))
        end(subscription);
}

/* In turns: the first one may take all the room, and is the last one next time. */
void rcp_watches_room(struct rcp_watches *watches)
{
    struct kt_list rest;
    struct subscription *subscription;

    kt_list_init(&rest);
    kt_list_move(&rest, &watches->open);
    while ((subscription = kt_list_first(&rest, struct subscription, link))) {
        kt_list_remove(&subscription->link);
        kt_list_append(&watches->open, &subscription->link);
        kt_watch_resume(subscription->watch);
    }
    subscription = kt_list_first(&watches->open, struct subscription, link);
    if (subscription) {
        kt_list_remove(&subscription->link);
        kt_list_append(&watches->open, &subscription->link);
    }
}
