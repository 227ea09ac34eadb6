/*
 * The replication layer alone, beside the raw disk, in one run: three nodes in this process, small writes, a given
 * number of them always on the way. Each case is measured in every round, raw and replicated in turn, so that what else
 * happens on the machine meets both; the table shows medians of the rounds and their spread.
 *
 *   bench_replication [--folder DIR] [--seconds S] [--rounds N] [--case IN_FLIGHT]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "bench/bench.h"

#define ROUNDS_MAX 99
#define CASES      4

static const unsigned cases[CASES] = {1, 16, 256, 4096};

enum series { RAW, RAW_THREE, REPLICATED, SERIES };

struct options {
    const char *folder;
    double seconds;
    unsigned rounds;
    unsigned only; /* one case; 0: all */
};

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Median, least and most of a field over the rounds. */
struct spread {
    double median, least, most;
};

static struct spread spread_of(const struct bench_result *results, unsigned rounds, size_t field)
{
    double values[ROUNDS_MAX];

    for (unsigned i = 0; i < rounds; i++)
        memcpy(&values[i], (const char *)&results[i] + field, sizeof(double));
    qsort(values, rounds, sizeof *values, compare_doubles);
    return (struct spread){values[rounds / 2], values[0], values[rounds - 1]};
}

#define SPREAD(results, rounds, field) spread_of(results, rounds, offsetof(struct bench_result, field))

static void print_row(unsigned in_flight, struct bench_result results[SERIES][ROUNDS_MAX], unsigned rounds)
{
    struct spread raw = SPREAD(results[RAW], rounds, per_second);
    struct spread three = SPREAD(results[RAW_THREE], rounds, per_second);
    struct spread replicated = SPREAD(results[REPLICATED], rounds, per_second);
    struct spread p50 = SPREAD(results[REPLICATED], rounds, p50_us), p99 = SPREAD(results[REPLICATED], rounds, p99_us);

    printf("| %u | %.0f (%.0f..%.0f) | %.0f (%.0f..%.0f) | %.0f (%.0f..%.0f) | %.2f | %.2f | %.2f (%.2f..%.2f) | %.2f "
           "(%.2f..%.2f) |\n",
           in_flight, raw.median, raw.least, raw.most, three.median, three.least, three.most, replicated.median,
           replicated.least, replicated.most, replicated.median / raw.median, replicated.median / three.median,
           p50.median / 1000, p50.least / 1000, p50.most / 1000, p99.median / 1000, p99.least / 1000, p99.most / 1000);
}

static void run(const struct options *options, const char *folder)
{
    static struct bench_result results[CASES][SERIES][ROUNDS_MAX];
    struct bench_raw *raw = bench_raw_open(folder);
    struct bench_cluster *cluster = bench_cluster_start(folder);

    for (unsigned round = 0; round < options->rounds; round++) {
        for (unsigned i = 0; i < CASES; i++) {
            if (options->only > 0 && cases[i] != options->only)
                continue;
            results[i][RAW][round] = bench_raw_run(raw, 1, cases[i], options->seconds);
            results[i][REPLICATED][round] = bench_cluster_run(cluster, cases[i], options->seconds);
            results[i][RAW_THREE][round] = bench_raw_run(raw, 3, cases[i], options->seconds);
            fprintf(stderr, "round %u, %u in flight: raw %.0f, three at once %.0f each, replicated %.0f per second\n",
                    round + 1, cases[i], results[i][RAW][round].per_second, results[i][RAW_THREE][round].per_second,
                    results[i][REPLICATED][round].per_second);
        }
    }
    bench_cluster_stop(cluster);
    bench_raw_close(raw);
    printf("Entries of %u bytes per second, every one synced; medians of %u rounds of %.1f s (least..most).\n\n",
           BENCH_PAYLOAD, options->rounds, options->seconds);
    puts("| in flight (raw: per sync) | raw, one file | raw, each of three files at once | replicated, 3 nodes | ratio "
         "| "
         "ratio to three | p50 ms | p99 ms |");
    puts("|---|---|---|---|---|---|---|---|");
    for (unsigned i = 0; i < CASES; i++)
        if (options->only == 0 || cases[i] == options->only)
            print_row(cases[i], results[i], options->rounds);
}

static void read_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (value && strcmp(argv[i], "--folder") == 0)
            options->folder = value;
        else if (value && strcmp(argv[i], "--seconds") == 0)
            options->seconds = strtod(value, NULL);
        else if (value && strcmp(argv[i], "--rounds") == 0)
            options->rounds = (unsigned)strtoul(value, NULL, 10);
        else if (value && strcmp(argv[i], "--case") == 0)
            options->only = (unsigned)strtoul(value, NULL, 10);
        else
            bench_fail("usage: bench_replication [--folder DIR] [--seconds S] [--rounds N] [--case IN_FLIGHT]");
    }
    if (!(options->seconds > 0) || options->rounds < 1 || options->rounds > ROUNDS_MAX)
        bench_fail("seconds must be more than 0, rounds 1 to %d", ROUNDS_MAX);
}

static void quiet(void *data, const char *line)
{
    (void)data;
    if (strstr(line, "ERROR"))
        fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
    struct options options = {.folder = ".", .seconds = 3, .rounds = 3};
    char folder[4096], command[4200];

    read_options(argc, argv, &options);
    kt_log_sink(quiet, NULL);
    snprintf(folder, sizeof folder, "%s/bench-XXXXXX", options.folder);
    if (!mkdtemp(folder))
        bench_fail("cannot make a folder in %s", options.folder);
    run(&options, folder);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : 1;
}
