/*
 * The order within one connection: writes may overlap writes and reads may overlap reads, but neither begins before the
 * other kind that came earlier has its results. Nothing overtakes a request that waits.
 *
 * A hold (kt_lane_hold) keeps reads from producing answers that a client does not take: without it a connection that
 * asks for a thousand large values and reads none would make the node hold them all.
 */
#include "dispatch/dispatch_internal.h"

#include "base/check.h"

void kt_lane_init(struct kt_lane *lane)
{
    memset(lane, 0, sizeof(*lane));
    kt_list_init(&lane->all);
    kt_list_init(&lane->waiting);
    kt_list_init(&lane->looking);
}

static bool is_read(const struct kt_request *request)
{
    return request->command->kind == KT_READ;
}

static bool hold_allows(const struct kt_lane *lane, const struct kt_request *request)
{
    switch (lane->hold) {
    case KT_HOLD_OPEN:
        return true;
    case KT_HOLD_OLDEST:
        return lane->all.next == &request->order;
    case KT_HOLD_HELD:
        return false;
    }
    return false;
}

static bool may_begin(const struct kt_lane *lane, const struct kt_request *request)
{
    return hold_allows(lane, request) && (is_read(request) ? lane->writes == 0 : lane->reads == 0);
}

static void begin(struct kt_lane *lane, struct kt_request *request)
{
    request->place = KT_PLACE_UNDER_WAY;
    if (is_read(request))
        lane->reads++;
    else
        lane->writes++;
    road_begin(request);
}

/* The next request that may go on, taken out of its list; NULL if there is none. */
static struct kt_request *next(struct kt_lane *lane)
{
    struct kt_request *request = NULL;

    if (lane->hold == KT_HOLD_OLDEST) {
        request = kt_list_first(&lane->all, struct kt_request, order);
        if (request && request->place == KT_PLACE_UNDER_WAY)
            return NULL;
        if (request && request->place == KT_PLACE_WAITING && !may_begin(lane, request))
            return NULL;
    } else if (lane->hold == KT_HOLD_OPEN) {
        request = kt_list_first(&lane->looking, struct kt_request, link);
        if (!request) {
            request = kt_list_first(&lane->waiting, struct kt_request, link);
            if (request && !may_begin(lane, request))
                return NULL;
        }
    }
    if (request)
        kt_list_remove(&request->link);
    return request;
}

/* A loop and not a recursion: a request that ends while it begins comes back here, finds advancing set and returns. */
static void advance(struct kt_lane *lane)
{
    struct kt_request *request;

    if (lane->advancing)
        return;
    lane->advancing = true;
    while ((request = next(lane))) {
        if (request->place == KT_PLACE_LOOKING) {
            request->place = KT_PLACE_UNDER_WAY;
            road_look(request);
        } else {
            begin(lane, request);
        }
    }
    lane->advancing = false;
}

void kt_lane_hold(struct kt_lane *lane, enum kt_hold hold)
{
    lane->hold = hold;
    if (hold != KT_HOLD_HELD)
        advance(lane);
}

void lane_enter(struct kt_request *request)
{
    struct kt_lane *lane = request->lane;

    lane->count++;
    kt_list_append(&lane->all, &request->order);
    if (kt_list_empty(&lane->waiting) && may_begin(lane, request)) {
        begin(lane, request);
        return;
    }
    request->place = KT_PLACE_WAITING;
    kt_list_append(&lane->waiting, &request->link);
}

bool lane_may_look(struct kt_request *request)
{
    struct kt_lane *lane = request->lane;

    if (hold_allows(lane, request))
        return true;
    request->place = KT_PLACE_LOOKING;
    kt_list_append(&lane->looking, &request->link);
    return false;
}

void lane_leave(struct kt_request *request)
{
    struct kt_lane *lane = request->lane;

    KT_CHECK(request->place == KT_PLACE_UNDER_WAY);
    request->place = KT_PLACE_NONE;
    kt_list_remove(&request->order);
    if (is_read(request))
        lane->reads--;
    else
        lane->writes--;
    if (lane->hold == KT_HOLD_OLDEST)
        lane->hold = KT_HOLD_HELD;
    advance(lane);
}
