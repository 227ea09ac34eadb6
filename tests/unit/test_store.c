/* The store over a real file: transactions, cursors, the state hash, readers, limits. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/store.h"
#include "support/engine_driver.h"
#include "wire/writer.h"

struct fixture {
    char folder[64], path[96];
    struct kt_store *store;
    kt_space a, b;
};

#define TEXT(text) kt_slice_text(text)

static void open_store(struct fixture *f, bool volatile_data)
{
    struct kt_store_options options = {
        .path = f->path, .bytes_max = UINT64_C(64) << 20, .volatile_data = volatile_data};
    struct kt_error error;

    assert_int_equal(kt_store_open(&options, &f->store, &error), KT_OK);
    assert_int_equal(kt_store_space(f->store, "a", &f->a, &error), KT_OK);
    assert_int_equal(kt_store_space(f->store, "b", &f->b, &error), KT_OK);
}

static int set_up(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    temporary_folder(f->folder);
    snprintf(f->path, sizeof(f->path), "%s/data", f->folder);
    open_store(f, true);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    kt_log_sink(NULL, NULL);
    kt_store_close(f->store);
    temporary_folder_remove(f->folder);
    kt_free(f);
    return 0;
}

static void quiet(void *data, const char *line)
{
    (void)line;
    ++*(unsigned *)data;
}

static struct kt_txn *begin_write(struct fixture *f)
{
    struct kt_txn *txn;

    assert_int_equal(kt_txn_begin_write(f->store, &txn), KT_OK);
    return txn;
}

static struct kt_txn *begin_read(struct fixture *f)
{
    struct kt_txn *txn;

    assert_int_equal(kt_txn_begin_read(f->store, &txn), KT_OK);
    return txn;
}

static void expect(struct kt_txn *txn, kt_space space, const char *key, const char *value)
{
    struct kt_slice found;
    enum kt_code code = kt_txn_get(txn, space, TEXT(key), &found);

    if (!value) {
        assert_int_equal(code, KT_NOT_FOUND);
        return;
    }
    assert_int_equal(code, KT_OK);
    assert_int_equal(found.len, strlen(value));
    assert_memory_equal(found.data, value, found.len);
}

static void put(struct kt_txn *txn, kt_space space, const char *key, const char *value)
{
    assert_int_equal(kt_txn_put(txn, space, TEXT(key), TEXT(value)), KT_OK);
}

static void drop(struct kt_txn *txn, kt_space space, const char *key)
{
    assert_int_equal(kt_txn_delete(txn, space, TEXT(key)), KT_OK);
}

static void write__committed__is_seen_by_readers_that_begin_later(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *before = begin_read(f), *txn = begin_write(f), *after;

    put(txn, f->a, "k", "1");
    put(txn, f->b, "k", "2");
    expect(txn, f->a, "k", "1");
    expect(before, f->a, "k", NULL);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    expect(before, f->a, "k", NULL);
    after = begin_read(f);
    expect(after, f->a, "k", "1");
    expect(after, f->b, "k", "2");
    kt_txn_abort(before);
    kt_txn_abort(after);
    before = begin_read(f); /* a recycled one */
    expect(before, f->a, "k", "1");
    kt_txn_abort(before);
}

static void write__aborted__leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn = begin_write(f);
    uint64_t count;

    put(txn, f->a, "k", "1");
    kt_txn_abort(txn);
    txn = begin_write(f);
    expect(txn, f->a, "k", NULL);
    drop(txn, f->a, "k");
    put(txn, f->a, "k", "");
    expect(txn, f->a, "k", "");
    assert_int_equal(kt_txn_count(txn, f->a, &count), KT_OK);
    assert_int_equal(count, 1);
    kt_txn_abort(txn);
}

static void key__at_the_limit__is_stored(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn = begin_write(f);
    uint8_t key[KT_STORE_KEY_MAX];
    struct kt_slice value;

    memset(key, 0xff, sizeof(key));
    assert_int_equal(kt_txn_put(txn, f->a, kt_slice(key, sizeof(key)), TEXT("v")), KT_OK);
    assert_int_equal(kt_txn_get(txn, f->a, kt_slice(key, sizeof(key)), &value), KT_OK);
    assert_int_equal(kt_txn_get(txn, f->a, kt_slice(key, sizeof(key) - 1), &value), KT_NOT_FOUND);
    kt_txn_abort(txn);
}

static void store__reopened__has_what_was_committed(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn;

    kt_store_close(f->store);
    open_store(f, false);
    txn = begin_write(f);
    put(txn, f->a, "kept", "1");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    txn = begin_write(f);
    put(txn, f->a, "lost", "1");
    kt_txn_abort(txn);
    assert_int_equal(kt_store_sync(f->store), KT_OK);
    kt_store_close(f->store);
    open_store(f, false);
    txn = begin_read(f);
    expect(txn, f->a, "kept", "1");
    expect(txn, f->a, "lost", NULL);
    kt_txn_abort(txn);
}

static void nest__undone__forgets_its_writes_and_their_hash(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn = begin_write(f);
    uint64_t hash;

    put(txn, f->a, "outer", "1");
    hash = kt_txn_hash(txn);
    assert_int_equal(kt_txn_nest(txn), KT_OK);
    put(txn, f->a, "inner", "1");
    drop(txn, f->a, "outer");
    expect(txn, f->a, "outer", NULL);
    assert_true(kt_txn_hash(txn) != hash);
    kt_txn_nest_undo(txn);
    assert_true(kt_txn_hash(txn) == hash);
    expect(txn, f->a, "inner", NULL);
    expect(txn, f->a, "outer", "1");
    assert_int_equal(kt_txn_nest(txn), KT_OK);
    put(txn, f->a, "inner", "2");
    assert_int_equal(kt_txn_nest_keep(txn), KT_OK);
    put(txn, f->a, "after", "3");
    hash = kt_txn_hash(txn);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    txn = begin_read(f);
    expect(txn, f->a, "inner", "2");
    expect(txn, f->a, "after", "3");
    kt_txn_abort(txn);
    /* The same writes without any nesting. */
    txn = begin_write(f);
    put(txn, f->a, "outer", "1");
    put(txn, f->a, "inner", "2");
    put(txn, f->a, "after", "3");
    assert_true(kt_txn_hash(txn) == hash);
    kt_txn_abort(txn);
}

static void clear__a_keyspace__empties_it_alone_and_counts_in_the_hash(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn = begin_write(f), *before;
    uint64_t hash, count;

    for (unsigned i = 0; i < 5000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%u", i);
        put(txn, f->a, key, "a value that fills some pages when there are many of it");
    }
    put(txn, f->b, "other", "1");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    before = begin_read(f);
    txn = begin_write(f);
    hash = kt_txn_hash(txn);
    assert_int_equal(kt_txn_nest(txn), KT_OK);
    assert_int_equal(kt_txn_clear(txn, f->a), KT_OK);
    expect(txn, f->a, "k7", NULL);
    kt_txn_nest_undo(txn);
    expect(txn, f->a, "k7", "a value that fills some pages when there are many of it");
    assert_true(kt_txn_hash(txn) == hash);
    assert_int_equal(kt_txn_clear(txn, f->a), KT_OK);
    assert_true(kt_txn_hash(txn) != hash);
    assert_int_equal(kt_txn_count(txn, f->a, &count), KT_OK);
    assert_int_equal(count, 0);
    expect(txn, f->b, "other", "1");
    put(txn, f->a, "k7", "new");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    expect(before, f->a, "k9", "a value that fills some pages when there are many of it");
    kt_txn_abort(before);
    txn = begin_read(f);
    expect(txn, f->a, "k7", "new");
    expect(txn, f->a, "k9", NULL);
    kt_txn_abort(txn);
}

static void nest__left_open_by_an_abort__goes_with_it(void **state)
{
    struct fixture *f = *state;
    struct kt_txn *txn = begin_write(f);

    assert_int_equal(kt_txn_nest(txn), KT_OK);
    put(txn, f->a, "k", "1");
    kt_txn_abort(txn);
    txn = begin_write(f);
    expect(txn, f->a, "k", NULL);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
}

/* The hash of one write after hash 0. */
static uint64_t hash_of(struct fixture *f, kt_space space, const char *key, const char *value)
{
    struct kt_txn *txn = begin_write(f);
    uint64_t hash;

    if (value)
        put(txn, space, key, value);
    else
        drop(txn, space, key);
    hash = kt_txn_hash(txn);
    kt_txn_abort(txn);
    return hash;
}

static void hash__of_writes__tells_every_difference(void **state)
{
    struct fixture *f = *state;
    uint64_t hash = hash_of(f, f->a, "key", "value");
    struct kt_txn *txn;
    uint64_t one, two;

    assert_true(hash != 0);
    assert_true(hash == hash_of(f, f->a, "key", "value"));
    assert_true(hash != hash_of(f, f->b, "key", "value"));
    assert_true(hash != hash_of(f, f->a, "keyv", "alue"));
    assert_true(hash != hash_of(f, f->a, "key", "valu"));
    assert_true(hash_of(f, f->a, "key", "") != hash_of(f, f->a, "key", NULL));
    /* The order counts, the commits between do not. */
    txn = begin_write(f);
    put(txn, f->a, "x", "1");
    put(txn, f->a, "y", "2");
    one = kt_txn_hash(txn);
    kt_txn_abort(txn);
    txn = begin_write(f);
    put(txn, f->a, "y", "2");
    put(txn, f->a, "x", "1");
    two = kt_txn_hash(txn);
    kt_txn_abort(txn);
    assert_true(one != two);
    txn = begin_write(f);
    put(txn, f->a, "x", "1");
    two = kt_txn_hash(txn);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    txn = begin_write(f);
    kt_txn_hash_set(txn, two);
    put(txn, f->a, "y", "2");
    assert_true(kt_txn_hash(txn) == one);
    kt_txn_abort(txn);
}

static void hash__of_a_space__is_that_of_its_name(void **state)
{
    struct fixture *f = *state;
    uint64_t hash = hash_of(f, f->b, "key", "value");
    struct kt_error error;
    struct fixture other = {.store = NULL};

    /* A store whose keyspaces were opened in another order has other handles. */
    temporary_folder(other.folder);
    snprintf(other.path, sizeof(other.path), "%s/data", other.folder);
    struct kt_store_options options = {.path = other.path, .bytes_max = 1, .volatile_data = true};

    assert_int_equal(kt_store_open(&options, &other.store, &error), KT_OK);
    assert_int_equal(kt_store_space(other.store, "b", &other.b, &error), KT_OK);
    assert_int_not_equal(other.b, f->b);
    assert_true(hash_of(&other, other.b, "key", "value") == hash);
    kt_store_close(other.store);
    temporary_folder_remove(other.folder);
}

static void fill_for_walks(struct fixture *f)
{
    struct kt_txn *txn = begin_write(f);

    put(txn, f->a, "b", "1");
    put(txn, f->a, "ba", "2");
    put(txn, f->a, "d", "3");
    put(txn, f->a, "\xff", "4");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
}

static void cursor__walks__in_order_from_where_it_is_told(void **state)
{
    static const char *const order[] = {"b", "ba", "d", "\xff"};
    struct fixture *f = *state;
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    struct kt_txn *txn;

    fill_for_walks(f);
    txn = begin_read(f);
    assert_int_equal(kt_cursor_open(txn, f->a, &cursor), KT_OK);
    assert_int_equal(kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value), KT_OK);
    for (size_t i = 0; i < KT_COUNT(order); i++) {
        assert_true(kt_slice_is(key, order[i]));
        assert_int_equal(kt_cursor_next(cursor, &key, &value), i + 1 < KT_COUNT(order) ? KT_OK : KT_NOT_FOUND);
    }
    assert_int_equal(kt_cursor_seek(cursor, TEXT("c"), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "d"));
    assert_true(kt_slice_is(value, "3"));
    assert_int_equal(kt_cursor_seek(cursor, TEXT("ba"), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "ba"));
    assert_int_equal(kt_cursor_seek(cursor, TEXT("\xff\xff"), &key, &value), KT_NOT_FOUND);
    kt_cursor_close(cursor);
    kt_txn_abort(txn);
}

static void cursor__seeking_before__finds_the_nearest_smaller(void **state)
{
    struct fixture *f = *state;
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    struct kt_txn *txn;

    fill_for_walks(f);
    txn = begin_read(f);
    assert_int_equal(kt_cursor_open(txn, f->a, &cursor), KT_OK);
    assert_int_equal(kt_cursor_seek_before(cursor, kt_slice(NULL, 0), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "\xff"));
    assert_int_equal(kt_cursor_seek_before(cursor, TEXT("\xff\xff"), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "\xff"));
    assert_int_equal(kt_cursor_seek_before(cursor, TEXT("d"), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "ba"));
    assert_int_equal(kt_cursor_seek_before(cursor, TEXT("c"), &key, &value), KT_OK);
    assert_true(kt_slice_is(key, "ba"));
    assert_int_equal(kt_cursor_seek_before(cursor, TEXT("b"), &key, &value), KT_NOT_FOUND);
    kt_cursor_close(cursor);
    assert_int_equal(kt_cursor_open(txn, f->b, &cursor), KT_OK);
    assert_int_equal(kt_cursor_seek_before(cursor, kt_slice(NULL, 0), &key, &value), KT_NOT_FOUND);
    assert_int_equal(kt_cursor_seek_before(cursor, TEXT("x"), &key, &value), KT_NOT_FOUND);
    assert_int_equal(kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value), KT_NOT_FOUND);
    kt_cursor_close(cursor);
    kt_txn_abort(txn);
}

static void cursor__in_a_write_transaction__sees_its_writes_when_it_seeks_again(void **state)
{
    struct fixture *f = *state;
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    struct kt_txn *txn;
    unsigned count = 0;
    char text[16];

    txn = begin_write(f);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "%04u", i);
        put(txn, f->a, text, text);
    }
    assert_int_equal(kt_cursor_open(txn, f->a, &cursor), KT_OK);
    while (kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value) == KT_OK) {
        snprintf(text, sizeof(text), "%04u", count++);
        assert_true(kt_slice_is(key, text));
        drop(txn, f->a, text);
    }
    assert_int_equal(count, 500);
    kt_cursor_close(cursor);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
}

static void store__full__says_so_and_goes_on_when_room_is_made(void **state)
{
    struct fixture *f = *state;
    uint8_t *block = kt_zalloc(1u << 20);
    struct kt_slice value = kt_slice(block, 1u << 20);
    unsigned lines = 0, stored = 0;
    struct kt_txn *txn;
    uint64_t used, file;
    uint8_t key[4];
    enum kt_code code;

    kt_log_sink(quiet, &lines);
    for (;;) {
        assert_true(stored < 64);
        kt_put_be32(key, stored);
        txn = begin_write(f);
        code = kt_txn_put(txn, f->a, kt_slice(key, 4), value);
        if (code) {
            assert_int_equal(code, KT_DISK_FULL);
            kt_txn_abort(txn);
            break;
        }
        code = kt_txn_commit(txn);
        if (code) {
            assert_int_equal(code, KT_DISK_FULL);
            break;
        }
        stored++;
    }
    assert_true(stored >= 48);
    assert_true(lines > 0);
    kt_store_usage(f->store, &used, &file);
    assert_in_range(used, stored << 20, 64u << 20);
    assert_in_range(file, used, 64u << 20);
    txn = begin_write(f);
    for (unsigned i = 0; i < stored; i++) {
        kt_put_be32(key, i);
        assert_int_equal(kt_txn_delete(txn, f->a, kt_slice(key, 4)), KT_OK);
    }
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    kt_store_usage(f->store, &used, &file);
    assert_in_range(used, 1, 1u << 20);
    txn = begin_write(f); /* pages freed by the last commit serve from the next but one on */
    put(txn, f->b, "k", "v");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    txn = begin_write(f);
    assert_int_equal(kt_txn_put(txn, f->a, kt_slice(key, 4), value), KT_OK);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    kt_free(block);
}

static void readers__more_than_are_kept__all_work(void **state)
{
    struct kt_txn *readers[200];
    struct fixture *f = *state;

    fill_for_walks(f);
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < KT_COUNT(readers); i++)
            readers[i] = begin_read(f);
        for (size_t i = 0; i < KT_COUNT(readers); i++) {
            expect(readers[i], f->a, "b", "1");
            kt_txn_abort(readers[i]);
        }
    }
}

static void readers__more_than_there_is_room_for__are_told_busy(void **state)
{
    static struct kt_txn *readers[4096];
    struct fixture *f = *state;
    unsigned lines = 0, count = 0;
    enum kt_code code = KT_OK;

    kt_log_sink(quiet, &lines);
    while (count < KT_COUNT(readers)) {
        code = kt_txn_begin_read(f->store, &readers[count]);
        if (code)
            break;
        count++;
    }
    assert_int_equal(code, KT_BUSY);
    kt_txn_abort(readers[--count]);
    readers[count++] = begin_read(f);
    while (count > 0)
        kt_txn_abort(readers[--count]);
}

static void store__where_it_cannot_be__says_why(void **state)
{
    struct fixture *f = *state;
    struct kt_store_options options = {.path = "/nonexistent/folder/data", .bytes_max = 1};
    struct kt_store *store;
    struct kt_error error;
    unsigned lines = 0;
    FILE *file;

    (void)f;
    kt_log_sink(quiet, &lines);
    assert_int_equal(kt_store_open(&options, &store, &error), KT_IO_FAILED);
    assert_null(store);
    assert_non_null(strstr(error.text, "/nonexistent/folder/data"));
    char path[128];

    snprintf(path, sizeof(path), "%s/other", f->folder);
    file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned i = 0; i < 10000; i++)
        fputc('x', file);
    fclose(file);
    options.path = path;
    assert_int_equal(kt_store_open(&options, &store, &error), KT_CORRUPT);
    assert_null(store);
}

struct reading {
    struct fixture *f;
    atomic_bool stop;
    atomic_uint rounds;
    bool torn;
};

/* Both keys are always written together, so a reader that sees them differ saw half a commit. */
static void *read_pairs(void *data)
{
    struct reading *reading = data;

    while (!atomic_load(&reading->stop)) {
        struct kt_slice one, two;
        struct kt_txn *txn;

        if (kt_txn_begin_read(reading->f->store, &txn)) {
            reading->torn = true;
            break;
        }
        if (kt_txn_get(txn, reading->f->a, TEXT("k"), &one) || kt_txn_get(txn, reading->f->b, TEXT("k"), &two) ||
            !kt_slice_equal(one, two))
            reading->torn = true;
        kt_txn_abort(txn);
        atomic_fetch_add(&reading->rounds, 1);
    }
    return NULL;
}

static void readers__while_a_writer_commits__see_whole_commits(void **state)
{
    struct fixture *f = *state;
    struct reading readings[3];
    pthread_t threads[3];
    struct kt_txn *txn;
    uint64_t number = 0;
    bool enough;

    txn = begin_write(f);
    put(txn, f->a, "k", "0");
    put(txn, f->b, "k", "0");
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    for (size_t i = 0; i < KT_COUNT(threads); i++) {
        readings[i].f = f;
        readings[i].torn = false;
        atomic_init(&readings[i].stop, false);
        atomic_init(&readings[i].rounds, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, &readings[i]), 0);
    }
    do {
        char text[32];

        snprintf(text, sizeof(text), "%llu", (unsigned long long)++number);
        txn = begin_write(f);
        put(txn, f->a, "k", text);
        put(txn, f->b, "k", text);
        assert_int_equal(kt_txn_commit(txn), KT_OK);
        enough = number >= 200;
        for (size_t i = 0; i < KT_COUNT(threads); i++)
            enough = enough && (atomic_load(&readings[i].rounds) >= 200);
    } while (!enough);
    for (size_t i = 0; i < KT_COUNT(threads); i++) {
        atomic_store(&readings[i].stop, true);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(readings[i].torn);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(write__committed__is_seen_by_readers_that_begin_later),
        TEST(write__aborted__leaves_nothing),
        TEST(key__at_the_limit__is_stored),
        TEST(store__reopened__has_what_was_committed),
        TEST(nest__undone__forgets_its_writes_and_their_hash),
        TEST(clear__a_keyspace__empties_it_alone_and_counts_in_the_hash),
        TEST(nest__left_open_by_an_abort__goes_with_it),
        TEST(hash__of_writes__tells_every_difference),
        TEST(hash__of_a_space__is_that_of_its_name),
        TEST(cursor__walks__in_order_from_where_it_is_told),
        TEST(cursor__seeking_before__finds_the_nearest_smaller),
        TEST(cursor__in_a_write_transaction__sees_its_writes_when_it_seeks_again),
        TEST(store__full__says_so_and_goes_on_when_room_is_made),
        TEST(readers__more_than_are_kept__all_work),
        TEST(readers__more_than_there_is_room_for__are_told_busy),
        TEST(store__where_it_cannot_be__says_why),
        TEST(readers__while_a_writer_commits__see_whole_commits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
