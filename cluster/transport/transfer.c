/*
 * Transfers of a state. Each side has a thread that blocks on its socket; the loop only begins and ends them.
 *
 *   source:  copy thread ── pipe ──▶ sending thread ── socket ──▶ fetching thread ──▶ file   :fetcher
 *
 * On the wire, after the two prefaces: chunks of le32 length, le32 crc32c, bytes; then a length of 0, le64 bytes in
 * all, le32 crc32c of all.
 */
#include "cluster/transport/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/task.h"
#include "cluster/transport/transport_internal.h"
#include "wire/writer.h"

#define LOG "transfer"

#define CHUNK_HEADER_BYTES 8u
#define END_BYTES          16u /* the rest of the chunk of length 0, and the totals */
#define STALLED_S          30  /* a socket that does not move for so long is given up */
#define CONNECT_MS         5000

/* One end of a transfer under way; its thread owns it until ended. */
struct transfer {
    struct kt_transport *transport;
    struct kt_task task; /* back to the loop */
    pthread_t thread;
    atomic_int fd;        /* the socket, -1 while there is none; shut down to break off */
    struct stream stream; /* what the bytes go through */
    atomic_bool cancelled;
    enum kt_code code;
    uint64_t bytes;
    /* Of a fetch. */
    kt_node_id from;
    struct kt_address address;
    char *path;
    void (*done)(void *data, enum kt_code code, uint64_t bytes);
    void *data;
    /* Of a source. */
    kt_node_id to;
    int pipe[2];
    uint8_t ending[CHUNK_HEADER_BYTES + END_BYTES]; /* what follows the last chunk */
};

struct transfers {
    struct kt_transport *transport;
    struct kt_transfer_options source;
    bool serves;
    struct transfer *serving, *fetching;
    uv_async_t async;
    struct kt_mailbox mailbox;
};

static void close_socket(struct transfer *transfer)
{
    int fd = atomic_exchange(&transfer->fd, -1);
    stream_release(&transfer->stream);
    if (fd >= 0)
        close(fd);
}

static bool send_all(struct transfer *transfer, const void *data, size_t len)
{
    return stream_send(&transfer->stream, transfer->fd, data, len);
}

static bool receive_all(struct transfer *transfer, void *data, size_t len)
{
    return stream_receive(&transfer->stream, transfer->fd, data, len);
}

/* ---- Back on the loop ---- */

static void end(struct kt_task *task)
{
    struct transfer *transfer = KT_CONTAINER(task, struct transfer, task);
    struct transfers *transfers = transfer->transport->transfers;

    pthread_join(transfer->thread, NULL);
    close_socket(transfer);
    if (transfers->fetching == transfer) {
        transfers->fetching = NULL;
        transfer->done(transfer->data, transfer->code, transfer->bytes);
    } else {
        transfers->serving = NULL;
        kt_info(LOG, "the state was sent to node %llu bytes=%llu result=\"%s\"", (unsigned long long)transfer->to,
                (unsigned long long)transfer->bytes, kt_code_text(transfer->code));
    }
    kt_free(transfer->path);
    kt_free(transfer);
    transfers_maybe_close(transfers->transport);
}

static void finish(struct transfer *transfer, enum kt_code code)
{
    transfer->code = code;
    kt_mailbox_post(&transfer->transport->transfers->mailbox, &transfer->task, end);
}

/* ---- The source ---- */

static void *copy(void *data)
{
    struct transfer *transfer = data;
    const struct kt_transfer_options *source = &transfer->transport->transfers->source;
    enum kt_code code = source->copy(source->data, transfer->pipe[1]);

    close(transfer->pipe[1]);
    return (void *)(intptr_t)code;
}

/* Whole chunks, so that there is one checksum for many pages. Bytes read, fewer only at the end; -1. */
static ssize_t fill(int fd, uint8_t *chunk)
{
    size_t held = 0;

    while (held < KT_TRANSFER_CHUNK_BYTES) {
        ssize_t got = read(fd, chunk + held, KT_TRANSFER_CHUNK_BYTES - held);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        held += (size_t)got;
    }
    return (ssize_t)held;
}

/* Sleeps until the bytes sent so far are no more than the rate allows. */
static void pace(const struct transfer *transfer, uint64_t began_us)
{
    uint64_t rate = transfer->transport->transfers->source.bytes_per_s;
    uint64_t due_us, now_us = kt_clock_us();
    struct timespec pause;

    if (rate == 0)
        return;
    due_us = began_us + (uint64_t)((double)transfer->bytes * 1e6 / (double)rate);
    if (due_us <= now_us)
        return;
    pause.tv_sec = (time_t)((due_us - now_us) / 1000000);
    pause.tv_nsec = (long)((due_us - now_us) % 1000000) * 1000;
    nanosleep(&pause, NULL);
}

static enum kt_code send_chunks(struct transfer *transfer, uint8_t *chunk)
{
    uint8_t header[CHUNK_HEADER_BYTES + END_BYTES];
    uint64_t began_us = kt_clock_us();
    uint32_t all = 0;
    ssize_t held;

    while ((held = fill(transfer->pipe[0], chunk)) > 0) {
        kt_put_le32(header, (uint32_t)held);
        kt_put_le32(header + 4, kt_crc32c(0, chunk, (size_t)held));
        all = kt_crc32c(all, chunk, (size_t)held);
        if (atomic_load(&transfer->cancelled) || !send_all(transfer, header, CHUNK_HEADER_BYTES) ||
            !send_all(transfer, chunk, (size_t)held))
            return KT_IO_FAILED;
        transfer->bytes += (uint64_t)held;
        pace(transfer, began_us);
    }
    if (held < 0)
        return KT_IO_FAILED;
    memset(header, 0, sizeof header);
    kt_put_le64(header + CHUNK_HEADER_BYTES, transfer->bytes);
    kt_put_le32(header + CHUNK_HEADER_BYTES + 8, all);
    memcpy(transfer->ending, header, sizeof header);
    return KT_OK;
}

static void *serve(void *data)
{
    struct transfer *transfer = data;
    uint8_t *chunk = kt_alloc(KT_TRANSFER_CHUNK_BYTES);
    pthread_t copier;
    enum kt_code code = KT_IO_FAILED;
    void *copied = (void *)(intptr_t)KT_IO_FAILED;

    pthread_setname_np(pthread_self(), "send state");
    if (pthread_create(&copier, NULL, copy, transfer) == 0) {
        code = send_chunks(transfer, chunk);
        /* The copier sees a pipe without a reader and gives up. */
        close(transfer->pipe[0]);
        pthread_join(copier, &copied);
    }
    /* Only a copy that is known to be whole gets its end. */
    if (code == KT_OK)
        code = (enum kt_code)(intptr_t)copied;
    if (code == KT_OK && !send_all(transfer, transfer->ending, sizeof transfer->ending))
        code = KT_IO_FAILED;
    kt_free(chunk);
    finish(transfer, code);
    return NULL;
}

static struct transfer *create(struct kt_transport *transport)
{
    struct transfer *transfer = kt_zalloc(sizeof *transfer);
    transfer->transport = transport;
    atomic_init(&transfer->fd, -1);
    atomic_init(&transfer->cancelled, false);
    return transfer;
}

bool transfer_serve_socket(struct kt_transport *transport, kt_node_id to, int fd, struct kt_tls *tls)
{
    struct transfers *transfers = transport->transfers;
    struct transfer *transfer;

    if (transfers == NULL || !transfers->serves || transfers->serving != NULL || transport->closing)
        return false;
    transfer = create(transport);
    transfer->to = to;
    if (pipe2(transfer->pipe, O_CLOEXEC) != 0) {
        kt_free(transfer);
        return false;
    }
    stream_block(fd);
    stream_init(&transfer->stream, tls);
    atomic_store(&transfer->fd, fd);
    transfers->serving = transfer;
    KT_CHECK(pthread_create(&transfer->thread, NULL, serve, transfer) == 0);
    kt_info(LOG, "the state is sent to node %llu", (unsigned long long)to);
    return true;
}

/* ---- The fetcher ---- */

static int connect_to(struct transfer *transfer)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;

    if (getaddrinfo(transfer->address.host, transfer->address.service, &hints, &found) != 0)
        return -1;
    for (struct addrinfo *at = found; at != NULL && fd < 0 && !atomic_load(&transfer->cancelled); at = at->ai_next) {
        struct pollfd ready = {.events = POLLOUT};
        int failed = 0;
        socklen_t length = sizeof failed;

        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
        if (fd < 0)
            continue;
        ready.fd = fd;
        if ((connect(fd, at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) ||
            poll(&ready, 1, CONNECT_MS) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length) != 0 || failed) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd >= 0)
        stream_block(fd);
    return fd;
}

static bool shake(struct transfer *transfer)
{
    if (stream_shake(&transfer->stream, transfer->fd))
        return true;
    kt_warn(LOG, "the connection for the state of node %llu was closed: %s", (unsigned long long)transfer->from,
            kt_tls_failure(transfer->stream.tls) ? kt_tls_text(transfer->stream.tls) : "no TLS handshake");
    return false;
}

static bool greet(struct transfer *transfer)
{
    struct kt_transport *transport = transfer->transport;
    struct preface preface = {.version = PREFACE_VERSION,
                              .verdict = PURPOSE_TRANSFER,
                              .cluster = transport->cluster,
                              .from = transport->self,
                              .to = transfer->from,
                              .incarnation = transport->incarnation};
    uint8_t bytes[PREFACE_BYTES];

    preface_write(&preface, bytes);
    return send_all(transfer, bytes, sizeof bytes) && receive_all(transfer, bytes, sizeof bytes) &&
           preface_read(kt_slice(bytes, sizeof bytes), &preface) == KT_OK && preface.verdict == VERDICT_WELCOME &&
           preface.cluster == transport->cluster && preface.from == transfer->from;
}

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        data += written;
        len -= (size_t)written;
    }
    return true;
}

static enum kt_code receive_chunks(struct transfer *transfer, int file, uint8_t *chunk)
{
    uint8_t header[CHUNK_HEADER_BYTES], ending[END_BYTES];
    uint32_t all = 0, len;

    for (;;) {
        if (atomic_load(&transfer->cancelled) || !receive_all(transfer, header, sizeof header))
            return KT_IO_FAILED;
        len = kt_get_le32(header);
        if (len == 0)
            break;
        if (len > KT_TRANSFER_CHUNK_BYTES || !receive_all(transfer, chunk, len))
            return KT_IO_FAILED;
        if (kt_crc32c(0, chunk, len) != kt_get_le32(header + 4))
            return KT_CORRUPT;
        if (!write_all(file, chunk, len))
            return errno == ENOSPC ? KT_DISK_FULL : KT_IO_FAILED;
        all = kt_crc32c(all, chunk, len);
        transfer->bytes += len;
    }
    if (!receive_all(transfer, ending, sizeof ending))
        return KT_IO_FAILED;
    if (kt_get_le64(ending) != transfer->bytes || kt_get_le32(ending + 8) != all || transfer->bytes == 0)
        return KT_CORRUPT;
    return fsync(file) == 0 ? KT_OK : KT_IO_FAILED;
}

static void *fetch(void *data)
{
    struct transfer *transfer = data;
    enum kt_code code = KT_IO_FAILED;
    uint8_t *chunk = kt_alloc(KT_TRANSFER_CHUNK_BYTES);
    int file = open(transfer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    pthread_setname_np(pthread_self(), "fetch state");
    if (file >= 0) {
        atomic_store(&transfer->fd, connect_to(transfer));
        if (transfer->fd >= 0 && !atomic_load(&transfer->cancelled) && shake(transfer) && greet(transfer))
            code = receive_chunks(transfer, file, chunk);
        close(file);
        if (code != KT_OK)
            unlink(transfer->path);
    }
    kt_free(chunk);
    finish(transfer, code);
    return NULL;
}

bool kt_transfer_fetch(struct kt_transport *transport, kt_node_id from, const char *path,
                       void (*done)(void *data, enum kt_code code, uint64_t bytes), void *data)
{
    struct transfers *transfers = transport->transfers;
    const struct peer *peer = transport_peer(transport, from);
    struct transfer *transfer;

    if (transfers == NULL || transfers->fetching != NULL || peer == NULL || transport->closing)
        return false;
    transfer = create(transport);
    transfer->from = from;
    transfer->address = peer->address;
    transfer->path = kt_text_dup(path);
    transfer->done = done;
    transfer->data = data;
    stream_init(&transfer->stream, transport->tls ? kt_tls_create(transport->tls, KT_TLS_CLIENT, from) : NULL);
    transfers->fetching = transfer;
    KT_CHECK(pthread_create(&transfer->thread, NULL, fetch, transfer) == 0);
    return true;
}

/* ---- Beginning and ending with the transport ---- */

static void on_mail(uv_async_t *async)
{
    struct transfers *transfers = async->data;
    kt_mailbox_drain(&transfers->mailbox);
}

static void wake(void *data)
{
    uv_async_send(data);
}

void transfers_open(struct kt_transport *transport)
{
    struct transfers *transfers = kt_zalloc(sizeof *transfers);

    KT_CHECK(uv_async_init(transport->loop, &transfers->async, on_mail) == 0);
    transfers->async.data = transfers;
    transfers->transport = transport;
    kt_mailbox_init(&transfers->mailbox, wake, &transfers->async);
    transport->transfers = transfers;
}

void kt_transfer_serve(struct kt_transport *transport, const struct kt_transfer_options *options)
{
    transport->transfers->source = *options;
    transport->transfers->serves = true;
}

static void cancel(struct transfer *transfer)
{
    int fd;

    if (transfer == NULL)
        return;
    atomic_store(&transfer->cancelled, true);
    fd = atomic_load(&transfer->fd);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
}

void kt_transfer_cancel(struct kt_transport *transport)
{
    cancel(transport->transfers->serving);
    cancel(transport->transfers->fetching);
}

static void on_closed(uv_handle_t *handle)
{
    struct transfers *transfers = handle->data;
    struct kt_transport *transport = transfers->transport;

    kt_mailbox_release(&transfers->mailbox);
    kt_free(transfers);
    transport->transfers = NULL;
    transport_transfers_closed(transport);
}

bool transfers_busy(const struct kt_transport *transport)
{
    return !transport->transfers->serves || transport->transfers->serving != NULL;
}

void transfers_maybe_close(struct kt_transport *transport)
{
    struct transfers *transfers = transport->transfers;

    if (transport->closing && transfers->serving == NULL && transfers->fetching == NULL)
        uv_close((uv_handle_t *)&transfers->async, on_closed);
}
