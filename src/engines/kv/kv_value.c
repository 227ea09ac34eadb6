#include "engines/kv/kv_value.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* type, item type, u16 count, u32 payload length */
#define CONTAINER_HEAD_BYTES 8
#define CONTAINER_COUNT_AT   2
#define CONTAINER_PAYLOAD_AT 4

static enum kt_code too_short(struct kt_error *error)
{
    return kt_error_set(error, KT_BAD_REQUEST, "payload too short");
}

static enum kt_code invalid_type(struct kt_error *error)
{
    return kt_error_set(error, KT_BAD_REQUEST, "invalid type");
}

/* Bytes after the type byte, of the types before KT_KV_TYPE_BINARY. */
static const uint8_t fixed_bytes[] = {0, 1, 1, 2, 4, 8, 2, 4, 8, 4, 8};

_Static_assert(KT_COUNT(fixed_bytes) == KT_KV_TYPE_BINARY, "one size for each type of fixed size");

struct container {
    uint8_t item_type;
    unsigned count;
    uint32_t payload; /* bytes, as declared */
};

/* The type byte is read already. */
static enum kt_code read_container(struct kt_reader *in, struct container *container, struct kt_error *error)
{
    container->item_type = kt_read_u8(in);
    container->count = kt_read_be16(in);
    container->payload = kt_read_be32(in);
    /* Both worked examples of the documents declare too little, so the items' own sizes decide where it ends. */
    if (!kt_reader_ok(in) || container->payload > kt_reader_left(in))
        return too_short(error);
    if (container->item_type > KT_KV_TYPE_MAP)
        return invalid_type(error);
    return KT_OK;
}

/* The next byte is the type that the container declared. */
static enum kt_code check_item(const struct kt_reader *in, unsigned type, struct kt_error *error)
{
    if (kt_reader_left(in) == 0)
        return too_short(error);
    return *in->at == type ? KT_OK : invalid_type(error);
}

/* *reach: the furthest end that any container declared, which may be behind the end of its items. */
static enum kt_code scan(struct kt_reader *in, unsigned depth, const uint8_t **reach, struct kt_error *error)
{
    struct container container;
    enum kt_code code;
    unsigned type;

    if (kt_reader_left(in) == 0)
        return too_short(error);
    type = kt_read_u8(in);
    if (type > KT_KV_TYPE_MAP)
        return invalid_type(error);
    if (type < KT_KV_TYPE_LIST) {
        kt_read_bytes(in, type < KT_KV_TYPE_BINARY ? fixed_bytes[type] : kt_read_be32(in));
        return kt_reader_ok(in) ? KT_OK : too_short(error);
    }
    if (depth == KT_KV_DEPTH_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "nesting too deep");
    code = read_container(in, &container, error);
    if (code == KT_OK && in->at + container.payload > *reach)
        *reach = in->at + container.payload;
    for (unsigned i = 0; code == KT_OK && i < container.count; i++) {
        if (type == KT_KV_TYPE_MAP) {
            code = check_item(in, KT_KV_TYPE_STRING, error);
            if (code == KT_OK)
                code = scan(in, depth + 1, reach, error);
        }
        if (code == KT_OK)
            code = check_item(in, container.item_type, error);
        if (code == KT_OK)
            code = scan(in, depth + 1, reach, error);
    }
    return code;
}

enum kt_code kt_kv_value_scan(struct kt_slice bytes, size_t *len, struct kt_error *error)
{
    const uint8_t *reach = bytes.data;
    struct kt_reader in;
    enum kt_code code;

    kt_reader_init(&in, bytes);
    code = scan(&in, 0, &reach, error);
    *len = code ? 0 : (size_t)(KT_MAX(in.at, reach) - (const uint8_t *)bytes.data);
    return code;
}

/* What follows works on bytes that were scanned: lengths and types are known to be right. */

static size_t begin_container(unsigned type, const struct container *container, struct kt_buf *out)
{
    size_t at = out->len;

    kt_buf_append_u8(out, (uint8_t)type);
    kt_buf_append_u8(out, container->count ? container->item_type : KT_KV_TYPE_EMPTY);
    kt_write_be16(out, (uint16_t)container->count);
    kt_write_be32(out, 0);
    return at;
}

static enum kt_code end_container(size_t at, unsigned count, struct kt_buf *out)
{
    if (kt_buf_code(out))
        return kt_buf_code(out);
    out->data[at + CONTAINER_COUNT_AT] = (uint8_t)(count >> 8);
    out->data[at + CONTAINER_COUNT_AT + 1] = (uint8_t)count;
    kt_put_be32(out->data + at + CONTAINER_PAYLOAD_AT, (uint32_t)(out->len - at - CONTAINER_HEAD_BYTES));
    return KT_OK;
}

/* The key of the pair at a place. */
static struct kt_slice key_at(const uint8_t *pair)
{
    return kt_slice(pair + 5, kt_get_be32(pair + 1));
}

static int by_key(const void *a, const void *b, void *base)
{
    uint32_t at_a = *(const uint32_t *)a, at_b = *(const uint32_t *)b;
    int order = kt_slice_compare(key_at((const uint8_t *)base + at_a), key_at((const uint8_t *)base + at_b));

    return order ? order : (at_a > at_b) - (at_a < at_b);
}

static int by_place(const void *a, const void *b)
{
    uint32_t at_a = *(const uint32_t *)a, at_b = *(const uint32_t *)b;

    return (at_a > at_b) - (at_a < at_b);
}

/*
 * Of pairs with the same key the last one stays. places are the pairs' offsets in data, ascending, and behind them the
 * end of the last pair. Closes the gaps, sets *len to what is left, returns how many pairs that is; they keep their
 * order.
 */
static enum kt_code drop_duplicates(uint8_t *data, const uint32_t *places, unsigned *count, size_t *len)
{
    uint32_t *kept = kt_try_alloc(*count * sizeof(*kept));
    unsigned n = 0, from = 0;
    size_t to = 0;

    if (!kept)
        return KT_NO_MEMORY;
    memcpy(kept, places, *count * sizeof(*kept));
    qsort_r(kept, *count, sizeof(*kept), by_key, data);
    for (unsigned i = 0; i < *count; i++) {
        if (i + 1 == *count || !kt_slice_equal(key_at(data + kept[i]), key_at(data + kept[i + 1])))
            kept[n++] = kept[i];
    }
    qsort(kept, n, sizeof(*kept), by_place);
    for (unsigned i = 0; i < n; i++) {
        while (places[from] != kept[i])
            from++;
        memmove(data + to, data + places[from], places[from + 1] - places[from]);
        to += places[from + 1] - places[from];
    }
    kt_free(kept);
    *count = n;
    *len = to;
    return KT_OK;
}

static enum kt_code emit(struct kt_reader *in, struct kt_buf *out);

/* Everything behind the type byte of a map. Pairs are written as they come and thinned out at the end, so that no byte
 * is walked more than once per level. */
static enum kt_code emit_map(struct kt_reader *in, const struct container *map, struct kt_buf *out)
{
    size_t head = begin_container(KT_KV_TYPE_MAP, map, out), start = head + CONTAINER_HEAD_BYTES, len;
    uint32_t *places = kt_try_alloc((map->count + 1) * sizeof(*places));
    bool ascending = true; /* then no key can be there twice */
    unsigned count = map->count;
    enum kt_code code = places ? kt_buf_code(out) : KT_NO_MEMORY;

    for (unsigned i = 0; code == KT_OK && i < count; i++) {
        places[i] = (uint32_t)(out->len - start);
        code = emit(in, out);
        if (code == KT_OK && i > 0) {
            const uint8_t *data = out->data + start;

            ascending = ascending && kt_slice_compare(key_at(data + places[i - 1]), key_at(data + places[i])) < 0;
        }
        if (code == KT_OK)
            code = emit(in, out);
    }
    if (code == KT_OK && !ascending) {
        places[count] = (uint32_t)(out->len - start);
        code = drop_duplicates(out->data + start, places, &count, &len);
        if (code == KT_OK)
            out->len = start + len;
    }
    kt_free(places);
    return code ? code : end_container(head, count, out);
}

static enum kt_code emit(struct kt_reader *in, struct kt_buf *out)
{
    const uint8_t *start = in->at;
    struct container container;
    unsigned type = kt_read_u8(in);
    enum kt_code code;
    size_t at;

    if (type == KT_KV_TYPE_BOOL) {
        kt_buf_append_u8(out, KT_KV_TYPE_BOOL);
        kt_buf_append_u8(out, kt_read_u8(in) == 1);
        return kt_buf_code(out);
    }
    if (type < KT_KV_TYPE_LIST) {
        kt_read_bytes(in, type < KT_KV_TYPE_BINARY ? fixed_bytes[type] : kt_read_be32(in));
        kt_buf_append(out, start, (size_t)(in->at - start));
        return kt_buf_code(out);
    }
    code = read_container(in, &container, NULL);
    if (code)
        return code;
    if (type == KT_KV_TYPE_MAP)
        return emit_map(in, &container, out);
    at = begin_container(type, &container, out);
    for (unsigned i = 0; code == KT_OK && i < container.count; i++)
        code = emit(in, out);
    return code ? code : end_container(at, container.count, out);
}

enum kt_code kt_kv_value_canonical(struct kt_slice bytes, struct kt_buf *out, struct kt_error *error)
{
    struct kt_reader in;
    enum kt_code code;
    size_t len;

    code = kt_kv_value_scan(bytes, &len, error);
    if (code)
        return code;
    kt_reader_init(&in, kt_slice(bytes.data, len));
    code = emit(&in, out);
    return code ? kt_error_set(error, code, "%s", kt_code_text(code)) : KT_OK;
}
