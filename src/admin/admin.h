/*
 * The HTTP port for operators and their tools: health, status and metrics. HTTP/1.1, GET and HEAD alone, no TLS; it
 * shows, it changes nothing.
 *
 *   /         a page that leads to the others
 *   /health   200 "OK" while the process runs, also /healthz
 *   /readyz   200 when this node knows a leader and its state is near the commit index; else 503 with a sentence
 *   /status   JSON (README)
 *   /metrics  Prometheus text format 0.0.4, names kontiki_*, and rstmdb_* as the existing dashboards ask for
 *
 * On the io loop and its thread. It answers also while the cluster has no leader, and never waits for anything.
 */
#ifndef KT_ADMIN_ADMIN_H
#define KT_ADMIN_ADMIN_H

#include <uv.h>

#include "base/error.h"
#include "cluster/node/cluster.h"
#include "gateway/gateway.h"

#define KT_ADMIN_CONNECTIONS_MAX 64    /* a handful of scrapers and probes; one more is accepted and closed */
#define KT_ADMIN_IDLE_MS         30000 /* a connection without a whole request for so long is closed */
#define KT_ADMIN_READY_LAG_MAX   1000  /* entries: what an applier takes in a few milliseconds */

struct kt_admin;

struct kt_admin_options {
    uv_loop_t *loop;
    const char *address;                 /* "host:port"; port 0 takes any (tests) */
    const char *name;                    /* of the cluster; borrowed until close */
    struct kt_cluster *cluster;          /* borrowed until kt_admin_stopping or close */
    struct kt_state *state;              /* the same */
    struct kt_dispatch *dispatch;        /* the same; may be NULL: no requests are counted */
    unsigned (*connections)(void *data); /* client connections of this node now; may be NULL */
    /* Connections and bytes of a protocol; may be NULL. */
    void (*counts)(void *data, const char *protocol, struct kt_gateway_counts *counts);
    void *data;
    bool metrics_only; /* no /readyz and /status: a port for scrapers of another network */
};

/* KT_BAD_REQUEST: no address; KT_IO_FAILED: it cannot be listened on; then nothing is left to be closed. */
KT_MUST_USE enum kt_code kt_admin_open(const struct kt_admin_options *options, struct kt_admin **admin,
                                       struct kt_error *error);
/* The port that was bound. */
unsigned kt_admin_port(const struct kt_admin *admin);
/* From now on nothing that was borrowed is looked at; all but /health answer 503: the node is stopping. */
void kt_admin_stopping(struct kt_admin *admin);
/* Closes everything at once; closed(data) runs on the loop when all handles are gone and memory is freed. Once. */
void kt_admin_close(struct kt_admin *admin, void (*closed)(void *data), void *data);

#endif
