#include "support/one_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/engine_driver.h"

static void on_turn(uv_timer_t *timer)
{
    (void)timer;
}

void one_node_turn(struct one_node *node)
{
    uv_run(&node->loop, UV_RUN_ONCE);
}

static bool leads(struct one_node *node)
{
    struct kt_replica_status status;

    kt_cluster_status(node->cluster, &status);
    return status.role == KT_LEADER && status.serving;
}

void one_node_open(struct one_node *node, const struct kt_auth_options *auth, unsigned requests_max, uint64_t bytes_max)
{
    static const struct kt_auth_options open = {.required = false};
    struct kt_member self = {.id = 1, .address = "127.0.0.1:0"};
    struct kt_error error = {.text = ""};

    memset(node, 0, sizeof(*node));
    assert_int_equal(uv_loop_init(&node->loop), 0);
    uv_timer_init(&node->loop, &node->turn);
    uv_timer_start(&node->turn, on_turn, 1, 1);
    temporary_folder(node->folder);

    struct kt_boot_options boot = {
        .folder = node->folder,
        .self = 1,
        .alone = true,
        .segment_bytes = 1u << 20,
        .state = {.store = {.bytes_max = 256u << 20, .volatile_data = true}, .engines = {.instance_recreate = true}},
    };
    if (kt_boot(&boot, &node->boot, &error) != KT_OK)
        fail_msg("boot: %s", error.text);
    node->state = node->boot.state;
    struct kt_cluster_options cluster = {
        .self = 1,
        .name = "test",
        .listen = self.address,
        .members = &self,
        .member_count = 1,
        .election_ms = 300,
        .heartbeat_ms = 60,
        .log_keep_bytes = 64u << 20,
        .boot = &node->boot,
    };
    if (kt_cluster_open(&cluster, &node->cluster, &error) != KT_OK)
        fail_msg("cluster: %s", error.text);
    if (kt_auth_create(auth ? auth : &open, &node->auth, &error) != KT_OK)
        fail_msg("auth: %s", error.text);
    struct kt_dispatch_options dispatch = {
        .loop = &node->loop,
        .cluster = node->cluster,
        .state = node->state,
        .auth = node->auth,
        .timeout_ms = ONE_NODE_WAIT_MS,
        .requests_max = requests_max ? requests_max : 100000,
        .bytes_max = bytes_max ? bytes_max : 1u << 30,
    };
    assert_int_equal(kt_dispatch_open(&dispatch, &node->dispatch, &error), KT_OK);
    one_node_until(node, leads(node));
}

void one_node_close(struct one_node *node)
{
    char log[80];

    /* The cluster first: after its threads have ended nobody can post to the dispatcher any more. */
    kt_dispatch_drain(node->dispatch);
    kt_cluster_close(node->cluster, 0); /* there is nobody to hand leadership to */
    one_node_until(node, kt_dispatch_in_flight(node->dispatch) == 0);
    kt_dispatch_close(node->dispatch);
    uv_close((uv_handle_t *)&node->turn, NULL);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&node->loop), 0);
    kt_auth_free(node->auth);
    kt_boot_close(&node->boot);
    snprintf(log, sizeof(log), "%s/log", node->folder);
    temporary_folder_remove(log);
    temporary_folder_remove(node->folder);
}
