/* What the benchmarks share: samples, the raw disk, a cluster in the process. */
#ifndef KT_TESTS_BENCH_BENCH_H
#define KT_TESTS_BENCH_BENCH_H

#include "base/types.h"

#define BENCH_PAYLOAD 128u /* bytes of one entry, or of one raw write */

/* One measurement. Latencies in microseconds; 0 where there are none. */
struct bench_result {
    double per_second;
    double p50_us, p99_us;
};

/* Ends the process with a line on standard error. */
_Noreturn void bench_fail(const char *format, ...) KT_PRINTF(1, 2);
/* Sorts the samples. */
double bench_quantile(uint32_t *samples, size_t count, double q);

/* ---- The raw disk ---- */

#define BENCH_RAW_FILES 3u

struct bench_raw;

/* Files in `folder` that are filled with zeros and synced, as the log's segments are; they have no names. */
struct bench_raw *bench_raw_open(const char *folder);
/*
 * Appends `batch` payloads of BENCH_PAYLOAD bytes with one write and one fdatasync, again and again, on `threads`
 * threads (1..BENCH_RAW_FILES) with a file each. Payloads per second of one thread (the mean of them); latency of write
 * and sync.
 */
struct bench_result bench_raw_run(struct bench_raw *raw, unsigned threads, unsigned batch, double seconds);
void bench_raw_close(struct bench_raw *raw);

/* ---- Three nodes in this process ---- */

struct bench_cluster;

/* Real threads, sockets on loopback, logs and states in folders below `folder`, which must exist and be empty. */
struct bench_cluster *bench_cluster_start(const char *folder);
/* Operations of BENCH_PAYLOAD bytes at the leader, always `in_flight` of them on the way; each is a key's new value. */
struct bench_result bench_cluster_run(struct bench_cluster *cluster, unsigned in_flight, double seconds);
void bench_cluster_stop(struct bench_cluster *cluster);

#endif
