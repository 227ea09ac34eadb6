#include "cluster/node/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/plant.h"
#include "base/random.h"

#define NAME_BYTES   64
#define SMALL_BYTES  64u      /* the contents of a small file */
#define ASIDE_NUMBER 1000000u /* far more than anybody keeps */

/* ---- The real disks ---- */

static void real_path(void *data, const char *name, char *out)
{
    const struct kt_boot *boot = data;
    snprintf(out, KT_BOOT_PATH_BYTES, "%s/%s", boot->folder, name);
}

static enum kt_code real_open_log(void *data, struct kt_disk **log, int *error_number)
{
    char path[KT_BOOT_PATH_BYTES];

    real_path(data, "log", path);
    return kt_disk_open(path, log, error_number);
}

static void real_close_log(void *data, struct kt_disk *log)
{
    (void)data;
    kt_disk_close(log);
}

static enum kt_code open_disks(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    int number = 0;
    enum kt_code code;

    if (options->disks != NULL) {
        boot->disks = *options->disks;
        return KT_OK;
    }
    code = kt_disk_open_unlocked(options->folder, &boot->own_files, &number);
    if (code != KT_OK)
        return kt_error_errno(error, code, number, "cannot open the folder %s", options->folder);
    boot->disks = (struct kt_boot_disks){.files = boot->own_files,
                                         .open_log = real_open_log,
                                         .close_log = real_close_log,
                                         .path = real_path,
                                         .data = boot};
    return KT_OK;
}

/* ---- Small files ---- */

/* status: a negative errno. */
static enum kt_code failed(const struct kt_boot *boot, struct kt_error *error, int status, const char *what,
                           const char *name)
{
    bool full = status == -ENOSPC || status == -EDQUOT;
    return kt_error_errno(error, full ? KT_DISK_FULL : KT_IO_FAILED, -status, "cannot %s %s/%s", what, boot->folder,
                          name);
}

struct search {
    const char *name;
    bool found;
};

static void look_at(void *data, const char *name)
{
    struct search *search = data;
    search->found |= strcmp(name, search->name) == 0;
}

static enum kt_code exists(const struct kt_boot *boot, const char *name, bool *found, struct kt_error *error)
{
    struct search search = {.name = name};
    int status = boot->disks.files->ops->list(boot->disks.files, look_at, &search);

    *found = search.found;
    return status < 0 ? failed(boot, error, status, "look for", name) : KT_OK;
}

static enum kt_code sync_names(const struct kt_boot *boot, struct kt_error *error)
{
    int status = boot->disks.files->ops->sync_folder(boot->disks.files);
    return status < 0 ? failed(boot, error, status, "sync the names of", "") : KT_OK;
}

static enum kt_code move(const struct kt_boot *boot, const char *from, const char *to, struct kt_error *error)
{
    int status = boot->disks.files->ops->rename(boot->disks.files, from, to);
    return status < 0 ? failed(boot, error, status, "rename", from) : sync_names(boot, error);
}

static enum kt_code remove_file(const struct kt_boot *boot, const char *name, struct kt_error *error)
{
    int status = boot->disks.files->ops->remove(boot->disks.files, name);
    return status < 0 && status != -ENOENT ? failed(boot, error, status, "remove", name) : sync_names(boot, error);
}

/* Replaces a small file as a whole. */
static enum kt_code write_file(const struct kt_boot *boot, const char *name, const char *text, struct kt_error *error)
{
    struct kt_disk *files = boot->disks.files;
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct kt_file *file;
    enum kt_code code = remove_file(boot, "new.tmp", error);
    int status;

    if (code != KT_OK)
        return code;
    status = files->ops->open(files, "new.tmp", true, &file);
    if (status < 0)
        return failed(boot, error, status, "create", "new.tmp");
    if (part.iov_len > 0)
        status = file->ops->write(file, 0, &part, 1);
    if (status == 0)
        status = file->ops->sync(file);
    file->ops->close(file);
    return status < 0 ? failed(boot, error, status, "write", "new.tmp") : move(boot, "new.tmp", name, error);
}

/* ---- The member ---- */

static enum kt_code write_member(struct kt_boot *boot, bool founded, struct kt_error *error)
{
    char text[SMALL_BYTES];

    snprintf(text, sizeof text, "%016" PRIx64 " %s\n", boot->member, founded ? "member" : "fresh");
    return write_file(boot, "member", text, error);
}

static enum kt_code new_member(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_random random;
    uint64_t bits = KT_PLANTED("member-kept") ? 1 : kt_random_system();

    if (options->seed != 0 && !KT_PLANTED("member-kept")) {
        kt_random_seed(&random, options->seed);
        bits = kt_random_next(&random);
    }
    boot->member = kt_member_make(bits, options->self);
    boot->founded = false;
    return write_member(boot, false, error);
}

static enum kt_code read_member(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_disk *files = boot->disks.files;
    char text[SMALL_BYTES], word[16] = "";
    struct kt_file *file;
    int status = files->ops->open(files, "member", false, &file);
    int64_t length;

    if (status == -ENOENT)
        return new_member(options, boot, error);
    if (status < 0)
        return failed(boot, error, status, "open", "member");
    length = file->ops->read(file, 0, text, sizeof text - 1);
    file->ops->close(file);
    if (length < 0)
        return failed(boot, error, (int)length, "read", "member");
    text[length] = '\0';
    status = sscanf(text, "%16" SCNx64 " %15s", &boot->member, word);
    boot->founded = strcmp(word, "member") == 0;
    if (status != 2 || (!boot->founded && strcmp(word, "fresh") != 0))
        return kt_error_set(error, KT_CORRUPT, "%s/member does not say which member this is", boot->folder);
    if (kt_member_node(boot->member) != options->self)
        return kt_error_set(error, KT_BAD_REQUEST, "%s holds the data of node %llu, and this is node %llu",
                            boot->folder, (unsigned long long)kt_member_node(boot->member),
                            (unsigned long long)options->self);
    return KT_OK;
}

enum kt_code kt_boot_found(struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = write_member(boot, true, error);
    if (code == KT_OK)
        boot->founded = true;
    return code;
}

/* ---- Setting aside ---- */

enum kt_code kt_boot_condemn(struct kt_boot *boot, struct kt_error *error)
{
    return write_file(boot, "aside", "", error);
}

static enum kt_code set_one_aside(const struct kt_boot *boot, const char *name, struct kt_error *error)
{
    char target[NAME_BYTES];
    bool found;
    enum kt_code code = exists(boot, name, &found, error);

    if (code != KT_OK || !found)
        return code;
    for (unsigned number = 1; number < ASIDE_NUMBER; number++) {
        snprintf(target, sizeof target, "%s.damaged-%u", name, number);
        code = exists(boot, target, &found, error);
        if (code != KT_OK)
            return code;
        if (!found) {
            kt_warn("boot", "%s/%s is set aside as %s", boot->folder, name, target);
            return move(boot, name, target, error);
        }
    }
    return kt_error_set(error, KT_IO_FAILED, "there are too many damaged files in %s", boot->folder);
}

/* The mark stays until all is done, so that a crash in between leaves no old member without its log. */
static enum kt_code set_aside(const struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = set_one_aside(boot, "log", error);
    if (code == KT_OK)
        code = set_one_aside(boot, "state.mdb", error);
    if (code == KT_OK)
        code = remove_file(boot, "state.mdb-lock", error);
    if (code == KT_OK)
        code = remove_file(boot, "incoming.mdb", error);
    if (code == KT_OK)
        code = remove_file(boot, "member", error);
    if (code == KT_OK)
        code = remove_file(boot, "aside", error);
    return code;
}

/* ---- Adopting a state ---- */

enum kt_code kt_boot_adopt(struct kt_boot *boot, struct kt_error *error)
{
    struct kt_disk *files = boot->disks.files;
    struct kt_file *file;
    int status = files->ops->open(files, "incoming.part", false, &file);

    if (status < 0)
        return failed(boot, error, status, "open", "incoming.part");
    status = file->ops->sync(file);
    file->ops->close(file);
    return status < 0 ? failed(boot, error, status, "sync", "incoming.part")
                      : move(boot, "incoming.part", "incoming.mdb", error);
}

static enum kt_code open_log(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_wal_options wal = {.segment_bytes = options->segment_bytes, .seed = options->seed};
    int number = 0;
    enum kt_code code = boot->disks.open_log(boot->disks.data, &boot->disk, &number);

    if (code != KT_OK)
        return kt_error_errno(error, code, number, "cannot open the log folder %s/log", options->folder);
    wal.disk = boot->disk;
    return kt_wal_open(&wal, &boot->wal, &boot->found, error);
}

static enum kt_code open_state(const struct kt_boot_options *options, const struct kt_boot *boot, const char *name,
                               struct kt_state **state, struct kt_error *error)
{
    struct kt_state_options with_path = options->state;
    char path[KT_BOOT_PATH_BYTES];

    boot->disks.path(boot->disks.data, name, path);
    with_path.store.path = path;
    return kt_state_open(&with_path, state, error);
}

/* The log begins anew behind the position. */
static enum kt_code begin_log(struct kt_boot *boot, const struct kt_state_position *position, struct kt_error *error)
{
    enum kt_code code = kt_wal_reset(boot->wal, position->index, position->term);

    if (code == KT_OK && boot->found.term < position->term) {
        code = kt_wal_vote(boot->wal, position->term, 0);
        boot->found.term = position->term;
        boot->found.vote = 0;
    }
    if (code != KT_OK)
        return kt_error_set(error, code, "cannot begin the log behind entry %llu: %s",
                            (unsigned long long)position->index, kt_code_text(code));
    boot->found.first = position->index + 1;
    boot->found.last = position->index;
    boot->found.base_term = position->term;
    return KT_OK;
}

/*
 * The incoming state takes the place of the own one. The log goes on behind it if it holds the state's last entry:
 * while the state was on its way, the log may have got entries beyond it, and this member answered for them (raft,
 * figure 13). Else it begins anew. Any step may have happened already.
 */
static enum kt_code finish_adoption(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    struct kt_state_position position;
    struct kt_state *incoming;
    enum kt_code code = open_state(options, boot, "incoming.mdb", &incoming, error);

    if (code != KT_OK)
        return code;
    position = kt_state_applied(incoming);
    kt_state_close(incoming);
    code = remove_file(boot, "incoming.mdb-lock", error);
    if (code == KT_OK && position.index + 1 < boot->found.first) {
        kt_info("boot", "another node's state at entry %llu is not needed any more",
                (unsigned long long)position.index);
        return remove_file(boot, "incoming.mdb", error);
    }
    if (code == KT_OK && (kt_wal_term(boot->wal, position.index) != position.term || KT_PLANTED("adoption-forgets")))
        code = begin_log(boot, &position, error);
    if (code != KT_OK)
        return code;
    kt_info("boot", "the state of another node is adopted at entry %llu", (unsigned long long)position.index);
    code = remove_file(boot, "state.mdb-lock", error);
    return code == KT_OK ? move(boot, "incoming.mdb", "state.mdb", error) : code;
}

/* ---- Coming up ---- */

static void close_data(struct kt_boot *boot)
{
    if (boot->state != NULL)
        kt_state_close(boot->state);
    if (boot->wal != NULL)
        kt_wal_close(boot->wal);
    if (boot->disk != NULL)
        boot->disks.close_log(boot->disks.data, boot->disk);
    boot->state = NULL;
    boot->wal = NULL;
    boot->disk = NULL;
}

void kt_boot_close(struct kt_boot *boot)
{
    close_data(boot);
    kt_disk_close(boot->own_files);
    kt_free(boot->folder);
    boot->own_files = NULL;
    boot->folder = NULL;
}

static enum kt_code agree(const struct kt_boot *boot, struct kt_error *error)
{
    struct kt_state_position position = kt_state_applied(boot->state);
    kt_term term;

    /* One that joined, and learned of a term before it got the first entry, has that much. */
    if (boot->founded && boot->found.term == 0 && position.index == 0)
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

/* The founding entry is there, the mark of a founding was still to come. It can wait for room. */
static enum kt_code found_again(struct kt_boot *boot, struct kt_error *error)
{
    enum kt_code code = kt_boot_found(boot, error);

    boot->founded = true;
    return code == KT_DISK_FULL ? KT_OK : code;
}

static enum kt_code open_data(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    bool incoming = false;
    enum kt_code code = read_member(options, boot, error);

    if (code == KT_OK)
        code = open_log(options, boot, error);
    if (code == KT_OK && !boot->founded && boot->found.last > 0)
        code = found_again(boot, error);
    if (code == KT_OK)
        code = exists(boot, "incoming.mdb", &incoming, error);
    if (code == KT_OK && incoming)
        code = finish_adoption(options, boot, error);
    if (code == KT_OK)
        code = open_state(options, boot, "state.mdb", &boot->state, error);
    /* Its file may be new, and the log is trimmed once its contents are synced. */
    if (code == KT_OK)
        code = sync_names(boot, error);
    return code == KT_OK ? agree(boot, error) : code;
}

enum kt_code kt_boot(const struct kt_boot_options *options, struct kt_boot *boot, struct kt_error *error)
{
    bool condemned = false;
    enum kt_code code;

    memset(boot, 0, sizeof *boot);
    boot->folder = kt_text_dup(options->folder);
    code = open_disks(options, boot, error);
    if (code == KT_OK)
        code = remove_file(boot, "incoming.part", error);
    if (code == KT_OK)
        code = exists(boot, "aside", &condemned, error);
    if (code == KT_OK && condemned)
        code = set_aside(boot, error);
    if (code == KT_OK)
        code = open_data(options, boot, error);
    if (code == KT_CORRUPT && !options->alone) {
        kt_fail("boot", "%s", error->text);
        close_data(boot);
        code = kt_boot_condemn(boot, error);
        if (code == KT_OK)
            code = set_aside(boot, error);
        if (code == KT_OK)
            code = open_data(options, boot, error);
    }
    if (code != KT_OK)
        kt_boot_close(boot);
    return code;
}
