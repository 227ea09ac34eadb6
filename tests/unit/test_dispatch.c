/* The road of requests on a whole node: the door, the order of a lane, holds, and being answered exactly once. */
#include "dispatch/dispatch.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engines/kv/kv.h"
#include "support/one_node.h"

static const struct kt_principal admin = {.name = "admin", .permissions = 7};
static const struct kt_principal reader = {.name = "reader", .permissions = KT_PERMISSION_READ};

/* Replies in the order in which they were done. */
#define DONE_MAX 8192
static struct {
    int number;
    enum kt_code code;
    kt_index offset;
    char body[64];
} done[DONE_MAX];
static unsigned done_count;

static void on_done(struct kt_request *request)
{
    struct kt_slice body = kt_buf_slice(&request->reply.body);

    assert_true(done_count < DONE_MAX);
    done[done_count].number = (int)(intptr_t)request->data;
    done[done_count].code = request->reply.code;
    done[done_count].offset = request->reply.offset;
    assert_true(body.len < sizeof(done->body));
    if (body.len > 0)
        memcpy(done[done_count].body, body.data, body.len);
    done[done_count].body[body.len] = 0;
    done_count++;
    kt_request_free(request);
}

static void open_node(struct one_node *node)
{
    done_count = 0;
    one_node_open(node, NULL, 0, 0);
}

static struct kt_request *make(struct one_node *node, struct kt_lane *lane, const struct kt_command *command,
                               int number)
{
    struct kt_request *request = kt_request_create(node->dispatch);

    request->command = command;
    request->principal = &admin;
    request->lane = lane;
    request->done = on_done;
    request->data = (void *)(intptr_t)number;
    return request;
}

/* Key-value commands on system/collections. */
static struct kt_request *kv(struct one_node *node, struct kt_lane *lane, const char *name, const char *key,
                             const char *value, int number)
{
    size_t engine = 0;
    const struct kt_command *command = kt_command_by_name(name, &engine);
    struct kt_request *request;
    struct kt_kv_params *params;

    assert_non_null(command);
    request = make(node, lane, command, number);
    request->engine = engine;
    params = kt_arena_zalloc(&request->arena, sizeof(*params));
    params->given = value ? KT_KV_GIVEN_SET : KT_KV_GIVEN_KEY;
    params->database = kt_slice_text("system");
    params->collection = kt_slice_text("collections");
    params->key = kt_slice_text(key);
    if (value)
        params->value = kt_slice(value, 2);
    request->params = params;
    return request;
}

/* A read that looks when the test lets it, on the pool. */
static sem_t gate;

static enum kt_code gate_query(const struct kt_call *call, const void *params, struct kt_reply *reply)
{
    (void)call;
    (void)params;
    while (sem_wait(&gate) != 0)
        ;
    kt_buf_append_text(&reply->body, "gate");
    return KT_OK;
}

static const struct kt_command gated = {
    .name = "test.gated", .kind = KT_READ, .needs = KT_PERMISSION_READ, .query = gate_query, .scans = true};

static unsigned looks;

static enum kt_code look_query(const struct kt_call *call, const void *params, struct kt_reply *reply)
{
    (void)params;
    assert_non_null(call->txn);
    assert_true(call->now_ms > 1600000000000);
    looks++;
    kt_buf_append_text(&reply->body, "look");
    return KT_OK;
}

static const struct kt_command look = {
    .name = "test.look", .kind = KT_READ, .needs = KT_PERMISSION_READ, .query = look_query};

static enum kt_code refuse_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                   struct kt_reply *reply)
{
    (void)call;
    (void)params;
    (void)op;
    return kt_reply_fail(reply, KT_BAD_REQUEST, "refused");
}

static const struct kt_command refused = {
    .name = "test.refused", .kind = KT_WRITE, .needs = KT_PERMISSION_WRITE, .prepare = refuse_prepare};

/* A write whose parameters may ask for the read above instead. */
static const struct kt_command *choose_look(const void *params)
{
    return *(const bool *)params ? &look : NULL;
}

static const struct kt_command look_or_refused = {.name = "test.look_or_refused",
                                                  .kind = KT_WRITE,
                                                  .needs = KT_PERMISSION_WRITE,
                                                  .prepare = refuse_prepare,
                                                  .instead = choose_look};

static void submit(struct kt_request *request)
{
    kt_dispatch_submit(request->dispatch, request);
}

static void lane__read_behind_a_write__sees_it(void **state)
{
    struct one_node node;
    struct kt_lane lane;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", 1));
    submit(kv(&node, &lane, "kv.get", "k", NULL, 2));
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x08", 3));
    submit(kv(&node, &lane, "kv.get", "k", NULL, 4));
    assert_int_equal(lane.count, 4);
    one_node_until(&node, done_count == 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(done[i].number, i + 1);
        assert_int_equal(done[i].code, KT_OK);
        assert_true(done[i].offset > 0);
    }
    assert_string_equal(done[1].body, "\x02\x07");
    assert_string_equal(done[3].body, "\x02\x08");
    assert_true(done[2].offset > done[0].offset);
    assert_true(done[3].offset >= done[2].offset);
    assert_int_equal(lane.count, 0);
    one_node_close(&node);
}

static void lane__write_behind_a_read__waits_for_its_result(void **state)
{
    struct one_node node;
    struct kt_lane lane, other;

    (void)state;
    open_node(&node);
    sem_init(&gate, 0, 0);
    kt_lane_init(&lane);
    kt_lane_init(&other);
    submit(make(&node, &lane, &gated, 1));
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", 2));
    submit(make(&node, &lane, &look, 3));
    submit(kv(&node, &other, "kv.set", "k", "\x02\x09", 4));
    one_node_until(&node, done_count == 1);
    assert_int_equal(done[0].number, 4);
    assert_int_equal(lane.reads, 1);
    assert_int_equal(lane.writes, 0);
    assert_int_equal(lane.count, 3);
    sem_post(&gate);
    one_node_until(&node, done_count == 4);
    assert_int_equal(done[1].number, 1);
    assert_int_equal(done[2].number, 2);
    assert_int_equal(done[3].number, 3);
    sem_destroy(&gate);
    one_node_close(&node);
}

static void lane__requests_of_one_kind__overlap(void **state)
{
    struct one_node node;
    struct kt_lane lane;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    for (int i = 0; i < 100; i++)
        submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", i));
    assert_int_equal(lane.writes, 100);
    submit(make(&node, &lane, &look, 100));
    submit(make(&node, &lane, &look, 101));
    assert_int_equal(lane.reads, 0);
    one_node_until(&node, done_count == 102);
    for (int i = 1; i < 100; i++)
        assert_true(done[i].offset > done[i - 1].offset);
    one_node_close(&node);
}

static void lane__thousands_that_fail_at_once__are_not_nested(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    const unsigned count = 5000;

    (void)state;
    open_node(&node);
    sem_init(&gate, 0, 0);
    kt_lane_init(&lane);
    submit(make(&node, &lane, &gated, -1));
    for (unsigned i = 0; i < count; i++)
        submit(make(&node, &lane, &refused, (int)i));
    assert_int_equal(done_count, 0);
    sem_post(&gate);
    one_node_until(&node, done_count == count + 1);
    assert_int_equal(lane.count, 0);
    assert_int_equal(kt_dispatch_in_flight(node.dispatch), 0);
    sem_destroy(&gate);
    one_node_close(&node);
}

static void hold__held__lets_no_read_look_until_it_is_open(void **state)
{
    struct one_node node;
    struct kt_lane lane, free_lane;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    kt_lane_init(&free_lane);
    looks = 0;
    /* Under way, but without their index yet: these look in vain. */
    for (int i = 0; i < 3; i++)
        submit(make(&node, &lane, &look, i));
    kt_lane_hold(&lane, KT_HOLD_HELD);
    submit(make(&node, &lane, &look, 3));
    submit(make(&node, &free_lane, &look, 4));
    one_node_until(&node, done_count == 1);
    submit(make(&node, &free_lane, &look, 5));
    one_node_until(&node, done_count == 2);
    assert_int_equal(looks, 2);
    assert_int_equal(lane.count, 4);

    kt_lane_hold(&lane, KT_HOLD_OLDEST);
    one_node_until(&node, done_count == 3);
    assert_int_equal(done[2].number, 0);
    assert_int_equal(lane.hold, KT_HOLD_HELD);
    assert_int_equal(looks, 3);

    kt_lane_hold(&lane, KT_HOLD_OPEN);
    one_node_until(&node, done_count == 6);
    assert_int_equal(done[3].number, 1);
    assert_int_equal(done[4].number, 2);
    assert_int_equal(done[5].number, 3);
    one_node_close(&node);
}

static void hold__oldest_waits_to_begin__begins_alone(void **state)
{
    struct one_node node;
    struct kt_lane lane;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    kt_lane_hold(&lane, KT_HOLD_HELD);
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", 1));
    submit(make(&node, &lane, &look, 2));
    assert_int_equal(lane.writes, 0);
    kt_lane_hold(&lane, KT_HOLD_OLDEST);
    assert_int_equal(lane.writes, 1);
    one_node_until(&node, done_count == 1);
    assert_int_equal(lane.reads, 0);
    kt_lane_hold(&lane, KT_HOLD_OLDEST);
    one_node_until(&node, done_count == 2);
    one_node_close(&node);
}

static void door__principal_without_the_permission__is_refused(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    struct kt_request *request;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    request = kv(&node, &lane, "kv.set", "k", "\x02\x07", 1);
    request->principal = &reader;
    submit(request);
    assert_int_equal(done_count, 1);
    assert_int_equal(done[0].code, KT_FORBIDDEN);
    request = kv(&node, &lane, "kv.set", "k", "\x02\x07", 2);
    request->principal = NULL;
    submit(request);
    assert_int_equal(done[1].code, KT_UNAUTHENTICATED);
    request = kv(&node, &lane, "kv.get", "k", NULL, 3);
    request->principal = &reader;
    submit(request);
    one_node_until(&node, done_count == 3);
    assert_int_equal(done[2].code, KT_NOT_FOUND);
    assert_int_equal(lane.count, 0);
    one_node_close(&node);
}

static void door__ceilings_of_requests_and_bytes__answer_busy(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    struct kt_request *large;

    (void)state;
    done_count = 0;
    one_node_open(&node, NULL, 3, 1u << 20);
    sem_init(&gate, 0, 0);
    kt_lane_init(&lane);
    for (int i = 0; i < 4; i++)
        submit(make(&node, &lane, &gated, i));
    assert_int_equal(done_count, 1);
    assert_int_equal(done[0].number, 3);
    assert_int_equal(done[0].code, KT_BUSY);
    sem_post(&gate);
    one_node_until(&node, done_count == 2);
    large = make(&node, &lane, &look, 4);
    kt_arena_alloc(&large->arena, 1u << 20);
    submit(large);
    assert_int_equal(done_count, 3);
    assert_int_equal(done[2].code, KT_BUSY);
    sem_post(&gate);
    sem_post(&gate);
    one_node_until(&node, done_count == 5);
    /* Alone it is let in, or it could never be served. */
    large = make(&node, &lane, &look, 5);
    kt_arena_alloc(&large->arena, 1u << 20);
    submit(large);
    one_node_until(&node, done_count == 6);
    assert_int_equal(done[5].code, KT_OK);
    sem_destroy(&gate);
    one_node_close(&node);
}

static void read__stale__looks_at_once(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    struct kt_request *request;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    request = make(&node, &lane, &look, 1);
    request->level = KT_STALE_READ;
    submit(request);
    assert_int_equal(done_count, 1);
    assert_int_equal(done[0].code, KT_OK);
    one_node_close(&node);
}

/* The command that the parameters choose decides on everything: permission, and whether it is a write. */
static void request__parameters_choose_another_command__it_is_carried_out(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    struct kt_request *request;

    (void)state;
    open_node(&node);
    kt_lane_init(&lane);
    for (int number = 1; number <= 3; number++) {
        request = make(&node, &lane, &look_or_refused, number);
        request->params = kt_arena_zalloc(&request->arena, sizeof(bool));
        *(bool *)request->params = number == 1;
        request->principal = number == 3 ? &admin : &reader;
        submit(request);
        one_node_until(&node, done_count == (unsigned)number);
    }
    assert_int_equal(done[0].code, KT_OK);
    assert_string_equal(done[0].body, "look");
    assert_int_equal(done[1].code, KT_FORBIDDEN);
    assert_int_equal(done[2].code, KT_BAD_REQUEST);
    one_node_close(&node);
}

static void dispatch__draining__refuses_what_is_new_and_what_waits(void **state)
{
    struct one_node node;
    struct kt_lane lane;

    (void)state;
    open_node(&node);
    sem_init(&gate, 0, 0);
    kt_lane_init(&lane);
    submit(make(&node, &lane, &gated, 1));
    one_node_until(&node, lane.reads == 1);
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", 2));
    kt_dispatch_drain(node.dispatch);
    assert_null(kt_dispatch_cluster(node.dispatch));
    submit(kv(&node, &lane, "kv.set", "k", "\x02\x07", 3));
    assert_int_equal(done_count, 1);
    assert_int_equal(done[0].code, KT_SHUTTING_DOWN);
    sem_post(&gate);
    one_node_until(&node, done_count == 3);
    /* What ends while the next one begins is told first: replies come in any order. */
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(done[i].code, done[i].number == 1 ? KT_OK : KT_SHUTTING_DOWN);
    sem_destroy(&gate);
    one_node_close(&node);
}

static void dispatch__cluster_closes_under_load__everything_is_answered_once(void **state)
{
    struct one_node node;
    struct kt_lane lanes[8];
    static bool seen[1600];

    (void)state;
    open_node(&node);
    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < KT_COUNT(lanes); i++)
        kt_lane_init(&lanes[i]);
    for (int i = 0; i < 1600; i++) {
        struct kt_lane *lane = &lanes[i % 8];

        submit(i / 8 % 5 == 4 ? kv(&node, lane, "kv.get", "k", NULL, i)
                              : kv(&node, lane, "kv.set", "k", "\x02\x07", i));
    }
    one_node_close(&node);
    assert_int_equal(done_count, 1600);
    for (unsigned i = 0; i < done_count; i++) {
        assert_false(seen[done[i].number]);
        seen[done[i].number] = true;
        assert_true(done[i].code == KT_OK || done[i].code == KT_NOT_FOUND || done[i].code == KT_SHUTTING_DOWN ||
                    done[i].code == KT_UNAVAILABLE || done[i].code == KT_OUTCOME_UNKNOWN);
    }
}

struct login {
    struct kt_pool_work work;
    int number;
};

static int logins_done[8];
static unsigned login_count;
static atomic_uint logins_running;

static void login_run(struct kt_pool_work *work)
{
    (void)work;
    atomic_fetch_add(&logins_running, 1);
    while (sem_wait(&gate) != 0)
        ;
    atomic_fetch_sub(&logins_running, 1);
}

static void login_done(struct kt_pool_work *work)
{
    logins_done[login_count++] = KT_CONTAINER(work, struct login, work)->number;
}

static void pool__more_work_than_its_share__waits_in_order_and_leaves_room(void **state)
{
    struct one_node node;
    struct kt_lane lane;
    struct login logins[4];

    (void)state;
    open_node(&node);
    sem_init(&gate, 0, 0);
    kt_lane_init(&lane);
    login_count = 0;
    for (int i = 0; i < 4; i++) {
        logins[i] = (struct login){.work = {.run = login_run, .done = login_done}, .number = i};
        kt_dispatch_work(node.dispatch, KT_POOL_LOGIN, &logins[i].work);
    }
    one_node_until(&node, atomic_load(&logins_running) == 1);
    /* A scan does not wait behind them. */
    struct kt_request *request = kv(&node, &lane, "kv.keys", "", NULL, 1);
    ((struct kt_kv_params *)request->params)->given = KT_KV_GIVEN_KEYS;
    submit(request);
    one_node_until(&node, done_count == 1);
    assert_int_equal(login_count, 0);
    assert_int_equal(atomic_load(&logins_running), 1);
    for (unsigned i = 0; i < 4; i++) {
        sem_post(&gate);
        one_node_until(&node, login_count == i + 1);
        assert_int_equal(logins_done[i], (int)i);
    }
    sem_destroy(&gate);
    one_node_close(&node);
}

static void dispatch__one_node__knows_that_it_leads(void **state)
{
    struct one_node node;
    bool leads = false;

    (void)state;
    open_node(&node);
    assert_int_equal(kt_dispatch_leader(node.dispatch, &leads), 1);
    assert_true(leads);
    assert_ptr_equal(kt_dispatch_loop(node.dispatch), &node.loop);
    assert_true(kt_dispatch_started_ms(node.dispatch) <= kt_clock_ms());
    one_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lane__read_behind_a_write__sees_it),
        cmocka_unit_test(lane__write_behind_a_read__waits_for_its_result),
        cmocka_unit_test(lane__requests_of_one_kind__overlap),
        cmocka_unit_test(lane__thousands_that_fail_at_once__are_not_nested),
        cmocka_unit_test(hold__held__lets_no_read_look_until_it_is_open),
        cmocka_unit_test(hold__oldest_waits_to_begin__begins_alone),
        cmocka_unit_test(door__principal_without_the_permission__is_refused),
        cmocka_unit_test(door__ceilings_of_requests_and_bytes__answer_busy),
        cmocka_unit_test(read__stale__looks_at_once),
        cmocka_unit_test(request__parameters_choose_another_command__it_is_carried_out),
        cmocka_unit_test(dispatch__draining__refuses_what_is_new_and_what_waits),
        cmocka_unit_test(dispatch__cluster_closes_under_load__everything_is_answered_once),
        cmocka_unit_test(pool__more_work_than_its_share__waits_in_order_and_leaves_room),
        cmocka_unit_test(dispatch__one_node__knows_that_it_leads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
