/*
 * Coming up: the loop and the transport first; a node that has a log begins at once, one that has none finds out what
 * it is (founding.h) and then begins. What clients ask meanwhile waits.
 */
#include "cluster/node/runtime_internal.h"

#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

static kt_term boot_term(void *data, kt_index index)
{
    struct kt_cluster *cluster = data;
    return kt_wal_term(cluster->boot->wal, index);
}

static enum kt_code boot_read(void *data, struct kt_log_read *read)
{
    struct kt_cluster *cluster = data;
    return kt_wal_read(cluster->boot->wal, read->first, read->last, read->bytes, read->entries, KT_LOG_READ_ENTRIES_MAX,
                       &read->count);
}

static void start_threads(struct kt_cluster *cluster)
{
    struct kt_log_writer_options writer = {.wal = cluster->boot->wal,
                                           .mailbox = &cluster->mailbox,
                                           .fail = runtime_writer_failed,
                                           .full = runtime_writer_full,
                                           .data = cluster};
    struct kt_applier_options applier = {.state = cluster->boot->state,
                                         .mailbox = &cluster->mailbox,
                                         .applied = runtime_batch_applied,
                                         .visible = runtime_state_visible,
                                         .full = runtime_applier_full,
                                         .data = cluster};
    KT_CHECK(kt_log_writer_start(&writer, &cluster->writer) == KT_OK);
    pthread_mutex_lock(&cluster->follow_lock);
    cluster->applier = kt_applier_start(&applier);
    kt_applier_prompt(cluster->applier, cluster->prompt);
    pthread_mutex_unlock(&cluster->follow_lock);
}

void runtime_release_replica(struct kt_cluster *cluster)
{
    struct kt_applier *applier = cluster->applier;

    if (cluster->writer != NULL)
        kt_log_writer_stop(cluster->writer);
    if (applier != NULL)
        kt_applier_stop(applier);
    kt_mailbox_drain(&cluster->mailbox);
    pthread_mutex_lock(&cluster->follow_lock);
    cluster->applier = NULL;
    pthread_mutex_unlock(&cluster->follow_lock);
    if (applier != NULL)
        kt_applier_free(applier);
    kt_replica_free(cluster->replica);
    cluster->writer = NULL;
    cluster->replica = NULL;
}

static enum kt_code create_replica(struct kt_cluster *cluster, struct kt_error *error)
{
    struct kt_state_position position = kt_state_applied(cluster->boot->state);
    struct kt_state_members members = kt_state_members(cluster->boot->state);
    struct kt_replica_options options = {
        .self = cluster->options.self,
        .member = cluster->boot->member,
        .members = cluster->members,
        .member_count = cluster->options.member_count,
        .election_ms = cluster->options.election_ms,
        .heartbeat_ms = cluster->options.heartbeat_ms,
        .random_seed = kt_random_system(),
        .now_ms = kt_clock_ms(),
        .log = cluster->boot->found,
        .state = {.index = position.index,
                  .term = position.term,
                  .configuration_index = members.index,
                  .configuration = members.configuration,
                  .founding = members.founding},
        .term_of = boot_term,
        .read = boot_read,
    };

    start_threads(cluster);
    runtime_host(cluster, &options.host);
    return kt_replica_create(&options, &cluster->replica, error);
}

static void begin_running(struct kt_cluster *cluster)
{
    struct kt_list *link;

    cluster->phase = RUNNING;
    cluster->now_ms = kt_clock_ms();
    for (size_t i = 0; i < cluster->options.member_count; i++)
        if (cluster->members[i].id != cluster->options.self &&
            kt_transport_connected(cluster->transport, cluster->members[i].id))
            kt_replica_connected(cluster->replica, cluster->members[i].id);
    while (!kt_list_empty(&cluster->early_proposals)) {
        link = cluster->early_proposals.next;
        kt_list_remove(link);
        kt_replica_propose(cluster->replica, KT_CONTAINER(link, struct kt_proposal, link));
    }
    while (!kt_list_empty(&cluster->early_reads)) {
        link = cluster->early_reads.next;
        kt_list_remove(link);
        kt_replica_read(cluster->replica, KT_CONTAINER(link, struct kt_read, link));
    }
}

void runtime_early_sweep(struct kt_cluster *cluster, kt_time_ms now, bool all)
{
    struct kt_list *link;

    for (link = cluster->early_proposals.next; link != &cluster->early_proposals;) {
        struct kt_proposal *proposal = KT_CONTAINER(link, struct kt_proposal, link);
        link = link->next;
        if (!all && now < proposal->deadline_ms)
            continue;
        kt_list_remove(&proposal->link);
        kt_reply_fail(&proposal->reply, KT_UNAVAILABLE,
                      "the cluster is not founded yet: not all nodes were heard from");
        proposal->done(proposal);
    }
    for (link = cluster->early_reads.next; link != &cluster->early_reads;) {
        struct kt_read *read = KT_CONTAINER(link, struct kt_read, link);
        link = link->next;
        if (!all && now < read->deadline_ms)
            continue;
        kt_list_remove(&read->link);
        read->code = KT_UNAVAILABLE;
        read->done(read);
    }
}

/* ---- Founding ---- */

static void tell_missing(struct kt_cluster *cluster, kt_time_ms now)
{
    struct kt_buf text;

    if (now < cluster->missing_ms + MISSING_MS)
        return;
    cluster->missing_ms = now;
    kt_buf_init(&text, 4096);
    kt_founding_missing(cluster->founding, &text);
    kt_buf_append_u8(&text, 0);
    if (kt_buf_code(&text) == KT_OK)
        kt_info("founding", "an empty node waits to hear from %s", (const char *)text.data);
    kt_buf_release(&text);
}

void runtime_found_step(struct kt_cluster *cluster, kt_time_ms now)
{
    struct kt_error error = {0};

    if (kt_founding_outcome(cluster->founding) == KT_FOUNDING_WAITS) {
        if (now >= cluster->greeted_ms + KT_FOUNDING_MS) {
            cluster->greeted_ms = now;
            kt_founding_tick(cluster->founding);
        }
        tell_missing(cluster, now);
        runtime_early_sweep(cluster, now, false);
        return;
    }
    kt_info("founding", kt_founding_outcome(cluster->founding) == KT_FOUNDING_FOUNDED
                            ? "a founding member of the cluster"
                            : "there is a cluster already: this node joins it as a new member");
    if (kt_founding_settle(cluster->founding, cluster->boot, &error) != KT_OK ||
        create_replica(cluster, &error) != KT_OK)
        kt_fatal("founding", "%s", error.text);
    kt_founding_free(cluster->founding);
    cluster->founding = NULL;
    begin_running(cluster);
}

/* ---- Opening and closing ---- */

static enum kt_code copy_state(void *data, int fd)
{
    struct kt_cluster *cluster = data;
    return kt_store_copy(kt_state_store(cluster->boot->state), fd);
}

static enum kt_code open_transport(struct kt_cluster *cluster, struct kt_error *error)
{
    struct kt_peer peers[KT_PEERS_MAX];
    struct kt_transfer_options transfer = {
        .copy = copy_state, .data = cluster, .bytes_per_s = cluster->options.transfer_bytes_per_s};
    struct kt_transport_options options = {
        .loop = &cluster->loop,
        .self = cluster->options.self,
        .listen = cluster->listen,
        .cluster = cluster->name,
        .tls = cluster->options.tls,
        .peers = peers,
        .reconnect_ms = RECONNECT_MS,
        .dead_ms = DEAD_ELECTIONS * cluster->options.election_ms,
        .received = runtime_peer_received,
        .connected = runtime_peer_connected,
        .disconnected = runtime_peer_disconnected,
        .data = cluster,
    };
    enum kt_code code;

    for (size_t i = 0; i < cluster->options.member_count; i++) {
        const struct kt_member *member = &cluster->members[i];
        if (member->id != cluster->options.self)
            peers[options.peer_count++] = (struct kt_peer){.id = member->id, .address = member->address};
    }
    code = kt_transport_open(&options, &cluster->transport, error);
    if (code == KT_OK)
        kt_transfer_serve(cluster->transport, &transfer);
    return code;
}

static void release(struct kt_cluster *cluster)
{
    kt_founding_free(cluster->founding);
    kt_mailbox_release(&cluster->mailbox);
    pthread_mutex_destroy(&cluster->status_lock);
    pthread_mutex_destroy(&cluster->follow_lock);
    for (size_t i = 0; i < cluster->options.member_count; i++)
        kt_free((char *)(uintptr_t)cluster->members[i].address);
    kt_free(cluster->members);
    kt_tls_context_drop(cluster->options.tls);
    kt_free(cluster->name);
    kt_free(cluster->listen);
    kt_free(cluster);
}

static struct kt_cluster *create(const struct kt_cluster_options *options)
{
    struct kt_cluster *cluster = kt_zalloc(sizeof *cluster);

    cluster->options = *options;
    cluster->boot = options->boot;
    cluster->name = kt_text_dup(options->name);
    kt_tls_context_acquire(options->tls);
    cluster->listen = kt_text_dup(options->listen);
    cluster->members = kt_zalloc(options->member_count * sizeof *cluster->members + 1);
    for (size_t i = 0; i < options->member_count; i++) {
        cluster->members[i].id = options->members[i].id;
        cluster->members[i].address = kt_text_dup(options->members[i].address);
    }
    cluster->options.members = cluster->members;
    cluster->status.self = options->self;
    cluster->status.member = options->boot->member;
    kt_list_init(&cluster->early_proposals);
    kt_list_init(&cluster->early_reads);
    pthread_mutex_init(&cluster->status_lock, NULL);
    pthread_mutex_init(&cluster->follow_lock, NULL);
    return cluster;
}

/* A loop whose start failed is run until its handles are gone. */
static void abandon(struct kt_cluster *cluster)
{
    if (cluster->transport != NULL) {
        cluster->phase = CLOSING;
        kt_transport_close(cluster->transport, runtime_transport_closed, cluster);
        while (cluster->transport != NULL)
            uv_run(&cluster->loop, UV_RUN_ONCE);
    }
    while (cluster->writes > 0 || cluster->batches > 0)
        uv_run(&cluster->loop, UV_RUN_ONCE);
    runtime_release_replica(cluster);
    runtime_close_handles(cluster);
    uv_run(&cluster->loop, UV_RUN_DEFAULT);
    KT_CHECK(uv_loop_close(&cluster->loop) == 0);
    release(cluster);
}

static void start_founding(struct kt_cluster *cluster)
{
    struct kt_founding_options options = {
        .self = cluster->options.self,
        .member = cluster->boot->member,
        .members = cluster->members,
        .member_count = cluster->options.member_count,
        .send = runtime_send,
        .data = cluster,
    };

    cluster->phase = FOUNDING;
    cluster->founding = kt_founding_create(&options);
}

enum kt_code kt_cluster_open(const struct kt_cluster_options *options, struct kt_cluster **out, struct kt_error *error)
{
    struct kt_cluster *cluster;
    enum kt_code code;

    *out = NULL;
    if (options->member_count == 0 || options->member_count > KT_PEERS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "a cluster has 1 to %u members, not %zu", KT_PEERS_MAX,
                            options->member_count);
    cluster = create(options);
    runtime_open_loop(cluster);
    cluster->phase = RUNNING;
    code = open_transport(cluster, error);
    if (code == KT_OK && cluster->boot->founded)
        code = create_replica(cluster, error);
    if (code != KT_OK) {
        abandon(cluster);
        return code;
    }
    if (!cluster->boot->founded)
        start_founding(cluster);
    runtime_publish_status(cluster);
    KT_CHECK(pthread_create(&cluster->thread, NULL, runtime_run, cluster) == 0);
    *out = cluster;
    return KT_OK;
}

void runtime_release(struct kt_cluster *cluster)
{
    KT_CHECK(uv_loop_close(&cluster->loop) == 0);
    release(cluster);
}
