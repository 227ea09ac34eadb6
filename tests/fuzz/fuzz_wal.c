/*
 * The log on a disk that anybody may have written. The input is a little program: it makes a log, patches its files
 * (with and without fitting checksums) or puts files of its own, and opens it. Opening ends with a log or a clear
 * refusal; a log that opens can be read to its end (or says that it is damaged), written, and opened again with what
 * was written.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"
#include "support/memory_disk.h"
#include "wire/reader.h"

#define SEGMENT   (64u << 10)
#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct kt_memory_disk *memory;
    struct kt_wal *wal;
    struct kt_wal_found found;
    struct kt_reader input;
};

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static enum kt_code open_wal(struct world *world)
{
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(world->memory), .segment_bytes = SEGMENT, .seed = 1};
    struct kt_error error = {.code = KT_OK};
    enum kt_code code = kt_wal_open(&options, &world->wal, &world->found, &error);

    KT_CHECK((code == KT_OK) == (world->wal != NULL));
    KT_CHECK(code == KT_OK || (error.code == code && error.text[0] != '\0'));
    return code;
}

/* The entry one behind the last, or `back` before that. */
static void append(struct world *world, uint64_t back, kt_term more, uint32_t len)
{
    kt_index first = kt_wal_first(world->wal), last = kt_wal_last(world->wal);
    kt_index index = last + 1 - KT_MIN(back, last + 1 - first);
    struct kt_entry entry = {.index = index, .term = kt_wal_term(world->wal, last) + more, .type = KT_ENTRY_COMMAND};

    entry.chunk = kt_chunk_create(len);
    memset(entry.chunk->data, (int)index, len);
    entry.data = kt_slice(entry.chunk->data, len);
    KT_CHECK(kt_wal_append(world->wal, &entry, 1) == KT_OK);
    kt_chunk_drop(entry.chunk);
}

static void choose_name(struct kt_reader *input, char name[WAL_NAME_MAX])
{
    uint8_t choice = kt_read_u8(input);

    if (choice % 4 == 0)
        memcpy(name, WAL_VOTE_NAME, sizeof(WAL_VOTE_NAME));
    else if (choice % 8 == 5)
        wal_spare_name(choice / 8, name);
    else
        wal_segment_name(choice % 4, name);
}

/* Changes bytes of a file, then perhaps makes the checksum of the header or of one record fit again. */
static void patch(struct world *world)
{
    char name[WAL_NAME_MAX];
    uint8_t *bytes;
    int64_t size;
    uint16_t at;
    struct kt_slice with;
    uint64_t salt;

    choose_name(&world->input, name);
    size = kt_memory_disk_size(world->memory, name);
    at = kt_read_le16(&world->input);
    salt = kt_read_u8(&world->input);
    with = kt_read_bytes(&world->input, KT_MIN(salt % 16, kt_reader_left(&world->input)));
    if (size < SEGMENT || (int64_t)(at + with.len) > size)
        return;
    bytes = kt_alloc((size_t)size);
    memcpy(bytes, kt_memory_disk_bytes(world->memory, name), (size_t)size);
    memcpy(&salt, bytes + 24, sizeof(salt)); /* the layout of format.c */
    if (with.len > 0)
        memcpy(bytes + at, with.data, with.len);
    if (at < WAL_HEADER_BYTES)
        wal_header_sign(bytes);
    /* The record that the patch is in, if records begin at the multiples of its size. */
    for (uint64_t start = at & ~7u; start + WAL_RECORD_BYTES <= (uint64_t)size && start + WAL_RECORD_BYTES > at;
         start -= 8) {
        if (wal_record_begins(bytes + start))
            wal_record_sign(bytes + start, salt, start);
        if (start < WAL_HEADER_BYTES + 8)
            break;
    }
    kt_memory_disk_put(world->memory, name, bytes, (size_t)size);
    kt_free(bytes);
}

static void put(struct world *world)
{
    char name[WAL_NAME_MAX];
    struct kt_slice contents;

    choose_name(&world->input, name);
    contents = kt_read_bytes(&world->input, KT_MIN((size_t)kt_read_le16(&world->input), kt_reader_left(&world->input)));
    kt_memory_disk_put(world->memory, name, contents.data, contents.len);
}

static void flip(struct world *world)
{
    char name[WAL_NAME_MAX];
    uint16_t at = kt_read_le16(&world->input);

    choose_name(&world->input, name);
    (void)kt_memory_disk_flip(world->memory, name, at, at % 8);
}

static void change_log(struct world *world, uint8_t command)
{
    uint8_t a = kt_read_u8(&world->input), b = kt_read_u8(&world->input);

    switch (command % 8) {
    case 0:
    case 1:
        append(world, 0, b % 2, (uint32_t)a * b);
        return;
    case 2:
        append(world, a % 8, 1, b);
        return;
    case 3:
        KT_CHECK(kt_wal_sync(world->wal) == KT_OK);
        return;
    case 4:
        KT_CHECK(kt_wal_mark(world->wal) == KT_OK);
        return;
    case 5:
        KT_CHECK(kt_wal_vote(world->wal, a, b) == KT_OK);
        return;
    case 6:
        KT_CHECK(kt_wal_trim(world->wal, a) == KT_OK);
        return;
    default:
        KT_CHECK(kt_wal_prepare(world->wal) == KT_OK);
    }
}

/* To the end, or to damage. */
static void read_all(struct world *world)
{
    struct kt_entry entries[32];
    kt_index index = kt_wal_first(world->wal), last = kt_wal_last(world->wal);

    while (index <= last) {
        size_t count = 0;

        KT_CHECK(kt_wal_read(world->wal, index, last, 1 << 16, entries, KT_COUNT(entries), &count) == KT_OK);
        KT_CHECK(count > 0);
        for (size_t i = 0; i < count; i++) {
            KT_CHECK(entries[i].index == index + i && entries[i].term == kt_wal_term(world->wal, index + i));
            kt_chunk_drop(entries[i].chunk);
        }
        index += count;
    }
}

static void use(struct world *world)
{
    kt_index last;

    read_all(world);
    if (kt_wal_term(world->wal, kt_wal_last(world->wal)) < UINT64_MAX)
        append(world, 0, 1, 100);
    KT_CHECK(kt_wal_sync(world->wal) == KT_OK);
    last = kt_wal_last(world->wal);
    kt_wal_close(world->wal);
    KT_CHECK(open_wal(world) == KT_OK);
    KT_CHECK(world->found.last == last && world->found.torn_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world = {.memory = kt_memory_disk_create(1)};

    kt_log_sink(quiet, NULL);
    kt_reader_init(&world.input, kt_slice(data, size));
    for (unsigned i = 0; i < STEPS_MAX && kt_reader_left(&world.input) > 0; i++) {
        uint8_t command = kt_read_u8(&world.input);

        if (command < 128) {
            if (!world.wal && open_wal(&world) != KT_OK)
                break;
            change_log(&world, command);
            continue;
        }
        /* Files change while nobody has them open. */
        kt_wal_close(world.wal);
        world.wal = NULL;
        if (command < 192)
            patch(&world);
        else if (command < 224)
            put(&world);
        else
            flip(&world);
    }
    if (world.wal || open_wal(&world) == KT_OK)
        use(&world);
    kt_wal_close(world.wal);
    kt_memory_disk_free(world.memory);
    return 0;
}
