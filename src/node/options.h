/* The command line of kontikid, and the settings that it, the file and the environment make together. */
#ifndef KT_NODE_OPTIONS_H
#define KT_NODE_OPTIONS_H

#include "node/settings.h"

enum kt_options_next {
    KT_OPTIONS_RUN,    /* settings are filled and finished: start the node */
    KT_OPTIONS_DONE,   /* what was asked for was printed: exit with 0 */
    KT_OPTIONS_USAGE,  /* the command line is wrong, said on stderr: exit with 2 */
    KT_OPTIONS_REFUSED /* the settings are wrong, said on stderr: exit with 1 */
};

/* settings must be initialised; get is getenv. Prints to stdout and stderr. */
enum kt_options_next kt_options_read(int argc, char **argv, char *(*get)(const char *name),
                                     struct kt_settings *settings);

#endif
