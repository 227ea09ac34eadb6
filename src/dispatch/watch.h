/*
 * Watches: subscriptions to the change log (engines/changes.h). io thread, except where it says any.
 *
 * Each watch is told every change that it wants, from its first one on, once and in order, whatever its owner's pace.
 * Watches that are up to date share one reading of what became visible. One that is not (it asked for history, or its
 * owner had no room) reads on its own, on the pool, as much as its owner takes, and joins the others when it has caught
 * up. Nothing is queued here: what a slow owner has not taken is in the change log. Only when the change log was cut
 * off past it does it miss changes, and then it is told so.
 */
#ifndef KT_DISPATCH_WATCH_H
#define KT_DISPATCH_WATCH_H

#include "dispatch/dispatch.h"
#include "engines/changes.h"

struct kt_watch;

/* Ways in which one change can be rendered for many watches. */
#define KT_WATCH_FORMS 2

struct kt_watch_event {
    struct kt_change change;             /* borrowed during the call */
    struct kt_buf forms[KT_WATCH_FORMS]; /* empty until an owner fills one for those that are told after it */
};

struct kt_watch_options {
    uint8_t engine;        /* id */
    struct kt_slice topic; /* only changes of this topic; empty: of any. Copied */
    kt_index index;        /* the first change wanted */
    unsigned number;
    bool fresh; /* nothing can be missing before it, so nothing is told if the change log begins later */
    /* Whether a change is wanted. Pure; any thread, until release. */
    bool (*wants)(const void *data, const struct kt_change *change);
    /* Whether event may be called now; if not, kt_watch_resume is called when it may. */
    bool (*room)(void *data);
    void (*event)(void *data, struct kt_watch_event *event);
    /* Changes before oldest that were not told yet are gone: it goes on there. */
    void (*lagging)(void *data, kt_index oldest);
    /* The watch is closed and data not used any more. */
    void (*release)(void *data);
    void *data;
};

/* Nothing is told before this returns. */
struct kt_watch *kt_watch_open(struct kt_dispatch *dispatch, const struct kt_watch_options *options);
/* Nothing is told from now on; release runs now, or soon if the pool is reading for it. */
void kt_watch_close(struct kt_watch *watch);
/* Its owner has room again. Does nothing if it did not wait for that. May call event. */
void kt_watch_resume(struct kt_watch *watch);

struct kt_watch_counts {
    unsigned watches; /* open */
    unsigned behind;  /* of them, those that read on their own */
    uint64_t events;  /* told */
    uint64_t lagged;  /* times that a watch was told that it missed something */
};

void kt_watch_counts(const struct kt_dispatch *dispatch, struct kt_watch_counts *counts);

#endif
