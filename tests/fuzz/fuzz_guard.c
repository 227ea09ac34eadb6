/*
 * A guard, a zero byte, a context: whatever parses is evaluated, on the bytes as they are and, if they are JSON, on
 * their canonical text; twice, with the same verdict. Without a zero byte the guard is judged on some contexts of its
 * own.
 */
#include <stdint.h>

#include "base/check.h"
#include "engines/machine/guard.h"
#include "engines/machine/machine_limits.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void evaluate(const struct guard *guard, struct kt_slice ctx)
{
    uint64_t work = MACHINE_GUARD_WORK_BYTES_MAX, again = work;
    bool verdict = guard_evaluate(guard, ctx, &work);

    KT_CHECK(guard_evaluate(guard, ctx, &again) == verdict && again == work);
    work = 3;
    guard_evaluate(guard, ctx, &work);
}

static void evaluate_canonical(const struct guard *guard, struct kt_slice ctx)
{
    struct kt_json *json;
    struct kt_buf text;

    if (kt_json_parse(ctx, &json, NULL) != KT_OK)
        return;
    kt_buf_init(&text, 1u << 20);
    kt_json_print(json, false, &text);
    if (kt_buf_code(&text) == KT_OK)
        evaluate(guard, kt_buf_slice(&text));
    kt_buf_release(&text);
    kt_json_free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    struct kt_slice text = kt_slice(data, zero ? (size_t)(zero - data) : size);
    struct kt_arena arena;
    struct kt_error error;
    struct guard *guard;

    kt_arena_init(&arena);
    if (guard_parse(text, &arena, &guard, &error) == KT_OK) {
        evaluate(guard, kt_slice_text("{}"));
        evaluate(guard, kt_slice_text("{\"a\":{\"b\":[1]},\"b\":\"x\\\"y\",\"c\":-1.5}"));
        if (zero) {
            struct kt_slice ctx = kt_slice(zero + 1, size - text.len - 1);

            evaluate(guard, ctx);
            evaluate_canonical(guard, ctx);
        }
    } else {
        KT_CHECK(!guard && error.code == KT_BAD_REQUEST && error.text[0]);
    }
    kt_arena_release(&arena);
    return 0;
}
