/* A GET to a node's HTTP port: one request, one connection, within a deadline. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "cli/cli.h"

static bool wait_for(int fd, short events, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = kt_clock_ms();
        struct pollfd poller = {.fd = fd, .events = events};
        if (now >= deadline_ms)
            return false;
        int ready = poll(&poller, 1, (int)KT_MIN(deadline_ms - now, (uint64_t)60000));
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

static int connect_one(const struct addrinfo *address, uint64_t deadline_ms)
{
    int failed = 0;
    socklen_t len = sizeof(failed);
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address->ai_protocol);

    if (fd < 0)
        return -1;
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    if (errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) == 0 && failed == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_to(const char *endpoint, uint64_t deadline_ms)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    struct kt_address parsed;
    int fd = -1;

    if (kt_address_parse(endpoint, &parsed, NULL) != KT_OK ||
        getaddrinfo(parsed.host, parsed.service, &hints, &found) != 0)
        return -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = connect_one(at, deadline_ms);
    freeaddrinfo(found);
    return fd;
}

static bool send_whole(int fd, const char *text, size_t len, uint64_t deadline_ms)
{
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent > 0) {
            text += sent;
            len -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            return false;
        } else if (!wait_for(fd, POLLOUT, deadline_ms)) {
            return false;
        }
    }
    return true;
}

/* Until the server closes: the request asks it to. */
static bool receive_whole(int fd, struct kt_buf *into, uint64_t deadline_ms)
{
    for (;;) {
        uint8_t *room = kt_buf_reserve(into, 16384);
        if (!room)
            return false;
        ssize_t got = recv(fd, room, 16384, 0);
        if (got == 0)
            return true;
        if (got > 0)
            into->len += (size_t)got;
        else if (errno != EAGAIN && errno != EINTR)
            return false;
        else if (!wait_for(fd, POLLIN, deadline_ms))
            return false;
    }
}

enum kt_code cli_http_get(const char *endpoint, const char *path, uint64_t deadline_ms, unsigned *status,
                          struct kt_buf *body, struct kt_error *error)
{
    char request[1024];
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: %.400s\r\nAccept: */*\r\nConnection: close\r\n\r\n", path, endpoint);
    int fd = connect_to(endpoint, deadline_ms);
    if (fd < 0)
        return kt_error_set(error, KT_UNAVAILABLE, "%.200s does not answer", endpoint);
    bool done = send_whole(fd, request, (size_t)len, deadline_ms) && receive_whole(fd, body, deadline_ms);
    close(fd);
    if (!done)
        return kt_error_set(error, KT_UNAVAILABLE, "%.200s stopped answering", endpoint);

    const char *text = (const char *)body->data, *blank;
    if (body->len < 12 || memcmp(text, "HTTP/1.", 7) != 0 || !(blank = memmem(text, body->len, "\r\n\r\n", 4)))
        return kt_error_set(error, KT_BAD_FRAME, "%.200s does not speak HTTP", endpoint);
    *status = (unsigned)strtoul(text + 9, NULL, 10);
    kt_buf_consume(body, (size_t)(blank - text) + 4);
    return KT_OK;
}
