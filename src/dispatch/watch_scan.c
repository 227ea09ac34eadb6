/*
 * Reading for one watch that is behind. A scan copies the changes that the watch wants, so that no transaction stays
 * open while its owner takes them; what the owner does not take is read again later.
 *
 * A little is read on the spot: a watch that fell behind by a few changes would otherwise wait for the pool each time.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "dispatch/dispatch_internal.h"
#include "dispatch/watch_internal.h"

/* One scan looks at so many bytes of the change log, and copies so many: some milliseconds, and some memory. */
#define SCAN_LOOK_BYTES (4u << 20)
#define SCAN_COPY_BYTES (256u << 10)
/* Of the threads for scans: requests that scan wait for one of these at most, however many watches want history. */
#define SCANS_MAX 1u
/* The same on the io thread: if there are so few entries between the watch and the others. */
#define NEAR_ENTRIES    64u
#define NEAR_LOOK_BYTES (256u << 10)
#define NEAR_SCANS      16u /* in a row, before the loop does something else */

struct copied {
    struct kt_list link;
    size_t len;
    uint8_t key[KT_CHANGE_KEY_BYTES];
    uint8_t value[];
};

struct scan {
    struct kt_pool_work work;
    struct kt_list link; /* in the hub's queue */
    struct kt_watch *watch;
    uint64_t look_bytes;
    struct watch_place at; /* begins there, and then how far it got */
    kt_index oldest;       /* of the change log */
    bool end;              /* nothing more was there */
    struct kt_list found;
    enum kt_code code;
};

static void copy(struct scan *scan, const struct kt_change *change, struct kt_slice value)
{
    struct copied *copied = kt_alloc(sizeof(*copied) + value.len);

    copied->len = value.len;
    kt_change_key(copied->key, change->index, change->number);
    memcpy(copied->value, value.data, value.len);
    kt_list_append(&scan->found, &copied->link);
}

static enum kt_code look(struct scan *scan, struct kt_txn *txn)
{
    const struct kt_watch_options *options = &scan->watch->options;
    struct kt_state *state = scan->watch->dispatch->options.state;
    struct kt_state_position position;
    struct kt_change_walk walk;
    struct kt_change change;
    uint64_t looked = 0, copied = 0;
    enum kt_code code = kt_state_position_of(state, txn, &position);

    if (code == KT_OK)
        code = kt_change_walk_begin(&walk, kt_state_changes(state), txn, scan->at.index, scan->at.number);
    if (code != KT_OK)
        return code;
    scan->oldest = walk.oldest;
    while (looked < scan->look_bytes && copied < SCAN_COPY_BYTES &&
           (code = kt_change_walk_next(&walk, &change)) == KT_OK) {
        looked += change.bytes;
        scan->at = (struct watch_place){.index = change.index, .number = change.number + 1};
        if (change.engine != options->engine ||
            (options->topic.len > 0 && !kt_slice_equal(options->topic, change.topic)) ||
            !options->wants(options->data, &change))
            continue;
        copied += change.bytes;
        copy(scan, &change, walk.value);
    }
    kt_change_walk_end(&walk);
    scan->end = code == KT_NOT_FOUND;
    if (scan->end && scan->at.index <= position.index)
        scan->at = (struct watch_place){.index = position.index + 1};
    return scan->end ? KT_OK : code;
}

/* Pool, or io. */
static void run(struct kt_pool_work *work)
{
    struct scan *scan = KT_CONTAINER(work, struct scan, work);
    struct kt_txn *txn;

    scan->code = kt_txn_begin_read(kt_state_store(scan->watch->dispatch->options.state), &txn);
    if (scan->code != KT_OK)
        return;
    scan->code = look(scan, txn);
    kt_txn_abort(txn);
}

static void scan_free(struct scan *scan)
{
    struct copied *copied;

    while ((copied = kt_list_first(&scan->found, struct copied, link))) {
        kt_list_remove(&copied->link);
        kt_free(copied);
    }
    kt_free(scan);
}

static enum kt_code tell(struct kt_watch *watch, const struct copied *copied)
{
    struct kt_watch_event event;
    enum kt_code code = kt_change_decode(kt_slice(copied->key, sizeof(copied->key)),
                                         kt_slice(copied->value, copied->len), &event.change);

    if (code != KT_OK)
        return code;
    for (unsigned i = 0; i < KT_WATCH_FORMS; i++)
        kt_buf_init(&event.forms[i], KT_REPLY_BYTES_MAX * 2);
    watch->next = (struct watch_place){.index = event.change.index, .number = event.change.number + 1};
    watch->options.fresh = false;
    watch->dispatch->watch.events++;
    watch->options.event(watch->options.data, &event);
    for (unsigned i = 0; i < KT_WATCH_FORMS; i++)
        kt_buf_release(&event.forms[i]);
    return KT_OK;
}

/* Tells what was found as far as there is room. true: all of it. The watch may be closed meanwhile, but not freed. */
static bool tell_found(struct kt_watch *watch, struct scan *scan)
{
    struct kt_list *link;

    if (scan->oldest > watch->next.index)
        watch_tell_lagging(watch, scan->oldest);
    kt_list_each (link, &scan->found) {
        if (watch->closed || !watch->options.room(watch->options.data))
            return false;
        scan->code = tell(watch, KT_CONTAINER(link, struct copied, link));
        if (scan->code != KT_OK)
            return false;
    }
    if (watch->closed)
        return false;
    watch->next = scan->at;
    watch->options.fresh = false;
    return true;
}

static struct scan *scan_create(struct kt_watch *watch, uint64_t look_bytes)
{
    struct scan *scan = kt_zalloc(sizeof(*scan));

    scan->watch = watch;
    scan->look_bytes = look_bytes;
    scan->at = watch->next;
    kt_list_init(&scan->link);
    kt_list_init(&scan->found);
    return scan;
}

/* Tried again when something becomes visible. */
static void fail(struct kt_watch *watch, enum kt_code code)
{
    kt_warn("watch", "the change log cannot be read: %s", kt_code_text(code));
    if (!watch->closed)
        kt_list_append(&watch->dispatch->watch.retry, &watch->link);
}

/* What came of a scan; true: the watch may read on. Frees the scan. */
static bool take_in(struct kt_watch *watch, struct scan *scan)
{
    bool all = false;

    if (scan->code == KT_OK && !watch->closed)
        all = tell_found(watch, scan);
    if (scan->code != KT_OK)
        fail(watch, scan->code);
    scan_free(scan);
    return all;
}

static void done(struct kt_pool_work *work);

/* A scan that nobody wants any more. */
static void drop(struct scan *scan)
{
    struct kt_watch *watch = scan->watch;

    watch->dispatch->watch.scans--;
    watch->scanning = false;
    scan_free(scan);
    if (watch->closed)
        watch_free(watch);
}

static void begin_scans(struct kt_dispatch *dispatch)
{
    struct watch_hub *hub = &dispatch->watch;
    struct scan *scan;

    while (hub->running < SCANS_MAX && (scan = kt_list_first(&hub->queue, struct scan, link))) {
        kt_list_remove(&scan->link);
        if (scan->watch->closed || dispatch->draining) {
            drop(scan);
            continue;
        }
        scan->work.run = run;
        scan->work.done = done;
        hub->running++;
        kt_dispatch_work(dispatch, KT_POOL_SCAN, &scan->work);
    }
}

/* io thread. */
static void done(struct kt_pool_work *work)
{
    struct scan *scan = KT_CONTAINER(work, struct scan, work);
    struct kt_watch *watch = scan->watch;
    bool all;

    watch->dispatch->watch.scans--;
    watch->dispatch->watch.running--;
    begin_scans(watch->dispatch);
    watch->scanning = false;
    watch->advancing = true;
    all = take_in(watch, scan);
    watch->advancing = false;
    if (watch->closed)
        watch_free(watch);
    else if (all && !watch_join(watch))
        watch_advance(watch);
}

void watch_scan(struct kt_watch *watch)
{
    struct watch_hub *hub = &watch->dispatch->watch;

    if (watch->dispatch->draining)
        return;
    watch->scanning = true;
    hub->scans++;
    kt_list_append(&hub->queue, &scan_create(watch, SCAN_LOOK_BYTES)->link);
    begin_scans(watch->dispatch);
}

/* After watch_join said no, so that the hub's place is of now. */
static bool is_near(const struct kt_watch *watch)
{
    return watch->dispatch->watch.at.index - watch->next.index <= NEAR_ENTRIES;
}

/* One reading here; true: it may read on. */
static bool scan_here(struct kt_watch *watch)
{
    struct scan *scan = scan_create(watch, NEAR_LOOK_BYTES);

    run(&scan->work);
    return take_in(watch, scan);
}

void watch_advance(struct kt_watch *watch)
{
    if (watch->dispatch->draining)
        return;
    watch->advancing = true;
    for (unsigned i = 0; !watch->closed; i++) {
        /* Without room it is resumed when there is some. */
        if (!watch->options.room(watch->options.data) || watch_join(watch))
            break;
        if (i == NEAR_SCANS || !is_near(watch)) {
            watch_scan(watch);
            break;
        }
        if (!scan_here(watch))
            break;
    }
    watch->advancing = false;
    if (watch->closed && !watch->scanning)
        watch_free(watch);
}
