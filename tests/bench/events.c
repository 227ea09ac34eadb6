/*
 * Load on the state-machine protocol as a client sees it: APPLY_EVENT at nodes that run, always so many on the way,
 * each on an instance of its own; and subscribers that are sent every event meanwhile.
 *
 *   bench_events [--in-flight N] [--ms MS] [--watch PORT]... PORT...
 *
 * Connections go to the ports at 127.0.0.1 in turn. The machine "turn" and the instances "i0", "i1"... must be there.
 * Prints one line: events per second, p50 and p99 in microseconds, events that the subscribers were sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "bench/bench.h"

#define PORTS_MAX     16
#define CONNS_MAX     64
#define PER_CONN      64 /* requests on the way on one connection, at most */
#define FRAME_HEADER  18
#define INPUT_MAX     (1u << 20)
#define OUTPUT_MAX    (1u << 16)
#define SAMPLES_MAX   (1u << 24)
#define DRAIN_MS      30000
#define IN_FLIGHT_MAX (CONNS_MAX / 2 * PER_CONN)

struct conn {
    int fd;
    bool watcher;
    unsigned first, slots; /* the instances that are its own */
    uint8_t *in, *out;
    size_t in_len, out_len;
};

struct bench {
    struct pollfd polls[CONNS_MAX];
    struct conn conns[CONNS_MAX];
    unsigned conn_count;
    uint64_t *sent_us; /* per instance */
    uint32_t *samples;
    size_t sample_count;
    uint64_t begun, answered, pushed;
    bool ending;
};

/* ---- One connection ---- */

static void put_request(struct conn *conn, const char *json, size_t len)
{
    static const uint8_t head[] = {'R', 'C', 'P', 'X', 0, 1, 0, 1, 0, 0};
    uint8_t *to = conn->out + conn->out_len;
    uint32_t word;

    if (conn->out_len + FRAME_HEADER + len > OUTPUT_MAX)
        bench_fail("the node does not read");
    memcpy(to, head, sizeof head);
    word = htonl((uint32_t)len);
    memcpy(to + 10, &word, sizeof word);
    word = htonl(kt_crc32c(0, json, len));
    memcpy(to + 14, &word, sizeof word);
    memcpy(to + FRAME_HEADER, json, len);
    conn->out_len += FRAME_HEADER + len;
}

static size_t payload_len(const uint8_t *header)
{
    uint32_t word;

    memcpy(&word, header + 10, sizeof word);
    return ntohl(word);
}

static void put_event(struct bench *bench, struct conn *conn, unsigned slot)
{
    char json[200];
    int len = snprintf(json, sizeof json,
                       "{\"type\":\"request\",\"id\":\"%u\",\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"i%u\","
                       "\"event\":\"TURN\",\"payload\":{\"by\":%u}}}",
                       slot, slot, slot);

    bench->sent_us[slot] = kt_clock_us();
    bench->begun++;
    put_request(conn, json, (size_t)len);
}

static void flush(struct conn *conn)
{
    while (conn->out_len > 0) {
        ssize_t done = write(conn->fd, conn->out, conn->out_len);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0)
            bench_fail("write: %s", strerror(errno));
        conn->out_len -= (size_t)done;
        memmove(conn->out, conn->out + done, conn->out_len);
    }
}

static bool holds(const uint8_t *text, size_t len, const char *part)
{
    return memmem(text, len, part, strlen(part)) != NULL;
}

static void on_message(struct bench *bench, struct conn *conn, const uint8_t *text, size_t len)
{
    const char *id;
    unsigned slot;
    uint64_t took;

    if (holds(text, len, "\"type\":\"event\"")) {
        bench->pushed++;
        return;
    }
    if (!holds(text, len, "\"status\":\"ok\""))
        bench_fail("answered %.*s", (int)len, (const char *)text);
    if (conn->watcher)
        return;
    id = memmem(text, len, "\"id\":\"", 6);
    if (!id)
        bench_fail("an answer without an id");
    slot = (unsigned)strtoul(id + 6, NULL, 10);
    if (slot < conn->first || slot >= conn->first + conn->slots)
        bench_fail("an answer to nothing");
    took = kt_clock_us() - bench->sent_us[slot];
    if (bench->sample_count < SAMPLES_MAX)
        bench->samples[bench->sample_count++] = (uint32_t)took;
    bench->answered++;
    if (!bench->ending)
        put_event(bench, conn, slot);
}

static void take_input(struct bench *bench, struct conn *conn)
{
    ssize_t done = read(conn->fd, conn->in + conn->in_len, INPUT_MAX - conn->in_len);
    size_t at = 0;

    if (done <= 0)
        bench_fail("the node closed the connection");
    conn->in_len += (size_t)done;
    while (conn->in_len - at >= FRAME_HEADER) {
        size_t len = payload_len(conn->in + at);
        if (len > INPUT_MAX - FRAME_HEADER)
            bench_fail("a message of %zu bytes", len);
        if (conn->in_len - at < FRAME_HEADER + len)
            break;
        on_message(bench, conn, conn->in + at + FRAME_HEADER, len);
        at += FRAME_HEADER + len;
    }
    conn->in_len -= at;
    memmove(conn->in, conn->in + at, conn->in_len);
    flush(conn);
}

/* Blocking: one request, its answer thrown away. */
static void ask(struct conn *conn, const char *json)
{
    struct bench nothing = {0};
    uint8_t head[FRAME_HEADER], *body;
    size_t len;

    put_request(conn, json, strlen(json));
    flush(conn);
    if (recv(conn->fd, head, sizeof head, MSG_WAITALL) != FRAME_HEADER)
        bench_fail("no answer");
    len = payload_len(head);
    body = kt_alloc(len);
    if (recv(conn->fd, body, len, MSG_WAITALL) != (ssize_t)len)
        bench_fail("no whole answer");
    on_message(&nothing, &(struct conn){.watcher = true}, body, len);
    kt_free(body);
}

/* A number from the command line, at least 1. */
static unsigned number(const char *text, unsigned most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != 0 || value < 1 || value > most)
        bench_fail("%s is not a number from 1 to %u", text, most);
    return (unsigned)value;
}

static struct conn *open_conn(struct bench *bench, unsigned port, bool watcher)
{
    struct conn *conn = &bench->conns[bench->conn_count];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    if (bench->conn_count == CONNS_MAX)
        bench_fail("too many connections");
    *conn = (struct conn){.fd = socket(AF_INET, SOCK_STREAM, 0), .watcher = watcher};
    conn->in = kt_alloc(INPUT_MAX);
    conn->out = kt_alloc(OUTPUT_MAX);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) < 0)
        bench_fail("connect to port %u: %s", port, strerror(errno));
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ask(conn, "{\"type\":\"request\",\"id\":\"0\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1}}");
    if (watcher)
        ask(conn, "{\"type\":\"request\",\"id\":\"0\",\"op\":\"WATCH_ALL\",\"params\":{\"machines\":[\"turn\"]}}");
    bench->polls[bench->conn_count++] = (struct pollfd){.fd = conn->fd, .events = POLLIN};
    return conn;
}

/* ---- The run ---- */

static void turn(struct bench *bench)
{
    if (poll(bench->polls, bench->conn_count, 100) < 0)
        bench_fail("poll: %s", strerror(errno));
    for (unsigned i = 0; i < bench->conn_count; i++) {
        if (bench->polls[i].revents & (POLLIN | POLLHUP | POLLERR))
            take_input(bench, &bench->conns[i]);
        else if (bench->polls[i].revents & POLLOUT)
            flush(&bench->conns[i]);
        bench->polls[i].events = (short)(POLLIN | (bench->conns[i].out_len > 0 ? POLLOUT : 0));
    }
}

static void run(struct bench *bench, unsigned milliseconds, unsigned watchers)
{
    uint64_t begun = kt_clock_us(), ended, last;

    for (unsigned i = 0; i < bench->conn_count; i++) {
        struct conn *conn = &bench->conns[i];
        for (unsigned slot = 0; slot < conn->slots; slot++)
            put_event(bench, conn, conn->first + slot);
        flush(conn);
    }
    while (kt_clock_us() - begun < milliseconds * 1000ull)
        turn(bench);
    bench->ending = true;
    while (bench->answered < bench->begun)
        turn(bench);
    ended = kt_clock_us();
    last = ended;
    while (bench->pushed < bench->answered * watchers && kt_clock_us() - last < DRAIN_MS * 1000ull)
        turn(bench);
    if (bench->pushed != bench->answered * watchers)
        bench_fail("%llu events, %llu sent to %u subscribers", (unsigned long long)bench->answered,
                   (unsigned long long)bench->pushed, watchers);
    printf("%.0f %.0f %.0f %llu\n", (double)bench->answered / ((double)(ended - begun) / 1e6),
           bench_quantile(bench->samples, bench->sample_count, 0.5),
           bench_quantile(bench->samples, bench->sample_count, 0.99), (unsigned long long)bench->pushed);
}

static void release(struct bench *bench)
{
    for (unsigned i = 0; i < bench->conn_count; i++) {
        close(bench->conns[i].fd);
        kt_free(bench->conns[i].in);
        kt_free(bench->conns[i].out);
    }
    kt_free(bench->sent_us);
    kt_free(bench->samples);
}

int main(int argc, char **argv)
{
    struct bench bench = {.conn_count = 0};
    unsigned ports[PORTS_MAX], watched[PORTS_MAX];
    unsigned port_count = 0, watchers = 0, in_flight = 1, conns, given = 0, milliseconds = 5000;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--in-flight") == 0 && i + 1 < argc)
            in_flight = number(argv[++i], IN_FLIGHT_MAX);
        else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
            milliseconds = number(argv[++i], 1000000);
        else if (strcmp(argv[i], "--watch") == 0 && i + 1 < argc && watchers < PORTS_MAX)
            watched[watchers++] = number(argv[++i], UINT16_MAX);
        else if (argv[i][0] != '-' && port_count < PORTS_MAX)
            ports[port_count++] = number(argv[i], UINT16_MAX);
        else
            bench_fail("usage: bench_events [--in-flight N] [--ms MS] [--watch PORT]... PORT...");
    }
    if (port_count == 0)
        bench_fail("no port");
    bench.sent_us = kt_zalloc(in_flight * sizeof *bench.sent_us);
    bench.samples = kt_alloc(SAMPLES_MAX * sizeof *bench.samples);
    for (unsigned i = 0; i < watchers; i++)
        open_conn(&bench, watched[i], true);
    conns = (in_flight + PER_CONN - 1) / PER_CONN;
    conns = KT_MAX(conns, KT_MIN(in_flight, port_count));
    for (unsigned i = 0; i < conns; i++) {
        struct conn *conn = open_conn(&bench, ports[i % port_count], false);
        conn->first = given;
        conn->slots = in_flight / conns + (i < in_flight % conns);
        given += conn->slots;
    }
    run(&bench, milliseconds, watchers);
    release(&bench);
    return 0;
}
