/*
 * Machine definitions: reading, checking, the normal form, its checksum, and the transitions in the form that events
 * look them up.
 *
 * The normal form is compact JSON text {"states":[...],"initial":...,"transitions":[{"from":[...],"event":...,"to":...
 * [,"guard":...][,"after_ms":...|,"after_ctx":...]}...][,"meta":...]}: sources always an array, repeated states once,
 * unknown members gone, the keys of meta sorted at every level. Two definitions are equal when their normal forms are.
 *
 * Several transitions may leave one state on one event: they are tried in the order of the definition, and the first
 * whose guard holds (or that has none) is taken. One behind an unguarded one could never be taken and is refused.
 *
 * A transition may carry a timer (timer.h): "after_ms", a delay, or "after_ctx", the path of a member of the context
 * that holds a time.
 */
#ifndef KT_ENGINES_MACHINE_DEFINITION_H
#define KT_ENGINES_MACHINE_DEFINITION_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "engines/machine/guard.h"

struct definition_transition {
    const struct kt_slice *sources; /* names, as given */
    uint32_t source_count;
    uint32_t target; /* position in states */
    struct kt_slice event;
    struct kt_slice target_name;
    struct kt_slice guard_text;
    const struct guard *guard; /* NULL: always */
    uint64_t after_ms;         /* 0: none */
    struct kt_slice after_ctx; /* empty: none */
};

/* One way out of one state. */
struct definition_rule {
    uint32_t source;     /* position in states */
    uint32_t transition; /* position in transitions */
};

/* Where a definition that was refused is wrong. */
struct definition_fault {
    bool in_transition;
    uint32_t transition;   /* position in transitions */
    const char *member;    /* "guard"; NULL: not one alone */
    struct kt_slice state; /* the name that is wrong, or the state that is concerned; empty: none */
    struct kt_slice event; /* of the transition; empty: none, or not read yet */
};

/* Names are plain UTF-8; everything lives in the arena or in the text that it was read from. */
struct definition {
    const struct kt_slice *states;
    uint32_t state_count;
    uint32_t initial; /* position in states */
    const struct definition_transition *transitions;
    uint32_t transition_count;
    bool timed;           /* a transition has a timer */
    struct kt_slice meta; /* canonical text; empty: none */
    /* Sorted by source, event and position, filled by definition_index. */
    const struct definition_rule *rules;
    uint32_t rule_count;
    /* Those of transitions with a timer, sorted by source and position. */
    const struct definition_rule *timers;
    uint32_t timer_count;
    struct definition_fault fault; /* after a refusal; everything else is nothing then */
};

/*
 * Reads and checks canonical JSON text with sorted keys. KT_BAD_REQUEST with a sentence: of what is wrong the first in
 * the order structure, initial state, then per transition target, guard, sources, repetition. Any bytes are safe. Any
 * thread.
 */
KT_MUST_USE enum kt_code definition_read(struct kt_slice text, struct kt_arena *arena, struct definition *definition,
                                         struct kt_error *error);
/* Appends the normal form. */
void definition_print(const struct definition *definition, struct kt_buf *out);
/* CRC-32C of a normal form as 8 lower-case hexadecimal digits. */
void definition_checksum(struct kt_slice normal_form, char out[9]);

/* Builds the rules, for definition_rules. */
void definition_index(struct definition *definition, struct kt_arena *arena);
/* The rules that leave a state on an event, in the order in which they are tried; returns how many. */
uint32_t definition_rules(const struct definition *definition, uint32_t source, struct kt_slice event,
                          const struct definition_rule **rules);

/* The timers that a state sets: rules of transitions with a timer, by position; returns how many. */
uint32_t definition_timers(const struct definition *definition, uint32_t source, const struct definition_rule **rules);

#endif
