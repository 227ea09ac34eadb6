/*
 * A machine as SVG 1.1. States stand in layers by their distance from the initial one; within a layer they are put near
 * their neighbours. Transitions between the same two states share one arrow; one that comes back, or passes a layer, is
 * bent out of the way.
 */
#include <math.h>

#include "base/alloc.h"
#include "cli/draw.h"

#define CHARACTER  7.5 /* width of one at 13 px, generously */
#define LINE       16.0
#define HEIGHT     36.0  /* of a state */
#define LAYER_STEP 120.0 /* from one layer to the next */
#define GAP        60.0  /* between the states of a layer */
#define MARGIN     30.0
#define SWEEPS     4
#define LABEL_MAX  (1u << 20)

struct box {
    double left, top, right, bottom;
};

struct point {
    double x, y;
};

static void grow(struct box *box, double x, double y)
{
    box->left = KT_MIN(box->left, x);
    box->right = KT_MAX(box->right, x);
    box->top = KT_MIN(box->top, y);
    box->bottom = KT_MAX(box->bottom, y);
}

static double text_width(struct kt_slice text)
{
    double width = 0;
    for (size_t i = 0; i < text.len; i++) {
        if ((((const unsigned char *)text.data)[i] & 0xC0) != 0x80)
            width += CHARACTER;
    }
    return width;
}

/* XML 1.0 cannot have most control characters, not even escaped. */
static void put_escaped(struct kt_buf *out, struct kt_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = ((const unsigned char *)text.data)[i];
        if (c == '<')
            kt_buf_append_text(out, "&lt;");
        else if (c == '>')
            kt_buf_append_text(out, "&gt;");
        else if (c == '&')
            kt_buf_append_text(out, "&amp;");
        else if (c == '"')
            kt_buf_append_text(out, "&quot;");
        else
            kt_buf_append_u8(out, c < 0x20 ? '?' : c);
    }
}

/* ---- where states stand ---- */

/* Side by side in the order of diagram->order, the layer's middle at 0. */
static void place_layers(struct cli_diagram *diagram)
{
    for (size_t first = 0, last; first < diagram->state_count; first = last) {
        unsigned layer = diagram->states[diagram->order[first]].layer;
        double width = -GAP, x;
        for (last = first; last < diagram->state_count && diagram->states[diagram->order[last]].layer == layer; last++)
            width += diagram->states[diagram->order[last]].width + GAP;
        x = -width / 2;
        for (size_t i = first; i < last; i++) {
            struct cli_state *state = &diagram->states[diagram->order[i]];
            state->x = x + state->width / 2;
            state->y = layer * LAYER_STEP;
            x += state->width + GAP;
        }
    }
}

/* The mean place of the neighbours in other layers; its own if it has none. */
static double wish_of(const struct cli_diagram *diagram, size_t state)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < diagram->edge_count; i++) {
        const struct cli_edge *edge = &diagram->edges[i];
        size_t other = edge->from == state ? edge->to : edge->from;
        if ((edge->from != state && edge->to != state) || diagram->states[other].layer == diagram->states[state].layer)
            continue;
        sum += diagram->states[other].x;
        count++;
    }
    return count ? sum / (double)count : diagram->states[state].x;
}

/* One sweep: each layer is sorted by what its states wish (insertion sort: stable, layers are short). */
static void sweep(struct cli_diagram *diagram)
{
    double *wishes = kt_alloc((diagram->state_count + 1) * sizeof(*wishes));
    for (size_t i = 0; i < diagram->state_count; i++)
        wishes[i] = wish_of(diagram, i);
    for (size_t i = 1; i < diagram->state_count; i++) {
        size_t state = diagram->order[i], at = i;
        while (at > 0 && diagram->states[diagram->order[at - 1]].layer == diagram->states[state].layer &&
               wishes[diagram->order[at - 1]] > wishes[state]) {
            diagram->order[at] = diagram->order[at - 1];
            at--;
        }
        diagram->order[at] = state;
    }
    kt_free(wishes);
    place_layers(diagram);
}

/* ---- arrows ---- */

static bool has_edge(const struct cli_diagram *diagram, size_t from, size_t to)
{
    for (size_t i = 0; i < diagram->edge_count; i++) {
        if (diagram->edges[i].from == from && diagram->edges[i].to == to)
            return true;
    }
    return false;
}

static double bend_of(const struct cli_diagram *diagram, size_t from, size_t to)
{
    unsigned a = diagram->states[from].layer, b = diagram->states[to].layer, span = a > b ? a - b : b - a;
    double bend = has_edge(diagram, to, from) ? 45 : 0;
    if (span > 1)
        bend += 70.0 * (span - 1);
    return span == 0 ? bend + 60 : bend;
}

/* Where the line from a state's middle to a point leaves the state. */
static struct point border(const struct cli_state *state, struct point toward)
{
    double dx = toward.x - state->x, dy = toward.y - state->y;
    double fx = dx != 0 ? state->width / 2 / fabs(dx) : INFINITY, fy = dy != 0 ? HEIGHT / 2 / fabs(dy) : INFINITY;
    double f = KT_MIN(fx, fy);
    return (struct point){state->x + dx * f, state->y + dy * f};
}

/* The labels of all transitions from one state to another, one line each, around a point. */
static void put_labels(const struct cli_diagram *diagram, size_t from, size_t to, struct point at, const char *anchor,
                       struct box *box, struct kt_buf *out)
{
    size_t count = 0, line = 0;
    for (size_t i = 0; i < diagram->edge_count; i++)
        count += diagram->edges[i].from == from && diagram->edges[i].to == to;
    for (size_t i = 0; i < diagram->edge_count; i++) {
        const struct cli_edge *edge = &diagram->edges[i];
        struct kt_buf label;
        if (edge->from != from || edge->to != to)
            continue;
        kt_buf_init(&label, LABEL_MAX);
        cli_edge_label(edge, &label);
        double y = at.y + ((double)line - ((double)count - 1) / 2) * LINE + 4, width = text_width(kt_buf_slice(&label));
        kt_buf_printf(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", at.x, y, anchor);
        put_escaped(out, kt_buf_slice(&label));
        kt_buf_append_text(out, "</text>\n");
        grow(box, at.x - width, y - LINE);
        grow(box, at.x + width, y + LINE);
        kt_buf_release(&label);
        line++;
    }
}

static void put_loop(const struct cli_diagram *diagram, size_t state, struct box *box, struct kt_buf *out)
{
    const struct cli_state *at = &diagram->states[state];
    double x = at->x + at->width / 2, y = at->y;
    kt_buf_printf(out, "<path class=\"edge\" d=\"M%.1f,%.1f C%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n", x, y - 8, x + 34,
                  y - 26, x + 34, y + 26, x, y + 8);
    put_labels(diagram, state, state, (struct point){x + 30, y}, "start", box, out);
}

static void put_arrow(const struct cli_diagram *diagram, size_t from, size_t to, struct box *box, struct kt_buf *out)
{
    const struct cli_state *a = &diagram->states[from], *b = &diagram->states[to];
    double dx = b->x - a->x, dy = b->y - a->y, length = hypot(dx, dy), bend = bend_of(diagram, from, to);
    if (length == 0)
        length = 1;
    /* Perpendicular to the way, on its left: an arrow and its reverse bend apart. */
    struct point control = {(a->x + b->x) / 2 + dy / length * bend, (a->y + b->y) / 2 - dx / length * bend};
    struct point start = border(a, control), end = border(b, control);
    kt_buf_printf(out, "<path class=\"edge\" d=\"M%.1f,%.1f Q%.1f,%.1f %.1f,%.1f\"/>\n", start.x, start.y, control.x,
                  control.y, end.x, end.y);
    struct point middle = {(start.x + 2 * control.x + end.x) / 4, (start.y + 2 * control.y + end.y) / 4};
    grow(box, middle.x, middle.y);
    put_labels(diagram, from, to, middle, "middle", box, out);
}

static void put_state(const struct cli_state *state, struct box *box, struct kt_buf *out)
{
    double left = state->x - state->width / 2, top = state->y - HEIGHT / 2;
    kt_buf_printf(out, "<rect class=\"state%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"10\"/>\n",
                  state->reachable ? "" : " unreached", left, top, state->width, HEIGHT);
    if (state->final)
        kt_buf_printf(out, "<rect class=\"inner\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"7\"/>\n",
                      left + 3, top + 3, state->width - 6, HEIGHT - 6);
    if (state->initial) {
        kt_buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n", state->x, top - 30);
        kt_buf_printf(out, "<path class=\"edge\" d=\"M%.1f,%.1f L%.1f,%.1f\"/>\n", state->x, top - 25, state->x, top);
        grow(box, state->x, top - 40);
    }
    kt_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", state->x, state->y + 5);
    put_escaped(out, state->name);
    kt_buf_append_text(out, "</text>\n");
    grow(box, left, top);
    grow(box, left + state->width, top + HEIGHT);
}

void cli_draw_svg(struct cli_diagram *diagram, struct kt_buf *out)
{
    struct box box = {0, 0, 0, 0};
    struct kt_buf body;

    kt_buf_init(&body, out->max);
    for (size_t i = 0; i < diagram->state_count; i++)
        diagram->states[i].width = KT_MAX(60.0, text_width(diagram->states[i].name) + 28);
    place_layers(diagram);
    for (unsigned i = 0; i < SWEEPS; i++)
        sweep(diagram);
    for (size_t i = 0; i < diagram->edge_count; i++) {
        const struct cli_edge *edge = &diagram->edges[i];
        bool drawn = false;
        for (size_t earlier = 0; earlier < i && !drawn; earlier++)
            drawn = diagram->edges[earlier].from == edge->from && diagram->edges[earlier].to == edge->to;
        if (drawn)
            continue;
        if (edge->from == edge->to)
            put_loop(diagram, edge->from, &box, &body);
        else
            put_arrow(diagram, edge->from, edge->to, &box, &body);
    }
    for (size_t i = 0; i < diagram->state_count; i++)
        put_state(&diagram->states[i], &box, &body);
    double width = box.right - box.left + 2 * MARGIN, height = box.bottom - box.top + 2 * MARGIN;
    kt_buf_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"%.1f %.1f %.1f %.1f\" width=\"%.0f\" "
                  "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"13\">\n<title>",
                  box.left - MARGIN, box.top - MARGIN, width, height, width, height);
    put_escaped(out, kt_slice_text(diagram->machine));
    kt_buf_printf(out,
                  ", version %llu</title>\n"
                  "<style>.state{fill:#fff;stroke:#333}.unreached{stroke-dasharray:4 3}.inner{fill:none;stroke:#333}"
                  ".edge{fill:none;stroke:#555;marker-end:url(#arrow)}"
                  ".label{font-size:12px;fill:#224;stroke:#fff;stroke-width:4px;paint-order:stroke}</style>\n"
                  "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" "
                  "markerHeight=\"8\" orient=\"auto\"><path d=\"M0,0 L10,5 L0,10 z\" fill=\"#555\"/></marker></defs>\n"
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#fff\"/>\n",
                  (unsigned long long)diagram->version, box.left - MARGIN, box.top - MARGIN, width, height);
    kt_buf_append_slice(out, kt_buf_slice(&body));
    if (kt_buf_code(&body) != KT_OK)
        out->code = kt_buf_code(&body);
    kt_buf_release(&body);
    kt_buf_append_text(out, "</svg>\n");
}
