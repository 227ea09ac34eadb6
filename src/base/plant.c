#include "base/plant.h"

#ifdef KONTIKI_PLANTED

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name, *what;
} plants[] = {
    {"early-ack", "entries are called durable when they are written, not when they are synced"},
    {"vote-lost", "term and vote are not written"},
    {"cut-lost", "that the log was cut off before new entries is not written"},
    {"damage-is-torn", "damage to synced records at the end of the log is taken for a torn tail"},
    {"votes-unheld", "messages leave before the vote they depend on is durable"},
    {"replaced-acknowledged", "the sync of entries that were replaced meanwhile counts for those that replaced them"},
    {"early-apply", "entries are applied before they are durable in the node's own log"},
    {"stale-read", "a leader answers reads without asking a majority whether it still leads"},
    {"no-barrier", "a leader answers before an entry of its own term is committed"},
    {"read-unseen", "a read does not wait until the state shows the index it needs"},
    {"sessions-lost", "requests that are sent again are not recognised"},
    {"renumbered", "a request that is sent again has another number"},
    {"sessions-lost-in-transfer", "a state that is sent to another node lacks the sessions"},
    {"adoption-forgets", "adopting a state forgets acknowledged entries behind it"},
    {"adoption-skips", "a node that starts from an adopted state leaves out the first entry behind it"},
    {"offer-early", "the offer of a state is answered as if the state were here"},
    {"offer-once", "a state that was not fetched is not offered again once the leader has trimmed its log"},
    {"trim-unsynced", "the log is trimmed although the state that replaces it is not synced"},
    {"member-kept", "a node that lost its data comes back as the member it was"},
    {"mark-first", "a founding member is marked before its first entry is in the log"},
    {"configuration-inside", "a configuration is handed to the core in the middle of a message"},
    {"configuration-forgotten", "of two configurations that come together the first is forgotten"},
    {"join-once", "a member that was taken in by a leader that is gone does not ask again"},
    {"standby-mute", "a member that does not know yet that it is a voter refuses its vote"},
    {"pre-vote-term", "a refused pre-vote does not tell the newer term"},
    {"hash-ignored", "states that differ are not noticed"},
};

const char *kt_plant_awake;

bool kt_plant_is(const char *name)
{
    return strcmp(kt_plant_awake, name) == 0;
}

bool kt_plant(const char *name)
{
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
        if (strcmp(plants[i].name, name) == 0) {
            kt_plant_awake = plants[i].name;
            return true;
        }
    }
    return false;
}

const char *kt_plant_name(unsigned i, const char **what)
{
    if (i >= sizeof(plants) / sizeof(plants[0]))
        return NULL;
    *what = plants[i].what;
    return plants[i].name;
}

#endif
