/* The inside of dispatch: dispatch.c owns the object and the door, lane.c the order, road.c what one request does,
 * pool.c what runs on the pool, watch.c and watch_scan.c the subscriptions. */
#ifndef KT_DISPATCH_DISPATCH_INTERNAL_H
#define KT_DISPATCH_DISPATCH_INTERNAL_H

#include "dispatch/dispatch.h"
#include "dispatch/metrics.h"
#include "dispatch/watch_internal.h"

/* Of one class of work for the pool. */
struct pool_queue {
    struct kt_list waiting;
    unsigned running, count; /* count: with those that wait */
};

struct kt_dispatch {
    struct kt_dispatch_options options;
    struct kt_mailbox mailbox; /* requests that come back from the replica thread */
    uv_async_t wake;
    struct pool_queue pool[KT_POOL_CLASSES];
    kt_time_ms started_ms;
    unsigned in_flight;
    uint64_t bytes; /* of the requests in flight */
    bool draining;
    struct watch_hub watch;
    struct kt_metrics metrics;
    kt_time_ms leader_at_ms; /* when leader and leads were last asked for; 0: never */
    kt_node_id leader;
    bool leads;
};

/* Enters an admitted request: it begins now or when the order allows. */
void lane_enter(struct kt_request *request);
/* A read has its index: whether it may look at once; if not it was parked, and begins to look when the lane lets it. */
bool lane_may_look(struct kt_request *request);
/* Takes the request out of its lane and begins what waited for it. The lane still counts the request. */
void lane_leave(struct kt_request *request);

/* Begins a request whose turn it is. */
void road_begin(struct kt_request *request);
/* Runs the query of a read that has its index and its lane's leave. */
void road_look(struct kt_request *request);

void pool_init(struct kt_dispatch *dispatch);

/* Ends an admitted request: its reply is what it says now. */
void dispatch_finish(struct kt_request *request);

#endif
