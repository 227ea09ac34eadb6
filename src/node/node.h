/*
 * A node: all parts opened in order and wired together on one loop, and closed in the reverse order. The one place that
 * knows everyone.
 *
 * Planned stop (kt_node_stop), all on the loop's thread:
 *
 *   RUNNING -> DRAINING   no new connections, no new requests; what is under way goes on
 *           -> LEAVING    drained, or node.stop_timeout_ms over: leadership is handed over, what still waits is told
 *                         that the node shuts down, and those answers leave
 *           -> CLOSING    connections are closed
 *           -> CLOSED     nothing is left on the loop, uv_run returns
 */
#ifndef KT_NODE_NODE_H
#define KT_NODE_NODE_H

#include <uv.h>

#include "node/settings.h"

struct kt_node;

/*
 * Opens the data folder, the state, the log, the cluster and the listeners. On failure everything opened is closed
 * again (the loop is run for that) and the error says what could not be. settings are borrowed until kt_node_free.
 * stopping(data) runs on the loop when the node begins to stop by itself.
 */
KT_MUST_USE enum kt_code kt_node_open(uv_loop_t *loop, const struct kt_settings *settings, void (*stopping)(void *data),
                                      void *data, struct kt_node **node, struct kt_error *error);
/* Why uv_run returned. */
enum kt_node_outcome {
    KT_NODE_STOPPED,      /* it was asked to stop */
    KT_NODE_STARTS_AGAIN, /* the data folder holds another state now: open it again */
    KT_NODE_REPLACED,     /* the cluster has another member in its place: it must not run with this data any more */
};
enum kt_node_outcome kt_node_outcome(const struct kt_node *node);
/* Reads what may change without a restart: the files of cluster.tls and tls. Says in the log what came of it. Loop's
 * thread. */
void kt_node_reload(struct kt_node *node);
/* Begins the planned stop; more calls change nothing. Loop's thread. Blocks up to node.stop_timeout_ms in LEAVING. */
void kt_node_stop(struct kt_node *node);
/* After uv_run returned: closes the state and frees. */
void kt_node_free(struct kt_node *node);

#endif
