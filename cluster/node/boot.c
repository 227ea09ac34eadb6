#include "cluster/node/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/random.h"

#define PATH_BYTES   4096
#define ASIDE_NUMBER 1000000u /* far more than anybody keeps */

static void path_of(char path[PATH_BYTES], const char *folder, const char *name)
{
    snprintf(path, PATH_BYTES, "%s/%s", folder, name);
}

static bool exists(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    path_of(path, folder, name);
    return access(path, F_OK) == 0;
}

static enum kt_code failed(struct kt_error *error, const char *what, const char *path)
{
    return kt_error_errno(error, errno == ENOSPC ? KT_DISK_FULL : KT_IO_FAILED, errno, "cannot %s %s", what, path);
}

static enum kt_code sync_path(const char *path, struct kt_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum kt_code code = KT_OK;

    if (fd < 0)
        return failed(error, "open", path);
    if (fsync(fd) != 0)
        code = failed(error, "sync", path);
    close(fd);
    return code;
}

static enum kt_code move(const char *folder, const char *from, const char *to, struct kt_error *error)
{
    char source[PATH_BYTES], target[PATH_BYTES];

    path_of(source, folder, from);
    path_of(target, folder, to);
    if (rename(source, target) != 0)
        return failed(error, "rename", source);
    return sync_path(folder, error);
}

/* Replaces a small file as a whole. */
static enum kt_code write_file(const char *folder, const char *name, const char *text, struct kt_error *error)
{
    char path[PATH_BYTES];
    size_t length = strlen(text);
    enum kt_code code = KT_OK;
    int fd;

    path_of(path, folder, "new.tmp");
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(error, "create", path);
    if (write(fd, text, length) != (ssize_t)length || fsync(fd) != 0)
        code = failed(error, "write", path);
    close(fd);
    return code == KT_OK ? move(folder, "new.tmp", name, error) : code;
}

/* ---- The member ---- */

static enum kt_code write_member(const char *folder, kt_member_id member, bool founded, struct kt_error *error)
{
    char text[64];
    snprintf(text, sizeof text, "%016" PRIx64 " %s\n", member, founded ? "member" : "fresh");
    return write_file(folder, "member", text, error);
}

static enum kt_code read_member(struct kt_boot *boot, kt_node_id self, struct kt_error *error)
{
    char path[PATH_BYTES], word[16] = "";
    FILE *file;
    int fields;

    path_of(path, boot->folder, "member");
    file = fopen(path, "re");
    if (file == NULL && errno == ENOENT) {
        boot->member = kt_member_make(kt_random_system(), self);
        boot->founded = false;
        return write_member(boot->folder, boot->member, false, error);
    }
    if (file == NULL)
        return failed(error, "open", path);
    fields = fscanf(file, "%16" SCNx64 " %15s", &boot->member, word);
    fclose(file);
    boot->founded = strcmp(word, "member") == 0;
    if (fields != 2 || (!boot->founded && strcmp(word, "fresh") != 0))
        return kt_error_set(error, KT_CORRUPT, "%s does not say which member this is", path);
    if (kt_member_node(boot->member) != self)
        return kt_error_set(error, KT_BAD_REQUEST, "%s holds the data of node %llu, and this is node %llu",
                            boot->folder, (unsigned long long)kt_member_node(boot->member), (unsigned long long)self);
    return KT_OK;
}

enum kt_code kt_boot_found(struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = write_member(boot->folder, boot->member, true, error);
    if (code == KT_OK)
        boot->founded = true;
    return code;
}

/* ---- Setting aside ---- */

enum kt_code kt_boot_condemn(const char *folder, struct kt_error *error)
{
    return write_file(folder, "aside", "", error);
}

static enum kt_code remove_file(const char *folder, const char *name, struct kt_error *error)
{
    char path[PATH_BYTES];

    path_of(path, folder, name);
    if (unlink(path) != 0 && errno != ENOENT)
        return failed(error, "remove", path);
    return sync_path(folder, error);
}

static enum kt_code set_one_aside(const char *folder, const char *name, struct kt_error *error)
{
    char target[64];

    if (!exists(folder, name))
        return KT_OK;
    for (unsigned number = 1; number < ASIDE_NUMBER; number++) {
        snprintf(target, sizeof target, "%s.damaged-%u", name, number);
        if (!exists(folder, target)) {
            kt_warn("boot", "%s/%s is set aside as %s", folder, name, target);
            return move(folder, name, target, error);
        }
    }
    return kt_error_set(error, KT_IO_FAILED, "there are too many damaged files in %s", folder);
}

/* The mark stays until all is done, so that a crash in between leaves no old member without its log. */
static enum kt_code set_aside(const char *folder, struct kt_error *error)
{
    enum kt_code code = set_one_aside(folder, "log", error);
    if (code == KT_OK)
        code = set_one_aside(folder, "state.mdb", error);
    if (code == KT_OK)
        code = remove_file(folder, "state.mdb-lock", error);
    if (code == KT_OK)
        code = remove_file(folder, "incoming.mdb", error);
    if (code == KT_OK)
        code = remove_file(folder, "member", error);
    if (code == KT_OK)
        code = remove_file(folder, "aside", error);
    return code;
}

/* ---- Adopting a state ---- */

enum kt_code kt_boot_adopt(const char *folder, struct kt_error *error)
{
    char path[PATH_BYTES];
    enum kt_code code;

    path_of(path, folder, "incoming.part");
    code = sync_path(path, error);
    return code == KT_OK ? move(folder, "incoming.part", "incoming.mdb", error) : code;
}

static enum kt_code open_log(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_wal_options wal = {.segment_bytes = options->segment_bytes};
    char path[PATH_BYTES];
    int number = 0;
    enum kt_code code;

    path_of(path, options->folder, "log");
    code = kt_disk_open(path, &boot->disk, &number);
    if (code != KT_OK)
        return kt_error_errno(error, code, number, "cannot open the log folder %s", path);
    wal.disk = boot->disk;
    return kt_wal_open(&wal, &boot->wal, &boot->found, error);
}

static enum kt_code open_state(const struct kt_boot_options *options, const char *name, struct kt_state **state,
                               struct kt_error *error)
{
    struct kt_state_options with_path = options->state;
    char path[PATH_BYTES];

    path_of(path, options->folder, name);
    with_path.store.path = path;
    return kt_state_open(&with_path, state, error);
}

/* The log begins anew behind the incoming state, then the state moves into its place; either may have happened already.
 */
static enum kt_code finish_adoption(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_state_position position;
    struct kt_state *incoming;
    enum kt_code code = open_state(options, "incoming.mdb", &incoming, error);

    if (code != KT_OK)
        return code;
    position = kt_state_applied(incoming);
    kt_state_close(incoming);
    code = remove_file(options->folder, "incoming.mdb-lock", error);
    if (code == KT_OK && (boot->found.first != position.index + 1 || boot->found.last != position.index ||
                          boot->found.base_term != position.term))
        code = kt_wal_reset(boot->wal, position.index, position.term);
    if (code == KT_OK && boot->found.term < position.term)
        code = kt_wal_vote(boot->wal, position.term, 0);
    if (code != KT_OK)
        return kt_error_set(error, code, "cannot begin the log behind entry %llu: %s",
                            (unsigned long long)position.index, kt_code_text(code));
    boot->found.term = KT_MAX(boot->found.term, position.term);
    boot->found.first = position.index + 1;
    boot->found.last = position.index;
    boot->found.base_term = position.term;
    kt_info("boot", "the state of another node is adopted at entry %llu", (unsigned long long)position.index);
    code = remove_file(options->folder, "state.mdb-lock", error);
    return code == KT_OK ? move(options->folder, "incoming.mdb", "state.mdb", error) : code;
}

/* ---- Coming up ---- */

static void close_data(struct kt_boot *boot)
{
    if (boot->state != NULL)
        kt_state_close(boot->state);
    if (boot->wal != NULL)
        kt_wal_close(boot->wal);
    if (boot->disk != NULL)
        kt_disk_close(boot->disk);
    boot->state = NULL;
    boot->wal = NULL;
    boot->disk = NULL;
}

void kt_boot_close(struct kt_boot *boot)
{
    close_data(boot);
    kt_free(boot->folder);
    boot->folder = NULL;
}

static enum kt_code agree(const struct kt_boot *boot, struct kt_error *error)
{
    struct kt_state_position position = kt_state_applied(boot->state);
    kt_term term;

    if (boot->founded && boot->found.last == 0 && position.index == 0)
        return kt_error_set(error, KT_CORRUPT, "%s belongs to a member of a cluster but holds no log", boot->folder);
    if (position.index > boot->found.last || position.index + 1 < boot->found.first)
        return kt_error_set(error, KT_CORRUPT, "the state stands at entry %llu but the log holds %llu to %llu",
                            (unsigned long long)position.index, (unsigned long long)boot->found.first,
                            (unsigned long long)boot->found.last);
    term = position.index > 0 ? kt_wal_term(boot->wal, position.index) : 0;
    if (term != position.term)
        return kt_error_set(error, KT_CORRUPT, "entry %llu has term %llu in the state and %llu in the log",
                            (unsigned long long)position.index, (unsigned long long)position.term,
                            (unsigned long long)term);
    return KT_OK;
}

static enum kt_code open_data(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = read_member(boot, options->self, error);

    if (code == KT_OK)
        code = open_log(options, boot, error);
    if (code == KT_OK && exists(options->folder, "incoming.mdb"))
        code = finish_adoption(options, boot, error);
    if (code == KT_OK)
        code = open_state(options, "state.mdb", &boot->state, error);
    return code == KT_OK ? agree(boot, error) : code;
}

enum kt_code kt_boot(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = KT_OK;

    memset(boot, 0, sizeof *boot);
    boot->folder = kt_text_dup(options->folder);
    if (mkdir(options->folder, 0700) != 0 && errno != EEXIST)
        code = failed(error, "create", options->folder);
    if (code == KT_OK)
        code = remove_file(options->folder, "incoming.part", error);
    if (code == KT_OK && exists(options->folder, "aside"))
        code = set_aside(options->folder, error);
    if (code == KT_OK)
        code = open_data(options, boot, error);
    if (code == KT_CORRUPT && !options->alone) {
        kt_fail("boot", "%s", error->text);
        close_data(boot);
        code = kt_boot_condemn(options->folder, error);
        if (code == KT_OK)
            code = set_aside(options->folder, error);
        if (code == KT_OK)
            code = open_data(options, boot, error);
    }
    if (code != KT_OK)
        kt_boot_close(boot);
    return code;
}
