/*
 * Drives commands through a real state without a cluster: a write is prepared, stamped with the driver's clock, applied
 * and committed; a read queries in a read transaction. For tests of engines. One thread.
 */
#ifndef KT_TESTS_SUPPORT_ENGINE_DRIVER_H
#define KT_TESTS_SUPPORT_ENGINE_DRIVER_H

#include "base/arena.h"
#include "engines/registry.h"
#include "engines/state.h"

struct engine_driver {
    struct kt_state *state;
    struct kt_state_options options; /* engine options may be changed between engine_driver_init and open */
    char folder[64];                 /* a temporary one */
    char path[96];                   /* of the data file */
    kt_time_ms now_ms;               /* wall time of everything that runs; starts at 1000000, moves only by hand */
    kt_time_ms next_ms;              /* when the last engine_driver_tick wants the next one */
    struct kt_arena arena;           /* of the last command */
    struct kt_buf op;                /* the last operation, as it was applied */
    struct kt_reply reply;           /* of the last command */
};

/* A temporary folder and default options: nothing is opened yet. */
void engine_driver_init(struct engine_driver *driver);
/* Opens the state, again after engine_driver_close. Ends the process on failure, as everything here. */
void engine_driver_open(struct engine_driver *driver);
/* Closes the state without committing anything; its files stay. */
void engine_driver_close(struct engine_driver *driver);
/* Closes, and removes the folder. */
void engine_driver_release(struct engine_driver *driver);

/* Runs a command by its name ("kv.set") with its params struct. The reply lives until the next call. */
const struct kt_reply *engine_driver_run(struct engine_driver *driver, const char *command, const void *params);
/* The same with parameters as JSON text of an object; a refusal of the parameters is the reply. */
const struct kt_reply *engine_driver_json(struct engine_driver *driver, const char *command, const char *params);
/* Applies an encoded operation as it is, as the next entry, and commits. KT_OK or what stopped the state, with words.
 */
enum kt_code engine_driver_apply(struct engine_driver *driver, struct kt_slice op, struct kt_error *error);
/* One round of background work: what the engines propose is applied; false if they had nothing. */
bool engine_driver_tick(struct engine_driver *driver);

/* "folder" becomes the name of a new temporary folder; and the end of it, with the files in it. */
void temporary_folder(char folder[64]);
void temporary_folder_remove(const char *folder);

#endif
