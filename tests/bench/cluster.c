/* Three nodes in this process, from the replica's thread down: no client protocol, everything else is real. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "bench/bench.h"
#include "cluster/node/cluster.h"
#include "engines/kv/kv.h"
#include "engines/registry.h"

#define NODES       3
#define KEYS        1024u /* the state stays small: it is not what is measured */
#define SAMPLES_MAX 8000000u
#define WAIT_MS     30000u
#define WARM_UP     0.5 /* seconds, not counted */

struct bench_node {
    struct kt_boot boot;
    struct kt_cluster *cluster;
};

struct bench_cluster {
    struct bench_node nodes[NODES];
    struct kt_member members[NODES];
    char addresses[NODES][32];
};

/* One measurement under way. Everything but the atomics is the leader's replica thread's, once it has begun. */
struct run {
    struct kt_cluster *leader;
    struct flight *flights;
    atomic_bool counting, ending;
    atomic_uint left; /* proposals on the way */
    uint32_t *samples;
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t over;
};

struct flight {
    struct kt_proposal proposal;
    struct run *run;
    uint64_t began_us;
};

static void ended(void *data, enum kt_ended why)
{
    (void)data;
    bench_fail("a node ended by itself (%d)", (int)why);
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        bench_fail("no port is free");
    close(fd);
    return ntohs(address.sin_port);
}

static void start_node(struct bench_cluster *cluster, unsigned at, const char *folder)
{
    struct bench_node *node = &cluster->nodes[at];
    struct kt_error error = {.text = ""};
    char path[4096];
    struct kt_boot_options boot = {
        .folder = path,
        .self = cluster->members[at].id,
        .segment_bytes = 64u << 20,
        .state = {.store = {.bytes_max = 1u << 30}},
    };
    struct kt_cluster_options options = {
        .self = cluster->members[at].id,
        .name = "bench",
        .listen = cluster->addresses[at],
        .members = cluster->members,
        .member_count = NODES,
        .election_ms = 300,
        .heartbeat_ms = 60,
        .log_keep_bytes = 256u << 20,
        .boot = &node->boot,
        .ended = ended,
    };

    snprintf(path, sizeof path, "%s/%u", folder, at + 1);
    if (kt_boot(&boot, &node->boot, &error) != KT_OK || kt_cluster_open(&options, &node->cluster, &error) != KT_OK)
        bench_fail("node %u does not start: %s", at + 1, error.text);
}

struct bench_cluster *bench_cluster_start(const char *folder)
{
    struct bench_cluster *cluster = kt_zalloc(sizeof *cluster);

    for (unsigned i = 0; i < NODES; i++) {
        snprintf(cluster->addresses[i], sizeof cluster->addresses[i], "127.0.0.1:%u", free_port());
        cluster->members[i] = (struct kt_member){.id = i + 1, .address = cluster->addresses[i]};
    }
    for (unsigned i = 0; i < NODES; i++)
        start_node(cluster, i, folder);
    return cluster;
}

void bench_cluster_stop(struct bench_cluster *cluster)
{
    for (unsigned i = 0; i < NODES; i++) {
        kt_cluster_close(cluster->nodes[i].cluster, 1000);
        kt_boot_close(&cluster->nodes[i].boot);
    }
    kt_free(cluster);
}

static unsigned find_leader(struct bench_cluster *cluster)
{
    kt_time_ms until = kt_clock_ms() + WAIT_MS;

    while (kt_clock_ms() < until) {
        for (unsigned i = 0; i < NODES; i++) {
            struct kt_replica_status status;

            kt_cluster_status(cluster->nodes[i].cluster, &status);
            if (status.serving)
                return i;
        }
        usleep(1000);
    }
    bench_fail("no leader within %u ms", WAIT_MS);
}

/* "Set this key": an entry of exactly BENCH_PAYLOAD bytes. */
static void make_op(struct bench_node *node, unsigned number, struct kt_buf *op)
{
    size_t engine;
    const struct kt_command *command = kt_command_by_name("kv.set", &engine);
    struct kt_call call = {.state = kt_state_engine(node->boot.state, engine)};
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_SET, .database = kt_slice_text("system"), .collection = kt_slice_text("databases")};
    uint8_t value[BENCH_PAYLOAD] = {11}; /* Binary, with a length of four bytes */
    struct kt_arena arena;
    struct kt_reply reply;
    char key[16];
    unsigned len = 0;

    snprintf(key, sizeof key, "key-%04u", number % KEYS);
    params.key = kt_slice_text(key);
    kt_arena_init(&arena);
    call.arena = &arena;
    kt_reply_init(&reply);
    do {
        kt_buf_clear(op);
        value[4] = (uint8_t)len;
        params.value = kt_slice(value, 5 + len);
        if (command->prepare(&call, &params, op, &reply) != KT_OK)
            bench_fail("no operation could be made: %s", reply.text);
    } while (op->len < BENCH_PAYLOAD && len++ < BENCH_PAYLOAD - 5);
    if (op->len != BENCH_PAYLOAD)
        bench_fail("an operation has %zu bytes, not %u", op->len, BENCH_PAYLOAD);
    kt_reply_release(&reply);
    kt_arena_release(&arena);
}

static void land(struct run *run)
{
    if (atomic_fetch_sub(&run->left, 1) > 1)
        return;
    pthread_mutex_lock(&run->lock);
    pthread_cond_signal(&run->over);
    pthread_mutex_unlock(&run->lock);
}

static void launch(struct flight *flight)
{
    flight->began_us = kt_clock_us();
    flight->proposal.deadline_ms = kt_clock_ms() + WAIT_MS;
    kt_cluster_propose(flight->run->leader, &flight->proposal);
}

/* Replica thread of the leader. */
static void done(struct kt_proposal *proposal)
{
    struct flight *flight = KT_CONTAINER(proposal, struct flight, proposal);
    struct run *run = flight->run;

    if (proposal->reply.code != KT_OK)
        bench_fail("a write ended with: %s", proposal->reply.text);
    if (atomic_load(&run->counting) && run->count < SAMPLES_MAX)
        run->samples[run->count++] = (uint32_t)(kt_clock_us() - flight->began_us);
    kt_reply_clear(&proposal->reply);
    if (atomic_load(&run->ending))
        land(run);
    else
        launch(flight);
}

static void measure(struct run *run, unsigned in_flight, double seconds, struct bench_result *result)
{
    uint64_t began, took;

    for (unsigned i = 0; i < in_flight; i++)
        launch(&run->flights[i]);
    usleep((useconds_t)(WARM_UP * 1e6));
    began = kt_clock_us();
    atomic_store(&run->counting, true);
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&run->counting, false);
    took = kt_clock_us() - began;
    atomic_store(&run->ending, true);
    pthread_mutex_lock(&run->lock);
    while (atomic_load(&run->left) > 0)
        pthread_cond_wait(&run->over, &run->lock);
    pthread_mutex_unlock(&run->lock);
    result->per_second = (double)run->count / ((double)took / 1e6);
    result->p50_us = bench_quantile(run->samples, run->count, 0.5);
    result->p99_us = bench_quantile(run->samples, run->count, 0.99);
}

struct bench_result bench_cluster_run(struct bench_cluster *cluster, unsigned in_flight, double seconds)
{
    unsigned at = find_leader(cluster);
    struct run *run = kt_zalloc(sizeof *run);
    struct bench_result result;

    run->leader = cluster->nodes[at].cluster;
    run->samples = kt_alloc(SAMPLES_MAX * sizeof(uint32_t));
    run->flights = kt_zalloc(in_flight * sizeof *run->flights);
    atomic_store(&run->left, in_flight);
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->over, NULL);
    for (unsigned i = 0; i < in_flight; i++) {
        struct kt_proposal *proposal = &run->flights[i].proposal;

        run->flights[i].run = run;
        kt_buf_init(&proposal->op, BENCH_PAYLOAD * 2);
        kt_reply_init(&proposal->reply);
        proposal->done = done;
        make_op(&cluster->nodes[at], i, &proposal->op);
    }
    measure(run, in_flight, seconds, &result);
    for (unsigned i = 0; i < in_flight; i++) {
        kt_buf_release(&run->flights[i].proposal.op);
        kt_reply_release(&run->flights[i].proposal.reply);
    }
    pthread_cond_destroy(&run->over);
    pthread_mutex_destroy(&run->lock);
    kt_free(run->flights);
    kt_free(run->samples);
    kt_free(run);
    return result;
}
