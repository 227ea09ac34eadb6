/* Real clusters of threads on loopback, in one process: what the simulator cannot see is whether the threads fit. */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
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
    struct kt_boot boot;
    struct kt_state *state; /* the boot's */
    struct kt_cluster *cluster;
    atomic_int ended; /* 1 + why it wants to end by itself */
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

static void ended(void *data, enum kt_ended why)
{
    struct node *node = data;
    atomic_store(&node->ended, 1 + (int)why);
}

static void folder_of(const struct fixture *fixture, size_t at, char folder[96])
{
    snprintf(folder, 96, "%s/%zu", fixture->folder, at);
}

static void start(struct fixture *fixture, size_t at)
{
    struct node *node = &fixture->nodes[at];
    char folder[96];
    struct kt_error error = {0};
    struct kt_boot_options boot = {
        .folder = folder,
        .self = fixture->members[at].id,
        .alone = fixture->count == 1,
        .segment_bytes = 1u << 20,
        .state = {.store = {.bytes_max = 64u << 20}},
    };
    struct kt_cluster_options options = {
        .self = fixture->members[at].id,
        .name = "test",
        .listen = fixture->addresses[at],
        .members = fixture->members,
        .member_count = fixture->count,
        .election_ms = 300,
        .heartbeat_ms = 60,
        .log_keep_bytes = 4u << 20,
        .boot = &node->boot,
        .ended = ended,
        .data = node,
    };
    folder_of(fixture, at, folder);
    atomic_store(&node->ended, 0);
    if (kt_boot(&boot, &node->boot, &error) != KT_OK)
        fail_msg("%s", error.text);
    node->state = node->boot.state;
    if (kt_cluster_open(&options, &node->cluster, &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void stop(struct fixture *fixture, size_t at)
{
    struct node *node = &fixture->nodes[at];
    if (node->cluster == NULL)
        return;
    kt_cluster_close(node->cluster, 1000);
    kt_boot_close(&node->boot);
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

/* Sets system/databases key to an encoded value; returns the reply's code and its offset. */
static enum kt_code set_encoded(struct fixture *fixture, size_t at, const char *key, struct kt_slice encoded,
                                kt_index *offset)
{
    size_t engine;
    const struct kt_command *command = kt_command_by_name("kv.set", &engine);
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_SET,
        .database = kt_slice_text("system"),
        .collection = kt_slice_text("databases"),
        .key = kt_slice_text(key),
        .value = encoded,
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

/* A Byte. */
static enum kt_code set(struct fixture *fixture, size_t at, const char *key, uint8_t value, kt_index *offset)
{
    uint8_t encoded[2] = {2, value};
    return set_encoded(fixture, at, key, kt_slice(encoded, sizeof encoded), offset);
}

/* A Binary of a quarter of a MiB. */
static enum kt_code set_large(struct fixture *fixture, size_t at, const char *key, uint8_t value)
{
    size_t bytes = 256u << 10;
    uint8_t *encoded = kt_alloc(5 + bytes);
    enum kt_code code;
    memset(encoded, value, 5 + bytes);
    encoded[0] = 11;
    encoded[1] = 0;
    encoded[2] = (uint8_t)(bytes >> 16);
    encoded[3] = (uint8_t)(bytes >> 8);
    encoded[4] = (uint8_t)bytes;
    code = set_encoded(fixture, at, key, kt_slice(encoded, 5 + bytes), NULL);
    kt_free(encoded);
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

/* The value of a key as the state of one node shows it now; -1 if there is none. */
static int peek(struct fixture *fixture, size_t at, const char *key)
{
    size_t engine;
    const struct kt_command *command = kt_command_by_name("kv.get", &engine);
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_KEY,
        .database = kt_slice_text("system"),
        .collection = kt_slice_text("databases"),
        .key = kt_slice_text(key),
    };
    struct kt_state *state = fixture->nodes[at].state;
    struct kt_arena arena;
    struct kt_call call = {.arena = &arena, .state = kt_state_engine(state, engine), .now_ms = kt_clock_wall_ms()};
    struct kt_reply reply;
    int value = -1;

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

/* The same as a linearizable read sees it. */
static int get(struct fixture *fixture, size_t at, const char *key)
{
    struct read_call *read = kt_zalloc(sizeof *read);

    waiter_init(&read->waiter);
    read->read.deadline_ms = kt_clock_ms() + DEADLINE_MS;
    read->read.done = read_done;
    kt_cluster_read(fixture->nodes[at].cluster, &read->read);
    await(&read->waiter);
    assert_int_equal(read->read.code, KT_OK);
    assert_true(kt_state_visible(fixture->nodes[at].state) >= read->read.index);
    kt_free(read);
    return peek(fixture, at, key);
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

static void wipe(struct fixture *fixture, size_t at)
{
    char folder[96], command[128];
    folder_of(fixture, at, folder);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* Starts a node again as often as it asks for it, until it shows a value. */
static void await_value(struct fixture *fixture, size_t at, const char *key, int value)
{
    kt_time_ms give_up = kt_clock_ms() + DEADLINE_MS;
    while (kt_clock_ms() < give_up) {
        if (atomic_load(&fixture->nodes[at].ended) != 0) {
            stop(fixture, at);
            start(fixture, at);
        }
        if (peek(fixture, at, key) == value)
            return;
        usleep(1000);
    }
    fail_msg("node %zu never came to show %s = %d", at + 1, key, value);
}

static void wiped_node__comes_back__as_a_new_member_with_all_data(void **state)
{
    struct fixture *fixture = found(3);
    size_t lost;
    struct kt_replica_status status;
    kt_member_id before;
    (void)state;
    assert_int_equal(set(fixture, 0, "a", 1, NULL), KT_OK);
    lost = (leader(fixture) + 1) % 3;
    kt_cluster_status(fixture->nodes[lost].cluster, &status);
    before = status.member;
    stop(fixture, lost);
    wipe(fixture, lost);
    assert_int_equal(set(fixture, (lost + 1) % 3, "a", 2, NULL), KT_OK);
    start(fixture, lost);
    await_value(fixture, lost, "a", 2);
    kt_cluster_status(fixture->nodes[lost].cluster, &status);
    assert_true(status.member != before);
    assert_int_equal(set(fixture, lost, "a", 3, NULL), KT_OK);
    end(fixture);
}

static void wiped_node__with_a_trimmed_log__fetches_the_state(void **state)
{
    struct fixture *fixture = found(3);
    size_t lost;
    kt_time_ms give_up = kt_clock_ms() + DEADLINE_MS;
    struct kt_replica_status status = {0};
    (void)state;
    lost = (leader(fixture) + 1) % 3;
    stop(fixture, lost);
    wipe(fixture, lost);
    /* Until the log no longer begins at the first entry. */
    for (uint8_t i = 0; status.first <= 1; i++) {
        assert_true(kt_clock_ms() < give_up);
        assert_int_equal(set_large(fixture, (lost + 1) % 3, "filler", i), KT_OK);
        kt_cluster_status(fixture->nodes[leader(fixture)].cluster, &status);
    }
    assert_int_equal(set(fixture, (lost + 1) % 3, "a", 7, NULL), KT_OK);
    start(fixture, lost);
    await_value(fixture, lost, "a", 7);
    assert_int_equal(set(fixture, lost, "a", 8, NULL), KT_OK);
    end(fixture);
}

static void node__whose_log_is_damaged__sets_it_aside_and_joins_again(void **state)
{
    struct fixture *fixture = found(3);
    size_t hurt;
    char command[256];
    (void)state;
    for (uint8_t i = 0; i < 20; i++)
        assert_int_equal(set(fixture, 0, "a", i, NULL), KT_OK);
    hurt = (leader(fixture) + 1) % 3;
    stop(fixture, hurt);
    /* A byte in the middle of what was acknowledged. */
    snprintf(command, sizeof command,
             "f=$(ls %s/%zu/log/*.seg | head -1); printf '\\377' | dd of=$f bs=1 seek=600 conv=notrunc 2>/dev/null",
             fixture->folder, hurt);
    assert_int_equal(system(command), 0);
    assert_int_equal(set(fixture, (hurt + 1) % 3, "a", 50, NULL), KT_OK);
    start(fixture, hurt);
    await_value(fixture, hurt, "a", 50);
    snprintf(command, sizeof command, "test -d %s/%zu/log.damaged-1", fixture->folder, hurt);
    assert_int_equal(system(command), 0);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node__writes_and_reads__see_each_other),
        cmocka_unit_test(one_node__restarted__has_what_was_acknowledged),
        cmocka_unit_test(three_nodes__any_node__takes_writes_and_serves_reads),
        cmocka_unit_test(three_nodes__leader_stops__the_others_go_on),
        cmocka_unit_test(wiped_node__comes_back__as_a_new_member_with_all_data),
        cmocka_unit_test(wiped_node__with_a_trimmed_log__fetches_the_state),
        cmocka_unit_test(node__whose_log_is_damaged__sets_it_aside_and_joins_again),
    };
    kt_log_level_set(KT_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
