/*
 * sim --seed N | --seeds A..B  [--nodes 3|5] [--ms N] [--jobs N] [--all] [--outside] [--plant NAME] [--trace]
 * [--repeat]
 *
 * Runs clusters, one per seed, in --jobs processes. Exit code 1, and the command that repeats it, when a seed fails; no
 * new ones are begun then, unless --all is given. --repeat runs each seed twice and compares the traces. --outside has
 * the checks that look inside stand back (check.h). --plant switches on one of the faults that a build with
 * KONTIKI_PLANTED contains (base/plant.h). KONTIKI_SIM_SEED_TIME prints how long each seed took.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/plant.h"
#include "cluster.h"

#define JOBS_MAX 64

struct arguments {
    uint64_t first, last;
    unsigned nodes, ms, jobs;
    bool trace, repeat, outside, all;
    const char *plant;
};

/* What the processes share. */
struct shared {
    atomic_ullong next; /* seed */
    atomic_ullong done;
    atomic_uint failed;
    struct sim_counts counts[JOBS_MAX];
    uint64_t rss_kib[JOBS_MAX];
};

/* For the moment when the process dies: which seed it was. */
static char dying_words[400];

static void on_signal(int number)
{
    ssize_t ignored = write(STDERR_FILENO, dying_words, strlen(dying_words));
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* Whoever interrupts it is told how far it came. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void usage(void)
{
    fprintf(stderr, "usage: run --seed N | --seeds A..B [--nodes 3|5] [--ms N] [--jobs N] [--all] [--outside]\n"
                    "           [--plant NAME] [--trace] [--repeat]\n");
    exit(2);
}

static void list_plants(void)
{
    const char *name, *what;
    for (unsigned i = 0; (name = kt_plant_name(i, &what)) != NULL; i++)
        printf("%s\t%s\n", name, what);
    exit(0);
}

static bool flag(struct arguments *arguments, const char *name)
{
    bool *known = strcmp(name, "--trace") == 0     ? &arguments->trace
                  : strcmp(name, "--repeat") == 0  ? &arguments->repeat
                  : strcmp(name, "--outside") == 0 ? &arguments->outside
                  : strcmp(name, "--all") == 0     ? &arguments->all
                                                   : NULL;
    if (known)
        *known = true;
    return known != NULL;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments arguments = {.first = 1, .last = 0, .nodes = 3, .ms = 15000, .jobs = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = argv[i + 1];
        char *end;
        if (flag(&arguments, name))
            continue;
        if (!value)
            usage();
        i++;
        if (strcmp(name, "--seed") == 0) {
            arguments.first = arguments.last = strtoull(value, &end, 10);
        } else if (strcmp(name, "--seeds") == 0) {
            arguments.first = strtoull(value, &end, 10);
            if (strncmp(end, "..", 2) != 0)
                usage();
            arguments.last = strtoull(end + 2, &end, 10);
        } else if (strcmp(name, "--nodes") == 0) {
            arguments.nodes = (unsigned)strtoul(value, &end, 10);
        } else if (strcmp(name, "--ms") == 0) {
            arguments.ms = (unsigned)strtoul(value, &end, 10);
        } else if (strcmp(name, "--jobs") == 0) {
            arguments.jobs = (unsigned)strtoul(value, &end, 10);
        } else if (strcmp(name, "--plant") == 0) {
            if (strcmp(value, "list") == 0)
                list_plants();
            arguments.plant = value;
        } else {
            usage();
        }
    }
    if (arguments.last < arguments.first || (arguments.nodes != 3 && arguments.nodes != 5) || arguments.jobs < 1 ||
        arguments.jobs > JOBS_MAX)
        usage();
    if (arguments.plant && !kt_plant(arguments.plant)) {
        fprintf(stderr, "this build has no fault of the name %s in it; see tests/sim/README.md\n", arguments.plant);
        exit(2);
    }
    return arguments;
}

static void say_command(char *out, size_t len, const struct arguments *arguments, uint64_t seed)
{
    snprintf(out, len, "tests/sim/run --seed %llu --nodes %u --ms %u%s%s%s", (unsigned long long)seed, arguments->nodes,
             arguments->ms, arguments->outside ? " --outside" : "", arguments->plant ? " --plant " : "",
             arguments->plant ? arguments->plant : "");
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

/* One seed. False if it failed, which was said then. */
static bool run_seed(const struct arguments *arguments, struct sim_cluster *cluster, const char *folder, uint64_t seed)
{
    struct sim_options options = {.seed = seed,
                                  .nodes = arguments->nodes,
                                  .fault_ms = arguments->ms,
                                  .trace = arguments->trace,
                                  .outside_only = arguments->outside,
                                  .folder = folder};
    char command[300];
    say_command(command, sizeof(command), arguments, seed);
    snprintf(dying_words, sizeof(dying_words), "\nthe simulator died in seed %llu; repeat: %s\n",
             (unsigned long long)seed, command);
    if (!sim_cluster_run(cluster, &options)) {
        printf("seed %llu failed %s\nrepeat: %s --trace\n", (unsigned long long)seed, cluster->world.failure, command);
        return false;
    }
    uint64_t hash = cluster->world.trace_hash;
    if (arguments->repeat && (!sim_cluster_run(cluster, &options) || cluster->world.trace_hash != hash)) {
        printf("seed %llu does not repeat: %s\n", (unsigned long long)seed, command);
        return false;
    }
    return true;
}

/* Takes seeds until there are none. */
static void work(const struct arguments *arguments, struct shared *shared, unsigned job)
{
    struct sim_cluster *cluster = kt_zalloc(sizeof(*cluster));
    struct stat info;
    struct rusage usage;
    char folder[64];
    bool per_seed = getenv("KONTIKI_SIM_SEED_TIME") != NULL;
    snprintf(folder, sizeof(folder), "%s/kontiki-sim-XXXXXX", stat("/dev/shm", &info) == 0 ? "/dev/shm" : "/tmp");
    KT_CHECK(mkdtemp(folder));
    while (!interrupted && (arguments->all || atomic_load(&shared->failed) == 0)) {
        uint64_t seed = atomic_fetch_add(&shared->next, 1), begun = kt_clock_us();
        if (seed > arguments->last)
            break;
        if (!run_seed(arguments, cluster, folder, seed))
            atomic_fetch_add(&shared->failed, 1);
        add_counts(&shared->counts[job], &cluster->counts);
        atomic_fetch_add(&shared->done, 1);
        if (per_seed)
            printf("seed %llu: %llu ms, trace %016llx\n", (unsigned long long)seed,
                   (unsigned long long)(kt_clock_us() - begun) / 1000, (unsigned long long)cluster->world.trace_hash);
        if (arguments->first == arguments->last)
            printf("trace hash %016llx\n", (unsigned long long)cluster->world.trace_hash);
    }
    getrusage(RUSAGE_SELF, &usage);
    shared->rss_kib[job] = (uint64_t)usage.ru_maxrss;
    rmdir(folder);
    kt_free(cluster);
}

/* Also in a process of its own if there is only one, except where somebody wants to look at it. */
static void work_in_processes(const struct arguments *arguments, struct shared *shared)
{
    pid_t pids[JOBS_MAX];
    for (unsigned i = 0; i < arguments->jobs; i++) {
        pids[i] = fork();
        KT_CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            work(arguments, shared, i);
            exit(0);
        }
    }
    for (unsigned i = 0; i < arguments->jobs; i++) {
        int status;
        while (waitpid(pids[i], &status, 0) != pids[i])
            KT_CHECK(errno == EINTR);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            atomic_fetch_add(&shared->failed, 1);
    }
}

int main(int argc, char **argv)
{
    struct arguments arguments = parse(argc, argv);
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sim_counts total = {0};
    uint64_t begun = kt_clock_us(), rss_kib = 0;

    KT_CHECK(shared != MAP_FAILED);
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    setvbuf(stdout, NULL, _IOLBF, 0);
    atomic_store(&shared->next, arguments.first);
    if (arguments.jobs == 1)
        work(&arguments, shared, 0);
    else
        work_in_processes(&arguments, shared);
    for (unsigned i = 0; i < arguments.jobs; i++) {
        add_counts(&total, &shared->counts[i]);
        rss_kib = KT_MAX(rss_kib, shared->rss_kib[i]);
    }
    print_counts(&total, atomic_load(&shared->done), (double)(kt_clock_us() - begun) / 1e6);
    printf("  memory: %llu MiB at most, %u failed\n", (unsigned long long)rss_kib / 1024, atomic_load(&shared->failed));
    return atomic_load(&shared->failed) != 0;
}
