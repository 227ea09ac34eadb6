/*
 * JSON from anywhere: what parses prints to canonical text that parses and prints to itself; the iterators see the
 * tree's shape in that text, and never leave a text that is not canonical.
 */
#include "base/check.h"
#include "wire/json.h"

/* Every byte of an input may become six (a control character as \u00xx), every value a comma: beyond is a bug. */
#define PRINT_BYTES_MAX ((size_t)16 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kt_json *parse(const struct kt_buf *text)
{
    struct kt_json *json;
    KT_CHECK(kt_json_parse(kt_buf_slice(text), &json, NULL) == KT_OK);
    return json;
}

static void print(const struct kt_json *json, bool sorted, struct kt_buf *out)
{
    kt_buf_init(out, PRINT_BYTES_MAX);
    kt_json_print(json, sorted, out);
    KT_CHECK(kt_buf_code(out) == KT_OK);
}

static void check_shape(const struct kt_json *json, struct kt_slice text)
{
    struct kt_json_iter iter;
    struct kt_slice key, value, found;
    size_t count = 0;
    KT_CHECK(kt_json_kind(json) == kt_json_text_kind(text));
    double number;
    if (kt_json_double(json, &number))
        KT_CHECK(number == kt_json_text_double(text));
    const struct kt_json *child = kt_json_first(json);
    kt_json_iter_init(&iter, text);
    for (; kt_json_iter_next(&iter, &key, &value); count++, child = kt_json_next(child)) {
        KT_CHECK(child != NULL);
        if (kt_json_is(json, KT_JSON_OBJECT)) {
            KT_CHECK(kt_json_member(text, key, &found));
            KT_CHECK(found.data == value.data && found.len == value.len);
        }
        check_shape(child, value);
    }
    KT_CHECK(count == kt_json_count(json) && child == NULL);
}

static void check_iterators_stay_inside(struct kt_slice text)
{
    const uint8_t *from = text.data, *end = from + text.len;
    struct kt_json_iter iter;
    struct kt_slice key, value;
    kt_json_iter_init(&iter, text);
    while (kt_json_iter_next(&iter, &key, &value)) {
        const uint8_t *at = value.data, *name = key.data;
        KT_CHECK(value.len > 0 && at >= from && (size_t)(end - at) >= value.len);
        KT_CHECK(key.len == 0 || (name > from && name + key.len < at));
        from = at + value.len;
    }
    (void)kt_json_member(text, kt_slice("a", 1), &value);
    (void)kt_json_text_kind(text);
    (void)kt_json_text_double(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_json *json, *again, *sorted_again;
    struct kt_buf plain, sorted, plain_again, sorted_twice;
    struct kt_error error = {.code = KT_OK};
    check_iterators_stay_inside(kt_slice(data, size));
    if (kt_json_parse(kt_slice(data, size), &json, &error) != KT_OK) {
        KT_CHECK(json == NULL && error.code != KT_OK && error.text[0] != '\0');
        return 0;
    }
    print(json, false, &plain);
    print(json, true, &sorted);
    KT_CHECK(plain.len == sorted.len);
    check_shape(json, kt_buf_slice(&plain));
    again = parse(&plain);
    sorted_again = parse(&sorted);
    print(again, false, &plain_again);
    KT_CHECK(kt_slice_equal(kt_buf_slice(&plain), kt_buf_slice(&plain_again)));
    print(sorted_again, false, &sorted_twice);
    KT_CHECK(kt_slice_equal(kt_buf_slice(&sorted), kt_buf_slice(&sorted_twice)));
    kt_buf_release(&sorted_twice);
    print(again, true, &sorted_twice);
    KT_CHECK(kt_slice_equal(kt_buf_slice(&sorted), kt_buf_slice(&sorted_twice)));
    kt_buf_release(&plain);
    kt_buf_release(&sorted);
    kt_buf_release(&plain_again);
    kt_buf_release(&sorted_twice);
    kt_json_free(json);
    kt_json_free(again);
    kt_json_free(sorted_again);
    return 0;
}
