/* The inside of the admin port: requests as bytes (http_parse.c), connections (http.c), what is shown (render.c). */
#ifndef KT_ADMIN_INTERNAL_H
#define KT_ADMIN_INTERNAL_H

#include "admin/admin.h"
#include "base/buf.h"
#include "dispatch/metrics.h"
#include "dispatch/watch.h"

#define HTTP_HEAD_BYTES_MAX 8192u      /* request line and header fields; what the common servers allow */
#define HTTP_BODY_BYTES_MAX (1u << 20) /* of an answer; metrics of all operations have some 100 KiB */
#define HTTP_LINGER_MS      1000u      /* after an error: for the client to read it before the connection is reset */

struct http_request {
    struct kt_slice path; /* without query; borrowed */
    bool head;            /* HEAD: headers alone are answered */
    bool keep_alive;
};

/*
 * Takes one request off the front of the bytes: 200 and *used; 0: it is not complete; any other number is the status to
 * answer before closing: 400 malformed or with a body, 405 another method, 431 the head is too long, 505 another
 * version.
 */
unsigned http_parse(struct kt_slice in, struct http_request *request, size_t *used);

struct http_response {
    unsigned status;
    const char *type; /* of the body */
    struct kt_buf body;
};

struct http_options {
    uv_loop_t *loop;
    const char *address;
    unsigned idle_ms, connections_max;
    /* Fills the response, which is 404 with an empty body. On the loop; must not wait. */
    void (*handle)(void *data, struct kt_slice path, struct http_response *response);
    void *data;
};

struct http_server;
KT_MUST_USE enum kt_code http_open(const struct http_options *options, struct http_server **server,
                                   struct kt_error *error);
unsigned http_port(const struct http_server *server);
unsigned http_connections(const struct http_server *server);
void http_close(struct http_server *server, void (*closed)(void *data), void *data);

/* Everything that is shown. */
struct admin_view {
    const char *name;
    uint64_t uptime_ms;
    struct kt_replica_status replica;
    uint64_t log_bytes;
    unsigned log_segments;
    uint64_t state_used_bytes, state_bytes;
    unsigned connections;
};

/* Appends to the buffer, which remembers a failure. */
void admin_render_status(const struct admin_view *view, struct kt_buf *out);
void admin_render_metrics(const struct admin_view *view, struct kt_buf *out);
/* One engine's counters, the text of an object: "machines" and "instances" have the names of rstmdb as well. */
void metrics_render_stats(struct kt_slice stats, struct kt_buf *out);
void metrics_render_changes(const struct kt_changes_summary *changes, struct kt_buf *out);
void metrics_render_log(const struct admin_view *view, const struct kt_disk_counters *io, struct kt_buf *out);
void metrics_render_connections(const char *protocol, const struct kt_gateway_counts *counts, struct kt_buf *out);
void metrics_render_requests(const struct kt_metrics *metrics, const struct kt_watch_counts *watches,
                             struct kt_buf *out);
/* What the kernel says of this process; what cannot be read is left out. */
void metrics_render_process(struct kt_buf *out);

/* true: ready; the sentence either way, with a newline. */
bool admin_render_ready(const struct admin_view *view, struct kt_buf *out);

#endif
