/*
 * HTTP/1.1 requests (RFC 9112), as far as GET and HEAD without a body need them. Total: any bytes are safe, nothing is
 * allocated. Lines end with CRLF; a bare LF is taken too (RFC 9112 section 2.2).
 */
#include "admin/admin_internal.h"

#include <strings.h>

enum { HTTP_OK = 200, HTTP_BAD = 400, HTTP_METHOD = 405, HTTP_HEAD_TOO_LONG = 431, HTTP_VERSION = 505 };

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* Cuts the line off the front, without its end; false: there is no whole line. */
static bool take_line(struct kt_slice *rest, struct kt_slice *line)
{
    const char *text = rest->data;
    const char *end = rest->len ? memchr(text, '\n', rest->len) : NULL;
    if (!end)
        return false;
    size_t len = (size_t)(end - text);
    *rest = kt_slice(end + 1, rest->len - len - 1);
    if (len > 0 && text[len - 1] == '\r')
        len--;
    *line = kt_slice(text, len);
    return true;
}

/* Cuts off everything up to the byte; false: it does not occur. */
static bool take_until(struct kt_slice *rest, char byte, struct kt_slice *part)
{
    const char *text = rest->data;
    const char *at = rest->len ? memchr(text, byte, rest->len) : NULL;
    if (!at)
        return false;
    *part = kt_slice(text, (size_t)(at - text));
    *rest = kt_slice(at + 1, rest->len - part->len - 1);
    return true;
}

static struct kt_slice trim(struct kt_slice text)
{
    const char *at = text.data;
    size_t len = text.len;
    for (; len > 0 && (*at == ' ' || *at == '\t'); at++)
        len--;
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return kt_slice(at, len);
}

static bool is_word(struct kt_slice text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.data, word, text.len) == 0;
}

static bool is_token(struct kt_slice text)
{
    const char *at = text.data;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_char(at[i]))
            return false;
    }
    return text.len > 0;
}

/* The path of a target, without its query; the absolute form of proxies is taken apart too (RFC 9112 section 3.2.2). */
static bool path_of(struct kt_slice target, struct kt_slice *path)
{
    static const char scheme[] = "http://";
    const char *text = target.data;
    struct kt_slice host;
    for (size_t i = 0; i < target.len; i++) {
        if (text[i] <= ' ' || text[i] == 0x7F)
            return false;
    }
    if (target.len > strlen(scheme) && strncasecmp(text, scheme, strlen(scheme)) == 0) {
        target = kt_slice(text + strlen(scheme), target.len - strlen(scheme));
        struct kt_slice rest = target;
        if (!take_until(&rest, '/', &host))
            return false;
        target = kt_slice((const char *)target.data + host.len, target.len - host.len);
    }
    if (target.len == 0 || *(const char *)target.data != '/')
        return false;
    struct kt_slice rest = target;
    if (!take_until(&rest, '?', path))
        *path = target;
    return true;
}

static unsigned parse_version(struct kt_slice version, bool *is_1_1)
{
    const char *text = version.data;
    *is_1_1 = kt_slice_is(version, "HTTP/1.1");
    if (*is_1_1 || kt_slice_is(version, "HTTP/1.0"))
        return HTTP_OK;
    bool some = version.len == 8 && memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' &&
                text[6] == '.' && text[7] >= '0' && text[7] <= '9';
    return some ? HTTP_VERSION : HTTP_BAD;
}

struct fields {
    unsigned hosts;
    bool close, keep_alive, body;
};

static void note_connection(struct kt_slice value, struct fields *fields)
{
    struct kt_slice part;
    bool more = true;
    while (more) {
        more = take_until(&value, ',', &part);
        if (!more)
            part = value;
        part = trim(part);
        fields->close |= is_word(part, "close");
        fields->keep_alive |= is_word(part, "keep-alive");
    }
}

/* false: the line is no header field. */
static bool parse_field(struct kt_slice line, struct fields *fields)
{
    struct kt_slice name;
    const char *text = line.data;
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)text[i] < ' ' && text[i] != '\t')
            return false;
    }
    if (!take_until(&line, ':', &name) || !is_token(name))
        return false;
    struct kt_slice value = trim(line);
    if (is_word(name, "host"))
        fields->hosts++;
    else if (is_word(name, "connection"))
        note_connection(value, fields);
    else if (is_word(name, "transfer-encoding") || (is_word(name, "content-length") && !kt_slice_is(value, "0")))
        fields->body = true;
    return true;
}

static unsigned parse_head(struct kt_slice head, struct http_request *request)
{
    struct kt_slice line, method, target;
    struct fields fields = {.hosts = 0};
    bool is_1_1;
    if (!take_line(&head, &line) || !take_until(&line, ' ', &method) || !is_token(method) ||
        !take_until(&line, ' ', &target))
        return HTTP_BAD;
    unsigned status = parse_version(line, &is_1_1);
    if (status != HTTP_OK)
        return status;
    while (take_line(&head, &line) && line.len > 0) {
        if (!parse_field(line, &fields))
            return HTTP_BAD;
    }
    if (fields.hosts > 1 || (is_1_1 && fields.hosts == 0))
        return HTTP_BAD;
    request->head = kt_slice_is(method, "HEAD");
    if (!request->head && !kt_slice_is(method, "GET"))
        return HTTP_METHOD;
    if (!path_of(target, &request->path) || fields.body)
        return HTTP_BAD;
    request->keep_alive = !fields.close && (is_1_1 || fields.keep_alive);
    return HTTP_OK;
}

/* Length of the head with its empty line; 0: it is not complete. */
static size_t head_length(struct kt_slice in)
{
    struct kt_slice rest = in, line;
    while (take_line(&rest, &line)) {
        if (line.len == 0)
            return in.len - rest.len;
    }
    return 0;
}

unsigned http_parse(struct kt_slice in, struct http_request *request, size_t *used)
{
    size_t blank = 0;
    memset(request, 0, sizeof(*request));
    /* Some clients end a request with an empty line more (RFC 9112 section 2.2). */
    while (blank < in.len && (((const char *)in.data)[blank] == '\r' || ((const char *)in.data)[blank] == '\n'))
        blank++;
    *used = 0;
    struct kt_slice rest = kt_slice((const char *)in.data + blank, in.len - blank);
    size_t head = head_length(rest);
    if (head == 0 && in.len < HTTP_HEAD_BYTES_MAX)
        return 0;
    if (head == 0 || blank + head > HTTP_HEAD_BYTES_MAX)
        return HTTP_HEAD_TOO_LONG;
    *used = blank + head;
    return parse_head(kt_slice(rest.data, head), request);
}
