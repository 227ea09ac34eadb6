/*
 * A guard compiles to a short program for one boolean register: tests set it, negations turn it round, and jumps skip
 * what a decided && or || need not look at. So evaluation needs neither a tree nor a stack.
 */
#include "engines/machine/guard.h"

#include <float.h>
#include <math.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "engines/machine/machine_limits.h"
#include "wire/json.h"

enum step_kind {
    STEP_TRUTH,
    STEP_EQUAL,
    STEP_NOT_EQUAL,
    STEP_GREATER,
    STEP_GREATER_EQUAL,
    STEP_LESS,
    STEP_LESS_EQUAL,
    STEP_NOT,
    STEP_JUMP_IF_FALSE,
    STEP_JUMP_IF_TRUE,
};

struct step {
    uint8_t kind;         /* enum step_kind */
    uint8_t literal_kind; /* enum kt_json_kind of what a test compares with */
    uint32_t jump;        /* index of the step to go on with; while parsing the previous jump of the same chain */
    struct kt_slice path; /* of a test: member names with dots between */
    struct kt_slice text; /* literal string or boolean as canonical JSON text */
    double number;        /* literal number */
};

struct guard {
    const struct step *steps;
    size_t count;
};

struct parser {
    const char *at, *end;
    struct kt_arena *arena;
    struct step *steps; /* growing while parsing; at most one per byte of the text */
    size_t count, cap;
    unsigned depth;
    struct kt_error *error;
};

#define NO_JUMP UINT32_MAX
/* Bytes of a refused number that the sentence shows, so that there is room for where it stands. */
#define NUMBER_SHOWN_MAX 64

static enum kt_code refuse(struct parser *parser, const char *why)
{
    return kt_error_set(parser->error, KT_BAD_REQUEST, "invalid guard expression: %s", why);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_field(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
           (unsigned char)c >= 0x80;
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end && is_blank(*parser->at))
        parser->at++;
}

/* Takes the token if it comes next, after any white space. */
static bool eat(struct parser *parser, const char *token)
{
    size_t len = strlen(token);

    skip_blanks(parser);
    if ((size_t)(parser->end - parser->at) < len || memcmp(parser->at, token, len) != 0)
        return false;
    parser->at += len;
    return true;
}

static struct step *emit(struct parser *parser, enum step_kind kind)
{
    struct step *step;

    if (parser->count == parser->cap) {
        parser->cap = parser->cap ? parser->cap * 2 : 8;
        parser->steps = kt_realloc(parser->steps, parser->cap * sizeof(*parser->steps));
    }
    step = &parser->steps[parser->count++];
    memset(step, 0, sizeof(*step));
    step->kind = (uint8_t)kind;
    return step;
}

/* All jumps of a chain lead to what comes next. */
static void land(struct parser *parser, uint32_t jump)
{
    while (jump != NO_JUMP) {
        uint32_t previous = parser->steps[jump].jump;

        parser->steps[jump].jump = (uint32_t)parser->count;
        jump = previous;
    }
}

static enum kt_code parse_field(struct parser *parser, struct kt_slice *path)
{
    const char *from;

    if (!eat(parser, "ctx."))
        return refuse(parser, "field must start with 'ctx.'");
    from = parser->at;
    while (parser->at < parser->end && is_field(*parser->at))
        parser->at++;
    if (parser->at == from)
        return refuse(parser, "empty field name");
    *path = kt_arena_dup(parser->arena, kt_slice(from, (size_t)(parser->at - from)));
    return KT_OK;
}

static enum kt_code parse_number(struct parser *parser, struct step *step)
{
    /* JSON's form of the number, which wants digits on both sides of the point and no leading zeros. */
    char text[MACHINE_GUARD_BYTES_MAX + 8];
    const char *from, *whole, *fraction;
    size_t whole_len, fraction_len = 0, len = 0;

    skip_blanks(parser);
    from = parser->at;
    if (parser->at < parser->end && *parser->at == '-') {
        text[len++] = '-';
        parser->at++;
    }
    for (whole = parser->at; parser->at < parser->end && is_digit(*parser->at); parser->at++)
        ;
    whole_len = (size_t)(parser->at - whole);
    fraction = parser->at;
    if (parser->at < parser->end && *parser->at == '.') {
        for (fraction = ++parser->at; parser->at < parser->end && is_digit(*parser->at); parser->at++)
            ;
        fraction_len = (size_t)(parser->at - fraction);
    }
    if (whole_len + fraction_len > 0) {
        for (; whole_len > 0 && *whole == '0'; whole++)
            whole_len--;
        if (whole_len == 0)
            text[len++] = '0';
        memcpy(text + len, whole, whole_len);
        len += whole_len;
        text[len++] = '.';
        memcpy(text + len, fraction, fraction_len);
        len += fraction_len;
        if (fraction_len == 0)
            text[len++] = '0';
        step->number = kt_json_text_double(kt_slice(text, len));
        step->literal_kind = KT_JSON_NUMBER;
        if (isfinite(step->number))
            return KT_OK;
    }
    return kt_error_set(parser->error, KT_BAD_REQUEST, "invalid guard expression: invalid number: '%.*s'",
                        (int)KT_MIN(parser->at - from, (ptrdiff_t)NUMBER_SHOWN_MAX), from);
}

/* Behind the opening quote. */
static enum kt_code parse_string(struct parser *parser, struct step *step)
{
    const char *from = parser->at;
    struct kt_json_writer writer;
    struct kt_buf canonical;

    while (parser->at < parser->end && *parser->at != '"')
        parser->at += *parser->at == '\\' && parser->end - parser->at > 1 ? 2 : 1;
    if (parser->at == parser->end)
        return refuse(parser, "unterminated string");
    /* The literal's characters stand for themselves, backslashes included: six bytes each in JSON at the most. */
    kt_buf_init(&canonical, 6 * MACHINE_GUARD_BYTES_MAX + 2);
    kt_json_writer_init(&writer, &canonical);
    kt_json_put_string(&writer, kt_slice(from, (size_t)(parser->at - from)));
    step->literal_kind = KT_JSON_STRING;
    step->text = kt_arena_dup(parser->arena, kt_buf_slice(&canonical));
    kt_buf_release(&canonical);
    parser->at++;
    return KT_OK;
}

static enum kt_code parse_literal(struct parser *parser, struct step *step)
{
    if (eat(parser, "true") || eat(parser, "false")) {
        step->literal_kind = KT_JSON_BOOL;
        step->text = kt_slice_text(parser->at[-2] == 'u' ? "true" : "false");
        return KT_OK;
    }
    if (eat(parser, "null")) {
        step->literal_kind = KT_JSON_NULL;
        return KT_OK;
    }
    if (eat(parser, "\""))
        return parse_string(parser, step);
    return parse_number(parser, step);
}

static enum kt_code parse_comparison(struct parser *parser)
{
    /* Longer operators before those that they begin with. */
    static const struct {
        const char *token;
        enum step_kind kind;
    } operators[] = {
        {"==", STEP_EQUAL},      {"!=", STEP_NOT_EQUAL}, {">=", STEP_GREATER_EQUAL},
        {"<=", STEP_LESS_EQUAL}, {">", STEP_GREATER},    {"<", STEP_LESS},
    };
    struct kt_slice path;
    struct step *step;
    enum kt_code code = parse_field(parser, &path);

    if (code != KT_OK)
        return code;
    step = emit(parser, STEP_TRUTH);
    step->path = path;
    for (size_t i = 0; i < KT_COUNT(operators); i++) {
        if (!eat(parser, operators[i].token))
            continue;
        step->kind = (uint8_t)operators[i].kind;
        if (step->kind == STEP_EQUAL || step->kind == STEP_NOT_EQUAL)
            return parse_literal(parser, step);
        return parse_number(parser, step);
    }
    return KT_OK;
}

static enum kt_code parse_or(struct parser *parser);

static enum kt_code parse_unary(struct parser *parser)
{
    unsigned outside = parser->depth;
    bool negated = false;
    enum kt_code code;

    while (eat(parser, "!")) {
        negated = !negated;
        if (++parser->depth > MACHINE_GUARD_DEPTH_MAX)
            return refuse(parser, "nested too deeply, the limit is 64");
    }
    if (eat(parser, "(")) {
        if (++parser->depth > MACHINE_GUARD_DEPTH_MAX)
            return refuse(parser, "nested too deeply, the limit is 64");
        code = parse_or(parser);
        if (code == KT_OK && !eat(parser, ")"))
            code = refuse(parser, "expected ')'");
    } else {
        code = parse_comparison(parser);
    }
    if (code == KT_OK && negated)
        emit(parser, STEP_NOT);
    parser->depth = outside;
    return code;
}

static enum kt_code parse_and(struct parser *parser)
{
    uint32_t chain = NO_JUMP;
    enum kt_code code;

    while ((code = parse_unary(parser)) == KT_OK && eat(parser, "&&")) {
        emit(parser, STEP_JUMP_IF_FALSE)->jump = chain;
        chain = (uint32_t)(parser->count - 1);
    }
    land(parser, chain);
    return code;
}

static enum kt_code parse_or(struct parser *parser)
{
    uint32_t chain = NO_JUMP;
    enum kt_code code;

    while ((code = parse_and(parser)) == KT_OK && eat(parser, "||")) {
        emit(parser, STEP_JUMP_IF_TRUE)->jump = chain;
        chain = (uint32_t)(parser->count - 1);
    }
    land(parser, chain);
    return code;
}

enum kt_code guard_parse(struct kt_slice text, struct kt_arena *arena, struct guard **guard, struct kt_error *error)
{
    struct parser parser = {.at = text.data, .arena = arena, .error = error};
    enum kt_code code;

    *guard = NULL;
    if (text.len > MACHINE_GUARD_BYTES_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "invalid guard expression: %zu bytes, the limit is %u", text.len,
                            MACHINE_GUARD_BYTES_MAX);
    parser.end = parser.at + text.len;
    skip_blanks(&parser);
    if (parser.at == parser.end)
        return refuse(&parser, "empty guard expression");
    code = parse_or(&parser);
    skip_blanks(&parser);
    if (code == KT_OK && parser.at != parser.end)
        code = refuse(&parser, "unexpected trailing input");
    if (code == KT_OK) {
        struct kt_slice steps = kt_slice(parser.steps, parser.count * sizeof(*parser.steps));

        *guard = kt_arena_alloc(arena, sizeof(**guard));
        (*guard)->steps = kt_arena_dup(arena, steps).data;
        (*guard)->count = parser.count;
    }
    kt_free(parser.steps);
    return code;
}

bool guard_find(struct kt_slice ctx, struct kt_slice path, struct kt_slice *value, uint64_t *work_bytes)
{
    const char *at = path.data, *end = at + path.len;
    struct kt_slice container = ctx;

    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *step_end = dot ? dot : end;
        uint64_t looked_at = container.len;
        bool found = false;

        if (kt_json_text_kind(container) == KT_JSON_OBJECT) {
            found = kt_json_member(container, kt_slice(at, (size_t)(step_end - at)), value);
            if (found)
                looked_at = (uint64_t)((const char *)value->data - (const char *)container.data);
        } else {
            looked_at = 1;
        }
        if (looked_at >= *work_bytes) {
            *work_bytes = 0;
            return false;
        }
        *work_bytes -= looked_at;
        if (!found) {
            *value = kt_slice_text("null");
            return true;
        }
        if (!dot)
            return true;
        container = *value;
        at = dot + 1;
    }
}

static bool is_true(struct kt_slice value)
{
    switch (kt_json_text_kind(value)) {
    case KT_JSON_NULL:
        return false;
    case KT_JSON_BOOL:
        return kt_slice_is(value, "true");
    case KT_JSON_NUMBER:
        return kt_json_text_double(value) != 0;
    case KT_JSON_STRING:
    case KT_JSON_ARRAY:
    case KT_JSON_OBJECT:
        return value.len > 2; /* empty ones are two characters of canonical text */
    }
    return false;
}

static bool is_equal(const struct step *step, struct kt_slice value)
{
    if ((enum kt_json_kind)step->literal_kind != kt_json_text_kind(value))
        return false;
    if (step->literal_kind == KT_JSON_NUMBER)
        return fabs(kt_json_text_double(value) - step->number) < DBL_EPSILON;
    return step->literal_kind == KT_JSON_NULL || kt_slice_equal(step->text, value);
}

static bool test(const struct step *step, struct kt_slice value)
{
    double number;

    switch ((enum step_kind)step->kind) {
    case STEP_TRUTH:
        return is_true(value);
    case STEP_EQUAL:
        return is_equal(step, value);
    case STEP_NOT_EQUAL:
        return !is_equal(step, value);
    case STEP_GREATER:
    case STEP_GREATER_EQUAL:
    case STEP_LESS:
    case STEP_LESS_EQUAL:
        if (kt_json_text_kind(value) != KT_JSON_NUMBER)
            return false;
        number = kt_json_text_double(value);
        if (step->kind == STEP_GREATER)
            return number > step->number;
        if (step->kind == STEP_GREATER_EQUAL)
            return number >= step->number;
        if (step->kind == STEP_LESS)
            return number < step->number;
        return number <= step->number;
    case STEP_NOT:
    case STEP_JUMP_IF_FALSE:
    case STEP_JUMP_IF_TRUE:
        break;
    }
    return false;
}

bool guard_is_path(struct kt_slice text)
{
    const char *at = text.data;

    for (size_t i = 0; i < text.len; i++)
        if (!is_field(at[i]))
            return false;
    return text.len > 0;
}

static bool is_test(const struct step *step)
{
    return step->kind != STEP_NOT && step->kind != STEP_JUMP_IF_FALSE && step->kind != STEP_JUMP_IF_TRUE;
}

size_t guard_field_count(const struct guard *guard)
{
    size_t count = 0;

    for (size_t i = 0; i < guard->count; i++)
        count += is_test(&guard->steps[i]);
    return count;
}

struct kt_slice guard_field(const struct guard *guard, size_t at)
{
    for (size_t i = 0; i < guard->count; i++)
        if (is_test(&guard->steps[i]) && at-- == 0)
            return guard->steps[i].path;
    return kt_slice("", 0);
}

bool guard_evaluate(const struct guard *guard, struct kt_slice ctx, uint64_t *work_bytes)
{
    struct kt_slice value;
    bool verdict = false;
    size_t at = 0;

    while (at < guard->count) {
        const struct step *step = &guard->steps[at++];

        if (step->kind == STEP_NOT) {
            verdict = !verdict;
        } else if (step->kind == STEP_JUMP_IF_FALSE || step->kind == STEP_JUMP_IF_TRUE) {
            if (verdict == (step->kind == STEP_JUMP_IF_TRUE))
                at = step->jump;
        } else {
            if (!guard_find(ctx, step->path, &value, work_bytes))
                return false;
            verdict = test(step, value);
        }
    }
    return verdict;
}
