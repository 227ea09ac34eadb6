/* Watches on a whole node: order, exactly once, quick and slow owners, cutting off, closing in the middle. */
#include "dispatch/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engines/machine/change.h"
#include "support/one_node.h"

#define LAMP                                                                                                           \
    "{\"machine\":\"lamp\",\"version\":1,\"definition\":{\"states\":[\"on\"],\"initial\":\"on\",\"transitions\":"      \
    "[{\"from\":\"on\",\"event\":\"COUNT\",\"to\":\"on\"}]}}"

/* Whoever watches: takes as many as it has room for, and remembers the offsets. */
struct owner {
    struct kt_watch *watch;
    struct kt_machine_filter filter;
    size_t room;
    kt_index *told;
    size_t count, cap;
    unsigned lagging, released;
    kt_index oldest;
    size_t close_at; /* after so many; 0: not */
};

struct fixture {
    struct one_node node;
    struct kt_lane lane;
    unsigned under_way;
    kt_index last; /* offset of the last write */
};

static void on_done(struct kt_request *request)
{
    struct fixture *f = request->data;

    if (request->reply.code != KT_OK)
        fail_msg("%s: %s", request->command->name, request->reply.text);
    f->under_way--;
    f->last = request->reply.offset;
    kt_request_free(request);
}

static void submit(struct fixture *f, const char *name, const char *json)
{
    struct kt_request *request = kt_request_create(f->node.dispatch);
    struct kt_json *params;
    struct kt_error error;

    request->command = kt_command_by_name(name, &request->engine);
    request->params = kt_arena_zalloc(&request->arena, request->command->params.size);
    assert_int_equal(kt_json_parse_in(&request->arena, kt_slice_text(json), &params, &error), KT_OK);
    assert_int_equal(kt_struct_from_json(&request->command->params, params, &request->arena, request->params, &error),
                     KT_OK);
    request->principal = kt_auth_local(f->node.auth);
    request->lane = &f->lane;
    request->done = on_done;
    request->data = f;
    f->under_way++;
    kt_dispatch_submit(f->node.dispatch, request);
}

static void call(struct fixture *f, const char *name, const char *json)
{
    submit(f, name, json);
    one_node_until(&f->node, f->under_way == 0);
}

static void fixture_open(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    one_node_open(&f->node, NULL, 0, 0);
    kt_lane_init(&f->lane);
    call(f, "machine.put", LAMP);
    for (unsigned i = 0; i < 4; i++) {
        char json[96];

        snprintf(json, sizeof(json), "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"lamp-%u\"}", i);
        call(f, "machine.create_instance", json);
    }
}

/* Events on the instances in turn. */
static void apply(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char json[96];

        snprintf(json, sizeof(json), "{\"instance_id\":\"lamp-%u\",\"event\":\"COUNT\"}", i % 4);
        submit(f, "machine.apply_event", json);
    }
    one_node_until(&f->node, f->under_way == 0);
}

static bool wants(const void *data, const struct kt_change *change)
{
    const struct owner *owner = data;
    struct kt_machine_change event;

    return kt_machine_filter_wants(&owner->filter, change, &event);
}

static bool room(void *data)
{
    struct owner *owner = data;

    return owner->room > 0;
}

static void on_event(void *data, struct kt_watch_event *event)
{
    struct owner *owner = data;

    assert_true(owner->room > 0);
    owner->room--;
    if (owner->count > 0)
        assert_true(event->change.index > owner->told[owner->count - 1]);
    if (owner->count == owner->cap) {
        owner->cap = owner->cap ? 2 * owner->cap : 16;
        owner->told = kt_realloc(owner->told, owner->cap * sizeof(*owner->told));
    }
    owner->told[owner->count++] = event->change.index;
    if (owner->count == owner->close_at) {
        kt_watch_close(owner->watch);
        owner->watch = NULL;
    }
}

static void on_lagging(void *data, kt_index oldest)
{
    struct owner *owner = data;

    owner->lagging++;
    owner->oldest = oldest;
}

static void on_release(void *data)
{
    struct owner *owner = data;

    owner->released++;
}

static void watch(struct fixture *f, struct owner *owner, const char *instance, kt_index from)
{
    struct kt_watch_options options = {
        .engine = KT_ENGINE_MACHINE,
        .topic = kt_slice_text(instance),
        .index = from,
        .wants = wants,
        .room = room,
        .event = on_event,
        .lagging = on_lagging,
        .release = on_release,
        .data = owner,
    };

    owner->filter.instance_id = kt_slice_text(instance);
    owner->watch = kt_watch_open(f->node.dispatch, &options);
}

static void end(struct fixture *f, struct owner *owner)
{
    if (owner->watch)
        kt_watch_close(owner->watch);
    one_node_until(&f->node, owner->released == 1);
    kt_free(owner->told);
}

static void fixture_close(struct fixture *f)
{
    struct kt_watch_counts counts;

    kt_watch_counts(f->node.dispatch, &counts);
    assert_int_equal(counts.watches, 0);
    assert_int_equal(counts.behind, 0);
    one_node_close(&f->node);
}

static void watches__of_all_and_of_one__see_each_event_once_in_order(void **state)
{
    struct owner all = {.room = 1000000}, one = {.room = 1000000}, none = {.room = 1000000};
    struct fixture f;

    (void)state;
    fixture_open(&f);
    watch(&f, &all, "", f.last + 1);
    watch(&f, &one, "lamp-1", f.last + 1);
    watch(&f, &none, "nobody", f.last + 1);
    apply(&f, 400);
    one_node_until(&f.node, all.count == 400 && one.count == 100);
    assert_int_equal(none.count, 0);
    assert_int_equal(all.told[399], f.last);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(one.told[i], all.told[4 * i + 1]);
    end(&f, &all);
    end(&f, &one);
    end(&f, &none);
    fixture_close(&f);
}

static void history__and_what_comes_meanwhile__is_told_without_gap(void **state)
{
    struct owner all = {.room = 1000000}, one = {.room = 1000000};
    struct fixture f;
    kt_index begin;

    (void)state;
    fixture_open(&f);
    begin = f.last + 1;
    apply(&f, 1000);
    one_node_until(&f.node, kt_state_visible(f.node.state) >= f.last);
    watch(&f, &all, "", begin);
    watch(&f, &one, "lamp-3", begin);
    assert_int_equal(all.count, 0); /* nothing before open has returned */
    apply(&f, 1000);
    one_node_until(&f.node, all.count == 2000 && one.count == 500);
    for (size_t i = 1; i < 2000; i++)
        assert_true(all.told[i] > all.told[i - 1]);
    end(&f, &all);
    end(&f, &one);
    fixture_close(&f);
}

static void owner__without_room__delays_nobody_and_catches_up(void **state)
{
    struct owner slow = {.room = 3}, quick = {.room = 1000000};
    struct kt_watch_counts counts;
    struct fixture f;

    (void)state;
    fixture_open(&f);
    watch(&f, &slow, "", f.last + 1);
    watch(&f, &quick, "", f.last + 1);
    apply(&f, 300);
    one_node_until(&f.node, quick.count == 300);
    assert_int_equal(slow.count, 3);
    kt_watch_counts(f.node.dispatch, &counts);
    assert_int_equal(counts.watches, 2);
    assert_int_equal(counts.behind, 1);
    /* One by one, then all at once. */
    for (unsigned i = 4; i < 20; i++) {
        slow.room = 1;
        kt_watch_resume(slow.watch);
        one_node_until(&f.node, slow.count == i);
    }
    slow.room = 1000000;
    kt_watch_resume(slow.watch);
    one_node_until(&f.node, slow.count == 300);
    assert_memory_equal(slow.told, quick.told, 300 * sizeof(kt_index));
    apply(&f, 5);
    one_node_until(&f.node, slow.count == 305 && quick.count == 305);
    kt_watch_counts(f.node.dispatch, &counts);
    assert_int_equal(counts.behind, 0);
    assert_int_equal(counts.lagged, 0);
    assert_int_equal(counts.events, 610);
    end(&f, &slow);
    end(&f, &quick);
    fixture_close(&f);
}

static void watch__cut_off_behind_it__is_told_once_and_goes_on(void **state)
{
    struct owner slow = {.room = 2}, old = {.room = 1000000};
    struct fixture f;
    kt_index begin;

    (void)state;
    fixture_open(&f);
    begin = f.last + 1;
    watch(&f, &slow, "", begin);
    apply(&f, 50);
    one_node_until(&f.node, slow.count == 2);
    /* All that is older than two seconds goes: that takes a while to be true. */
    for (;;) {
        struct kt_changes_summary summary;
        struct kt_txn *txn;

        call(&f, "machine.compact", "{\"force_snapshot\":true}");
        assert_int_equal(kt_txn_begin_read(kt_state_store(f.node.state), &txn), KT_OK);
        assert_int_equal(kt_changes_summary(kt_state_changes(f.node.state), txn, &summary), KT_OK);
        kt_txn_abort(txn);
        if (summary.oldest > 0 && summary.count == 0)
            break;
    }
    slow.room = 1000000;
    kt_watch_resume(slow.watch);
    one_node_until(&f.node, slow.lagging == 1);
    assert_true(slow.oldest > begin);
    watch(&f, &old, "", begin);
    one_node_until(&f.node, old.lagging == 1);
    apply(&f, 10);
    one_node_until(&f.node, slow.count == 12 && old.count == 10);
    assert_int_equal(slow.lagging, 1);
    assert_memory_equal(slow.told + 2, old.told, 10 * sizeof(kt_index));
    end(&f, &slow);
    end(&f, &old);
    fixture_close(&f);
}

static void watch__closed_by_its_own_event__is_not_told_again(void **state)
{
    struct owner live = {.room = 1000000, .close_at = 3}, history = {.room = 1000000, .close_at = 3};
    struct owner other = {.room = 1000000};
    struct fixture f;
    kt_index begin;

    (void)state;
    fixture_open(&f);
    begin = f.last + 1;
    watch(&f, &live, "lamp-0", begin);
    watch(&f, &other, "lamp-0", begin);
    apply(&f, 40);
    one_node_until(&f.node, other.count == 10);
    watch(&f, &history, "lamp-0", begin);
    one_node_until(&f.node, history.released == 1);
    assert_int_equal(live.count, 3);
    assert_int_equal(live.released, 1);
    assert_int_equal(history.count, 3);
    end(&f, &live);
    end(&f, &history);
    end(&f, &other);
    fixture_close(&f);
}

static void watch__closed_while_the_pool_reads_for_it__is_released_then(void **state)
{
    struct owner owners[50];
    struct fixture f;
    kt_index begin;

    (void)state;
    fixture_open(&f);
    begin = f.last + 1;
    apply(&f, 500);
    one_node_until(&f.node, kt_state_visible(f.node.state) >= f.last); /* what is not yet is no history */
    for (size_t i = 0; i < KT_COUNT(owners); i++) {
        owners[i] = (struct owner){.room = 1000000};
        watch(&f, &owners[i], i % 2 ? "" : "lamp-2", begin);
    }
    for (size_t i = 0; i < KT_COUNT(owners); i++) {
        kt_watch_close(owners[i].watch);
        owners[i].watch = NULL;
        assert_int_equal(owners[i].count, 0);
    }
    assert_true(kt_dispatch_in_flight(f.node.dispatch) > 0);
    for (size_t i = 0; i < KT_COUNT(owners); i++)
        end(&f, &owners[i]);
    assert_int_equal(kt_dispatch_in_flight(f.node.dispatch), 0);
    fixture_close(&f);
}

static void watches__ten_thousand__are_all_told_and_leave_nothing(void **state)
{
    const size_t count = 10000;
    struct owner *owners = kt_zalloc(count * sizeof(*owners));
    struct kt_watch_counts counts;
    struct fixture f;
    size_t told = 0;

    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < count; i++) {
        static const char *const topics[] = {"", "lamp-0", "lamp-1", "lamp-2", "lamp-3"};

        owners[i].room = i % 10 == 9 ? 1 : 1000;
        watch(&f, &owners[i], topics[i % 5], f.last + 1);
    }
    kt_watch_counts(f.node.dispatch, &counts);
    assert_int_equal(counts.watches, count);
    assert_int_equal(counts.behind, 0);
    apply(&f, 8); /* two of each: four fifths want 2, one fifth 8 */
    for (size_t i = 0; i < count; i++) {
        owners[i].room = 1000;
        one_node_until(&f.node, owners[i].count >= 1);
        kt_watch_resume(owners[i].watch);
    }
    for (size_t i = 0; i < count; i++) {
        one_node_until(&f.node, owners[i].count == (i % 5 == 0 ? 8 : 2));
        told += owners[i].count;
    }
    kt_watch_counts(f.node.dispatch, &counts);
    assert_int_equal(counts.events, told);
    for (size_t i = 0; i < count; i++)
        end(&f, &owners[i]);
    kt_free(owners);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(watches__of_all_and_of_one__see_each_event_once_in_order),
        cmocka_unit_test(history__and_what_comes_meanwhile__is_told_without_gap),
        cmocka_unit_test(owner__without_room__delays_nobody_and_catches_up),
        cmocka_unit_test(watch__cut_off_behind_it__is_told_once_and_goes_on),
        cmocka_unit_test(watch__closed_by_its_own_event__is_not_told_again),
        cmocka_unit_test(watch__closed_while_the_pool_reads_for_it__is_released_then),
        cmocka_unit_test(watches__ten_thousand__are_all_told_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
