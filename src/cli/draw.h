/* A machine as a picture: read once from its definition, written as text, DOT or SVG. */
#ifndef KT_CLI_DRAW_H
#define KT_CLI_DRAW_H

#include "base/buf.h"
#include "wire/json.h"

/* Slices borrow from the definition's tree. */
struct cli_state {
    struct kt_slice name;
    unsigned layer; /* fewest events from the initial state; those that no event reaches come last */
    bool initial, final, reachable;
    double x, y, width; /* of the SVG: centre and extent */
};

struct cli_edge {
    size_t from, to; /* states */
    struct kt_slice event, guard, after_ctx;
    uint64_t after_ms; /* 0: none */
};

struct cli_diagram {
    const char *machine;
    uint64_t version;
    size_t state_count, edge_count;
    struct cli_state *states;
    struct cli_edge *edges;
    size_t *order; /* states by layer */
    unsigned layer_count;
};

/* Reads a normalised definition. KT_BAD_REQUEST: it is none. Release in any case. */
KT_MUST_USE enum kt_code cli_diagram_read(const struct kt_json *definition, const char *machine, uint64_t version,
                                          struct cli_diagram *diagram, struct kt_error *error);
void cli_diagram_release(struct cli_diagram *diagram);
/* The label of an edge: event, [guard], what time fires it. */
void cli_edge_label(const struct cli_edge *edge, struct kt_buf *out);

/* Each appends the whole picture. */
void cli_draw_text(const struct cli_diagram *diagram, struct kt_buf *out);
void cli_draw_dot(const struct cli_diagram *diagram, struct kt_buf *out);
/* Places the states in layers; a picture of its own, without scripts or fonts from elsewhere. */
void cli_draw_svg(struct cli_diagram *diagram, struct kt_buf *out);

#endif
