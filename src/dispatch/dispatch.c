/* The dispatcher itself: opening and closing, the door that every request passes, and the way back from other threads.
 */
#include "dispatch/dispatch_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"

/* How long a known leader is believed before the cluster is asked again: replies carry it, and asking copies a struct.
 */
#define LEADER_FRESH_MS 2

static void wake(void *data)
{
    struct kt_dispatch *dispatch = data;

    uv_async_send(&dispatch->wake);
}

static void on_wake(uv_async_t *async)
{
    struct kt_dispatch *dispatch = KT_CONTAINER(async, struct kt_dispatch, wake);

    kt_mailbox_drain(&dispatch->mailbox);
    watch_pass(dispatch);
}

enum kt_code kt_dispatch_open(const struct kt_dispatch_options *options, struct kt_dispatch **out,
                              struct kt_error *error)
{
    struct kt_dispatch *dispatch = kt_zalloc(sizeof(*dispatch));
    int rc;

    dispatch->options = *options;
    dispatch->started_ms = kt_clock_ms();
    dispatch->draining = options->cluster == NULL;
    rc = uv_async_init(options->loop, &dispatch->wake, on_wake);
    if (rc != 0) {
        kt_free(dispatch);
        return kt_error_errno(error, KT_IO_FAILED, -rc, "cannot open the dispatcher");
    }
    pool_init(dispatch);
    watch_hub_init(&dispatch->watch);
    kt_mailbox_init(&dispatch->mailbox, wake, dispatch);
    *out = dispatch;
    return KT_OK;
}

void kt_dispatch_drain(struct kt_dispatch *dispatch)
{
    dispatch->draining = true;
    dispatch->leads = false;
}

unsigned kt_dispatch_in_flight(const struct kt_dispatch *dispatch)
{
    /* A scan is a request; a login is not. */
    return dispatch->in_flight + dispatch->pool[KT_POOL_LOGIN].count + dispatch->watch.scans;
}

static void on_closed(uv_handle_t *handle)
{
    struct kt_dispatch *dispatch = KT_CONTAINER(handle, struct kt_dispatch, wake);

    kt_mailbox_release(&dispatch->mailbox);
    watch_hub_release(&dispatch->watch);
    kt_free(dispatch);
}

void kt_dispatch_close(struct kt_dispatch *dispatch)
{
    KT_CHECK(kt_dispatch_in_flight(dispatch) == 0);
    uv_close((uv_handle_t *)&dispatch->wake, on_closed);
}

struct kt_request *kt_request_create(struct kt_dispatch *dispatch)
{
    struct kt_request *request = kt_zalloc(sizeof(*request));

    request->dispatch = dispatch;
    request->began_us = kt_clock_us();
    kt_list_init(&request->link);
    kt_list_init(&request->order);
    kt_arena_init(&request->arena);
    kt_reply_init(&request->reply);
    return request;
}

void kt_request_free(struct kt_request *request)
{
    KT_CHECK(request->place == KT_PLACE_NONE);
    kt_reply_release(&request->reply);
    kt_arena_release(&request->arena);
    kt_free(request);
}

/* The door. KT_OK lets the request in; otherwise its reply says why not. */
static enum kt_code admit(struct kt_dispatch *dispatch, struct kt_request *request)
{
    const struct kt_command *command = request->command;
    const struct kt_dispatch_options *options = &dispatch->options;

    if (!request->principal)
        return kt_reply_fail(&request->reply, KT_UNAUTHENTICATED, "authentication required");
    if ((request->principal->permissions & (unsigned)command->needs) != (unsigned)command->needs)
        return kt_reply_fail(&request->reply, KT_FORBIDDEN, "permission denied");
    if (dispatch->draining)
        return kt_reply_fail(&request->reply, KT_SHUTTING_DOWN, "this node is shutting down");
    if (dispatch->in_flight >= options->requests_max)
        return kt_reply_fail(&request->reply, KT_BUSY, "%u requests are in flight, the limit is %u",
                             dispatch->in_flight, options->requests_max);
    /* One request alone is always let in: it has been bounded by its frame. */
    if (dispatch->in_flight > 0 && dispatch->bytes + request->bytes > options->bytes_max)
        return kt_reply_fail(&request->reply, KT_BUSY, "%llu bytes of requests are in flight, the limit is %llu",
                             (unsigned long long)dispatch->bytes, (unsigned long long)options->bytes_max);
    return KT_OK;
}

void kt_dispatch_submit(struct kt_dispatch *dispatch, struct kt_request *request)
{
    const struct kt_command *instead;

    KT_CHECK(request->command && request->lane && request->done);
    instead = request->command->instead ? request->command->instead(request->params) : NULL;
    if (instead)
        request->command = instead;
    request->bytes = sizeof(*request) + request->arena.used_bytes;
    if (admit(dispatch, request) != KT_OK) {
        request->done(request);
        return;
    }
    if (request->deadline_ms == 0)
        request->deadline_ms = kt_clock_ms() + dispatch->options.timeout_ms;
    dispatch->in_flight++;
    dispatch->bytes += request->bytes;
    lane_enter(request);
}

void dispatch_finish(struct kt_request *request)
{
    struct kt_dispatch *dispatch = request->dispatch;

    lane_leave(request);
    dispatch->in_flight--;
    dispatch->bytes -= request->bytes;
    request->lane->count--;
    request->done(request);
}

kt_node_id kt_dispatch_leader(struct kt_dispatch *dispatch, bool *leads)
{
    kt_time_ms now_ms = kt_clock_ms();

    /* The cluster of one that drains may be closed: what was known last must do. */
    if (!dispatch->draining && (dispatch->leader_at_ms == 0 || now_ms > dispatch->leader_at_ms + LEADER_FRESH_MS)) {
        struct kt_replica_status status;

        kt_cluster_status(dispatch->options.cluster, &status);
        dispatch->leader = status.leader;
        dispatch->leads = status.role == KT_LEADER && status.serving;
        dispatch->leader_at_ms = now_ms;
    }
    if (leads)
        *leads = dispatch->leads;
    return dispatch->leader;
}

kt_time_ms kt_dispatch_started_ms(const struct kt_dispatch *dispatch)
{
    return dispatch->started_ms;
}

uv_loop_t *kt_dispatch_loop(const struct kt_dispatch *dispatch)
{
    return dispatch->options.loop;
}

const struct kt_auth *kt_dispatch_auth(const struct kt_dispatch *dispatch)
{
    return dispatch->options.auth;
}

struct kt_cluster *kt_dispatch_cluster(const struct kt_dispatch *dispatch)
{
    return dispatch->draining ? NULL : dispatch->options.cluster;
}

struct kt_state *kt_dispatch_state(const struct kt_dispatch *dispatch)
{
    return dispatch->options.state;
}

struct kt_metrics *kt_dispatch_metrics(struct kt_dispatch *dispatch)
{
    return &dispatch->metrics;
}
