/*
 * Connections of the HTTP port: one request at a time on each, the next one is looked at when its answer has left.
 *
 *   READING -> WRITING -> READING ...        keep-alive
 *              WRITING -> LINGERING -> gone   an error was answered, or the client asked to close
 */
#include "admin/admin_internal.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/address.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/list.h"

#define BACKLOG 64

enum http_state { HTTP_READING, HTTP_WRITING, HTTP_LINGERING, HTTP_CLOSED };

struct http_connection {
    struct http_server *server;
    struct kt_list link;
    enum http_state state;
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_write_t write;
    uv_shutdown_t shutdown;
    unsigned handles;
    bool close_after; /* the answer that is being written */
    struct kt_buf out;
    size_t in_len;
    char in[HTTP_HEAD_BYTES_MAX];
};

struct http_server {
    struct http_options options;
    uv_tcp_t listener;
    unsigned port;
    unsigned count;
    struct kt_list connections;
    unsigned pending; /* listener and connections whose handles are not closed yet */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static void take_requests(struct http_connection *connection);

/* ---- closing ---- */

static void pending_done(struct http_server *server)
{
    if (--server->pending > 0)
        return;
    void (*closed)(void *) = server->closed;
    void *data = server->closed_data;
    kt_free(server);
    if (closed)
        closed(data);
}

static void on_connection_closed(uv_handle_t *handle)
{
    struct http_connection *connection = handle->data;
    if (--connection->handles > 0)
        return;
    struct http_server *server = connection->server;
    kt_list_remove(&connection->link);
    kt_buf_release(&connection->out);
    kt_free(connection);
    pending_done(server);
}

static void close_connection(struct http_connection *connection)
{
    if (connection->state == HTTP_CLOSED)
        return;
    connection->state = HTTP_CLOSED;
    connection->server->count--;
    uv_close((uv_handle_t *)&connection->timer, on_connection_closed);
    uv_close((uv_handle_t *)&connection->tcp, on_connection_closed);
}

static void on_late(uv_timer_t *timer)
{
    close_connection(timer->data);
}

static void on_shut_down(uv_shutdown_t *request, int status)
{
    struct http_connection *connection = request->data;
    if (connection->state == HTTP_LINGERING && status < 0)
        close_connection(connection);
}

/* ---- reading ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct http_connection *connection = handle->data;
    (void)suggested;
    /* What comes while lingering goes nowhere: it is read so that our answer is not lost to a reset. */
    if (connection->state == HTTP_LINGERING)
        connection->in_len = 0;
    *room = uv_buf_init(connection->in + connection->in_len, (unsigned)(sizeof(connection->in) - connection->in_len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct http_connection *connection = stream->data;
    (void)room;
    if (connection->state == HTTP_CLOSED || n == 0)
        return;
    if (n < 0) {
        close_connection(connection);
    } else if (connection->state == HTTP_READING) {
        connection->in_len += (size_t)n;
        take_requests(connection);
    }
}

/* The next request is awaited. */
static void start_reading(struct http_connection *connection)
{
    connection->state = HTTP_READING;
    uv_timer_start(&connection->timer, on_late, connection->server->options.idle_ms, 0);
    if (uv_read_start((uv_stream_t *)&connection->tcp, on_room, on_read) != 0)
        close_connection(connection);
}

/* ---- answering ---- */

static const char *reason_of(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Internal Server Error";
    }
}

/* IMF-fixdate (RFC 9110 section 5.6.7), without the locale that strftime would ask. */
static void put_date(struct kt_buf *out)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm at;
    if (!gmtime_r(&now, &at))
        return;
    kt_buf_printf(out, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[at.tm_wday], at.tm_mday, months[at.tm_mon],
                  at.tm_year + 1900, at.tm_hour, at.tm_min, at.tm_sec);
}

static void write_response(struct kt_buf *out, const struct http_response *response, bool head, bool keep_alive)
{
    kt_buf_printf(out, "HTTP/1.1 %u %s\r\n", response->status, reason_of(response->status));
    put_date(out);
    kt_buf_printf(out, "Content-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\nConnection: %s\r\n",
                  response->type, response->body.len, keep_alive ? "keep-alive" : "close");
    if (response->status == 405)
        kt_buf_append_text(out, "Allow: GET, HEAD\r\n");
    kt_buf_append_text(out, "\r\n");
    if (!head)
        kt_buf_append_slice(out, kt_buf_slice(&response->body));
}

static void on_written(uv_write_t *request, int status)
{
    struct http_connection *connection = request->data;
    kt_buf_clear(&connection->out);
    if (connection->state == HTTP_CLOSED)
        return;
    if (status < 0) {
        close_connection(connection);
    } else if (connection->close_after) {
        connection->state = HTTP_LINGERING;
        connection->shutdown.data = connection;
        uv_timer_start(&connection->timer, on_late, HTTP_LINGER_MS, 0);
        if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shut_down) != 0 ||
            uv_read_start((uv_stream_t *)&connection->tcp, on_room, on_read) != 0)
            close_connection(connection);
    } else {
        start_reading(connection);
        take_requests(connection);
    }
}

static void send_response(struct http_connection *connection, struct http_response *response, bool head,
                          bool keep_alive)
{
    if (kt_buf_code(&response->body) != KT_OK) {
        kt_buf_clear(&response->body);
        response->status = 500;
    }
    if (response->status != 200 && response->body.len == 0)
        kt_buf_printf(&response->body, "%s\n", reason_of(response->status));
    write_response(&connection->out, response, head, keep_alive);
    kt_buf_release(&response->body);
    connection->state = HTTP_WRITING;
    connection->close_after = !keep_alive;
    connection->write.data = connection;
    uv_read_stop((uv_stream_t *)&connection->tcp);
    uv_buf_t out = uv_buf_init((char *)connection->out.data, (unsigned)connection->out.len);
    if (kt_buf_code(&connection->out) != KT_OK ||
        uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &out, 1, on_written) != 0)
        close_connection(connection);
}

static void take_requests(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct http_request request;
    size_t used;
    if (connection->state != HTTP_READING || connection->in_len == 0)
        return;
    unsigned status = http_parse(kt_slice(connection->in, connection->in_len), &request, &used);
    if (status == 0)
        return;
    struct http_response response = {.status = status == 200 ? 404 : status, .type = "text/plain; charset=utf-8"};
    kt_buf_init(&response.body, HTTP_BODY_BYTES_MAX);
    if (status == 200)
        server->options.handle(server->options.data, request.path, &response);
    /* The path lies in these bytes: they go after it was looked at. */
    memmove(connection->in, connection->in + used, connection->in_len - used);
    connection->in_len -= used;
    send_response(connection, &response, request.head, status == 200 && request.keep_alive);
}

/* ---- listening ---- */

static void on_guest(uv_stream_t *listener, int status)
{
    struct http_server *server = listener->data;
    if (status < 0 || server->closing)
        return;
    struct http_connection *connection = kt_zalloc(sizeof(*connection));
    connection->server = server;
    connection->handles = 2;
    connection->tcp.data = connection;
    connection->timer.data = connection;
    kt_buf_init(&connection->out, HTTP_BODY_BYTES_MAX + HTTP_HEAD_BYTES_MAX);
    KT_CHECK(uv_tcp_init(server->options.loop, &connection->tcp) == 0);
    KT_CHECK(uv_timer_init(server->options.loop, &connection->timer) == 0);
    kt_list_append(&server->connections, &connection->link);
    server->pending++;
    server->count++;
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) != 0 || server->count > server->options.connections_max) {
        close_connection(connection);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1);
    start_reading(connection);
}

/* libuv writes without MSG_NOSIGNAL: a client that closed must be an error of the write, not the end of the process. */
static void ignore_sigpipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
    }
}

enum kt_code http_open(const struct http_options *options, struct http_server **server, struct kt_error *error)
{
    int fd;
    unsigned port;
    *server = NULL;
    enum kt_code code = kt_address_listen(options->address, BACKLOG, &fd, &port, error);
    if (code != KT_OK)
        return code;
    ignore_sigpipe();
    struct http_server *opened = kt_zalloc(sizeof(*opened));
    opened->options = *options;
    opened->port = port;
    opened->pending = 1;
    opened->listener.data = opened;
    kt_list_init(&opened->connections);
    KT_CHECK(uv_tcp_init(options->loop, &opened->listener) == 0);
    KT_CHECK(uv_tcp_open(&opened->listener, fd) == 0);
    KT_CHECK(uv_listen((uv_stream_t *)&opened->listener, BACKLOG, on_guest) == 0);
    opened->listener.data = opened;
    *server = opened;
    return KT_OK;
}

unsigned http_port(const struct http_server *server)
{
    return server->port;
}

unsigned http_connections(const struct http_server *server)
{
    return server->count;
}

static void on_listener_closed(uv_handle_t *handle)
{
    pending_done(handle->data);
}

void http_close(struct http_server *server, void (*closed)(void *data), void *data)
{
    struct kt_list *link;
    KT_CHECK(!server->closing);
    server->closing = true;
    server->closed = closed;
    server->closed_data = data;
    uv_close((uv_handle_t *)&server->listener, on_listener_closed);
    kt_list_each (link, &server->connections)
        close_connection(KT_CONTAINER(link, struct http_connection, link));
}
