/*
 * Fetching a node's state: one file, over a connection of its own beside the peer connection, so that it never stands
 * in the way of heartbeats. The source writes a copy into a pipe on a thread of its own; chunks with length and
 * checksum follow each other; the last one carries the checksum of all. Memory on both sides is a few chunks, whatever
 * the size of the state.
 *
 * A broken connection or a wrong checksum ends the fetch with a code; the part that arrived is removed.
 */
#ifndef KT_CLUSTER_TRANSPORT_TRANSFER_H
#define KT_CLUSTER_TRANSPORT_TRANSFER_H

#include "cluster/transport/transport.h"

#define KT_TRANSFER_CHUNK_BYTES (1u << 20) /* one read of the pipe, one checksum, one write to the file */

struct kt_transfer_options {
    /* Writes the copy into fd and returns; a thread of the transfer, one at a time. */
    enum kt_code (*copy)(void *data, int fd);
    void *data;
    uint64_t bytes_per_s; /* of what is sent; 0: no limit */
};

/* The transport serves fetches of its peers from now on. Loop's thread; before the loop runs. */
void kt_transfer_serve(struct kt_transport *transport, const struct kt_transfer_options *options);
/*
 * Fetches the state of a peer into a new file at path, synced when done says KT_OK. One at a time: false if one is
 * under way or the peer is unknown. done runs on the loop. Loop's thread.
 */
bool kt_transfer_fetch(struct kt_transport *transport, kt_node_id from, const char *path,
                       void (*done)(void *data, enum kt_code code, uint64_t bytes), void *data);
/* Breaks off what is under way (its done still runs). kt_transport_close does it too. */
void kt_transfer_cancel(struct kt_transport *transport);

#endif
