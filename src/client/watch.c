/*
 * A subscription that survives the node it stands on.
 *
 *   subscribed --message--> given, or skipped if it was given before
 *       |   \--silence--> PING; silence again --> lost
 *       +--lost--> subscribe again, at the next endpoint, from behind the last event that was given
 */
#include "client/client_internal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "wire/json.h"

/* A connection that says nothing for so long is asked whether it lives, and given up after as long again. */
#define SILENCE_MS 10000u

/* Where an event stands: the operations of a batch share an offset, and number tells them apart. */
struct place {
    uint64_t offset, number;
};

struct kontiki_watch {
    struct kontiki_client *client;
    char *op, *params; /* params: canonical JSON text of an object, as the caller gave it */
    bool standing;     /* the subscription stands on the connection */
    bool moved;        /* next tells where to go on; the caller's own beginning does not count any more */
    struct place next;
    kt_time_ms heard_ms;
    bool asked; /* a PING was sent after what was heard last */
};

static bool number_of(const struct kt_json *message, const char *name, uint64_t *value)
{
    return kt_json_u64(kt_json_get(message, name), value);
}

/* The caller's parameters; once there is something to go on from, that is written behind them: the last one counts. */
static void write_params(const struct kontiki_watch *watch, struct kt_buf *out)
{
    kt_buf_append_text(out, watch->params);
    if (watch->moved) {
        out->len--;
        kt_buf_printf(out, "%s\"from_offset\":%llu,\"from_number\":%llu}", out->len > 1 ? "," : "",
                      (unsigned long long)watch->next.offset, (unsigned long long)watch->next.number);
    }
    kt_buf_append_u8(out, 0);
}

/* The first answer tells where live events begin: what happens while the watch moves is not missed. */
static void note_beginning(struct kontiki_watch *watch, const struct kontiki_result *result)
{
    struct kt_json *answer = NULL, *params = NULL;
    struct kt_error error;
    uint64_t at;

    if (watch->moved || kt_json_parse(kt_slice(result->body, result->body_len), &answer, &error) != KT_OK)
        return;
    bool history = kt_json_parse(kt_slice_text(watch->params), &params, &error) == KT_OK &&
                   kt_json_is(kt_json_get(params, "from_offset"), KT_JSON_NUMBER);
    if (!history && number_of(answer, "wal_offset", &at)) {
        watch->next = (struct place){.offset = at};
        watch->moved = true;
    } else if (!history && number_of(answer, "current_wal_offset", &at)) {
        watch->next = (struct place){.offset = at + 1};
        watch->moved = true;
    }
    kt_json_free(params);
    kt_json_free(answer);
}

static enum kt_code subscribe(struct kontiki_watch *watch, struct kontiki_result *result)
{
    struct kt_buf params;

    kt_buf_init(&params, KONTIKI_FRAME_BYTES_MAX);
    write_params(watch, &params);
    enum kt_code code = kt_buf_code(&params);
    if (code != KT_OK)
        result_fail(result, code, "the parameters do not fit a request");
    else
        code = kontiki_machine_call(watch->client, watch->op, (const char *)params.data, result);
    kt_buf_release(&params);
    watch->standing = code == KT_OK;
    watch->asked = false;
    watch->heard_ms = kt_clock_ms();
    if (code == KT_OK)
        note_beginning(watch, result);
    return code;
}

static enum kt_code copy_params(const char *params, struct kontiki_watch *watch, struct kontiki_result *result)
{
    struct kt_json *json = NULL;
    struct kt_error error;
    struct kt_buf text;
    enum kt_code code = kt_json_parse(kt_slice_text(params ? params : "{}"), &json, &error);

    if (code != KT_OK)
        return result_fail(result, code, "%s", error.text);
    kt_buf_init(&text, KONTIKI_FRAME_BYTES_MAX);
    kt_json_print(json, false, &text);
    if (!kt_json_is(json, KT_JSON_OBJECT))
        code = result_fail(result, KT_BAD_REQUEST, "the parameters are no JSON object");
    else if (kt_buf_code(&text) != KT_OK)
        code = result_fail(result, kt_buf_code(&text), "the parameters do not fit a request");
    else
        watch->params = kt_slice_dup_text(kt_buf_slice(&text));
    kt_buf_release(&text);
    kt_json_free(json);
    return code;
}

enum kt_code kontiki_watch_open(const struct kontiki_options *options, const char *op, const char *params,
                                struct kontiki_watch **out, struct kontiki_result *result)
{
    struct kontiki_watch *watch = kt_zalloc(sizeof(*watch));
    char text[sizeof(result->text)] = "";

    *out = NULL;
    memset(result, 0, sizeof(*result));
    result->leader = -1;
    watch->op = kt_text_dup(op);
    enum kt_code code = KT_OK;
    if (strcmp(op, "WATCH_INSTANCE") != 0 && strcmp(op, "WATCH_ALL") != 0)
        code = result_fail(result, KT_BAD_REQUEST, "\"%.40s\" is no operation that watches", op);
    if (code == KT_OK)
        code = copy_params(params, watch, result);
    if (code == KT_OK) {
        code = kontiki_open(options, &watch->client, text, sizeof(text));
        if (code != KT_OK)
            result_fail(result, code, "%s", text);
    }
    if (code == KT_OK)
        code = subscribe(watch, result);
    if (code != KT_OK) {
        kontiki_watch_close(watch);
        return code;
    }
    *out = watch;
    return KT_OK;
}

void kontiki_watch_close(struct kontiki_watch *watch)
{
    if (!watch)
        return;
    kontiki_close(watch->client);
    kt_free(watch->op);
    kt_free(watch->params);
    kt_free(watch);
}

static void lost(struct kontiki_watch *watch)
{
    link_close(&watch->client->machine);
    link_next(&watch->client->machine);
    watch->standing = false;
}

/* false: it was given before. */
static bool note_event(struct kontiki_watch *watch, const struct kt_json *message)
{
    struct place at = {.number = 0};

    if (!number_of(message, "wal_offset", &at.offset))
        return true;
    (void)number_of(message, "number", &at.number);
    if (watch->moved &&
        (at.offset < watch->next.offset || (at.offset == watch->next.offset && at.number < watch->next.number)))
        return false;
    watch->next = (struct place){.offset = at.offset, .number = at.number + 1};
    watch->moved = true;
    return true;
}

/* KT_OK: given. KT_MORE: it was the answer to a PING, or known already. KT_BAD_FRAME: it is not what a server says. */
static enum kt_code take_message(struct kontiki_watch *watch, struct kt_slice payload, struct kontiki_result *result)
{
    struct kt_json *message = NULL;
    struct kt_error error;
    enum kt_code code = KT_MORE;

    if (kt_json_parse(payload, &message, &error) != KT_OK)
        return KT_BAD_FRAME;
    const struct kt_json *type = kt_json_get(message, "type");
    struct kt_slice word = kt_json_is(type, KT_JSON_STRING) ? kt_json_string(type) : kt_slice(NULL, 0);
    if (word.len == 0)
        code = KT_BAD_FRAME;
    else if (!kt_slice_is(word, "response") && (!kt_slice_is(word, "event") || note_event(watch, message)))
        code = KT_OK;
    kt_json_free(message);
    if (code == KT_OK) {
        result->code = KT_OK;
        result->body = kt_slice_dup_text(payload);
        result->body_len = payload.len;
    }
    return code;
}

static enum kt_code ask(struct kontiki_watch *watch, struct kt_error *error)
{
    struct kt_buf frame;

    kt_buf_init(&frame, 256);
    rcp_request_write(++watch->client->next_id, "PING", kt_slice_text("{}"), &frame);
    enum kt_code code = link_send(&watch->client->machine, kt_buf_slice(&frame), kt_clock_ms() + SILENCE_MS, error);
    kt_buf_release(&frame);
    watch->asked = true;
    return code;
}

/* Waits for bytes until the deadline. KT_OK: there are more; KT_MORE: the deadline; else the connection is lost. */
static enum kt_code listen_until(struct kontiki_watch *watch, kt_time_ms deadline_ms, struct kt_error *error)
{
    struct link *link = &watch->client->machine;

    for (;;) {
        kt_time_ms silent_ms = watch->heard_ms + (watch->asked ? 2 * SILENCE_MS : SILENCE_MS);
        enum kt_code code = link_wait(link, KT_MIN(deadline_ms, silent_ms), error);
        if (code == KT_OK) {
            watch->heard_ms = kt_clock_ms();
            watch->asked = false;
            return link_fill(link, link->in.len + 1, watch->heard_ms + SILENCE_MS, error);
        }
        if (code != KT_MORE)
            return code;
        kt_time_ms now_ms = kt_clock_ms();
        if (now_ms >= silent_ms) {
            if (watch->asked)
                return kt_error_set(error, KT_UNAVAILABLE, "%s does not answer", link_endpoint(link));
            code = ask(watch, error);
            if (code != KT_OK)
                return code;
        }
        if (now_ms >= deadline_ms)
            return KT_MORE;
    }
}

enum kt_code kontiki_watch_next(struct kontiki_watch *watch, unsigned wait_ms, struct kontiki_result *result)
{
    kt_time_ms deadline_ms = kt_clock_ms() + wait_ms;
    struct link *link = &watch->client->machine;

    memset(result, 0, sizeof(*result));
    result->leader = -1;
    for (;;) {
        struct kt_error error;
        struct kt_slice payload;
        size_t used;

        if (!watch->standing) {
            enum kt_code code = subscribe(watch, result);
            if (code != KT_OK)
                return code;
            kontiki_result_release(result);
        }
        snprintf(result->endpoint, sizeof(result->endpoint), "%s", link_endpoint(link));
        enum kt_code code = rcp_frame_peek(link, &payload, &used, &error);
        if (code == KT_OK) {
            code = take_message(watch, payload, result);
            kt_buf_consume(&link->in, used);
            if (code == KT_OK)
                return KT_OK;
        } else if (code == KT_MORE) {
            code = listen_until(watch, deadline_ms, &error);
            if (code == KT_MORE) {
                result->code = KT_MORE;
                return KT_MORE;
            }
        }
        if (code != KT_OK && code != KT_MORE)
            lost(watch);
    }
}
