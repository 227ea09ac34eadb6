/* watch-instance, watch-all: events on standard output, one JSON line each; what happens to the watch on stderr. */
#include <signal.h>
#include <stdio.h>

#include "cli/client.h"

#define LOOK_MS 100 /* how often a wait looks for a signal that came just before it */

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void print_line(const struct kontiki_result *result)
{
    struct kt_json *message = NULL;
    struct kt_error error;

    if (kt_json_parse(kt_slice(result->body, result->body_len), &message, &error) != KT_OK)
        return;
    const struct kt_json *type = kt_json_get(message, "type");
    if (kt_json_is(type, KT_JSON_STRING) && kt_slice_is(kt_json_string(type), "event")) {
        cli_print_json(message, true);
    } else {
        fwrite(result->body, 1, result->body_len, stderr);
        fputc('\n', stderr);
    }
    kt_json_free(message);
}

static int follow(struct kontiki_watch *watch, const char *first_endpoint)
{
    struct kontiki_result result = {.code = KT_OK};
    char endpoint[sizeof(result.endpoint)];
    int status = CLI_OK;

    snprintf(endpoint, sizeof(endpoint), "%s", first_endpoint);
    while (!stop && status == CLI_OK) {
        enum kt_code code = kontiki_watch_next(watch, LOOK_MS, &result);
        if (code != KT_OK && code != KT_MORE) {
            status = cli_result_status(&result);
        } else if (strcmp(endpoint, result.endpoint) != 0) {
            snprintf(endpoint, sizeof(endpoint), "%s", result.endpoint);
            fprintf(stderr, "Watching at %s now\n", endpoint);
        }
        if (code == KT_OK) {
            print_line(&result);
            if (fflush(stdout) != 0)
                status = cli_fail(CLI_REFUSED, "standard output cannot be written");
        }
        kontiki_result_release(&result);
    }
    return status;
}

int cli_follow(struct cli *cli, const char *op, const char *params)
{
    struct sigaction action = {.sa_handler = on_signal}, interrupt, terminate;
    struct kontiki_result result = {.code = KT_OK};
    struct kontiki_watch *watch = NULL;
    struct kontiki_options options;
    struct kontiki_tls tls;
    int status;

    cli_client_options(cli, &options, &tls);
    if (kontiki_watch_open(&options, op, params, &watch, &result) != KT_OK) {
        status = cli_result_status(&result);
        kontiki_result_release(&result);
        return status;
    }
    stop = 0;
    sigaction(SIGINT, &action, &interrupt);
    sigaction(SIGTERM, &action, &terminate);
    fprintf(stderr, "Watching at %s: %s\n", result.endpoint, result.body);
    status = follow(watch, result.endpoint);
    kontiki_result_release(&result);
    kontiki_watch_close(watch);
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &terminate, NULL);
    return status;
}
