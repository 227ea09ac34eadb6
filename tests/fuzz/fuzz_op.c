/*
 * Any bytes as a log entry, decoded, described and applied: either the state refuses it, or it goes on in step with a
 * second state that gets the same entries but commits at other moments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "engines/op.h"
#include "engines/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Entries after which both states begin anew, so that a run's cost does not grow with its length. */
#define ENTRIES_MAX 2000

static struct kt_state *states[2];

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static void close_states(void)
{
    for (unsigned i = 0; i < KT_COUNT(states); i++) {
        kt_state_close(states[i]);
        states[i] = NULL;
    }
}

/* The files lose their names at once: whatever way the run ends, nothing is left of them. */
static void open_state(struct kt_state **state)
{
    char folder[64], path[80], lock[96];
    struct kt_state_options options = {
        .store = {.path = path, .bytes_max = UINT64_C(256) << 20, .volatile_data = true}};
    struct kt_error error;

    snprintf(folder, sizeof(folder), "/tmp/kontiki-fuzz-XXXXXX");
    KT_CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/state", folder);
    snprintf(lock, sizeof(lock), "%s-lock", path);
    KT_CHECK(kt_state_open(&options, state, &error) == KT_OK);
    KT_CHECK(unlink(path) == 0);
    KT_CHECK(unlink(lock) == 0);
    KT_CHECK(rmdir(folder) == 0);
}

static void open_states(void)
{
    kt_log_sink(quiet, NULL);
    for (unsigned i = 0; i < KT_COUNT(states); i++)
        open_state(&states[i]);
}

static void describe(struct kt_slice entry)
{
    struct kt_op op;
    struct kt_buf out;

    kt_buf_init(&out, 1u << 20);
    kt_op_describe(entry, &out);
    KT_CHECK(out.len > 0);
    KT_CHECK(kt_buf_code(&out) == KT_OK);
    for (size_t i = 0; i < out.len; i++)
        KT_CHECK(out.data[i] >= 0x20 && out.data[i] < 0x7f);
    kt_buf_release(&out);
    if (kt_op_decode(entry, &op) == KT_OK)
        KT_CHECK(op.body.len + KT_OP_HEADER_BYTES == entry.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_slice entry = kt_slice(data, size);
    struct kt_state_position one, two;
    struct kt_reply reply;
    struct kt_error error;
    enum kt_code code;

    if (states[0] && kt_state_applied(states[0]).index >= ENTRIES_MAX)
        close_states();
    if (!states[0])
        open_states();
    describe(entry);
    one = kt_state_applied(states[0]);
    kt_reply_init(&reply);
    code = kt_state_apply(states[0], one.index + 1, 1, entry, &reply, &error);
    if (code) {
        KT_CHECK(error.text[0] != '\0');
        KT_CHECK(kt_state_applied(states[0]).index == one.index);
    } else {
        KT_CHECK(kt_buf_code(&reply.body) == KT_OK);
        KT_CHECK(kt_state_apply(states[1], one.index + 1, 1, entry, NULL, &error) == KT_OK);
        if (size % 8 == 0)
            KT_CHECK(kt_state_commit(states[1]) == KT_OK);
        one = kt_state_applied(states[0]);
        two = kt_state_applied(states[1]);
        KT_CHECK(one.index == two.index);
        KT_CHECK(one.hash == two.hash);
        KT_CHECK(one.time_ms == two.time_ms);
    }
    /* Every entry, so that a refusal takes nothing back that the other state keeps. */
    KT_CHECK(kt_state_commit(states[0]) == KT_OK);
    kt_reply_release(&reply);
    return 0;
}
