/* One TCP connection with deadlines: non-blocking sockets and poll; with TLS on it, or plain. */
#include "client/client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

#define READ_BYTES 16384u

enum kt_code link_init(struct link *link, const char *const *endpoints, size_t count, unsigned connect_ms,
                       struct kt_error *error)
{
    memset(link, 0, sizeof(*link));
    link->fd = -1;
    link->connect_ms = connect_ms;
    kt_buf_init(&link->in, LINK_INPUT_BYTES_MAX);
    if (count > KONTIKI_ENDPOINTS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "%zu endpoints, the limit is %u", count, KONTIKI_ENDPOINTS_MAX);
    for (size_t i = 0; i < count; i++) {
        enum kt_code code = kt_address_parse(endpoints[i], &link->addresses[i], error);
        if (code != KT_OK)
            return code;
        link->texts[link->count++] = kt_text_dup(endpoints[i]);
    }
    return KT_OK;
}

void link_release(struct link *link)
{
    link_close(link);
    kt_buf_release(&link->in);
    for (size_t i = 0; i < link->count; i++)
        kt_free(link->texts[i]);
    link->count = 0;
}

static void close_link(struct link *link, bool clean)
{
    link_tls_end(&link->tls, clean);
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    link->greeted = false;
    kt_buf_clear(&link->in);
}

void link_close(struct link *link)
{
    close_link(link, true);
}

void link_next(struct link *link)
{
    if (link->count < 2)
        return;
    link_close(link);
    link->at = (link->at + 1) % link->count;
}

const char *link_endpoint(const struct link *link)
{
    return link->texts[link->at];
}

/* Waits for events on the socket: 1, 0 when the deadline passed, -1 on failure. */
static int wait_for(int fd, short events, kt_time_ms deadline_ms)
{
    for (;;) {
        kt_time_ms now = kt_clock_ms();
        struct pollfd at = {.fd = fd, .events = events};
        if (now >= deadline_ms)
            return 0;
        int n = poll(&at, 1, (int)KT_MIN(deadline_ms - now, (kt_time_ms)60000));
        if (n > 0)
            return 1;
        if (n < 0 && errno != EINTR)
            return -1;
    }
}

static enum kt_code broken(struct link *link, struct kt_error *error, const char *what, int number)
{
    enum kt_code code;
    if (number)
        code = kt_error_errno(error, KT_UNAVAILABLE, number, "%s: %s", link_endpoint(link), what);
    else
        code = kt_error_set(error, KT_UNAVAILABLE, "%s: %s", link_endpoint(link), what);
    close_link(link, false);
    return code;
}

/* A step failed: what TLS says about it, or the socket. */
static enum kt_code step_broken(struct link *link, struct kt_error *error, const char *what)
{
    if (link->tls.text[0])
        return broken(link, error, link->tls.text, 0);
    return broken(link, error, what, link->tls.number);
}

/* ---- steps: a read or a write that does not wait, over TLS or plain ---- */

static enum step plain_step(struct link *link, ssize_t n, enum step again, size_t *moved)
{
    if (n > 0) {
        *moved = (size_t)n;
        return STEP_DONE;
    }
    if (n == 0)
        return STEP_ENDED;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return again;
    link->tls.number = errno;
    return STEP_FAILED;
}

static enum step read_step(struct link *link, void *room, size_t len, size_t *got)
{
    if (link->tls.ssl)
        return link_tls_read(&link->tls, room, len, got);
    return plain_step(link, recv(link->fd, room, len, 0), STEP_READ, got);
}

static enum step write_step(struct link *link, const void *bytes, size_t len, size_t *done)
{
    if (link->tls.ssl)
        return link_tls_write(&link->tls, bytes, len, done);
    return plain_step(link, send(link->fd, bytes, len, MSG_NOSIGNAL), STEP_WRITE, done);
}

/* As wait_for, for what a step asked. */
static int wait_step(const struct link *link, enum step step, kt_time_ms deadline_ms)
{
    return wait_for(link->fd, step == STEP_WRITE ? POLLOUT : POLLIN, deadline_ms);
}

/* ---- the connection ---- */

/* A closed connection that nobody has read from since: seen before a request is entrusted to it. */
static bool is_alive(struct link *link)
{
    uint8_t byte;
    /* Over TLS not everything that can be read is an answer: a server may hand out tickets at any time. */
    if (link->tls.ssl)
        return link_tls_peek(&link->tls) == STEP_READ;
    ssize_t n = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static enum kt_code connect_to(struct link *link, const struct addrinfo *to, kt_time_ms deadline_ms,
                               struct kt_error *error)
{
    int one = 1, failed = 0;
    socklen_t len = sizeof(failed);
    link->fd = socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol);
    if (link->fd < 0)
        return broken(link, error, "cannot make a socket", errno);
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(link->fd, to->ai_addr, to->ai_addrlen) == 0)
        return KT_OK;
    if (errno != EINPROGRESS)
        return broken(link, error, "cannot connect", errno);
    int ready = wait_for(link->fd, POLLOUT, deadline_ms);
    if (ready == 0)
        return broken(link, error, "does not accept a connection in time", 0);
    if (ready < 0 || getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &failed, &len) != 0)
        return broken(link, error, "cannot connect", errno);
    if (failed)
        return broken(link, error, "cannot connect", failed);
    return KT_OK;
}

static enum kt_code shake_hands(struct link *link, kt_time_ms deadline_ms, struct kt_error *error)
{
    link_tls_begin(&link->tls, link->context, link->fd, link->addresses[link->at].host);
    for (;;) {
        enum step step = link_tls_shake(&link->tls);
        if (step == STEP_DONE)
            return KT_OK;
        if (step == STEP_FAILED)
            return step_broken(link, error, "the connection broke during the TLS handshake");
        if (step == STEP_ENDED)
            return broken(link, error,
                          "the server closed the connection during the TLS handshake: it may not speak TLS", 0);
        int ready = wait_step(link, step, deadline_ms);
        if (ready <= 0)
            return broken(link, error, "no TLS handshake in time: the server may not speak TLS", ready ? errno : 0);
    }
}

static enum kt_code connect_any(struct link *link, const struct addrinfo *found, kt_time_ms deadline_ms,
                                struct kt_error *error)
{
    enum kt_code code = KT_UNAVAILABLE;
    deadline_ms = KT_MIN(deadline_ms, kt_clock_ms() + link->connect_ms);
    for (const struct addrinfo *at = found; at && code != KT_OK; at = at->ai_next)
        code = connect_to(link, at, deadline_ms, error);
    return code;
}

enum kt_code link_open(struct link *link, kt_time_ms deadline_ms, struct kt_error *error)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const struct kt_address *address = &link->addresses[link->at];
    struct addrinfo *found = NULL;
    if (link->fd >= 0 && link->in.len == 0 && is_alive(link))
        return KT_OK;
    link_close(link);
    memset(&link->tls, 0, sizeof(link->tls));
    int failed = getaddrinfo(address->host, address->service, &hints, &found);
    if (failed)
        return kt_error_set(error, KT_UNAVAILABLE, "%s: %s", link_endpoint(link), gai_strerror(failed));
    enum kt_code code = connect_any(link, found, deadline_ms, error);
    freeaddrinfo(found);
    if (code == KT_OK && link->context)
        code = shake_hands(link, KT_MIN(deadline_ms, kt_clock_ms() + link->connect_ms), error);
    return code;
}

bool link_is_hopeless(const struct link *link)
{
    return link->fd < 0 && link->tls.lasting;
}

enum kt_code link_send(struct link *link, struct kt_slice bytes, kt_time_ms deadline_ms, struct kt_error *error)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;
    while (left > 0) {
        size_t done = 0;
        enum step step = write_step(link, at, left, &done);
        if (step == STEP_DONE) {
            at += done;
            left -= done;
        } else if (step == STEP_READ || step == STEP_WRITE) {
            int ready = wait_step(link, step, deadline_ms);
            if (ready <= 0)
                return broken(link, error, "does not take the request in time", ready ? errno : 0);
        } else {
            return step_broken(link, error, "the connection broke while sending");
        }
    }
    return KT_OK;
}

enum kt_code link_wait(struct link *link, kt_time_ms deadline_ms, struct kt_error *error)
{
    enum step step = STEP_READ;
    for (;;) {
        /* A whole record may be read already, and what the socket has may be no message at all. */
        if (link->tls.ssl)
            step = link_tls_peek(&link->tls);
        if (step == STEP_FAILED)
            return step_broken(link, error, "the connection broke");
        if (step == STEP_DONE || step == STEP_ENDED)
            return KT_OK;
        int ready = wait_step(link, step, deadline_ms);
        if (ready < 0)
            return broken(link, error, "the connection broke", errno);
        if (ready == 0)
            return KT_MORE;
        if (!link->tls.ssl)
            return KT_OK;
    }
}

/* An alert where a plain answer should be: what servers with TLS say to a greeting that is none (RFC 8446 5.1). */
static bool is_tls_alert(const struct link *link)
{
    return !link->context && link->in.len >= 3 && link->in.data[0] == 21 && link->in.data[1] == 3;
}

static enum kt_code no_answer(struct link *link, enum step step, struct kt_error *error)
{
    if (is_tls_alert(link)) {
        link->tls.lasting = true;
        return broken(link, error, "the server speaks TLS, and this client was not told to", 0);
    }
    if (step == STEP_ENDED)
        return broken(link, error, "the connection was closed before an answer came", 0);
    return step_broken(link, error, "the connection broke before an answer came");
}

enum kt_code link_fill(struct link *link, size_t bytes, kt_time_ms deadline_ms, struct kt_error *error)
{
    while (link->in.len < bytes) {
        size_t room_bytes = KT_MAX(bytes - link->in.len, (size_t)READ_BYTES), got = 0;
        uint8_t *room = kt_buf_reserve(&link->in, room_bytes);
        if (!room)
            return broken(link, error, "the answer does not fit in memory", 0);
        enum step step = read_step(link, room, room_bytes, &got);
        if (step == STEP_DONE) {
            link->in.len += got;
        } else if (step == STEP_ENDED || step == STEP_FAILED) {
            return no_answer(link, step, error);
        } else {
            int ready = wait_step(link, step, deadline_ms);
            if (ready <= 0)
                return broken(link, error, "does not answer in time", ready ? errno : 0);
        }
    }
    return KT_OK;
}
