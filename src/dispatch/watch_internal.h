/* The inside of watches: watch.c the shared reading and the watches' lives, watch_scan.c reading for one of them. */
#ifndef KT_DISPATCH_WATCH_INTERNAL_H
#define KT_DISPATCH_WATCH_INTERNAL_H

#include <stdatomic.h>

#include "base/map.h"
#include "dispatch/watch.h"

/* A place in the change log: the first change that was not looked at. */
struct watch_place {
    kt_index index;
    unsigned number;
};

struct watch_hub {
    struct watch_place at;    /* everything before it was told to those that are up to date */
    struct kt_list any;       /* up to date, of any topic */
    struct kt_map topics;     /* up to date, by topic: struct watch_topic */
    struct kt_list retry;     /* behind, and their reading failed */
    unsigned current, behind; /* watches up to date; others */
    uint64_t events, lagged;
    struct kt_list queue;    /* scans that wait for their turn */
    unsigned scans, running; /* all of them; those on the pool */
    atomic_bool told;        /* something became visible */
    bool following;          /* the cluster tells */
};

struct kt_watch {
    struct kt_dispatch *dispatch;
    struct kt_watch_options options; /* topic: owned */
    struct kt_list link;             /* in the hub's any or in its topic; behind: in retry or in no list */
    struct watch_topic *topic;       /* NULL: not up to date, or of any topic */
    struct watch_place next;
    bool behind;
    bool scanning; /* the pool reads for it */
    bool advancing;
    bool closed;
};

static inline bool place_before(struct watch_place a, struct watch_place b)
{
    return a.index < b.index || (a.index == b.index && a.number < b.number);
}

/* watch.c */
void watch_hub_init(struct watch_hub *hub);
void watch_hub_release(struct watch_hub *hub);
/* Reads what became visible and tells those that are up to date; goes on in the next turn of the loop if it is much. */
void watch_pass(struct kt_dispatch *dispatch);
/* A watch that was behind is not any more if nothing is left between it and the others. */
bool watch_join(struct kt_watch *watch);
void watch_tell_lagging(struct kt_watch *watch, kt_index oldest);
void watch_free(struct kt_watch *watch);

/* watch_scan.c */
/* Reads for a watch that is behind, on the pool. */
void watch_scan(struct kt_watch *watch);
/* The same as long as its owner has room, and here if it is little. */
void watch_advance(struct kt_watch *watch);

#endif
