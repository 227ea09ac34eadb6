/*
 * JSON trees: a strict scanner that builds cJSON items as it goes. cJSON's own parser is not used: it is laxer than RFC
 * 8259, keeps its last error in a global variable that threads would share, and reads every number into a double.
 *
 * How an item of ours differs from one of cJSON's:
 * - an integer has the flag NUMBER_INTEGER beside cJSON_Number; where a double cannot hold it (beyond 2^53) its digits,
 *   with the sign, stand in valuestring;
 * - valueint is the length of a string in bytes and the number of children of an array or object;
 * - U+0000 in strings and keys is C0 80, so that they stay C strings.
 */
#include "wire/json.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "base/alloc.h"
#include "wire/json_internal.h"

/* cJSON looks at the low eight bits of a type and owns two flags above them. */
#define NUMBER_INTEGER (1 << 16)
_Static_assert((NUMBER_INTEGER & (0xff | cJSON_IsReference | cJSON_StringIsConst)) == 0, "a flag of its own");

/* Up to here duplicate keys are looked for as members come; an object that grows beyond is sorted once at its end. */
#define MEMBERS_COMPARED 32

struct parser {
    const char *start, *at, *end;
    size_t nodes;
    enum kt_code code;
    struct kt_error *error;
};

static struct kt_json *node(cJSON *item)
{
    return (struct kt_json *)item;
}

static const cJSON *item_of(const struct kt_json *json)
{
    return (const cJSON *)json;
}

static bool item_is(const cJSON *item, int type)
{
    return item && (item->type & 0xff) == type;
}

/* Always NULL, so that a parsing function returns the failure in one line. */
static void *malformed(struct parser *p, const char *at, const char *why)
{
    p->code = kt_error_set(p->error, KT_BAD_REQUEST, "json is malformed at byte %zu: %s", (size_t)(at - p->start), why);
    return NULL;
}

static void *no_memory(struct parser *p)
{
    p->code = kt_error_set(p->error, KT_NO_MEMORY, "out of memory for json of %zu bytes", (size_t)(p->end - p->start));
    return NULL;
}

static cJSON *item_create(struct parser *p, int type)
{
    if (++p->nodes > KT_JSON_NODES_MAX) {
        p->code = kt_error_set(p->error, KT_TOO_LARGE, "json has more than %d values", KT_JSON_NODES_MAX);
        return NULL;
    }
    cJSON *item = kt_alloc_fails() ? NULL : cJSON_CreateNull();
    if (!item)
        return no_memory(p);
    item->type = type;
    return item;
}

/* Memory that cJSON_Delete frees. */
static char *text_create(struct parser *p, size_t len)
{
    char *text = kt_alloc_fails() ? NULL : cJSON_malloc(len + 1);
    if (!text)
        return no_memory(p);
    text[len] = '\0';
    return text;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
        p->at++;
}

/* The next byte is this one: steps over it. */
static bool accept(struct parser *p, char byte)
{
    if (p->at == p->end || *p->at != byte)
        return false;
    p->at++;
    return true;
}

/* Four hexadecimal digits, or -1. */
static long hex4(const char *at, const char *end)
{
    long value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (c - 'A' + 10);
        else
            return -1;
    }
    return value;
}

/* A character as UTF-8, U+0000 as C0 80. */
static char *append_character(char *to, long c)
{
    if (c > 0 && c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (c & 0x3f));
    return to;
}

/* The \u escape at *at, with its second half if it is a surrogate; -1 and a malformed parser otherwise. */
static long read_unicode(struct parser *p, const char **at, const char *end)
{
    const char *from = *at;
    long c = hex4(from + 2, end);
    if (c < 0) {
        malformed(p, from, "four hexadecimal digits are expected behind \\u");
        return -1;
    }
    *at += 6;
    if (c < 0xd800 || c > 0xdfff)
        return c;
    long low = c < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u' ? hex4(*at + 2, end) : -1;
    if (low < 0xdc00 || low > 0xdfff) {
        malformed(p, from, "a lone surrogate is no character");
        return -1;
    }
    *at += 6;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The inside of a string that has escapes; no escape becomes longer than it was. The end of the text, or NULL. */
static char *unescape(struct parser *p, const char *at, const char *end, char *to)
{
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        static const char named[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char *name = memchr(named, at[1], sizeof(named) - 1);
        if (name) {
            *to++ = meant[name - named];
            at += 2;
        } else if (at[1] == 'u') {
            long c = read_unicode(p, &at, end);
            if (c < 0)
                return NULL;
            to = append_character(to, c);
        } else {
            return malformed(p, at, "an unknown escape");
        }
    }
    return to;
}

/* Behind the opening quote; steps over the closing one. Memory for an item, or NULL. */
static char *parse_string(struct parser *p, size_t *len)
{
    const char *from = p->at, *at = p->at;
    bool escapes = false;
    for (;;) {
        at += json_plain_run(at, p->end);
        if (at == p->end)
            return malformed(p, from - 1, "the string does not end");
        uint8_t byte = (uint8_t)*at;
        size_t step;
        if (byte == '"')
            break;
        if (byte == '\\') {
            escapes = true;
            step = 2;
        } else if (byte < 0x20) {
            return malformed(p, at, "a control character in a string must be escaped");
        } else {
            step = json_utf8_len(at, p->end);
        }
        if (step == 0)
            return malformed(p, at, "the string is not utf-8");
        if (step > (size_t)(p->end - at))
            return malformed(p, from - 1, "the string does not end");
        at += step;
    }
    p->at = at + 1;
    *len = (size_t)(at - from);
    char *text = text_create(p, *len);
    if (!text)
        return NULL;
    if (!escapes) {
        memcpy(text, from, *len);
        return text;
    }
    char *end = unescape(p, from, at, text);
    if (!end) {
        cJSON_free(text);
        return NULL;
    }
    *end = '\0';
    *len = (size_t)(end - text);
    return text;
}

static cJSON *parse_number(struct parser *p)
{
    struct json_number number;
    size_t len = json_number_read(p->at, p->end, &number);
    if (len == 0)
        return malformed(p, p->at, "the number is not complete");
    if (!isfinite(number.value))
        return malformed(p, p->at, "the number is too large");
    cJSON *item = item_create(p, number.integer ? cJSON_Number | NUMBER_INTEGER : cJSON_Number);
    if (!item)
        return NULL;
    item->valuedouble = number.value;
    if (number.integer && number.magnitude > UINT64_C(1) << 53) {
        item->valuestring = text_create(p, len);
        if (!item->valuestring) {
            cJSON_Delete(item);
            return NULL;
        }
        memcpy(item->valuestring, p->at, len);
    }
    p->at += len;
    return item;
}

static cJSON *parse_literal(struct parser *p, const char *word, size_t len, int type)
{
    if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0)
        return malformed(p, p->at, "a value is expected");
    p->at += len;
    return item_create(p, type);
}

static cJSON *parse_value(struct parser *p, unsigned depth);

static cJSON *parse_array(struct parser *p, unsigned depth)
{
    cJSON *array = item_create(p, cJSON_Array);
    if (!array)
        return NULL;
    p->at++;
    skip_space(p);
    if (accept(p, ']'))
        return array;
    for (;;) {
        cJSON *element = parse_value(p, depth + 1);
        if (!element)
            break;
        cJSON_AddItemToArray(array, element);
        array->valueint++;
        skip_space(p);
        if (accept(p, ']'))
            return array;
        if (!accept(p, ',')) {
            malformed(p, p->at, "a comma or the end of the array is expected");
            break;
        }
        skip_space(p);
    }
    cJSON_Delete(array);
    return NULL;
}

/* Which of 64 bits stands for a key: two keys with different bits differ. */
static uint64_t key_bit(const char *key, size_t len)
{
    unsigned first = (uint8_t)key[0], last = len ? (uint8_t)key[len - 1] : 0;
    return UINT64_C(1) << ((len * 31 + first * 7 + last) & 63);
}

static void replace(cJSON *object, cJSON *old, cJSON *with)
{
    cJSON_ReplaceItemViaPointer(object, old, with);
    object->valueint--;
}

/* Puts a member in; of the same key among the earlier ones, it takes the place. */
static void add_compared(cJSON *object, cJSON *member, uint64_t bit, uint64_t *bits)
{
    if (*bits & bit) {
        for (cJSON *other = object->child; other; other = other->next) {
            if (strcmp(other->string, member->string) == 0) {
                replace(object, other, member);
                return;
            }
        }
    }
    *bits |= bit;
    cJSON_AddItemToArray(object, member);
}

struct placed {
    cJSON *item;
    size_t place;
};

static int compare_placed(const void *a, const void *b)
{
    const struct placed *one = a, *two = b;
    int order = strcmp(one->item->string, two->item->string);
    return order ? order : (one->place > two->place) - (one->place < two->place);
}

/* The same for an object of many members at once, in n log n: of equal keys the last value takes the first place. */
static bool drop_duplicates(struct parser *p, cJSON *object)
{
    size_t count = (size_t)object->valueint, at = 0;
    struct placed *sorted = kt_try_alloc(count * sizeof(*sorted));
    if (!sorted)
        return no_memory(p);
    for (cJSON *member = object->child; member; member = member->next, at++)
        sorted[at] = (struct placed){.item = member, .place = at};
    qsort(sorted, count, sizeof(*sorted), compare_placed);
    for (size_t first = 0, next; first < count; first = next) {
        for (next = first + 1; next < count && strcmp(sorted[first].item->string, sorted[next].item->string) == 0;
             next++) {
            cJSON_DetachItemViaPointer(object, sorted[next].item);
            replace(object, sorted[first].item, sorted[next].item);
            sorted[first].item = sorted[next].item;
        }
    }
    kt_free(sorted);
    return true;
}

/* Key, colon and value; NULL if they are not there. */
static cJSON *parse_member(struct parser *p, unsigned depth, uint64_t *bit)
{
    size_t len;
    if (!accept(p, '"'))
        return malformed(p, p->at, "a key in quotes is expected");
    char *key = parse_string(p, &len);
    if (!key)
        return NULL;
    *bit = key_bit(key, len);
    skip_space(p);
    cJSON *member = NULL;
    if (accept(p, ':')) {
        skip_space(p);
        member = parse_value(p, depth + 1);
    } else {
        malformed(p, p->at, "a colon is expected");
    }
    if (member)
        member->string = key;
    else
        cJSON_free(key);
    return member;
}

static cJSON *parse_object(struct parser *p, unsigned depth)
{
    cJSON *object = item_create(p, cJSON_Object);
    uint64_t bit = 0, bits = 0;
    if (!object)
        return NULL;
    p->at++;
    skip_space(p);
    if (accept(p, '}'))
        return object;
    for (;;) {
        cJSON *member = parse_member(p, depth, &bit);
        if (!member)
            break;
        if (++object->valueint <= MEMBERS_COMPARED)
            add_compared(object, member, bit, &bits);
        else
            cJSON_AddItemToArray(object, member);
        skip_space(p);
        if (accept(p, '}')) {
            if (object->valueint <= MEMBERS_COMPARED || drop_duplicates(p, object))
                return object;
            break;
        }
        if (!accept(p, ',')) {
            malformed(p, p->at, "a comma or the end of the object is expected");
            break;
        }
        skip_space(p);
    }
    cJSON_Delete(object);
    return NULL;
}

static cJSON *parse_text(struct parser *p)
{
    size_t len;
    p->at++;
    char *text = parse_string(p, &len);
    if (!text)
        return NULL;
    cJSON *item = item_create(p, cJSON_String);
    if (!item) {
        cJSON_free(text);
        return NULL;
    }
    item->valuestring = text;
    item->valueint = (int)len;
    return item;
}

/* depth: how many arrays and objects are open already; bounds the recursion. */
static cJSON *parse_value(struct parser *p, unsigned depth)
{
    if (p->at == p->end)
        return malformed(p, p->at, "a value is expected");
    char c = *p->at;
    if ((c == '{' || c == '[') && depth >= KT_JSON_DEPTH_MAX)
        return malformed(p, p->at, "it is nested too deeply");
    if (c == '"')
        return parse_text(p);
    if (c == '{')
        return parse_object(p, depth);
    if (c == '[')
        return parse_array(p, depth);
    if (c == '-' || (c >= '0' && c <= '9'))
        return parse_number(p);
    if (c == 't')
        return parse_literal(p, "true", 4, cJSON_True);
    if (c == 'f')
        return parse_literal(p, "false", 5, cJSON_False);
    return parse_literal(p, "null", 4, cJSON_NULL);
}

enum kt_code kt_json_parse(struct kt_slice text, struct kt_json **out, struct kt_error *error)
{
    *out = NULL;
    /* Lengths of strings and numbers of children are kept in an int. */
    if (text.len > INT_MAX)
        return kt_error_set(error, KT_TOO_LARGE, "json is %zu bytes, the limit is %d", text.len, INT_MAX);
    const char *start = text.len ? text.data : "";
    struct parser p = {.start = start, .at = start, .end = start + text.len, .code = KT_OK, .error = error};
    skip_space(&p);
    cJSON *item = parse_value(&p, 0);
    if (!item)
        return p.code;
    skip_space(&p);
    if (p.at != p.end) {
        cJSON_Delete(item);
        malformed(&p, p.at, "nothing is expected behind the value");
        return p.code;
    }
    *out = node(item);
    return KT_OK;
}

void kt_json_free(struct kt_json *json)
{
    cJSON_Delete((cJSON *)json);
}

static void free_with_arena(void *json)
{
    kt_json_free(json);
}

enum kt_code kt_json_parse_in(struct kt_arena *arena, struct kt_slice text, struct kt_json **out,
                              struct kt_error *error)
{
    enum kt_code code = kt_json_parse(text, out, error);
    if (code == KT_OK)
        kt_arena_on_release(arena, free_with_arena, *out);
    return code;
}

enum kt_json_kind kt_json_kind(const struct kt_json *json)
{
    switch (item_of(json)->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        return KT_JSON_BOOL;
    case cJSON_Number:
        return KT_JSON_NUMBER;
    case cJSON_String:
        return KT_JSON_STRING;
    case cJSON_Array:
        return KT_JSON_ARRAY;
    case cJSON_Object:
        return KT_JSON_OBJECT;
    default:
        return KT_JSON_NULL;
    }
}

bool kt_json_is(const struct kt_json *json, enum kt_json_kind kind)
{
    return json && kt_json_kind(json) == kind;
}

struct kt_json *kt_json_get(const struct kt_json *json, const char *name)
{
    if (!item_is(item_of(json), cJSON_Object))
        return NULL;
    for (cJSON *member = item_of(json)->child; member; member = member->next) {
        if (strcmp(member->string, name) == 0)
            return node(member);
    }
    return NULL;
}

struct kt_json *kt_json_first(const struct kt_json *json)
{
    return json ? node(item_of(json)->child) : NULL;
}

struct kt_json *kt_json_next(const struct kt_json *json)
{
    return json ? node(item_of(json)->next) : NULL;
}

size_t kt_json_count(const struct kt_json *json)
{
    const cJSON *item = item_of(json);
    return item_is(item, cJSON_Array) || item_is(item, cJSON_Object) ? (size_t)item->valueint : 0;
}

struct kt_slice kt_json_key(const struct kt_json *member)
{
    return member && item_of(member)->string ? kt_slice_text(item_of(member)->string) : kt_slice("", 0);
}

bool kt_json_bool(const struct kt_json *json)
{
    return item_is(item_of(json), cJSON_True);
}

/* The sign and magnitude of an integer literal; false if the node is something else. */
static bool integer_of(const struct kt_json *json, bool *negative, uint64_t *magnitude)
{
    const cJSON *item = item_of(json);
    if (!item_is(item, cJSON_Number) || !(item->type & NUMBER_INTEGER))
        return false;
    if (item->valuestring) {
        struct json_number number;
        (void)json_number_read(item->valuestring, item->valuestring + strlen(item->valuestring), &number);
        *negative = number.negative;
        *magnitude = number.magnitude;
        return true;
    }
    *negative = item->valuedouble < 0;
    *magnitude = (uint64_t)(*negative ? -item->valuedouble : item->valuedouble);
    return true;
}

bool kt_json_i64(const struct kt_json *json, int64_t *out)
{
    bool negative;
    uint64_t magnitude;
    if (!integer_of(json, &negative, &magnitude) || (!negative && magnitude > INT64_MAX))
        return false;
    /* -2^63 has no positive counterpart: count from -1 down. */
    *out = negative ? -1 - (int64_t)(magnitude - 1) : (int64_t)magnitude;
    return true;
}

bool kt_json_u64(const struct kt_json *json, uint64_t *out)
{
    bool negative;
    return integer_of(json, &negative, out) && !negative;
}

bool kt_json_double(const struct kt_json *json, double *out)
{
    if (!item_is(item_of(json), cJSON_Number))
        return false;
    *out = item_of(json)->valuedouble;
    return true;
}

struct kt_slice kt_json_string(const struct kt_json *json)
{
    const cJSON *item = item_of(json);
    return item_is(item, cJSON_String) ? kt_slice(item->valuestring, (size_t)item->valueint) : kt_slice("", 0);
}

struct kt_slice kt_json_string_plain(const struct kt_json *json, struct kt_arena *arena)
{
    struct kt_slice stored = kt_json_string(json);
    char *plain = kt_arena_text(arena, stored);
    char *to = memchr(plain, 0xc0, stored.len);
    if (!to)
        return kt_slice(plain, stored.len);
    for (const char *at = to, *end = plain + stored.len; at < end; at++) {
        bool nul = (uint8_t)*at == 0xc0;
        *to++ = nul ? '\0' : *at;
        at += nul;
    }
    *to = '\0';
    return kt_slice(plain, (size_t)(to - plain));
}
