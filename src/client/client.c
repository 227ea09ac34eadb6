/*
 * A call with its attempts.
 *
 *            +------------------------- next endpoint, pause ------------------------+
 *            v                                                                        |
 *   attempt -+- answered: a final answer ---------------------------> result          |
 *            +- answered: not done, try again ------------------------------ time? ---+
 *            +- not sent ---------------------------------------------------- time? ---+
 *            +- lost, or answered: unknown --- repeatable? ------------------ time? ---+
 *                                              else KT_OUTCOME_UNKNOWN
 *
 * Once an attempt may have been carried out, only a success or KT_OUTCOME_UNKNOWN is told: a refusal of a later attempt
 * does not say that the first one will not still take effect.
 */
#include "client/client_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"

#define PAUSE_MS_MIN 5u   /* after every endpoint was tried once; a change of leader takes some hundred milliseconds */
#define PAUSE_MS_MAX 200u /* doubling up to here */

/* ---- results ---- */

enum kt_code result_fail(struct kontiki_result *result, enum kt_code code, const char *format, ...)
{
    struct kt_error error;
    char text[2 * sizeof(error.text)]; /* kt_error_set cuts it at a whole character */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    kt_error_set(&error, code, "%s", text);
    result->code = code;
    memcpy(result->text, error.text, sizeof(result->text));
    return code;
}

_Static_assert(sizeof(((struct kontiki_result *)0)->text) == KT_ERROR_TEXT_MAX, "a sentence fits a result");

void result_take_body(struct kontiki_result *result, struct kt_buf *body)
{
    kt_free(result->body);
    result->body_len = body->len;
    result->body = kt_slice_dup_text(kt_buf_slice(body));
}

void kontiki_result_release(struct kontiki_result *result)
{
    kt_free(result->body);
    kt_free(result->details);
    memset(result, 0, sizeof(*result));
    result->leader = -1;
}

void kontiki_free(void *memory)
{
    kt_free(memory);
}

/* ---- the client ---- */

static char *dup_or_null(const char *text)
{
    return text ? kt_text_dup(text) : NULL;
}

static void forget_secret(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    kt_free(text);
}

static enum kt_code open_tls(struct kontiki_client *client, const struct kontiki_tls *options, struct kt_error *error)
{
    if (!options)
        return KT_OK;
    enum kt_code code = link_tls_context_create(options, &client->tls, error);
    client->machine.context = client->tls;
    return code;
}

enum kt_code kontiki_open(const struct kontiki_options *options, struct kontiki_client **client, char *text,
                          size_t text_size)
{
    struct kt_error error = {.text = ""};
    unsigned connect_ms = options->connect_ms ? options->connect_ms : KONTIKI_CONNECT_MS;
    struct kontiki_client *opened = kt_zalloc(sizeof(*opened));
    *client = NULL;
    enum kt_code code = link_init(&opened->machine, options->machine, options->machine_count, connect_ms, &error);
    enum kt_code kv_code =
        link_init(&opened->kv, options->kv, options->kv_count, connect_ms, code == KT_OK ? &error : NULL);
    if (code == KT_OK)
        code = kv_code;
    if (code == KT_OK && options->machine_count + options->kv_count == 0)
        code = kt_error_set(&error, KT_BAD_REQUEST, "no endpoint is given");
    if (code == KT_OK && options->user && !options->password)
        code = kt_error_set(&error, KT_BAD_REQUEST, "a user is given without a password");
    if (code == KT_OK)
        code = open_tls(opened, options->tls, &error);
    opened->token = dup_or_null(options->token);
    opened->user = dup_or_null(options->user);
    opened->password = dup_or_null(options->password);
    opened->api_key = dup_or_null(options->api_key);
    opened->timeout_ms = options->timeout_ms ? options->timeout_ms : KONTIKI_TIMEOUT_MS;
    opened->attempt_ms = options->attempt_ms ? options->attempt_ms : KONTIKI_ATTEMPT_MS;
    opened->retry_unknown = options->retry_unknown;
    if (text && text_size > 0)
        snprintf(text, text_size, "%s", error.text);
    if (code != KT_OK) {
        kontiki_close(opened);
        return code;
    }
    *client = opened;
    return KT_OK;
}

void kontiki_close(struct kontiki_client *client)
{
    if (!client)
        return;
    link_release(&client->machine);
    link_release(&client->kv);
    link_tls_context_free(client->tls);
    forget_secret(client->token);
    kt_free(client->user);
    forget_secret(client->password);
    forget_secret(client->api_key);
    kt_free(client);
}

/* ---- attempts ---- */

struct progress {
    kt_time_ms deadline_ms;
    bool maybe_done;   /* an attempt may have been carried out, or may still be */
    unsigned in_round; /* endpoints tried since the last pause */
    unsigned hopeless; /* endpoints in a row with which there can be no connection */
    unsigned pause_ms;
};

static void pause_for(unsigned ms, kt_time_ms deadline_ms)
{
    kt_time_ms now = kt_clock_ms();
    if (now >= deadline_ms)
        return;
    if (ms > deadline_ms - now)
        ms = (unsigned)(deadline_ms - now);
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

/* The next endpoint's turn; false: the time is over, or patience would change nothing at any of them. */
static bool go_on(const struct call *call, struct progress *progress)
{
    progress->hopeless = link_is_hopeless(call->link) ? progress->hopeless + 1 : 0;
    if (progress->hopeless >= call->link->count)
        return false;
    link_next(call->link);
    if (++progress->in_round >= call->link->count) {
        progress->in_round = 0;
        pause_for(progress->pause_ms, progress->deadline_ms);
        progress->pause_ms = KT_MIN(progress->pause_ms * 2, PAUSE_MS_MAX);
    }
    return kt_clock_ms() < progress->deadline_ms;
}

/* Turns whatever the last attempt said into the honest answer of a call that may have been carried out. */
static enum kt_code tell_unknown(struct kontiki_result *result)
{
    char last[sizeof(result->text)];
    snprintf(last, sizeof(last), "%s", result->text);
    return result_fail(result, KT_OUTCOME_UNKNOWN, "the outcome is unknown: %s", last);
}

/* A final answer: nothing that another node or a little patience would change. */
static bool is_final(const struct kontiki_result *result)
{
    enum kt_code_class class = kt_code_class(result->code);
    return class == KT_FINE || class == KT_CLIENT || !result->server_retryable;
}

enum kt_code call_run(struct kontiki_client *client, const struct call *call, struct kontiki_result *result)
{
    struct progress progress = {.deadline_ms = kt_clock_ms() + client->timeout_ms, .pause_ms = PAUSE_MS_MIN};
    bool repeat = call->repeatable || client->retry_unknown;
    unsigned attempts = 0;
    do {
        kt_time_ms until = progress.deadline_ms;
        if (repeat)
            until = KT_MIN(until, kt_clock_ms() + client->attempt_ms);
        kontiki_result_release(result);
        enum fate fate = call->attempt(client, call, until, result);
        result->attempts = ++attempts;
        snprintf(result->endpoint, sizeof(result->endpoint), "%s", link_endpoint(call->link));
        if (fate == FATE_ANSWERED && is_final(result)) {
            if (result->code != KT_OK && progress.maybe_done)
                return tell_unknown(result);
            return result->code;
        }
        bool open = fate == FATE_LOST || (fate == FATE_ANSWERED && kt_code_outcome(result->code) == KT_UNKNOWN);
        if (open && call->changes) {
            progress.maybe_done = true;
            if (!repeat)
                return tell_unknown(result);
        }
    } while (go_on(call, &progress));
    return progress.maybe_done ? tell_unknown(result) : result->code;
}
