/* What include/kontiki/code.def says of each code. Switches without default: the compiler sees that none is missing. */
#include "kontiki/code.h"

const char *kt_code_text(enum kt_code code)
{
    switch (code) {
#define KT_CODE(symbol, number, text, class, outcome)                                                                  \
    case symbol:                                                                                                       \
        return text;
#include "kontiki/code.def"
#undef KT_CODE
    }
    return "unknown code";
}

const char *kt_code_name(enum kt_code code)
{
    switch (code) {
#define KT_CODE(symbol, number, text, class, outcome)                                                                  \
    case symbol:                                                                                                       \
        return &#symbol[sizeof("KT_") - 1];
#include "kontiki/code.def"
#undef KT_CODE
    }
    return "UNKNOWN_CODE";
}

enum kt_code_class kt_code_class(enum kt_code code)
{
    switch (code) {
#define KT_CODE(symbol, number, text, class, outcome)                                                                  \
    case symbol:                                                                                                       \
        return class;
#include "kontiki/code.def"
#undef KT_CODE
    }
    return KT_FATAL;
}

enum kt_outcome kt_code_outcome(enum kt_code code)
{
    switch (code) {
#define KT_CODE(symbol, number, text, class, outcome)                                                                  \
    case symbol:                                                                                                       \
        return outcome;
#include "kontiki/code.def"
#undef KT_CODE
    }
    return KT_UNKNOWN;
}

int kt_code_known(unsigned number)
{
    switch (number) {
#define KT_CODE(symbol, number, text, class, outcome)                                                                  \
    case symbol:                                                                                                       \
        return 1;
#include "kontiki/code.def"
#undef KT_CODE
    default:
        return 0;
    }
}
