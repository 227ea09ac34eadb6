/*
 * kontikid: settings, signals, one node on one loop.
 *
 * SIGTERM and SIGINT stop as planned; a second one ends the process at once with 128 + its number. SIGHUP reads the
 * certificates between the nodes again. Exit codes: 0 stopped as planned, 1 could not start, 2 wrong command line,
 * 70 the node could not go on (base/log.h).
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "kontiki/version.h"
#include "node/node.h"
#include "node/options.h"

#define REPLACED_STATUS 70

struct program {
    uv_loop_t loop;
    uv_signal_t signals[3];
    struct kt_node *node;
};

static void exit_now(int number)
{
    _exit(128 + number);
}

/* From now on signals are the process's own: handing leadership over blocks this loop. */
static void let_signals_go(void *data)
{
    struct program *program = data;
    struct sigaction action = {.sa_handler = exit_now};

    for (size_t i = 0; i < KT_COUNT(program->signals); i++)
        uv_close((uv_handle_t *)&program->signals[i], NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;

    kt_info("node", "received %s", number == SIGINT ? "SIGINT" : "SIGTERM");
    let_signals_go(program);
    kt_node_stop(program->node);
}

static void on_reload(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;

    (void)number;
    kt_info("node", "received SIGHUP");
    kt_node_reload(program->node);
}

static void watch_signals(struct program *program)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < KT_COUNT(numbers); i++) {
        uv_signal_t *handle = &program->signals[i];
        int failed = uv_signal_init(&program->loop, handle);
        KT_CHECK(failed == 0);
        handle->data = program;
        failed = uv_signal_start(handle, numbers[i] == SIGHUP ? on_reload : on_stop, numbers[i]);
        KT_CHECK(failed == 0);
    }
}

/* Connections, LMDB and the log share the descriptors; the soft limit of most systems is 1024. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        kt_warn("node", "the limit of open files could not be raised");
}

static void set_log_level(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    static const enum kt_log_level levels[] = {KT_LOG_DEBUG, KT_LOG_INFO, KT_LOG_WARN, KT_LOG_ERROR};

    for (size_t i = 0; i < KT_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0)
            kt_log_level_set(levels[i]);
    }
}

/* One life of the node. A node that got another node's state, or whose own was wrong, begins another one. */
static int live(const struct kt_settings *settings, bool *again)
{
    struct program program = {.node = NULL};
    struct kt_error error = {.text = ""};

    int failed = uv_loop_init(&program.loop);
    KT_CHECK(failed == 0);
    kt_info("node", "kontikid " KT_VERSION " starts: node=%llu data=%s", (unsigned long long)settings->node_id,
            settings->data_dir);
    enum kt_code code = kt_node_open(&program.loop, settings, let_signals_go, &program, &program.node, &error);
    int status = code == KT_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    if (code != KT_OK) {
        kt_fail("node", "cannot start: %s", error.text);
    } else {
        watch_signals(&program);
        uv_run(&program.loop, UV_RUN_DEFAULT);
        *again = kt_node_outcome(program.node) == KT_NODE_STARTS_AGAIN;
        if (kt_node_outcome(program.node) == KT_NODE_REPLACED)
            status = REPLACED_STATUS;
        kt_node_free(program.node);
        kt_info("node", *again ? "starts again" : "stopped");
    }
    failed = uv_loop_close(&program.loop);
    KT_CHECK(failed == 0);
    return status;
}

static int run(const struct kt_settings *settings)
{
    bool again;
    int status;

    do {
        again = false;
        status = live(settings, &again);
    } while (again);
    return status;
}

int main(int argc, char **argv)
{
    struct kt_settings settings;
    int status = EXIT_SUCCESS;

    signal(SIGPIPE, SIG_IGN);
    kt_settings_init(&settings);
    switch (kt_options_read(argc, argv, getenv, &settings)) {
    case KT_OPTIONS_RUN:
        set_log_level(settings.log_level);
        raise_descriptor_limit();
        status = run(&settings);
        break;
    case KT_OPTIONS_DONE:
        break;
    case KT_OPTIONS_USAGE:
        status = 2;
        break;
    case KT_OPTIONS_REFUSED:
        status = EXIT_FAILURE;
        break;
    }
    kt_settings_release(&settings);
    return status;
}
