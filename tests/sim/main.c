/*
 * sim --seed N | --seeds A..B  [--nodes 3|5] [--ms N] [--trace] [--repeat] [--plant NAME] [--scenario NAME]
 *
 * Runs clusters, one per seed. Exit code 1 and the command that repeats it when a seed fails. With --plant a fault of
 * the simulator's own is built in, and the run is good if one of the seeds finds it. --repeat runs each seed twice and
 * compares the traces. With --scenario one fault hits the leader of a cluster at work; how long writes stopped is
 * printed, and the run is good if it was short enough. KONTIKI_SIM_SEED_TIME in the environment prints how long each
 * seed took.
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

static const char *const scenario_names[] = {"none", "kill", "power", "pause", "isolate", "resign"};

#define GAPS_MAX        10000u
#define FAILOVER_MS     500u /* what the product promises for its default settings, in the middle of all runs */
#define FAILOVER_MAX_MS 2000u
#define RESIGN_MS       60u /* the slowest disks here take 10 ms for each of the four writes that a hand-over needs */

struct arguments {
    uint64_t first, last;
    unsigned nodes, ms;
    bool trace, repeat;
    enum sim_plant plant;
    enum sim_scenario scenario;
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

/* Asked to end: after the seed that is running. */
static volatile sig_atomic_t stopping;

static void on_stop(int number)
{
    (void)number;
    stopping = 1;
}

static void usage(void)
{
    fprintf(stderr, "usage: run --seed N | --seeds A..B [--nodes 3|5] [--ms N] [--trace] [--repeat]\n"
                    "           [--plant early-ack|lost-vote|stale-read|double|drift]\n"
                    "           [--scenario kill|power|pause|isolate|resign]\n");
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

static enum sim_scenario scenario_of(const char *name)
{
    for (unsigned i = 0; i < KT_COUNT(scenario_names); i++)
        if (strcmp(name, scenario_names[i]) == 0)
            return (enum sim_scenario)i;
    usage();
    return SIM_SCENARIO_NONE;
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
        } else if (strcmp(argv[i - 1], "--scenario") == 0) {
            arguments.scenario = scenario_of(value);
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
        n += snprintf(out + n, len - (size_t)n, " --plant %s", plant_names[arguments->plant]);
    if (arguments->scenario != SIM_SCENARIO_NONE)
        snprintf(out + n, len - (size_t)n, " --scenario %s", scenario_names[arguments->scenario]);
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

static int by_size(const void *a, const void *b)
{
    sim_us x = *(const sim_us *)a, y = *(const sim_us *)b;
    return (x > y) - (x < y);
}

/* How long no write was possible; false if too long. */
static bool judge_gaps(enum sim_scenario scenario, sim_us *gaps, size_t count)
{
    qsort(gaps, count, sizeof(*gaps), by_size);
    double median = (double)gaps[count / 2] / 1000, most = (double)gaps[count - 1] / 1000;
    printf("%s: first write after it: median %.1f ms, 99 of 100 within %.1f ms, at most %.1f ms\n",
           scenario_names[scenario], median, (double)gaps[(count - 1) * 99 / 100] / 1000, most);
    unsigned limit = scenario == SIM_SCENARIO_RESIGN ? RESIGN_MS : FAILOVER_MS;
    if (median <= limit && most <= FAILOVER_MAX_MS)
        return true;
    printf("%s: allowed are %u ms in the middle and %u ms at most\n", scenario_names[scenario], limit, FAILOVER_MAX_MS);
    return false;
}

int main(int argc, char **argv)
{
    struct arguments arguments = parse(argc, argv);
    struct sim_cluster *cluster = kt_zalloc(sizeof(*cluster));
    struct sim_counts total = {0};
    struct stat info;
    char folder[] = "/dev/shm/kontiki-sim-XXXXXX", fallback[] = "/tmp/kontiki-sim-XXXXXX", command[200];
    const char *chosen = stat("/dev/shm", &info) == 0 ? mkdtemp(folder) : NULL;
    sim_us *gaps = kt_alloc(GAPS_MAX * sizeof(*gaps));
    size_t gap_count = 0;
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
    signal(SIGINT, on_stop);
    signal(SIGTERM, on_stop);
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t begun = kt_clock_us(), seed;
    for (seed = arguments.first; seed <= arguments.last && !failed && !stopping; seed++) {
        struct sim_options options = {.seed = seed,
                                      .nodes = arguments.nodes,
                                      .fault_ms = arguments.ms,
                                      .trace = arguments.trace,
                                      .plant = arguments.plant,
                                      .scenario = arguments.scenario,
                                      .folder = chosen};
        uint64_t seed_begun = kt_clock_us();
        say_command(command, sizeof(command), &arguments, seed);
        snprintf(dying_words, sizeof(dying_words), "\nthe simulator died; repeat: %s\n", command);
        failed = !sim_cluster_run(cluster, &options);
        add_counts(&total, &cluster->counts);
        if (!failed && arguments.scenario != SIM_SCENARIO_NONE && gap_count < GAPS_MAX)
            gaps[gap_count++] = cluster->write_at - cluster->fault_at;
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
    if (gap_count > 0 && !judge_gaps(arguments.scenario, gaps, gap_count))
        failed = true;
    kt_free(gaps);
    rmdir(chosen);
    kt_free(cluster);
    return failed == (arguments.plant == SIM_PLANT_NONE);
}
