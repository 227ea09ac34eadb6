/* Fetching a state between two transports of one loop, plain and under TLS. */
#include "cluster/transport/transfer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "support/test_certificates.h"
#include "support/test_folder.h"

#define WAIT_MS 30000

struct test_pair {
    uv_loop_t loop;
    uv_timer_t watchdog;
    char addresses[2][32];
    struct kt_peer peers[2];
    struct kt_transport *transports[2];
    struct kt_tls_context *tls[2];
    unsigned closed;

    char *folder, path[300];
    size_t bytes; /* of the state that node 2 has */
    enum kt_code copied;
    bool stalls; /* the copy waits for hold */
    atomic_bool hold, copying;
    bool done;
    enum kt_code code;
    uint64_t fetched;
};

static struct kt_test_certificates certificates;
static bool secure;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[16384];

/* Transfers log from their own threads. */
static void catch_line(void *data, const char *line)
{
    (void)data;
    pthread_mutex_lock(&log_lock);
    size_t held = strlen(log_text);
    snprintf(log_text + held, sizeof(log_text) - held, "%s\n", line);
    pthread_mutex_unlock(&log_lock);
}

static bool logged(const char *text)
{
    pthread_mutex_lock(&log_lock);
    bool found = strstr(log_text, text) != NULL;
    pthread_mutex_unlock(&log_lock);
    return found;
}

static int secure_on(void **state)
{
    (void)state;
    kt_test_certificates_init(&certificates);
    secure = true;
    return 0;
}

static int secure_off(void **state)
{
    (void)state;
    kt_test_certificates_release(&certificates);
    secure = false;
    return 0;
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 4096);
}

/* Node 2's state, written into the pipe by a thread of the transfer. */
static enum kt_code copy(void *data, int fd)
{
    struct test_pair *pair = data;
    uint8_t part[3000];
    size_t at = 0;
    atomic_store(&pair->copying, true);
    while (at < pair->bytes) {
        size_t len = KT_MIN(sizeof(part), pair->bytes - at);
        for (size_t i = 0; i < len; i++)
            part[i] = byte_at(at + i);
        ssize_t written = write(fd, part, len);
        if (written <= 0)
            return KT_IO_FAILED;
        at += (size_t)written;
        while (pair->stalls && atomic_load(&pair->hold))
            sched_yield();
    }
    return pair->copied;
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer; /* the loop comes round */
}

static void ignore_frame(void *data, kt_node_id from, struct kt_slice frame)
{
    (void)data;
    (void)from;
    (void)frame;
}

static void ignore_peer(void *data, kt_node_id peer)
{
    (void)data;
    (void)peer;
}

static void free_address(char address[32])
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
    close(fd);
    snprintf(address, 32, "127.0.0.1:%u", ntohs(any.sin_port));
}

static void open_node(struct test_pair *pair, size_t i, const struct kt_test_fault *fault)
{
    struct kt_error error = {.text = ""};
    pair->tls[i] = secure ? kt_test_context(&certificates, i + 1, fault) : NULL;
    struct kt_transport_options options = {.loop = &pair->loop,
                                           .self = i + 1,
                                           .listen = pair->addresses[i],
                                           .cluster = "test",
                                           .tls = pair->tls[i],
                                           .peers = &pair->peers[1 - i],
                                           .peer_count = 1,
                                           .reconnect_ms = 20,
                                           .dead_ms = 60000,
                                           .preface_ms = 5000,
                                           .received = ignore_frame,
                                           .connected = ignore_peer,
                                           .disconnected = ignore_peer,
                                           .data = pair};
    if (kt_transport_open(&options, &pair->transports[i], &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void pair_init(struct test_pair *pair, const struct kt_test_fault *fault_of_source)
{
    memset(pair, 0, sizeof(*pair));
    log_text[0] = '\0';
    kt_log_sink(catch_line, NULL);
    pair->bytes = (5u << 20) + 12345;
    pair->folder = kt_test_folder_create();
    snprintf(pair->path, sizeof(pair->path), "%s/state", pair->folder);
    assert_int_equal(uv_loop_init(&pair->loop), 0);
    assert_int_equal(uv_timer_init(&pair->loop, &pair->watchdog), 0);
    uv_timer_start(&pair->watchdog, on_watchdog, 5, 5);
    for (size_t i = 0; i < 2; i++) {
        free_address(pair->addresses[i]);
        pair->peers[i] = (struct kt_peer){.id = i + 1, .address = pair->addresses[i]};
    }
    open_node(pair, 0, NULL);
    open_node(pair, 1, fault_of_source);
    struct kt_transfer_options options = {.copy = copy, .data = pair};
    kt_transfer_serve(pair->transports[1], &options);
}

#define RUN_UNTIL(pair, condition)                                                                                     \
    do {                                                                                                               \
        uint64_t run_end_ = uv_hrtime() / 1000000u + WAIT_MS;                                                          \
        while (!(condition)) {                                                                                         \
            uv_run(&(pair)->loop, UV_RUN_ONCE);                                                                        \
            if (uv_hrtime() / 1000000u > run_end_)                                                                     \
                fail_msg("waited in vain for: %s", #condition);                                                        \
        }                                                                                                              \
    } while (0)

static void on_closed(void *data)
{
    struct test_pair *pair = data;
    pair->closed++;
}

static void pair_release(struct test_pair *pair)
{
    for (size_t i = 0; i < 2; i++)
        kt_transport_close(pair->transports[i], on_closed, pair);
    RUN_UNTIL(pair, pair->closed == 2);
    for (size_t i = 0; i < 2; i++)
        kt_tls_context_drop(pair->tls[i]);
    uv_close((uv_handle_t *)&pair->watchdog, NULL);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&pair->loop), 0);
    kt_log_sink(NULL, NULL);
    kt_test_folder_remove(pair->folder);
}

static void on_done(void *data, enum kt_code code, uint64_t bytes)
{
    struct test_pair *pair = data;
    pair->done = true;
    pair->code = code;
    pair->fetched = bytes;
}

static void fetch(struct test_pair *pair)
{
    pair->done = false;
    assert_true(kt_transfer_fetch(pair->transports[0], 2, pair->path, on_done, pair));
}

static bool file_is_there(const struct test_pair *pair)
{
    return access(pair->path, F_OK) == 0;
}

static void assert_state(const struct test_pair *pair)
{
    int fd = open(pair->path, O_RDONLY | O_CLOEXEC);
    uint8_t part[4096];
    size_t at = 0;
    ssize_t got;
    assert_true(fd >= 0);
    while ((got = read(fd, part, sizeof(part))) > 0) {
        for (ssize_t i = 0; i < got; i++, at++) {
            if (part[i] != byte_at(at))
                fail_msg("byte %zu differs", at);
        }
    }
    close(fd);
    assert_int_equal(at, pair->bytes);
}

/* ---- tests ---- */

static void transfer__state_of_several_chunks__arrives_whole_and_again(void **state)
{
    (void)state;
    struct test_pair pair;
    pair_init(&pair, NULL);
    for (unsigned round = 0; round < 2; round++) {
        fetch(&pair);
        assert_false(kt_transfer_fetch(pair.transports[0], 2, pair.path, on_done, &pair));
        RUN_UNTIL(&pair, pair.done);
        assert_int_equal(pair.code, KT_OK);
        assert_int_equal(pair.fetched, pair.bytes);
        assert_state(&pair);
        assert_int_equal(unlink(pair.path), 0);
        RUN_UNTIL(&pair, logged("the state was sent to node 1 bytes=5255225 result=\"ok\""));
        log_text[0] = '\0';
    }
    pair_release(&pair);
}

static void transfer__copy_that_fails__leaves_nothing(void **state)
{
    (void)state;
    struct test_pair pair;
    pair_init(&pair, NULL);
    pair.copied = KT_IO_FAILED;
    fetch(&pair);
    RUN_UNTIL(&pair, pair.done);
    assert_int_not_equal(pair.code, KT_OK);
    assert_false(file_is_there(&pair));
    pair_release(&pair);
}

static void transfer__broken_off_on_either_side__ends_both_and_leaves_nothing(void **state)
{
    (void)state;
    for (size_t side = 0; side < 2; side++) {
        struct test_pair pair;
        pair_init(&pair, NULL);
        pair.bytes = 64u << 20;
        pair.stalls = true;
        atomic_store(&pair.hold, true);
        fetch(&pair);
        RUN_UNTIL(&pair, atomic_load(&pair.copying));
        kt_transfer_cancel(pair.transports[side]);
        atomic_store(&pair.hold, false);
        RUN_UNTIL(&pair, pair.done);
        assert_int_not_equal(pair.code, KT_OK);
        assert_false(file_is_there(&pair));
        RUN_UNTIL(&pair, logged("the state was sent to node 1"));
        assert_false(logged("result=\"ok\""));
        pair_release(&pair);
    }
}

static void transfer__closed_under_way__ends_and_is_told(void **state)
{
    (void)state;
    struct test_pair pair;
    pair_init(&pair, NULL);
    pair.bytes = 64u << 20;
    fetch(&pair);
    RUN_UNTIL(&pair, atomic_load(&pair.copying));
    pair_release(&pair);
    assert_true(pair.done);
}

static void tls__source_with_a_faulty_certificate__is_not_fetched_from(void **state)
{
    (void)state;
    static const struct {
        struct kt_test_fault fault;
        const char *text;
    } rows[] = {
        {{.names = 3}, "state of node 2 was closed: its certificate does not name node 2 but node 3"},
        {{.expired = true}, "state of node 2 was closed: its certificate has expired"},
        {{.other_authority = true}, "state of node 2 was closed: its certificate is signed by an unknown authority"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct test_pair pair;
        pair_init(&pair, &rows[i].fault);
        fetch(&pair);
        RUN_UNTIL(&pair, pair.done);
        assert_int_not_equal(pair.code, KT_OK);
        assert_true(logged(rows[i].text));
        assert_false(atomic_load(&pair.copying));
        assert_false(file_is_there(&pair));
        pair_release(&pair);
    }
}

#define SECURE(test)                                                                                                   \
    {                                                                                                                  \
        "tls: " #test, test, secure_on, secure_off, NULL                                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfer__state_of_several_chunks__arrives_whole_and_again),
        cmocka_unit_test(transfer__copy_that_fails__leaves_nothing),
        cmocka_unit_test(transfer__broken_off_on_either_side__ends_both_and_leaves_nothing),
        cmocka_unit_test(transfer__closed_under_way__ends_and_is_told),
        SECURE(transfer__state_of_several_chunks__arrives_whole_and_again),
        SECURE(transfer__copy_that_fails__leaves_nothing),
        SECURE(transfer__broken_off_on_either_side__ends_both_and_leaves_nothing),
        SECURE(transfer__closed_under_way__ends_and_is_told),
        SECURE(tls__source_with_a_faulty_certificate__is_not_fetched_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
