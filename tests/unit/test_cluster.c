/* Real clusters of threads on loopback, in one process: what the simulator cannot see is whether the threads fit. */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/node/cluster.h"
#include "engines/kv/kv.h"
#include "engines/registry.h"

#define NODES       3
#define DEADLINE_MS 20000

struct node {
    struct kt_state *state;
    struct kt_cluster *cluster;
};

struct fixture {
    char folder[64];
    char addresses[NODES][32];
    struct kt_member members[NODES];
    size_t count;
    struct node nodes[NODES];
};

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void start(struct fixture *fixture, size_t at)
{
    struct node *node = &fixture->nodes[at];
    char path[128], folder[96];
    struct kt_error error = {0};
    struct kt_state_options state = {.store = {.path = path, .bytes_max = 64u << 20}};
    struct kt_cluster_options options = {
        .self = fixture->members[at].id,
        .name = "test",
        .listen = fixture->addresses[at],
        .members = fixture->members,
        .member_count = fixture->count,
        .folder = folder,
        .segment_bytes = 1u << 20,
        .election_ms = 300,
        .heartbeat_ms = 60,
    };
    snprintf(folder, sizeof folder, "%s/%zu", fixture->folder, at);
    snprintf(path, sizeof path, "%s/state.mdb", folder);
    mkdir(folder, 0700);
    if (kt_state_open(&state, &node->state, &error) != KT_OK)
        fail_msg("%s", error.text);
    options.state = node->state;
    if (kt_cluster_open(&options, &node->cluster, &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void stop(struct fixture *fixture, size_t at)
{
    struct node *node = &fixture->nodes[at];
    if (node->cluster == NULL)
        return;
    kt_cluster_close(node->cluster, 1000);
    kt_state_close(node->state);
    node->cluster = NULL;
}

static struct fixture *found(size_t count)
{
    struct fixture *fixture = kt_zalloc(sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/kontiki-cluster-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->count = count;
    for (size_t i = 0; i < count; i++) {
        snprintf(fixture->addresses[i], sizeof fixture->addresses[i], "127.0.0.1:%u", free_port());
        fixture->members[i] = (struct kt_member){.id = i + 1, .address = fixture->addresses[i]};
    }
    for (size_t i = 0; i < count; i++)
        start(fixture, i);
    return fixture;
}

static void end(struct fixture *fixture)
{
    char command[128];
    for (size_t i = 0; i < fixture->count; i++)
        stop(fixture, i);
    snprintf(command, sizeof command, "rm -rf %s", fixture->folder);
    assert_int_equal(system(command), 0);
    kt_free(fixture);
}

/* A call that waits for its done, which comes on the replica thread. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
};

static void waiter_init(struct waiter *waiter)
{
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->wake, NULL);
    waiter->done = false;
}

static void signal_done(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->done = true;
    pthread_cond_signal(&waiter->wake);
    pthread_mutex_unlock(&waiter->lock);
}

static void await(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done)
        pthread_cond_wait(&waiter->wake, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    pthread_mutex_destroy(&waiter->lock);
    pthread_cond_destroy(&waiter->wake);
}

struct write_call {
    struct kt_proposal proposal;
    struct waiter waiter;
};

static void write_done(struct kt_proposal *proposal)
{
    signal_done(&KT_CONTAINER(proposal, struct write_call, proposal)->waiter);
}

/* Sets system/databases key = value (a Uint64); returns the reply's code and its offset. */
static enum kt_code set(struct fixture *fixture, size_t at, const char *key, uint8_t value, kt_index *offset)
{
    size_t engine;
    const struct kt_command *command = kt_command_by_name("kv.set", &engine);
    uint8_t encoded[2] = {2, value};
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_SET,
        .database = kt_slice_text("system"),
        .collection = kt_slice_text("databases"),
        .key = kt_slice_text(key),
        .value = kt_slice(encoded, sizeof encoded),
    };
    struct kt_arena arena;
    struct kt_call call = {.arena = &arena, .state = kt_state_engine(fixture->nodes[at].state, engine)};
    struct write_call *write = kt_zalloc(sizeof *write);
    enum kt_code code;

    kt_arena_init(&arena);
    waiter_init(&write->waiter);
    kt_buf_init(&write->proposal.op, 1u << 20);
    kt_reply_init(&write->proposal.reply);
    assert_int_equal(command->prepare(&call, &params, &write->proposal.op, &write->proposal.reply), KT_OK);
    write->proposal.deadline_ms = kt_clock_ms() + DEADLINE_MS;
    write->proposal.done = write_done;
    kt_cluster_propose(fixture->nodes[at].cluster, &write->proposal);
    await(&write->waiter);
    code = write->proposal.reply.code;
    if (offset != NULL)
        *offset = write->proposal.reply.offset;
    kt_buf_release(&write->proposal.op);
    kt_reply_release(&write->proposal.reply);
    kt_arena_release(&arena);
    kt_free(write);
    return code;
}

struct read_call {
    struct kt_read read;
    struct waiter waiter;
};

static void read_done(struct kt_read *read)
{
    signal_done(&KT_CONTAINER(read, struct read_call, read)->waiter);
}

/* The value of a key as a linearizable read on one node sees it; -1 if there is none. */
static int get(struct fixture *fixture, size_t at, const char *key)
{
    size_t engine;
    const struct kt_command *command = kt_command_by_name("kv.get", &engine);
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_KEY,
        .database = kt_slice_text("system"),
        .collection = kt_slice_text("databases"),
        .key = kt_slice_text(key),
    };
    struct read_call *read = kt_zalloc(sizeof *read);
    struct kt_state *state = fixture->nodes[at].state;
    struct kt_arena arena;
    struct kt_call call = {.arena = &arena, .state = kt_state_engine(state, engine), .now_ms = kt_clock_wall_ms()};
    struct kt_reply reply;
    int value = -1;

    waiter_init(&read->waiter);
    read->read.deadline_ms = kt_clock_ms() + DEADLINE_MS;
    read->read.done = read_done;
    kt_cluster_read(fixture->nodes[at].cluster, &read->read);
    await(&read->waiter);
    assert_int_equal(read->read.code, KT_OK);
    assert_true(kt_state_visible(state) >= read->read.index);
    kt_free(read);
    kt_arena_init(&arena);
    kt_reply_init(&reply);
    assert_int_equal(kt_txn_begin_read(kt_state_store(state), &call.txn), KT_OK);
    if (command->query(&call, &params, &reply) == KT_OK && reply.body.len == 2)
        value = reply.body.data[1];
    kt_txn_abort(call.txn);
    kt_reply_release(&reply);
    kt_arena_release(&arena);
    return value;
}

static size_t leader(struct fixture *fixture)
{
    kt_time_ms give_up = kt_clock_ms() + DEADLINE_MS;
    while (kt_clock_ms() < give_up) {
        for (size_t i = 0; i < fixture->count; i++) {
            struct kt_replica_status status;
            if (fixture->nodes[i].cluster == NULL)
                continue;
            kt_cluster_status(fixture->nodes[i].cluster, &status);
            if (status.serving)
                return i;
        }
        usleep(1000);
    }
    fail_msg("no leader");
    return 0;
}

static void one_node__writes_and_reads__see_each_other(void **state)
{
    struct fixture *fixture = found(1);
    kt_index first = 0, second = 0;
    (void)state;
    assert_int_equal(set(fixture, 0, "a", 1, &first), KT_OK);
    assert_int_equal(get(fixture, 0, "a"), 1);
    assert_int_equal(set(fixture, 0, "a", 2, &second), KT_OK);
    assert_true(second > first);
    assert_int_equal(get(fixture, 0, "a"), 2);
    assert_int_equal(get(fixture, 0, "b"), -1);
    end(fixture);
}

static void one_node__restarted__has_what_was_acknowledged(void **state)
{
    struct fixture *fixture = found(1);
    (void)state;
    for (uint8_t i = 0; i < 50; i++)
        assert_int_equal(set(fixture, 0, "a", i, NULL), KT_OK);
    stop(fixture, 0);
    start(fixture, 0);
    assert_int_equal(get(fixture, 0, "a"), 49);
    end(fixture);
}

static void three_nodes__any_node__takes_writes_and_serves_reads(void **state)
{
    struct fixture *fixture = found(3);
    (void)state;
    for (uint8_t i = 0; i < 60; i++) {
        assert_int_equal(set(fixture, i % 3, "a", i, NULL), KT_OK);
        assert_int_equal(get(fixture, (i + 1) % 3, "a"), i);
    }
    end(fixture);
}

static void three_nodes__leader_stops__the_others_go_on(void **state)
{
    struct fixture *fixture = found(3);
    size_t old = leader(fixture);
    (void)state;
    assert_int_equal(set(fixture, old, "a", 1, NULL), KT_OK);
    stop(fixture, old);
    assert_int_equal(set(fixture, (old + 1) % 3, "a", 2, NULL), KT_OK);
    assert_int_equal(get(fixture, (old + 2) % 3, "a"), 2);
    start(fixture, old);
    assert_int_equal(get(fixture, old, "a"), 2);
    assert_int_equal(set(fixture, old, "a", 3, NULL), KT_OK);
    assert_int_equal(get(fixture, (old + 1) % 3, "a"), 3);
    end(fixture);
}

static void node__with_another_member_list__does_not_start(void **state)
{
    struct fixture *fixture = found(1);
    struct kt_error error = {0};
    char folder[96];
    struct kt_member others[2] = {fixture->members[0], {.id = 2, .address = "127.0.0.1:1"}};
    struct kt_cluster_options options = {.self = 1,
                                         .name = "test",
                                         .listen = fixture->addresses[0],
                                         .members = others,
                                         .member_count = 2,
                                         .folder = folder,
                                         .segment_bytes = 1u << 20,
                                         .election_ms = 300,
                                         .heartbeat_ms = 60};
    struct kt_cluster *cluster;
    char path[128];
    struct kt_state_options options_state = {.store = {.path = path, .bytes_max = 64u << 20}};
    (void)state;
    stop(fixture, 0);
    snprintf(folder, sizeof folder, "%s/0", fixture->folder);
    snprintf(path, sizeof path, "%s/state.mdb", folder);
    assert_int_equal(kt_state_open(&options_state, &options.state, &error), KT_OK);
    assert_int_equal(kt_cluster_open(&options, &cluster, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "member list"));
    kt_state_close(options.state);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node__writes_and_reads__see_each_other),
        cmocka_unit_test(one_node__restarted__has_what_was_acknowledged),
        cmocka_unit_test(three_nodes__any_node__takes_writes_and_serves_reads),
        cmocka_unit_test(three_nodes__leader_stops__the_others_go_on),
        cmocka_unit_test(node__with_another_member_list__does_not_start),
    };
    kt_log_level_set(KT_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
