/* Commands of the state-machine engine and what they must answer, in one line each. */
#ifndef KT_TESTS_SUPPORT_MACHINE_EXPECT_H
#define KT_TESTS_SUPPORT_MACHINE_EXPECT_H

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

#include "support/engine_driver.h"

#define DOOR                                                                                                           \
    "{\"states\":[\"shut\",\"open\"],\"initial\":\"shut\",\"transitions\":[{\"from\":[\"shut\"],\"event\":\"OPEN\","   \
    "\"to\":\"open\",\"guard\":\"ctx.key\"},{\"from\":[\"open\"],\"event\":\"CLOSE\",\"to\":\"shut\"}]}"

/* A new state with the default settings: any number of versions, deleted ids may be taken again. */
static inline int machine_setup(void **state)
{
    static struct engine_driver driver;

    engine_driver_init(&driver);
    driver.options.engines.instance_recreate = true;
    engine_driver_open(&driver);
    *state = &driver;
    return 0;
}

static inline int machine_teardown(void **state)
{
    engine_driver_release(*state);
    return 0;
}

static inline kt_index last_index(struct engine_driver *driver)
{
    return kt_state_applied(driver->state).index;
}

/* "#" in the expected body stands for the offset of the last entry. */
static inline void expect_ok(struct engine_driver *driver, const char *command, const char *params, const char *body)
{
    const struct kt_reply *reply = engine_driver_json(driver, command, params);
    char text[4096];
    size_t len = 0;

    if (reply->code != KT_OK)
        fail_msg("%s %s: %s (%s)", command, params, kt_code_name(reply->code), reply->text);
    for (const char *at = body; *at && len < sizeof(text) - 24; at++) {
        if (*at == '#')
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%" PRIu64, last_index(driver));
        else
            text[len++] = *at;
    }
    if (!kt_slice_equal(kt_buf_slice(&reply->body), kt_slice(text, len)))
        fail_msg("%s %s:\n  got      %.*s\n  expected %.*s", command, params, (int)reply->body.len,
                 (const char *)reply->body.data, (int)len, text);
    assert_int_equal(reply->details.len, 0);
}

/* It works, whatever it answers. */
static inline void run_ok(struct engine_driver *driver, const char *command, const char *params)
{
    const struct kt_reply *reply = engine_driver_json(driver, command, params);

    if (reply->code != KT_OK)
        fail_msg("%s %s: %s (%s)", command, params, kt_code_name(reply->code), reply->text);
}

/* It fails with a code, words and details ("" for none), and writes nothing but the position. */
static inline void expect_fail(struct engine_driver *driver, const char *command, const char *params, enum kt_code code,
                               const char *words, const char *details)
{
    uint64_t hash = kt_state_applied(driver->state).hash;
    const struct kt_reply *reply = engine_driver_json(driver, command, params);

    if (reply->code != code || strcmp(reply->text, words) != 0)
        fail_msg("%s %s:\n  got      %s (%s)\n  expected %s (%s)", command, params, kt_code_name(reply->code),
                 reply->text, kt_code_name(code), words);
    if (!kt_slice_is(kt_buf_slice(&reply->details), details))
        fail_msg("%s %s:\n  got      %.*s\n  expected %s", command, params, (int)reply->details.len,
                 (const char *)reply->details.data, details);
    assert_int_equal(reply->body.len, 0);
    assert_true(kt_state_applied(driver->state).hash == hash);
    assert_null(strstr(reply->text, "connection"));
}

static inline void put_machine(struct engine_driver *driver, const char *name, unsigned version, const char *definition)
{
    char params[8192];

    snprintf(params, sizeof(params), "{\"machine\":\"%s\",\"version\":%u,\"definition\":%s}", name, version,
             definition);
    run_ok(driver, "machine.put", params);
}

static inline void put_door(struct engine_driver *driver)
{
    put_machine(driver, "door", 1, DOOR);
}

#endif
