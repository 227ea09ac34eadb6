/*
 * The main program of a fuzzer where libFuzzer is not at hand: every file of a corpus, then mutations of them.
 *
 *     fuzz_x [--runs N] [--seed S] [--only K] FILE|FOLDER...
 *
 * Run K of a seed is the same input every time, whatever ran before it. The inputs run in a child; the parent sees it
 * die in any way at all (a signal, a sanitizer, _exit, ten seconds without an end), writes the input that was under way
 * to a file in $TMPDIR and says how to run it again. A leak is looked for from time to time, so its report names a
 * range of runs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/types.h"

/* As libFuzzer's default: decoders whose limits are larger are tried with large lengths, not with large inputs. */
#define INPUT_BYTES_MAX 4096
/* A corpus file may be longer: it is run as it is, and its first part is what mutations start from. */
#define FILE_BYTES_MAX ((size_t)1024 * 1024)

#define RUN_SECONDS_MAX   10
#define LEAK_CHECK_EVERY  2000
#define MUTATIONS_PER_RUN 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the leak sanitizer, where one is linked. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

struct input {
    char *name;
    uint8_t *data;
    size_t len;
};

/* What the child is doing; the parent reads it when the child is dead. */
struct shared {
    bool mutated;
    bool done;
    bool leak;
    uint64_t run; /* of a mutation, or the number of the file */
    size_t len;
    uint8_t data[FILE_BYTES_MAX];
};

struct options {
    uint64_t runs, seed, only;
    bool only_set;
};

static struct input *corpus;
static size_t corpus_count;

_Noreturn static void usage(const char *why, const char *what)
{
    fprintf(stderr, "%s: %s\nusage: [--runs N] [--seed S] [--only K] FILE|FOLDER...\n", why, what);
    exit(2);
}

static void corpus_add_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        usage(strerror(errno), path);
    uint8_t *data = kt_alloc(FILE_BYTES_MAX);
    size_t len = fread(data, 1, FILE_BYTES_MAX, file);
    if (ferror(file))
        usage("cannot be read", path);
    fclose(file);
    corpus = kt_realloc(corpus, (corpus_count + 1) * sizeof(*corpus));
    corpus[corpus_count++] = (struct input){.name = kt_text_dup(path), .data = kt_realloc(data, len), .len = len};
}

/* In the order of the names, so that a run means the same everywhere. */
static void corpus_add(const char *path)
{
    struct stat status;
    struct dirent **entries;
    if (stat(path, &status) != 0)
        usage(strerror(errno), path);
    if (!S_ISDIR(status.st_mode)) {
        corpus_add_file(path);
        return;
    }
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        usage(strerror(errno), path);
    for (int i = 0; i < count; i++) {
        char inside[4096];
        if (entries[i]->d_name[0] != '.') {
            snprintf(inside, sizeof(inside), "%s/%s", path, entries[i]->d_name);
            corpus_add_file(inside);
        }
        free(entries[i]);
    }
    free(entries);
}

static uint64_t number_of(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = text ? strtoull(text, &end, 10) : 0;
    if (!text || errno || end == text || *end)
        usage("not a number", text ? text : "");
    return value;
}

struct mutant {
    uint8_t data[INPUT_BYTES_MAX];
    size_t len;
};

/* Makes room for count bytes at place (fewer if the input is full); returns how many. */
static size_t open_gap(struct mutant *m, size_t place, size_t count)
{
    count = KT_MIN(count, INPUT_BYTES_MAX - m->len);
    memmove(m->data + place + count, m->data + place, m->len - place);
    m->len += count;
    return count;
}

static void insert_copy(struct mutant *m, struct kt_random *random, const uint8_t *from, size_t len)
{
    uint8_t piece[INPUT_BYTES_MAX];
    if (len == 0)
        return;
    size_t start = kt_random_below(random, len);
    size_t count = KT_MIN(1 + kt_random_below(random, len - start), sizeof(piece));
    memcpy(piece, from + start, count);
    size_t place = kt_random_below(random, m->len + 1);
    count = open_gap(m, place, count);
    memcpy(m->data + place, piece, count);
}

/* Numbers at which lengths and counters break, in either byte order. */
static void overwrite_number(struct mutant *m, struct kt_random *random)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x100,
                                       0x7fff,
                                       0x8000,
                                       0xffff,
                                       0x10000,
                                       0x1000000,
                                       0x7fffffff,
                                       0x80000000u,
                                       0xffffffffu,
                                       ~UINT64_C(0),
                                       UINT64_C(1) << 63,
                                       ~(UINT64_C(1) << 63)};
    uint64_t number = numbers[kt_random_below(random, KT_COUNT(numbers))];
    size_t width = (size_t)1 << kt_random_below(random, 4);
    bool big = kt_random_below(random, 2);
    if (m->len < width)
        return;
    uint8_t *to = m->data + kt_random_below(random, m->len - width + 1);
    for (size_t i = 0; i < width; i++)
        to[i] = (uint8_t)(number >> 8 * (big ? width - 1 - i : i));
}

static void mutate_once(struct mutant *m, struct kt_random *random)
{
    size_t place = m->len ? kt_random_below(random, m->len) : 0;
    switch (kt_random_below(random, 8)) {
    case 0:
        if (m->len)
            m->data[place] ^= (uint8_t)(1u << kt_random_below(random, 8));
        break;
    case 1:
        if (m->len)
            m->data[place] = (uint8_t)kt_random_next(random);
        break;
    case 2: /* cut */
        m->len = place;
        break;
    case 3: { /* take a piece out */
        size_t count = m->len ? 1 + kt_random_below(random, m->len - place) : 0;
        memmove(m->data + place, m->data + place + count, m->len - place - count);
        m->len -= count;
        break;
    }
    case 4: /* repeat a piece of its own */
        insert_copy(m, random, m->data, m->len);
        break;
    case 5: { /* a piece of another */
        const struct input *other = &corpus[kt_random_below(random, corpus_count)];
        insert_copy(m, random, other->data, KT_MIN(other->len, INPUT_BYTES_MAX));
        break;
    }
    case 6: { /* random bytes */
        size_t count = open_gap(m, place, 1 + kt_random_below(random, 8));
        for (size_t i = 0; i < count; i++)
            m->data[place + i] = (uint8_t)kt_random_next(random);
        break;
    }
    case 7:
        overwrite_number(m, random);
        break;
    }
}

static void mutant_make(struct mutant *m, uint64_t seed, uint64_t run)
{
    struct kt_random random;
    kt_random_seed(&random, seed ^ run * UINT64_C(0x9e3779b97f4a7c15));
    const struct input *from = &corpus[kt_random_below(&random, corpus_count)];
    m->len = KT_MIN(from->len, INPUT_BYTES_MAX);
    memcpy(m->data, from->data, m->len);
    for (uint64_t left = 1 + kt_random_below(&random, MUTATIONS_PER_RUN); left > 0; left--)
        mutate_once(m, &random);
}

/* In memory of exactly that size: a sanitizer sees the first byte that is read behind it. */
static void run_one(struct shared *shared, const uint8_t *data, size_t len)
{
    memcpy(shared->data, data, len);
    shared->len = len;
    uint8_t *copy = kt_alloc(len);
    memcpy(copy, data, len);
    alarm(RUN_SECONDS_MAX);
    (void)LLVMFuzzerTestOneInput(copy, len);
    alarm(0);
    kt_free(copy);
}

static void check_leaks(struct shared *shared)
{
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0) {
        shared->leak = true;
        _exit(1);
    }
}

_Noreturn static void child(struct shared *shared, const struct options *options)
{
    static struct mutant mutant;
    for (size_t i = 0; i < corpus_count && !options->only_set; i++) {
        shared->run = i;
        run_one(shared, corpus[i].data, corpus[i].len);
    }
    check_leaks(shared);
    shared->mutated = true;
    uint64_t first = options->only_set ? options->only : 0;
    uint64_t behind = options->only_set ? options->only + 1 : options->runs;
    for (uint64_t run = first; run < behind; run++) {
        shared->run = run;
        mutant_make(&mutant, options->seed, run);
        run_one(shared, mutant.data, mutant.len);
        if (run % LEAK_CHECK_EVERY == LEAK_CHECK_EVERY - 1)
            check_leaks(shared);
    }
    check_leaks(shared);
    shared->done = true;
    /* Not exit: the corpus belongs to the parent as well, and what is left of it here is no leak. */
    _exit(0);
}

static void save_input(const struct shared *shared)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof(path), "%s/fuzz-input-%ld", folder && *folder ? folder : "/tmp", (long)getpid());
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(shared->data, 1, shared->len, file) != shared->len)
        fprintf(stderr, "the input could not be saved in %s: %s\n", path, strerror(errno));
    else
        fprintf(stderr, "the input, %zu bytes, is in %s; run it alone by naming that file\n", shared->len, path);
    if (file)
        fclose(file);
}

static int report_death(const struct shared *shared, const struct options *options, int status)
{
    fflush(stdout);
    if (shared->leak)
        fprintf(stderr, "memory leaked in one of the last %d inputs up to the one named here\n", LEAK_CHECK_EVERY);
    else if (WIFSIGNALED(status))
        fprintf(stderr, "died of signal %d (%s)\n", WTERMSIG(status),
                WTERMSIG(status) == SIGALRM ? "it took too long" : strsignal(WTERMSIG(status)));
    else
        fprintf(stderr, "ended with status %d\n", WEXITSTATUS(status));
    if (shared->mutated)
        fprintf(stderr, "seed %llu, run %llu: again with --seed %llu --only %llu\n", (unsigned long long)options->seed,
                (unsigned long long)shared->run, (unsigned long long)options->seed, (unsigned long long)shared->run);
    else if (shared->run < corpus_count)
        fprintf(stderr, "file %s\n", corpus[shared->run].name);
    save_input(shared);
    return 1;
}

static int run_all(const struct options *options)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        return 1;
    }
    if (pid == 0)
        child(shared, options);
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            perror("waitpid");
            return 1;
        }
    }
    if (!shared->done || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return report_death(shared, options, status);
    printf("%zu files and %llu mutations of seed %llu ran\n", options->only_set ? 0 : corpus_count,
           (unsigned long long)(options->only_set ? 1 : options->runs), (unsigned long long)options->seed);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.runs = 0, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--runs") == 0) {
            options.runs = number_of(argv[++i]);
        } else if (strcmp(word, "--seed") == 0) {
            options.seed = number_of(argv[++i]);
        } else if (strcmp(word, "--only") == 0) {
            options.only = number_of(argv[++i]);
            options.only_set = true;
        } else if (word[0] == '-') {
            usage("unknown option", word);
        } else {
            corpus_add(word);
        }
    }
    if (corpus_count == 0)
        usage("no input", "name a file or a folder that holds one");
    int status = run_all(&options);
    for (size_t i = 0; i < corpus_count; i++) {
        kt_free(corpus[i].name);
        kt_free(corpus[i].data);
    }
    kt_free(corpus);
    return status;
}
