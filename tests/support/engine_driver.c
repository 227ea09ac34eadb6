#include "support/engine_driver.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "wire/json.h"

#define DRIVER_MAP_BYTES (UINT64_C(1) << 30)
#define DRIVER_OP_MAX    (32u << 20)

void temporary_folder(char folder[64])
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, 64, "%s/kontiki-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
    KT_CHECK(mkdtemp(folder) != NULL);
}

void temporary_folder_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *file;
    char path[512];

    KT_CHECK(dir != NULL);
    while ((file = readdir(dir)) != NULL) {
        if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, file->d_name);
        KT_CHECK(unlink(path) == 0);
    }
    closedir(dir);
    KT_CHECK(rmdir(folder) == 0);
}

void engine_driver_init(struct engine_driver *driver)
{
    memset(driver, 0, sizeof(*driver));
    temporary_folder(driver->folder);
    snprintf(driver->path, sizeof(driver->path), "%s/state", driver->folder);
    driver->options.store.path = driver->path;
    driver->options.store.bytes_max = DRIVER_MAP_BYTES;
    driver->options.store.volatile_data = true;
    driver->now_ms = 1000000;
    kt_arena_init(&driver->arena);
    kt_buf_init(&driver->op, DRIVER_OP_MAX);
    kt_reply_init(&driver->reply);
}

void engine_driver_open(struct engine_driver *driver)
{
    struct kt_error error;

    if (kt_state_open(&driver->options, &driver->state, &error)) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
}

void engine_driver_close(struct engine_driver *driver)
{
    kt_state_close(driver->state);
    driver->state = NULL;
}

void engine_driver_release(struct engine_driver *driver)
{
    engine_driver_close(driver);
    kt_arena_release(&driver->arena);
    kt_buf_release(&driver->op);
    kt_reply_release(&driver->reply);
    temporary_folder_remove(driver->folder);
}

enum kt_code engine_driver_apply(struct engine_driver *driver, struct kt_slice op, struct kt_error *error)
{
    enum kt_code code =
        kt_state_apply(driver->state, kt_state_applied(driver->state).index + 1, 1, op, &driver->reply, error);

    if (code == KT_OK)
        KT_CHECK(kt_state_commit(driver->state) == KT_OK);
    return code;
}

static void write_command(struct engine_driver *driver, const struct kt_command *command, const struct kt_call *call,
                          const void *params)
{
    struct kt_error error;
    enum kt_code code;

    code = command->prepare(call, params, &driver->op, &driver->reply);
    KT_CHECK(code == driver->reply.code);
    if (code)
        return;
    KT_CHECK(kt_buf_code(&driver->op) == KT_OK);
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    if (engine_driver_apply(driver, kt_buf_slice(&driver->op), &error)) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
}

static void read_command(struct engine_driver *driver, const struct kt_command *command, struct kt_call *call,
                         const void *params)
{
    enum kt_code code;

    KT_CHECK(kt_txn_begin_read(kt_state_store(driver->state), &call->txn) == KT_OK);
    call->now_ms = driver->now_ms;
    call->index = kt_state_visible(driver->state);
    driver->reply.offset = call->index;
    code = command->query(call, params, &driver->reply);
    KT_CHECK(code == driver->reply.code);
    kt_txn_abort(call->txn);
}

static const struct kt_command *begin(struct engine_driver *driver, const char *name, struct kt_call *call)
{
    const struct kt_command *command;
    size_t engine;

    command = kt_command_by_name(name, &engine);
    if (!command) {
        fprintf(stderr, "no command %s\n", name);
        abort();
    }
    kt_arena_release(&driver->arena);
    kt_buf_clear(&driver->op);
    kt_reply_clear(&driver->reply);
    *call = (struct kt_call){.state = kt_state_engine(driver->state, engine), .arena = &driver->arena};
    return command;
}

static const struct kt_reply *run(struct engine_driver *driver, const struct kt_command *command, struct kt_call *call,
                                  const void *params)
{
    const struct kt_command *instead = command->instead ? command->instead(params) : NULL;

    if (instead)
        command = instead;
    if (command->kind == KT_WRITE)
        write_command(driver, command, call, params);
    else
        read_command(driver, command, call, params);
    return &driver->reply;
}

const struct kt_reply *engine_driver_run(struct engine_driver *driver, const char *name, const void *params)
{
    struct kt_call call;
    const struct kt_command *command = begin(driver, name, &call);

    return run(driver, command, &call, params);
}

const struct kt_reply *engine_driver_json(struct engine_driver *driver, const char *name, const char *text)
{
    struct kt_call call;
    const struct kt_command *command = begin(driver, name, &call);
    void *params = kt_arena_zalloc(&driver->arena, command->params.size);
    struct kt_json *json;
    struct kt_error error;
    enum kt_code code;

    code = kt_json_parse_in(&driver->arena, kt_slice_text(text), &json, &error);
    if (code == KT_OK)
        code = kt_struct_from_json(&command->params, json, &driver->arena, params, &error);
    if (code) {
        kt_reply_fail_error(&driver->reply, &error);
        return &driver->reply;
    }
    return run(driver, command, &call, params);
}

bool engine_driver_tick(struct engine_driver *driver)
{
    struct kt_error error;

    kt_buf_clear(&driver->op);
    KT_CHECK(kt_state_tick(driver->state, driver->now_ms, &driver->op, &driver->next_ms) == KT_OK);
    if (driver->op.len == 0)
        return false;
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    KT_CHECK(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error) == KT_OK);
    return true;
}
