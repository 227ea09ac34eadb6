/* "host:port" to a socket address. */
#include "gateway/address.h"

#include <netdb.h>
#include <netinet/in.h>

#define HOST_BYTES_MAX 253 /* of a DNS name */

static bool read_port(const char *text, unsigned *port)
{
    unsigned value = 0;

    if (*text == 0)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned)(*text - '0');
        if (value > 65535)
            return false;
    }
    *port = value;
    return true;
}

/* The host between the brackets or before the last colon; false if the text has no such form. */
static bool split(const char *address, struct kt_slice *host, const char **port)
{
    const char *colon;

    if (*address == '[') {
        const char *end = strchr(address, ']');

        if (!end || end[1] != ':')
            return false;
        *host = kt_slice(address + 1, (size_t)(end - address - 1));
        *port = end + 2;
        return host->len > 0;
    }
    colon = strrchr(address, ':');
    if (!colon || strchr(address, ':') != colon)
        return false;
    *host = kt_slice(address, (size_t)(colon - address));
    *port = colon + 1;
    return host->len > 0;
}

enum kt_code kt_address_parse(const char *address, struct sockaddr_storage *out, struct kt_error *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    struct kt_slice host;
    char name[HOST_BYTES_MAX + 1];
    const char *port_text;
    unsigned port;
    int rc;

    if (!split(address, &host, &port_text) || host.len > HOST_BYTES_MAX || !read_port(port_text, &port))
        return kt_error_set(error, KT_BAD_REQUEST, "'%s' is no address of the form host:port or [ipv6]:port", address);
    memcpy(name, host.data, host.len);
    name[host.len] = 0;
    rc = getaddrinfo(name, NULL, &hints, &found);
    if (rc != 0 || !found)
        return kt_error_set(error, KT_BAD_REQUEST, "'%s' cannot be resolved: %s", address, gai_strerror(rc));
    memset(out, 0, sizeof(*out));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (out->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)out)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)out)->sin_port = htons((uint16_t)port);
    return KT_OK;
}
