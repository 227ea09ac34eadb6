/*
 * The road of one request: from a parsed command to its reply. Everything here runs on the io thread, except where it
 * says pool. A request is admitted (permission, size, how many are in flight), a write is prepared and proposed, a read
 * waits for its read index and looks.
 *
 * Order: requests of one connection are submitted in the order of its bytes. Writes of a connection may overlap: the
 * cluster keeps their order. A read begins when the connection's earlier writes have their results; a write begins when
 * its earlier reads have theirs. Replies may be done in any order across connections; the gateway sends those of one
 * connection in order.
 */
#ifndef KT_DISPATCH_DISPATCH_H
#define KT_DISPATCH_DISPATCH_H

#include <uv.h>

#include "auth/auth.h"
#include "base/arena.h"
#include "base/list.h"
#include "cluster/node/cluster.h"
#include "engines/registry.h"

struct kt_dispatch;
struct kt_metrics;
struct kt_operation_metrics;

/*
 * What a lane may do while its owner has answers that have not left (kt_lane_hold).
 *
 *   OPEN    as the order allows
 *   OLDEST  only the request that every other one's answer waits behind: the owner has answers, but none it can send
 * yet HELD    nothing begins and no read looks: the owner's client does not take what it was sent
 */
enum kt_hold { KT_HOLD_OPEN, KT_HOLD_OLDEST, KT_HOLD_HELD };

/* One connection's place in the order; embedded in the connection. */
struct kt_lane {
    struct kt_list all;     /* every request that is not done, oldest first */
    struct kt_list waiting; /* requests that may not begin yet, oldest first */
    struct kt_list looking; /* reads that have their index and may not look yet, oldest first */
    unsigned reads, writes; /* under way */
    unsigned count;         /* all of this lane that are not done: the owner outlives them */
    enum kt_hold hold;
    bool advancing; /* kt_lane_hold or a finished request is looking for the next ones to begin */
};

void kt_lane_init(struct kt_lane *lane);
/*
 * Tells the lane how far it may go. HELD at any time; OPEN and OLDEST also begin what may begin now, so they are not
 * for use inside a done. OLDEST lasts until a request of the lane is done, then it is HELD.
 */
void kt_lane_hold(struct kt_lane *lane, enum kt_hold hold);

enum kt_level { KT_LINEARIZABLE, KT_STALE_READ };

/*
 * Work for the pool. The replica needs a free thread of it too (it reads the log there), so each class of client work
 * has a number of threads that it can take at once; the rest waits, in order. libuv's pool has four threads.
 */
enum kt_pool_class {
    KT_POOL_SCAN,  /* queries that look at many entries: two at once */
    KT_POOL_LOGIN, /* password verification, which is slow on purpose: one at once */
    KT_POOL_CLASSES
};

struct kt_pool_work {
    uv_work_t work;
    struct kt_list link;
    struct kt_dispatch *dispatch;
    enum kt_pool_class class;
    void (*run)(struct kt_pool_work *work);  /* pool */
    void (*done)(struct kt_pool_work *work); /* io thread; the work is its owner's again */
};

/* One request. The caller fills the first part; done runs exactly once, on the io thread. */
struct kt_request {
    const struct kt_command *command;
    size_t engine; /* position of the command's engine in kt_engines */
    void *params;  /* of the command's struct; lives in the arena */
    const struct kt_principal *principal;
    enum kt_level level;
    kt_time_ms deadline_ms; /* on kt_clock_ms; 0: the default */
    struct kt_lane *lane;
    void (*done)(struct kt_request *request);
    void *data;                           /* the caller's */
    struct kt_operation_metrics *counted; /* the caller's, too */
    uint64_t began_us;                    /* kt_clock_us of kt_request_create */

    struct kt_arena arena; /* the request's memory; released by kt_request_free */
    struct kt_reply reply; /* valid in done */

    /* dispatch's */
    struct kt_dispatch *dispatch;
    struct kt_list link;  /* in the lane's waiting or looking */
    struct kt_list order; /* in the lane's all */
    enum { KT_PLACE_NONE, KT_PLACE_WAITING, KT_PLACE_LOOKING, KT_PLACE_UNDER_WAY } place;
    size_t bytes; /* counted against bytes_max */
    struct kt_proposal proposal;
    struct kt_read read;
    struct kt_pool_work work;
};

struct kt_dispatch_options {
    uv_loop_t *loop;            /* the io loop */
    struct kt_cluster *cluster; /* NULL: nothing is admitted (decoders under test) */
    struct kt_state *state;
    const struct kt_auth *auth;
    unsigned timeout_ms;   /* default deadline of a request */
    unsigned requests_max; /* in flight on this node; past it KT_BUSY */
    uint64_t bytes_max;    /* of parameters in flight on this node; past it KT_BUSY */
};

KT_MUST_USE enum kt_code kt_dispatch_open(const struct kt_dispatch_options *options, struct kt_dispatch **dispatch,
                                          struct kt_error *error);
/*
 * Refuses new requests, and those that wait in their lane, with KT_SHUTTING_DOWN from now on. The cluster is not called
 * any more: it may be closed, and answers what it still has.
 */
void kt_dispatch_drain(struct kt_dispatch *dispatch);
/* Requests, logins that are being verified, and reading for watches. */
unsigned kt_dispatch_in_flight(const struct kt_dispatch *dispatch);
/* Nothing may be in flight. The memory is freed when the loop runs the close callback of its handle. */
void kt_dispatch_close(struct kt_dispatch *dispatch);

/* Memory of a request: zeroed, its arena and reply initialised. */
struct kt_request *kt_request_create(struct kt_dispatch *dispatch);
void kt_request_free(struct kt_request *request);
/* The request's done may run before this returns: the caller does not touch the request afterwards. */
void kt_dispatch_submit(struct kt_dispatch *dispatch, struct kt_request *request);

/*
 * Runs work on the pool; its run and done are set. As many may wait as there are requests and connections, which have
 * ceilings. The dispatcher may not be closed before its done ran.
 */
void kt_dispatch_work(struct kt_dispatch *dispatch, enum kt_pool_class class, struct kt_pool_work *work);

/* The node that leads as far as this node knows, 0 if it knows none; leads: it is this node and it serves. May be NULL.
 */
kt_node_id kt_dispatch_leader(struct kt_dispatch *dispatch, bool *leads);
/* When it was opened, on kt_clock_ms. */
kt_time_ms kt_dispatch_started_ms(const struct kt_dispatch *dispatch);
uv_loop_t *kt_dispatch_loop(const struct kt_dispatch *dispatch);
const struct kt_auth *kt_dispatch_auth(const struct kt_dispatch *dispatch);
/* NULL once the dispatcher is draining. */
struct kt_cluster *kt_dispatch_cluster(const struct kt_dispatch *dispatch);
/* What the protocols count in; lives as long as the dispatcher. */
struct kt_metrics *kt_dispatch_metrics(struct kt_dispatch *dispatch);
struct kt_state *kt_dispatch_state(const struct kt_dispatch *dispatch);

#endif
