/*
 * The shared reading. A watch is up to date, and then it is in one of the hub's lists and misses nothing because the
 * hub looks at every change; or it is behind, and then nobody looks for it but itself:
 *
 *   open ---> behind <--no room--- up to date
 *               |                      ^
 *               +---caught up----------+
 */
#include "dispatch/watch_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "dispatch/dispatch_internal.h"

/* What one turn of the loop reads and tells at most, so that requests are served in between. */
#define PASS_BYTES  (1u << 20)
#define PASS_EVENTS 4096u

struct watch_topic {
    struct kt_list watches;
    unsigned count; /* watches, and one while they are being told */
    size_t len;
    uint8_t name[];
};

void watch_hub_init(struct watch_hub *hub)
{
    kt_list_init(&hub->any);
    kt_list_init(&hub->retry);
    kt_list_init(&hub->queue);
    kt_map_init(&hub->topics);
    atomic_init(&hub->told, false);
}

void watch_hub_release(struct watch_hub *hub)
{
    KT_CHECK(hub->current + hub->behind == 0);
    KT_CHECK(hub->topics.count == 0);
    kt_map_release(&hub->topics);
}

/* Replica thread. */
static void told(void *data, kt_index visible)
{
    struct kt_dispatch *dispatch = data;

    (void)visible;
    if (!atomic_exchange(&dispatch->watch.told, true))
        uv_async_send(&dispatch->wake);
}

/* Following costs every commit a wake-up, and prompt commits cost syncs: only while somebody watches. */
static void follow(struct kt_dispatch *dispatch, bool follows)
{
    struct kt_cluster *cluster = kt_dispatch_cluster(dispatch);

    if (dispatch->watch.following == follows || !cluster)
        return;
    dispatch->watch.following = follows;
    kt_cluster_follow(cluster, follows ? told : NULL, dispatch);
    kt_cluster_prompt(cluster, follows);
}

/* Lists. */

static void drop_topic(struct watch_hub *hub, struct watch_topic *topic)
{
    if (--topic->count > 0)
        return;
    kt_map_remove(&hub->topics, kt_slice(topic->name, topic->len));
    kt_free(topic);
}

static struct watch_topic *take_topic(struct watch_hub *hub, struct kt_slice name)
{
    struct watch_topic *topic = kt_map_get(&hub->topics, name);

    if (!topic) {
        topic = kt_zalloc(sizeof(*topic) + name.len);
        topic->len = name.len;
        memcpy(topic->name, name.data, name.len);
        kt_list_init(&topic->watches);
        kt_map_put(&hub->topics, name, topic);
    }
    topic->count++;
    return topic;
}

static void enter(struct kt_watch *watch)
{
    struct watch_hub *hub = &watch->dispatch->watch;

    if (watch->options.topic.len > 0) {
        watch->topic = take_topic(hub, watch->options.topic);
        kt_list_append(&watch->topic->watches, &watch->link);
    } else {
        kt_list_append(&hub->any, &watch->link);
    }
    hub->current++;
}

static void leave(struct kt_watch *watch)
{
    struct watch_hub *hub = &watch->dispatch->watch;

    kt_list_remove(&watch->link);
    if (watch->topic)
        drop_topic(hub, watch->topic);
    watch->topic = NULL;
    hub->current--;
}

bool watch_join(struct kt_watch *watch)
{
    struct watch_hub *hub = &watch->dispatch->watch;

    /* With nobody to tell, the hub did not look at what came. */
    if (hub->current == 0)
        hub->at = (struct watch_place){.index = kt_state_visible(kt_dispatch_state(watch->dispatch)) + 1, .number = 0};
    if (place_before(watch->next, hub->at))
        return false;
    watch->behind = false;
    hub->behind--;
    enter(watch);
    return true;
}

static void fall_behind(struct kt_watch *watch)
{
    leave(watch);
    watch->behind = true;
    watch->dispatch->watch.behind++;
}

void watch_tell_lagging(struct kt_watch *watch, kt_index oldest)
{
    watch->next = (struct watch_place){.index = oldest};
    if (watch->options.fresh)
        return;
    watch->dispatch->watch.lagged++;
    watch->options.lagging(watch->options.data, oldest);
}

/* The pass. */

/* false: the watch may be gone, or wanted nothing. */
static bool tell(struct kt_watch *watch, struct kt_watch_event *event)
{
    const struct kt_change *change = &event->change;
    struct watch_place place = {.index = change->index, .number = change->number};

    if (place_before(place, watch->next) || change->engine != watch->options.engine ||
        !watch->options.wants(watch->options.data, change))
        return false;
    watch->next = place;
    if (!watch->options.room(watch->options.data)) {
        fall_behind(watch);
        return false;
    }
    watch->next.number++;
    watch->options.fresh = false;
    watch->dispatch->watch.events++;
    watch->options.event(watch->options.data, event);
    return true;
}

/*
 * An event may make its owner close any watch, also the one that is told: what is still to be told is in a list of its
 * own, which watches leave when they are closed.
 */
static unsigned tell_all(struct kt_list *watches, struct kt_watch_event *event)
{
    struct kt_list rest;
    unsigned count = 0;
    struct kt_watch *watch;

    kt_list_init(&rest);
    kt_list_move(&rest, watches);
    while ((watch = kt_list_first(&rest, struct kt_watch, link))) {
        kt_list_remove(&watch->link);
        kt_list_append(watches, &watch->link);
        count += tell(watch, event);
    }
    return count;
}

static unsigned tell_change(struct watch_hub *hub, const struct kt_change *change)
{
    struct kt_watch_event event = {.change = *change};
    struct watch_topic *topic = change->topic.len > 0 ? kt_map_get(&hub->topics, change->topic) : NULL;
    unsigned count;

    for (unsigned i = 0; i < KT_WATCH_FORMS; i++)
        kt_buf_init(&event.forms[i], KT_REPLY_BYTES_MAX * 2);
    count = tell_all(&hub->any, &event);
    if (topic) {
        topic->count++;
        count += tell_all(&topic->watches, &event);
        drop_topic(hub, topic);
    }
    for (unsigned i = 0; i < KT_WATCH_FORMS; i++)
        kt_buf_release(&event.forms[i]);
    return count;
}

/*
 * The change log was cut off past the shared reading: rare, since it reads what it is told of at once. Each watch finds
 * out on its own what it missed.
 */
static void scatter(struct kt_dispatch *dispatch)
{
    struct watch_hub *hub = &dispatch->watch;
    struct watch_place at = hub->at;
    struct kt_list behind;
    struct kt_watch *watch;

    kt_list_init(&behind);
    for (;;) {
        struct kt_slice name;
        size_t from = 0;
        void *topic;

        watch = kt_list_first(&hub->any, struct kt_watch, link);
        if (!watch && kt_map_next(&hub->topics, &from, &name, &topic))
            watch = kt_list_first(&((struct watch_topic *)topic)->watches, struct kt_watch, link);
        if (!watch)
            break;
        if (place_before(watch->next, at))
            watch->next = at;
        fall_behind(watch);
        kt_list_append(&behind, &watch->link);
    }
    while ((watch = kt_list_first(&behind, struct kt_watch, link))) {
        kt_list_remove(&watch->link);
        watch_scan(watch);
    }
}

/* true: there is more. */
static enum kt_code read_on(struct kt_dispatch *dispatch, struct kt_txn *txn, bool *more)
{
    struct watch_hub *hub = &dispatch->watch;
    struct kt_state_position position;
    struct kt_change_walk walk;
    struct kt_change change;
    uint64_t bytes = 0, events = 0;
    enum kt_code code = kt_state_position_of(dispatch->options.state, txn, &position);

    if (code == KT_OK)
        code =
            kt_change_walk_begin(&walk, kt_state_changes(dispatch->options.state), txn, hub->at.index, hub->at.number);
    if (code != KT_OK)
        return code;
    if (hub->at.index < walk.oldest)
        scatter(dispatch);
    while ((code = kt_change_walk_next(&walk, &change)) == KT_OK) {
        if (bytes >= PASS_BYTES || events >= PASS_EVENTS || hub->current == 0)
            break;
        hub->at = (struct watch_place){.index = change.index, .number = change.number + 1};
        bytes += change.bytes;
        events += 1 + tell_change(hub, &change);
    }
    kt_change_walk_end(&walk);
    *more = code == KT_OK && hub->current > 0;
    if (code == KT_NOT_FOUND && hub->at.index <= position.index)
        hub->at = (struct watch_place){.index = position.index + 1};
    return code == KT_NOT_FOUND ? KT_OK : code;
}

static void retry(struct watch_hub *hub)
{
    struct kt_watch *watch;
    struct kt_list failed;

    kt_list_init(&failed);
    kt_list_move(&failed, &hub->retry);
    while ((watch = kt_list_first(&failed, struct kt_watch, link))) {
        kt_list_remove(&watch->link);
        watch_scan(watch);
    }
}

void watch_pass(struct kt_dispatch *dispatch)
{
    struct watch_hub *hub = &dispatch->watch;
    struct kt_txn *txn;
    bool more = false;
    enum kt_code code;

    if (!atomic_exchange(&hub->told, false) || dispatch->draining)
        return;
    retry(hub);
    if (hub->current == 0)
        return;
    code = kt_txn_begin_read(kt_state_store(dispatch->options.state), &txn);
    if (code == KT_OK) {
        code = read_on(dispatch, txn, &more);
        kt_txn_abort(txn);
    }
    if (code != KT_OK)
        kt_warn("watch", "the change log cannot be read: %s", kt_code_text(code));
    /* What cannot be read now is tried again with the next change. */
    if (more)
        told(dispatch, 0);
}

/* Lives. */

struct kt_watch *kt_watch_open(struct kt_dispatch *dispatch, const struct kt_watch_options *options)
{
    struct kt_watch *watch = kt_zalloc(sizeof(*watch) + options->topic.len);

    watch->dispatch = dispatch;
    watch->options = *options;
    if (options->topic.len > 0) {
        memcpy(watch + 1, options->topic.data, options->topic.len);
        watch->options.topic.data = watch + 1;
    }
    kt_list_init(&watch->link);
    watch->next = (struct watch_place){.index = options->index, .number = options->number};
    watch->behind = true;
    dispatch->watch.behind++;
    follow(dispatch, true);
    if (!watch_join(watch))
        watch_scan(watch);
    else
        told(dispatch, 0); /* what became visible before this node was told of it */
    return watch;
}

void watch_free(struct kt_watch *watch)
{
    void (*release)(void *data) = watch->options.release;
    void *data = watch->options.data;

    kt_free(watch);
    if (release)
        release(data);
}

void kt_watch_close(struct kt_watch *watch)
{
    struct watch_hub *hub = &watch->dispatch->watch;

    KT_CHECK(!watch->closed);
    watch->closed = true;
    if (watch->behind)
        hub->behind--;
    else
        leave(watch);
    kt_list_remove(&watch->link);
    if (hub->current + hub->behind == 0)
        follow(watch->dispatch, false);
    if (!watch->scanning && !watch->advancing)
        watch_free(watch);
}

void kt_watch_resume(struct kt_watch *watch)
{
    if (watch->behind && !watch->scanning && !watch->advancing && kt_list_empty(&watch->link))
        watch_advance(watch);
}

void kt_watch_counts(const struct kt_dispatch *dispatch, struct kt_watch_counts *counts)
{
    const struct watch_hub *hub = &dispatch->watch;

    *counts = (struct kt_watch_counts){
        .watches = hub->current + hub->behind, .behind = hub->behind, .events = hub->events, .lagged = hub->lagged};
}
