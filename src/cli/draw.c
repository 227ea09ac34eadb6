/* machine draw: the definition as a graph, and the two pictures that need no layout. */
#include "cli/draw.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "cli/client.h"

#define STATES_MAX 4096 /* of a picture that somebody looks at */
#define EDGES_MAX  65536

static struct kt_slice text_of(const struct kt_json *object, const char *name)
{
    const struct kt_json *value = kt_json_get(object, name);
    return kt_json_is(value, KT_JSON_STRING) ? kt_json_string(value) : kt_slice(NULL, 0);
}

/* state_count if there is none. */
static size_t find_state(const struct cli_diagram *diagram, struct kt_slice name)
{
    size_t at = 0;
    while (at < diagram->state_count && !kt_slice_equal(diagram->states[at].name, name))
        at++;
    return at;
}

static enum kt_code add_edge(struct cli_diagram *diagram, const struct kt_json *transition, struct kt_slice from,
                             struct kt_error *error)
{
    struct cli_edge edge = {
        .from = find_state(diagram, from),
        .to = find_state(diagram, text_of(transition, "to")),
        .event = text_of(transition, "event"),
        .guard = text_of(transition, "guard"),
        .after_ctx = text_of(transition, "after_ctx"),
    };
    if (!kt_json_u64(kt_json_get(transition, "after_ms"), &edge.after_ms))
        edge.after_ms = 0;
    if (edge.from == diagram->state_count || edge.to == diagram->state_count)
        return kt_error_set(error, KT_BAD_REQUEST, "a transition names a state that is not listed");
    if (diagram->edge_count == EDGES_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "more than %d transitions", EDGES_MAX);
    diagram->edges = kt_realloc(diagram->edges, (diagram->edge_count + 1) * sizeof(*diagram->edges));
    diagram->edges[diagram->edge_count++] = edge;
    return KT_OK;
}

static enum kt_code read_states(const struct kt_json *definition, struct cli_diagram *diagram, struct kt_error *error)
{
    const struct kt_json *states = kt_json_get(definition, "states");
    struct kt_slice initial = text_of(definition, "initial");

    if (!kt_json_is(states, KT_JSON_ARRAY) || kt_json_count(states) > STATES_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "the definition has no list of at most %d states", STATES_MAX);
    diagram->states = kt_zalloc((kt_json_count(states) + 1) * sizeof(*diagram->states));
    for (const struct kt_json *state = kt_json_first(states); state; state = kt_json_next(state)) {
        struct kt_slice name = kt_json_is(state, KT_JSON_STRING) ? kt_json_string(state) : kt_slice(NULL, 0);
        if (find_state(diagram, name) < diagram->state_count)
            continue;
        diagram->states[diagram->state_count++] =
            (struct cli_state){.name = name, .initial = kt_slice_equal(name, initial), .final = true};
    }
    return KT_OK;
}

static enum kt_code read_transitions(const struct kt_json *definition, struct cli_diagram *diagram,
                                     struct kt_error *error)
{
    const struct kt_json *transitions = kt_json_get(definition, "transitions");
    enum kt_code code = KT_OK;

    for (const struct kt_json *one = kt_json_first(transitions); one && code == KT_OK; one = kt_json_next(one)) {
        const struct kt_json *from = kt_json_get(one, "from");
        if (kt_json_is(from, KT_JSON_STRING))
            code = add_edge(diagram, one, kt_json_string(from), error);
        for (const struct kt_json *each = kt_json_first(from); each && code == KT_OK; each = kt_json_next(each))
            code = add_edge(diagram, one, kt_json_is(each, KT_JSON_STRING) ? kt_json_string(each) : kt_slice("", 0),
                            error);
    }
    return code;
}

/* Breadth first from the initial state; the queue becomes the order. */
static void find_layers(struct cli_diagram *diagram)
{
    size_t known = 0, at = 0;

    diagram->order = kt_alloc((diagram->state_count + 1) * sizeof(*diagram->order));
    for (size_t i = 0; i < diagram->state_count; i++) {
        if (diagram->states[i].initial && known == 0) {
            diagram->states[i].reachable = true;
            diagram->order[known++] = i;
        }
    }
    for (; at < known; at++) {
        size_t state = diagram->order[at];
        diagram->layer_count = KT_MAX(diagram->layer_count, diagram->states[state].layer + 1);
        for (size_t i = 0; i < diagram->edge_count; i++) {
            struct cli_state *to = &diagram->states[diagram->edges[i].to];
            if (diagram->edges[i].from != state || to->reachable)
                continue;
            to->reachable = true;
            to->layer = diagram->states[state].layer + 1;
            diagram->order[known++] = diagram->edges[i].to;
        }
    }
    bool rest = known < diagram->state_count;
    for (size_t i = 0; i < diagram->state_count; i++) {
        if (diagram->states[i].reachable)
            continue;
        diagram->states[i].layer = diagram->layer_count;
        diagram->order[known++] = i;
    }
    diagram->layer_count += rest;
}

enum kt_code cli_diagram_read(const struct kt_json *definition, const char *machine, uint64_t version,
                              struct cli_diagram *diagram, struct kt_error *error)
{
    memset(diagram, 0, sizeof(*diagram));
    diagram->machine = machine;
    diagram->version = version;
    enum kt_code code = read_states(definition, diagram, error);
    if (code == KT_OK)
        code = read_transitions(definition, diagram, error);
    if (code != KT_OK)
        return code;
    for (size_t i = 0; i < diagram->edge_count; i++)
        diagram->states[diagram->edges[i].from].final = false;
    find_layers(diagram);
    return KT_OK;
}

void cli_diagram_release(struct cli_diagram *diagram)
{
    kt_free(diagram->states);
    kt_free(diagram->edges);
    kt_free(diagram->order);
    memset(diagram, 0, sizeof(*diagram));
}

void cli_edge_label(const struct cli_edge *edge, struct kt_buf *out)
{
    kt_buf_append_slice(out, edge->event);
    if (edge->guard.data) {
        kt_buf_append_text(out, " [");
        kt_buf_append_slice(out, edge->guard);
        kt_buf_append_u8(out, ']');
    }
    if (edge->after_ms)
        kt_buf_printf(out, " after %" PRIu64 " ms", edge->after_ms);
    if (edge->after_ctx.data) {
        kt_buf_append_text(out, " at ctx.");
        kt_buf_append_slice(out, edge->after_ctx);
    }
}

/* ---- text ---- */

/* Names come from anybody: what would steer a terminal is shown as '?'. */
static void put_shown(struct kt_buf *out, struct kt_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = ((const unsigned char *)text.data)[i];
        kt_buf_append_u8(out, byte < 0x20 || byte == 0x7F ? '?' : byte);
    }
}

static size_t shown_width(struct kt_slice text)
{
    size_t width = 0;
    for (size_t i = 0; i < text.len; i++)
        width += (((const unsigned char *)text.data)[i] & 0xC0) != 0x80;
    return width;
}

static void text_edges(const struct cli_diagram *diagram, size_t state, size_t label_width, struct kt_buf *out)
{
    for (size_t i = 0; i < diagram->edge_count; i++) {
        const struct cli_edge *edge = &diagram->edges[i];
        struct kt_buf label;
        if (edge->from != state)
            continue;
        kt_buf_init(&label, CLI_TEXT_MAX);
        cli_edge_label(edge, &label);
        kt_buf_append_text(out, "      ");
        put_shown(out, kt_buf_slice(&label));
        for (size_t width = shown_width(kt_buf_slice(&label)); width < label_width; width++)
            kt_buf_append_u8(out, ' ');
        kt_buf_append_text(out, "  --> ");
        put_shown(out, diagram->states[edge->to].name);
        kt_buf_append_u8(out, '\n');
        kt_buf_release(&label);
    }
}

void cli_draw_text(const struct cli_diagram *diagram, struct kt_buf *out)
{
    size_t label_width = 0;

    for (size_t i = 0; i < diagram->edge_count; i++) {
        struct kt_buf label;
        kt_buf_init(&label, CLI_TEXT_MAX);
        cli_edge_label(&diagram->edges[i], &label);
        label_width = KT_MAX(label_width, shown_width(kt_buf_slice(&label)));
        kt_buf_release(&label);
    }
    label_width = KT_MIN(label_width, (size_t)60);
    kt_buf_printf(out, "%s, version %" PRIu64 ": %zu states, %zu transitions\n\n", diagram->machine, diagram->version,
                  diagram->state_count, diagram->edge_count);
    for (size_t i = 0; i < diagram->state_count; i++) {
        const struct cli_state *state = &diagram->states[diagram->order[i]];
        kt_buf_append_text(out, state->initial ? "  > " : "    ");
        put_shown(out, state->name);
        if (state->initial)
            kt_buf_append_text(out, " (initial)");
        if (state->final)
            kt_buf_append_text(out, " (final)");
        if (!state->reachable)
            kt_buf_append_text(out, " (never reached)");
        kt_buf_append_u8(out, '\n');
        text_edges(diagram, diagram->order[i], label_width, out);
    }
}

/* ---- DOT (graphviz.org/doc/info/lang.html): a quoted string knows \" and \n, and keeps other backslashes ---- */

static void put_quoted(struct kt_buf *out, struct kt_slice text)
{
    kt_buf_append_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        char c = ((const char *)text.data)[i];
        if (c == '"' || c == '\\')
            kt_buf_append_u8(out, '\\');
        if (c == '\n')
            kt_buf_append_text(out, "\\n");
        else
            kt_buf_append_u8(out, (uint8_t)((unsigned char)c < 0x20 ? '?' : c));
    }
    kt_buf_append_u8(out, '"');
}

void cli_draw_dot(const struct cli_diagram *diagram, struct kt_buf *out)
{
    kt_buf_append_text(out, "digraph ");
    put_quoted(out, kt_slice_text(diagram->machine));
    kt_buf_printf(out,
                  " {\n"
                  "  label=\"version %" PRIu64 "\";\n"
                  "  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n"
                  "  edge [fontname=\"sans-serif\", fontsize=11];\n"
                  "  start [shape=point, width=0.15];\n",
                  diagram->version);
    /* States by number: a state may be named like the point that begins. */
    for (size_t i = 0; i < diagram->state_count; i++) {
        const struct cli_state *state = &diagram->states[i];
        kt_buf_printf(out, "  s%zu [label=", i);
        put_quoted(out, state->name);
        kt_buf_append_text(out, state->final ? ", peripheries=2" : "");
        kt_buf_append_text(out, state->reachable ? "];\n" : ", style=\"rounded,dashed\"];\n");
        if (state->initial)
            kt_buf_printf(out, "  start -> s%zu;\n", i);
    }
    for (size_t i = 0; i < diagram->edge_count; i++) {
        struct kt_buf label;
        kt_buf_init(&label, CLI_TEXT_MAX);
        cli_edge_label(&diagram->edges[i], &label);
        kt_buf_printf(out, "  s%zu -> s%zu [label=", diagram->edges[i].from, diagram->edges[i].to);
        put_quoted(out, kt_buf_slice(&label));
        kt_buf_append_text(out, "];\n");
        kt_buf_release(&label);
    }
    kt_buf_append_text(out, "}\n");
}

/* ---- the command ---- */

enum { NAME, VERSION, TEXT, DOT, SVG };
static const struct cli_param params[] = {
    {"machine", "name", 'n', CLI_WORD, 1, true, NULL}, {"version", "version", 'v', CLI_NUMBER, 2, false, NULL},
    {NULL, "text", 0, CLI_TRUE, 0, false, NULL},       {NULL, "dot", 0, CLI_TRUE, 0, false, NULL},
    {NULL, "svg", 0, CLI_TRUE, 0, false, NULL},
};

static int print_picture(const struct kt_json *answer, const struct cli_values *values)
{
    struct cli_diagram diagram;
    struct kt_error error = {.text = ""};
    struct kt_buf picture;
    uint64_t version = 0;
    int status = CLI_OK;

    if (!kt_json_u64(kt_json_get(answer, "version"), &version) && values->of[VERSION])
        version = strtoull(values->of[VERSION], NULL, 10);
    kt_buf_init(&picture, 4 * CLI_TEXT_MAX);
    if (cli_diagram_read(kt_json_get(answer, "definition"), values->of[NAME], version, &diagram, &error) != KT_OK)
        status = cli_fail(CLI_REFUSED, "the machine cannot be drawn: %s", error.text);
    else if (values->of[DOT])
        cli_draw_dot(&diagram, &picture);
    else if (values->of[SVG])
        cli_draw_svg(&diagram, &picture);
    else
        cli_draw_text(&diagram, &picture);
    if (status == CLI_OK && kt_buf_code(&picture) != KT_OK)
        status = cli_fail(CLI_REFUSED, "the picture is larger than %u bytes", 4 * CLI_TEXT_MAX);
    else
        fwrite(picture.data, 1, picture.len, stdout);
    cli_diagram_release(&diagram);
    kt_buf_release(&picture);
    return status;
}

int cli_draw(struct cli *cli, int argc, char **argv)
{
    struct kt_json *answer = NULL;
    struct cli_values values;
    struct kt_buf request;
    struct kt_json_writer writer;

    if (argc == 0 || strcmp(argv[0], "draw") != 0)
        return cli_fail(CLI_USAGE, "machine has one command: draw");
    int status = cli_params("machine draw", params, KT_COUNT(params), argc - 1, argv + 1, &values);
    if (status != CLI_OK)
        return status;
    if (!!values.of[TEXT] + !!values.of[DOT] + !!values.of[SVG] > 1)
        return cli_fail(CLI_USAGE, "machine draw makes one picture: --text, --dot or --svg");
    if (values.of[VERSION] && strspn(values.of[VERSION], "0123456789") != strlen(values.of[VERSION]))
        return cli_fail(CLI_USAGE, "--version '%s' is no number", values.of[VERSION]);
    kt_buf_init(&request, CLI_TEXT_MAX);
    kt_json_writer_init(&writer, &request);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "machine", values.of[NAME]);
    if (values.of[VERSION])
        kt_json_put_raw_member(&writer, "version", kt_slice_text(values.of[VERSION]));
    kt_json_end_object(&writer);
    kt_buf_append_u8(&request, 0);
    status = cli_call(cli, "GET_MACHINE", (const char *)request.data, &answer);
    if (status == CLI_OK)
        status = print_picture(answer, &values);
    kt_json_free(answer);
    kt_buf_release(&request);
    return status;
}
