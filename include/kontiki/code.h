/*
 * Result codes: what every Kontiki function, reply and client call ends with.
 *
 * The outcome is the part that matters to a writer: done, not done, or unknown. Unknown is only ever said when the
 * deadline of a request passed while its operation was under way; repeating it with the same idempotency key is safe.
 */
#ifndef KONTIKI_CODE_H
#define KONTIKI_CODE_H

enum kt_code {
#define KT_CODE(symbol, number, text, class, outcome) symbol = number,
#include "kontiki/code.def"
#undef KT_CODE
};

enum kt_code_class { KT_FINE, KT_CLIENT, KT_RETRY, KT_FATAL };
enum kt_outcome { KT_DONE, KT_NOT_DONE, KT_UNKNOWN };

#define KT_MUST_USE __attribute__((warn_unused_result))

/* The sentence of a code, for people; never NULL, also for a number that is no code. */
const char *kt_code_text(enum kt_code code);
/* The symbol of a code without its prefix, e.g. "NOT_LEADER"; never NULL. */
const char *kt_code_name(enum kt_code code);
enum kt_code_class kt_code_class(enum kt_code code);
enum kt_outcome kt_code_outcome(enum kt_code code);
/* 1 if the number is a code of this list: a number from outside is checked before it becomes an enum kt_code. */
int kt_code_known(unsigned number);

#endif
