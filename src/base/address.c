#include "base/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static bool parse_port(const char *text, unsigned *port)
{
    unsigned value = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 6; digits++)
        value = value * 10 + (unsigned)(text[digits] - '0');
    if (digits == 0 || digits > 5 || text[digits] != '\0' || value > 65535)
        return false;
    *port = value;
    return true;
}

enum kt_code kt_address_parse(const char *text, struct kt_address *address, struct kt_error *error)
{
    const char *host = text;
    const char *colon = strrchr(text, ':');
    if (!colon)
        return kt_error_set(error, KT_BAD_REQUEST, "address \"%.100s\" has no port: host:port is expected", text);
    size_t len = (size_t)(colon - text);
    if (text[0] == '[') {
        if (len < 2 || colon[-1] != ']')
            return kt_error_set(error, KT_BAD_REQUEST, "address \"%.100s\" lacks \"]:port\" after its host", text);
        host = text + 1;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return kt_error_set(error, KT_BAD_REQUEST, "address \"%.100s\": an IPv6 host stands in brackets", text);
    }
    if (len == 0)
        return kt_error_set(error, KT_BAD_REQUEST, "address \"%.100s\" has no host", text);
    if (len > KT_ADDRESS_HOST_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "the host of an address has %zu bytes, the limit is %d", len,
                            KT_ADDRESS_HOST_MAX);
    if (!parse_port(colon + 1, &address->port))
        return kt_error_set(error, KT_BAD_REQUEST, "address \"%.100s\": the port is a number from 0 to 65535", text);
    memcpy(address->host, host, len);
    address->host[len] = '\0';
    snprintf(address->service, sizeof(address->service), "%u", address->port % 65536u);
    return KT_OK;
}

static int listen_on(const struct addrinfo *at, int backlog)
{
    int one = 1;
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)&address)->sin_port);
}

enum kt_code kt_address_listen(const char *text, int backlog, int *fd, unsigned *port, struct kt_error *error)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct kt_address address;
    struct addrinfo *found = NULL;
    int number = 0;
    *fd = -1;
    enum kt_code code = kt_address_parse(text, &address, error);
    if (code != KT_OK)
        return code;
    int failed = getaddrinfo(address.host, address.service, &hints, &found);
    if (failed)
        return kt_error_set(error, KT_IO_FAILED, "cannot listen on %s: %s", text, gai_strerror(failed));
    for (const struct addrinfo *at = found; at && *fd < 0; at = at->ai_next) {
        *fd = listen_on(at, backlog);
        number = errno;
    }
    freeaddrinfo(found);
    if (*fd < 0)
        return kt_error_errno(error, KT_IO_FAILED, number, "cannot listen on %s", text);
    *port = bound_port(*fd);
    return KT_OK;
}
