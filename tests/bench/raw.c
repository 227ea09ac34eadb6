/* The raw disk: what one fdatasync after one append costs, the way the log does it but without a log. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "bench/bench.h"

#define FILE_BYTES  (64u << 20) /* as a segment of the log */
#define SAMPLES_MAX 1000000u

struct appender {
    pthread_t thread;
    int fd;
    unsigned batch;
    uint64_t until_us;
    uint64_t began_us, ended_us;
    uint32_t *samples;
    size_t count;
};

static void *append(void *data)
{
    struct appender *appender = data;
    size_t len = (size_t)appender->batch * BENCH_PAYLOAD;
    uint8_t *bytes = kt_alloc(len);
    off_t offset = 0;

    memset(bytes, 0x5a, len);
    appender->began_us = kt_clock_us();
    do {
        uint64_t began = kt_clock_us();

        if (offset + (off_t)len > (off_t)FILE_BYTES)
            offset = 0;
        if (pwrite(appender->fd, bytes, len, offset) != (ssize_t)len || fdatasync(appender->fd) != 0)
            bench_fail("the raw file cannot be written: %s", strerror(errno));
        offset += (off_t)len;
        appender->ended_us = kt_clock_us();
        if (appender->count < SAMPLES_MAX)
            appender->samples[appender->count++] = (uint32_t)(appender->ended_us - began);
    } while (appender->ended_us < appender->until_us);
    kt_free(bytes);
    return NULL;
}

struct bench_raw {
    int fds[BENCH_RAW_FILES];
};

static int prepare(const char *folder, unsigned number)
{
    char path[4096];
    uint8_t *zeros = kt_zalloc(1u << 20);
    int fd;

    snprintf(path, sizeof path, "%s/raw-%u", folder, number);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, FILE_BYTES) != 0)
        bench_fail("cannot make %s: %s", path, strerror(errno));
    for (off_t at = 0; at < (off_t)FILE_BYTES; at += 1 << 20)
        if (pwrite(fd, zeros, 1u << 20, at) != 1 << 20)
            bench_fail("cannot fill %s: %s", path, strerror(errno));
    if (fsync(fd) != 0 || unlink(path) != 0)
        bench_fail("cannot prepare %s: %s", path, strerror(errno));
    kt_free(zeros);
    return fd;
}

struct bench_raw *bench_raw_open(const char *folder)
{
    struct bench_raw *raw = kt_alloc(sizeof *raw);

    for (unsigned i = 0; i < BENCH_RAW_FILES; i++)
        raw->fds[i] = prepare(folder, i);
    return raw;
}

void bench_raw_close(struct bench_raw *raw)
{
    for (unsigned i = 0; i < BENCH_RAW_FILES; i++)
        close(raw->fds[i]);
    kt_free(raw);
}

/* What the threads did, together. */
static struct bench_result sum(struct appender *appenders, unsigned threads)
{
    struct bench_result result = {0};
    uint32_t *all = kt_alloc(threads * SAMPLES_MAX * sizeof(uint32_t));
    size_t count = 0;

    for (unsigned i = 0; i < threads; i++) {
        const struct appender *appender = &appenders[i];

        result.per_second += (double)(appender->count * appender->batch) /
                             ((double)(appender->ended_us - appender->began_us) / 1e6) / threads;
        memcpy(all + count, appender->samples, appender->count * sizeof(uint32_t));
        count += appender->count;
        kt_free(appender->samples);
    }
    result.p50_us = bench_quantile(all, count, 0.5);
    result.p99_us = bench_quantile(all, count, 0.99);
    kt_free(all);
    return result;
}

struct bench_result bench_raw_run(struct bench_raw *raw, unsigned threads, unsigned batch, double seconds)
{
    struct appender appenders[BENCH_RAW_FILES];

    for (unsigned i = 0; i < threads; i++) {
        appenders[i] = (struct appender){.fd = raw->fds[i],
                                         .batch = batch,
                                         .samples = kt_alloc(SAMPLES_MAX * sizeof(uint32_t)),
                                         .until_us = kt_clock_us() + (uint64_t)(seconds * 1e6)};
        if (pthread_create(&appenders[i].thread, NULL, append, &appenders[i]) != 0)
            bench_fail("no thread");
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(appenders[i].thread, NULL);
    return sum(appenders, threads);
}
