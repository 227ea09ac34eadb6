/*
 * Faults that a special build has in it on purpose, to see that the tests find them: the proof that they can fail. In
 * every other build KT_PLANTED is false at compile time, and nothing of this is left.
 *
 * A build with KONTIKI_PLANTED contains all of them, asleep; kt_plant wakes one, for the rest of the process.
 */
#ifndef KT_BASE_PLANT_H
#define KT_BASE_PLANT_H

#include <stdbool.h>

#ifdef KONTIKI_PLANTED
/* The name of the fault that is awake; NULL: none. */
extern const char *kt_plant_awake;
bool kt_plant_is(const char *name);
#define KT_PLANTED(name) (__builtin_expect(kt_plant_awake != 0, 0) && kt_plant_is(name))
/* Before anything runs. False: there is none of that name. */
bool kt_plant(const char *name);
/* The i-th name and what it breaks; NULL at the end. */
const char *kt_plant_name(unsigned i, const char **what);
#else
#define KT_PLANTED(name) false
static inline bool kt_plant(const char *name)
{
    (void)name;
    return false;
}
static inline const char *kt_plant_name(unsigned i, const char **what)
{
    (void)i;
    *what = (const char *)0;
    return *what;
}
#endif

#endif
