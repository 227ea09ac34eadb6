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

static const char *const plant_names[] = {"none", "early-ack", "lost-vote", "stale-read", "double", "drift"};

struct arguments {
    uint64_t first, last;
    unsigned nodes, ms;
    bool trace, repeat;
    enum sim_plant plant;
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
    fprintf(stderr, "usage: run --seed N | --seeds A..B [--nodes 3|5] [--ms N] [--trace] [--repeat]\n"
                    "           [--plant early-ack|lost-vote|stale-read|double|drift]\n");
    exit(2);
}

static enum sim_plant plant_of(const char *name)
{
    for (unsigned i = 0; i < KT_COUNT(plant_names); i++)
        if (strcmp(name, plant_names[i]) == 0)
            return (enum sim_plant)i;
    usage();
    return SIM_PLANT_NONE;
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
        } else if (strcmp(argv[i - 1], "--plant") == 0) {
            arguments.plant = plant_of(value);
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
    int n = snprintf(out, len, "tests/sim/run --seed %llu --nodes %u --ms %u", (unsigned long long)seed,
                     arguments->nodes, arguments->ms);
    if (arguments->plant != SIM_PLANT_NONE)
        snprintf(out + n, len - (size_t)n, " --plant %s", plant_names[arguments->plant]);
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
                                      .plant = arguments.plant,
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
    if (arguments.plant != SIM_PLANT_NONE)
        printf("planted %s: %s\n", plant_names[arguments.plant], failed ? "found" : "NOT FOUND");
    rmdir(chosen);
    kt_free(cluster);
    return failed == (arguments.plant == SIM_PLANT_NONE);
}
