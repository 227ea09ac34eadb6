#include "cluster/node/founding.h"

#include <raft.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/plant.h"
#include "cluster/node/peer_frame.h"

#define MEMBERS_MAX 16

struct kt_founding {
    struct kt_founding_options options;
    kt_member_id heard[MEMBERS_MAX]; /* member id of a fresh node, while it is connected; 0: not heard */
    bool connected[MEMBERS_MAX];
    enum kt_founding_outcome outcome;
    struct kt_buf entry; /* data of the first entry */
};

static size_t place_of(const struct kt_founding *founding, kt_node_id node)
{
    size_t at = 0;
    while (at < founding->options.member_count && founding->options.members[at].id != node)
        at++;
    return at;
}

static void say_hello(struct kt_founding *founding, kt_node_id to)
{
    struct kt_buf frame;

    kt_frame_init(&frame);
    kt_frame_hello(&frame, founding->options.member, kt_buf_slice(&founding->entry));
    founding->options.send(founding->options.data, to, &frame);
}

/* The members in the order of their node ids, whatever the order of the list. */
static void make_entry(struct kt_founding *founding)
{
    struct raft_configuration configuration;
    struct raft_buffer bytes;

    raft_configuration_init(&configuration);
    for (kt_node_id node = 0, last = 0;; last = node) {
        size_t next = founding->options.member_count;
        for (size_t i = 0; i < founding->options.member_count; i++)
            if (founding->options.members[i].id > last &&
                (next == founding->options.member_count ||
                 founding->options.members[i].id < founding->options.members[next].id))
                next = i;
        if (next == founding->options.member_count)
            break;
        node = founding->options.members[next].id;
        KT_CHECK(raft_configuration_add(&configuration, founding->heard[next], founding->options.members[next].address,
                                        RAFT_VOTER) == 0);
    }
    KT_CHECK(raft_configuration_encode(&configuration, &bytes) == 0);
    raft_configuration_close(&configuration);
    kt_buf_append(&founding->entry, bytes.base, bytes.len);
    raft_free(bytes.base);
}

static void decide(struct kt_founding *founding)
{
    for (size_t i = 0; i < founding->options.member_count; i++)
        if (founding->heard[i] == 0)
            return;
    make_entry(founding);
    founding->outcome = KT_FOUNDING_FOUNDED;
    /* Whoever has not heard everybody yet learns it from the entry. */
    for (size_t i = 0; i < founding->options.member_count; i++)
        if (founding->connected[i])
            say_hello(founding, founding->options.members[i].id);
}

/* A node of a cluster answered. */
static void meet(struct kt_founding *founding, struct kt_slice entry)
{
    struct raft_buffer bytes = {.base = (void *)(uintptr_t)entry.data, .len = entry.len};
    struct raft_configuration configuration;
    bool named = false;

    if (raft_configuration_decode(&bytes, &configuration) != 0) {
        kt_warn("founding", "a node answers with a first entry that names no members");
        return;
    }
    for (unsigned i = 0; i < configuration.n; i++)
        named |= configuration.servers[i].id == founding->options.member;
    raft_configuration_close(&configuration);
    if (named) {
        kt_buf_clear(&founding->entry);
        kt_buf_append_slice(&founding->entry, entry);
        founding->outcome = KT_FOUNDING_FOUNDED;
    } else {
        founding->outcome = KT_FOUNDING_JOINS;
    }
}

struct kt_founding *kt_founding_create(const struct kt_founding_options *options)
{
    struct kt_founding *founding = kt_zalloc(sizeof *founding);

    KT_CHECK(options->member_count <= MEMBERS_MAX);
    founding->options = *options;
    kt_buf_init(&founding->entry, 64u << 10);
    founding->heard[place_of(founding, options->self)] = options->member;
    decide(founding);
    return founding;
}

void kt_founding_free(struct kt_founding *founding)
{
    if (founding == NULL)
        return;
    kt_buf_release(&founding->entry);
    kt_free(founding);
}

void kt_founding_connected(struct kt_founding *founding, kt_node_id peer)
{
    size_t at = place_of(founding, peer);
    if (at == founding->options.member_count)
        return;
    founding->connected[at] = true;
    say_hello(founding, peer);
}

void kt_founding_disconnected(struct kt_founding *founding, kt_node_id peer)
{
    size_t at = place_of(founding, peer);
    if (at == founding->options.member_count)
        return;
    founding->connected[at] = false;
    /* It may come back as another member. */
    if (founding->outcome == KT_FOUNDING_WAITS)
        founding->heard[at] = 0;
}

void kt_founding_received(struct kt_founding *founding, kt_node_id from, struct kt_slice frame)
{
    size_t at = place_of(founding, from);
    struct kt_reader reader;
    struct kt_hello hello;

    kt_reader_init(&reader, frame);
    if (at == founding->options.member_count || kt_read_u8(&reader) != KT_FRAME_HELLO ||
        kt_frame_read_hello(&reader, &hello) != KT_OK || kt_member_node(hello.member) != from ||
        founding->outcome != KT_FOUNDING_WAITS)
        return;
    if (hello.founding.len > 0) {
        meet(founding, hello.founding);
        return;
    }
    founding->heard[at] = hello.member;
    decide(founding);
}

void kt_founding_tick(struct kt_founding *founding)
{
    for (size_t i = 0; i < founding->options.member_count; i++)
        if (founding->connected[i])
            say_hello(founding, founding->options.members[i].id);
}

enum kt_founding_outcome kt_founding_outcome(const struct kt_founding *founding)
{
    return founding->outcome;
}

void kt_founding_missing(const struct kt_founding *founding, struct kt_buf *out)
{
    for (size_t i = 0; i < founding->options.member_count; i++)
        if (founding->heard[i] == 0)
            kt_buf_printf(out, "%snode %llu at %s", out->len > 0 ? ", " : "",
                          (unsigned long long)founding->options.members[i].id, founding->options.members[i].address);
}

/* The log is empty; the entry and its term are durable on return. */
static enum kt_code write_entry(const struct kt_founding *founding, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_chunk *chunk = kt_chunk_create(founding->entry.len);
    struct kt_entry entry = {
        .index = 1, .term = 1, .type = KT_ENTRY_CHANGE, .data = kt_slice(chunk->data, chunk->len), .chunk = chunk};
    enum kt_code code;

    memcpy(chunk->data, founding->entry.data, founding->entry.len);
    code = kt_wal_vote(boot->wal, 1, 0);
    if (code == KT_OK)
        code = kt_wal_append(boot->wal, &entry, 1);
    if (code == KT_OK)
        code = kt_wal_sync(boot->wal);
    kt_chunk_drop(chunk);
    if (code != KT_OK)
        return kt_error_set(error, code, "cannot write the founding entry: %s", kt_code_text(code));
    boot->found.term = 1;
    boot->found.vote = 0;
    boot->found.first = boot->found.last = 1;
    return KT_OK;
}

enum kt_code kt_founding_settle(const struct kt_founding *founding, struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = KT_OK;

    KT_CHECK(founding->outcome != KT_FOUNDING_WAITS);
    if (KT_PLANTED("mark-first"))
        code = kt_boot_found(boot, error);
    if (code == KT_OK && founding->outcome == KT_FOUNDING_FOUNDED)
        code = write_entry(founding, boot, error);
    return code == KT_OK ? kt_boot_found(boot, error) : code;
}
