/*
 * sim --seed N | --seeds A..B  [--nodes 3|5] [--ms N] [--trace] [--plant NAME [--found-within N]] [--repeat]
 *
 * Runs clusters, one per seed. Exit code 1 and the command that repeats it when a seed fails. With --plant a fault of
 * the simulator's own is built in, and the run is good if one of the seeds finds it. --repeat runs each seed twice and
 * compares the traces. KONTIKI_SIM_SEED_TIME prints how long each seed took.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster.h"

struct arguments {
    uint64_t first, last;
    unsigned nodes, ms;
    bool trace, repeat, outside;
};

/* For the moment when the process dies: which seed it was. */
static char dying_words[256];

static void on_signal(int number)
{
    ssize_t ignored = write(STDERR_FILENO, dying_words, strlen(dying_words));
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

static void usage(void)
{
    fprintf(stderr, "usage: run --seed N | --seeds A..B [--nodes 3|5] [--ms N] [--trace] [--repeat] "
                    "[--outside]\n");
    exit(2);
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments arguments = {.first = 1, .last = 0, .nodes = 3, .ms = 15000};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            arguments.trace = true;
            continue;
        }
        if (strcmp(argv[i], "--outside") == 0) {
            arguments.outside = true;
            continue;
        }
        if (strcmp(argv[i], "--repeat") == 0) {
            arguments.repeat = true;
            continue;
        }
        if (!value)
            usage();
        i++;
        char *end;
        if (strcmp(argv[i - 1], "--seed") == 0) {
            arguments.first = arguments.last = strtoull(value, &end, 10);
        } else if (strcmp(argv[i - 1], "--seeds") == 0) {
            arguments.first = strtoull(value, &end, 10);
            if (strncmp(end, "..", 2) != 0)
                usage();
            arguments.last = strtoull(end + 2, &end, 10);
        } else if (strcmp(argv[i - 1], "--nodes") == 0) {
            arguments.nodes = (unsigned)strtoul(value, &end, 10);
        } else if (strcmp(argv[i - 1], "--ms") == 0) {
            arguments.ms = (unsigned)strtoul(value, &end, 10);
        } else {
            usage();
        }
    }
    if (arguments.last < arguments.first || (arguments.nodes != 3 && arguments.nodes != 5))
        usage();
    return arguments;
}

static void say_command(char *out, size_t len, const struct arguments *arguments, uint64_t seed)
{
    snprintf(out, len, "tests/sim/run --seed %llu --nodes %u --ms %u", (unsigned long long)seed, arguments->nodes,
             arguments->ms);
}

static void add_counts(struct sim_counts *total, const struct sim_counts *counts)
{
    uint64_t *to = (uint64_t *)total;
    const uint64_t *from = (const uint64_t *)counts;
    _Static_assert(sizeof(struct sim_counts) % sizeof(uint64_t) == 0, "numbers only");
    for (size_t i = 0; i < sizeof(*total) / sizeof(uint64_t); i++)
        to[i] += from[i];
}

static void print_counts(const struct sim_counts *c, uint64_t seeds, double seconds)
{
#define N(field) (unsigned long long)c->field
    printf("%llu seeds in %.1f s: %llu steps, %llu committed, %llu applied, %llu elections\n",
           (unsigned long long)seeds, seconds, N(steps), N(commits), N(applied), N(elections));
    printf("  logs: %llu entries replaced by those of another leader, %llu of them before they were synced\n",
           N(replaced), N(replaced_under_way));
    printf("  clients: %llu writes, %llu reads, %llu unknown, %llu refused\n", N(writes), N(reads), N(unknown),
           N(refused));
    printf("  faults: %llu crashes (%llu power, %llu with an older state), %llu partitions, %llu broken connections, "
           "%llu pauses, %llu slow and %llu full disks, %llu clock jumps, %llu hand-overs\n",
           N(crashes), N(power_losses), N(restored), N(partitions), N(breaks), N(pauses), N(slow_disks), N(full_disks),
           N(clock_jumps), N(resigns));
    printf("  data: %llu trims, %llu transfers (%llu interrupted), %llu wiped, %llu bits flipped, %llu syncs failed, "
           "%llu states altered (%llu found out), %llu members replaced\n",
           N(trims), N(transfers), N(transfers_lost), N(wipes), N(flips), N(sync_failures), N(alterations),
           N(found_out), N(rejoins));
#undef N
}

int main(int argc, char **argv)
{
    struct arguments arguments = parse(argc, argv);
    struct sim_cluster *cluster = kt_zalloc(sizeof(*cluster));
    struct sim_counts total = {0};
    struct stat info;
    char folder[] = "/dev/shm/kontiki-sim-XXXXXX", fallback[] = "/tmp/kontiki-sim-XXXXXX", command[200];
    const char *chosen = stat("/dev/shm", &info) == 0 ? mkdtemp(folder) : NULL;
    bool per_seed = getenv("KONTIKI_SIM_SEED_TIME") != NULL, failed = false;

    if (!chosen)
        chosen = mkdtemp(fallback);
    if (!chosen) {
        perror("no folder for the state files");
        return 2;
    }
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t begun = kt_clock_us(), seed;
    for (seed = arguments.first; seed <= arguments.last && !failed; seed++) {
        struct sim_options options = {.seed = seed,
                                      .nodes = arguments.nodes,
                                      .fault_ms = arguments.ms,
                                      .trace = arguments.trace,
                                      .outside_only = arguments.outside,
                                      .folder = chosen};
        uint64_t seed_begun = kt_clock_us();
        say_command(command, sizeof(command), &arguments, seed);
        snprintf(dying_words, sizeof(dying_words), "\nthe simulator died; repeat: %s\n", command);
        failed = !sim_cluster_run(cluster, &options);
        add_counts(&total, &cluster->counts);
        if (failed)
            printf("seed %llu failed %s\nrepeat: %s --trace\n", (unsigned long long)seed, cluster->world.failure,
                   command);
        if (arguments.repeat && !failed) {
            uint64_t hash = cluster->world.trace_hash;
            sim_cluster_run(cluster, &options);
            failed = cluster->world.trace_hash != hash;
            if (failed)
                printf("seed %llu does not repeat: %s\n", (unsigned long long)seed, command);
        }
        if (per_seed)
            printf("seed %llu: %llu ms, trace %016llx\n", (unsigned long long)seed,
                   (unsigned long long)(kt_clock_us() - seed_begun) / 1000,
                   (unsigned long long)cluster->world.trace_hash);
    }
    print_counts(&total, seed - arguments.first, (double)(kt_clock_us() - begun) / 1e6);
    if (arguments.first == arguments.last)
        printf("trace hash %016llx\n", (unsigned long long)cluster->world.trace_hash);
    rmdir(chosen);
    kt_free(cluster);
    return failed;
}
