/*
 * A whole node without its listeners: state, a cluster of one with its threads, identities and a dispatcher on a loop
 * that the test turns itself. For tests of dispatch and of protocols. Everything here ends the test on failure.
 */
#ifndef KT_TESTS_SUPPORT_ONE_NODE_H
#define KT_TESTS_SUPPORT_ONE_NODE_H

#include "base/clock.h"
#include "dispatch/dispatch.h"

#define ONE_NODE_WAIT_MS 20000 /* far beyond what anything takes, also under a sanitizer on a busy machine */

struct one_node {
    uv_loop_t loop;
    uv_timer_t turn; /* a turn of the loop never sleeps for long */
    char folder[64];
    struct kt_boot boot;
    struct kt_state *state; /* the boot's */
    struct kt_cluster *cluster;
    struct kt_auth *auth;
    struct kt_dispatch *dispatch;
};

/* auth NULL: none is required. Returns when the node leads. Limits of the dispatcher may be 0: generous ones. */
void one_node_open(struct one_node *node, const struct kt_auth_options *auth, unsigned requests_max,
                   uint64_t bytes_max);
/* Nothing may be in flight. */
void one_node_close(struct one_node *node);
/* One turn of the loop. */
void one_node_turn(struct one_node *node);

/* Turns the loop until the condition holds. */
#define one_node_until(node, condition)                                                                                \
    do {                                                                                                               \
        kt_time_ms until_ms_ = kt_clock_ms() + ONE_NODE_WAIT_MS;                                                       \
        while (!(condition)) {                                                                                         \
            assert_true(kt_clock_ms() < until_ms_);                                                                    \
            one_node_turn(node);                                                                                       \
        }                                                                                                              \
    } while (0)

#endif
