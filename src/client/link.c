/* One TCP connection with deadlines: non-blocking sockets and poll. */
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

void link_close(struct link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    link->greeted = false;
    kt_buf_clear(&link->in);
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
    link_close(link);
    return code;
}

/* A closed connection that nobody has read from since: seen before a request is entrusted to it. */
static bool is_alive(struct link *link)
{
    uint8_t byte;
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

enum kt_code link_open(struct link *link, kt_time_ms deadline_ms, struct kt_error *error)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const struct kt_address *address = &link->addresses[link->at];
    struct addrinfo *found = NULL;
    if (link->fd >= 0 && link->in.len == 0 && is_alive(link))
        return KT_OK;
    link_close(link);
    int failed = getaddrinfo(address->host, address->service, &hints, &found);
    if (failed)
        return kt_error_set(error, KT_UNAVAILABLE, "%s: %s", link_endpoint(link), gai_strerror(failed));
    enum kt_code code = KT_UNAVAILABLE;
    deadline_ms = KT_MIN(deadline_ms, kt_clock_ms() + link->connect_ms);
    for (const struct addrinfo *at = found; at && code != KT_OK; at = at->ai_next)
        code = connect_to(link, at, deadline_ms, error);
    freeaddrinfo(found);
    return code;
}

enum kt_code link_send(struct link *link, struct kt_slice bytes, kt_time_ms deadline_ms, struct kt_error *error)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;
    while (left > 0) {
        ssize_t n = send(link->fd, at, left, MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            left -= (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            int ready = wait_for(link->fd, POLLOUT, deadline_ms);
            if (ready <= 0)
                return broken(link, error, "does not take the request in time", ready ? errno : 0);
        } else if (n == 0 || errno != EINTR) {
            return broken(link, error, "the connection broke while sending", errno);
        }
    }
    return KT_OK;
}

enum kt_code link_wait(struct link *link, kt_time_ms deadline_ms, struct kt_error *error)
{
    int ready = wait_for(link->fd, POLLIN, deadline_ms);
    if (ready < 0)
        return broken(link, error, "the connection broke", errno);
    return ready ? KT_OK : KT_MORE;
}

enum kt_code link_fill(struct link *link, size_t bytes, kt_time_ms deadline_ms, struct kt_error *error)
{
    while (link->in.len < bytes) {
        size_t room_bytes = KT_MAX(bytes - link->in.len, (size_t)READ_BYTES);
        uint8_t *room = kt_buf_reserve(&link->in, room_bytes);
        if (!room)
            return broken(link, error, "the answer does not fit in memory", 0);
        ssize_t n = recv(link->fd, room, room_bytes, 0);
        if (n > 0) {
            link->in.len += (size_t)n;
        } else if (n == 0) {
            return broken(link, error, "the connection was closed before an answer came", 0);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int ready = wait_for(link->fd, POLLIN, deadline_ms);
            if (ready <= 0)
                return broken(link, error, "does not answer in time", ready ? errno : 0);
        } else if (errno != EINTR) {
            return broken(link, error, "the connection broke before an answer came", errno);
        }
    }
    return KT_OK;
}
