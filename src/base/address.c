#include "base/address.h"

#include <stdio.h>

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
