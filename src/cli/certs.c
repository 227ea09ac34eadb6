/*
 * certs: an authority and one certificate per node, for mutual TLS between nodes. Offline.
 *
 * An authority that lies in the folder already signs the new certificates; nothing that exists is written over. All
 * names are looked at before the first file is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/random.h"
#include "cli/cli.h"
#include "wire/certificate.h"

#define NODES_MAX      64
#define HOSTS_MAX      8 /* of one node, those that every node has among them */
#define DAYS_DEFAULT   365
#define DAYS_MAX       36500
#define DAYS_AUTHORITY 3650    /* at least: it is replaced far less often than what it signs */
#define BEFORE_S       (-3600) /* valid since an hour ago: clocks differ */
#define DAY_S          86400
#define PATH_BYTES     4096

static const struct cli_param params[] = {
    {"folder", "folder", 'f', CLI_WORD, 1, true, NULL},
    {"nodes", "nodes", 'n', CLI_WORD, 0, true, NULL},
    {"hosts", "hosts", 'H', CLI_WORD, 0, false, NULL},
    {"days", "days", 'd', CLI_NUMBER, 0, false, NULL},
};
enum { FOLDER, NODES, HOSTS, DAYS };

struct plan {
    const char *folder;
    kt_node_id nodes[NODES_MAX];
    char *hosts[NODES_MAX]; /* one name or address per node, NULL without --hosts */
    size_t count, host_count;
    int64_t days;
};

/* ---- the command line ---- */

static bool read_number(struct kt_slice text, uint64_t max, uint64_t *number)
{
    const char *at = text.data;
    *number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *number = *number * 10 + (uint64_t)(at[i] - '0');
        if (*number > max)
            return false;
    }
    return *number > 0;
}

/* The next of a list separated by commas; false at its end. */
static bool next_item(const char **list, struct kt_slice *item)
{
    if (!*list)
        return false;
    size_t len = strcspn(*list, ",");
    *item = kt_slice(*list, len);
    *list = (*list)[len] ? *list + len + 1 : NULL;
    return true;
}

static int read_nodes(struct plan *plan, const char *list)
{
    struct kt_slice item;
    while (next_item(&list, &item)) {
        uint64_t node;
        if (!read_number(item, KT_NODE_ID_MAX, &node))
            return cli_fail(CLI_USAGE, "--nodes: '%.*s' is no node id (1..%u)", (int)KT_MIN(item.len, (size_t)40),
                            (const char *)item.data, KT_NODE_ID_MAX);
        for (size_t i = 0; i < plan->count; i++) {
            if (plan->nodes[i] == node)
                return cli_fail(CLI_USAGE, "--nodes: %llu is there twice", (unsigned long long)node);
        }
        if (plan->count == NODES_MAX)
            return cli_fail(CLI_USAGE, "--nodes: more than %d", NODES_MAX);
        plan->nodes[plan->count++] = node;
    }
    return CLI_OK;
}

static int read_hosts(struct plan *plan, const char *list)
{
    struct kt_slice item;
    while (next_item(&list, &item)) {
        if (plan->host_count == plan->count)
            return cli_fail(CLI_USAGE, "--hosts: more hosts than nodes; it is one host per node");
        char *host = kt_slice_dup_text(item);
        plan->hosts[plan->host_count++] = host;
        if (!kt_certificate_host(host))
            return cli_fail(CLI_USAGE, "--hosts: '%.100s' is neither a host name nor an IP address", host);
    }
    if (plan->host_count > 0 && plan->host_count < plan->count)
        return cli_fail(CLI_USAGE, "--hosts: %zu hosts for %zu nodes; it is one host per node", plan->host_count,
                        plan->count);
    return CLI_OK;
}

static int read_plan(struct plan *plan, int argc, char **argv)
{
    struct cli_values values;
    uint64_t days = DAYS_DEFAULT;
    int status = cli_params("certs", params, KT_COUNT(params), argc, argv, &values);
    if (status != CLI_OK)
        return status;
    plan->folder = values.of[FOLDER];
    if (values.of[DAYS] && !read_number(kt_slice_text(values.of[DAYS]), DAYS_MAX, &days))
        return cli_fail(CLI_USAGE, "--days '%.40s' is not within 1..%d", values.of[DAYS], DAYS_MAX);
    plan->days = (int64_t)days;
    status = read_nodes(plan, values.of[NODES]);
    return status == CLI_OK ? read_hosts(plan, values.of[HOSTS]) : status;
}

/* ---- files ---- */

/* false, after saying so: the path is too long. */
static bool name_file(char path[PATH_BYTES], const struct plan *plan, kt_node_id node, const char *ending)
{
    int len = node ? snprintf(path, PATH_BYTES, "%s/node%llu%s", plan->folder, (unsigned long long)node, ending)
                   : snprintf(path, PATH_BYTES, "%s/ca%s", plan->folder, ending);
    if (len > 0 && len < PATH_BYTES)
        return true;
    cli_fail(CLI_REFUSED, "the path of the folder is too long");
    return false;
}

static int write_file(const char *path, mode_t mode, const struct kt_buf *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return cli_fail(CLI_REFUSED, "%s cannot be made: %s", path, strerror(errno));
    ssize_t written = write(fd, text->data, text->len);
    bool whole = written == (ssize_t)text->len && fsync(fd) == 0;
    int number = written < 0 ? errno : EIO;
    if (close(fd) == 0 && whole)
        return CLI_OK;
    unlink(path);
    return cli_fail(CLI_REFUSED, "%s cannot be written: %s", path, strerror(number));
}

static int read_file(const char *path, struct kt_buf *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *room = kt_buf_reserve(text, KT_PEM_BYTES_MAX);
    ssize_t got = fd >= 0 && room ? read(fd, room, KT_PEM_BYTES_MAX) : -1;
    int number = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return cli_fail(CLI_REFUSED, "%s cannot be read: %s", path, strerror(number));
    text->len += (size_t)got;
    return CLI_OK;
}

static int write_pair(const struct plan *plan, kt_node_id node, const struct kt_pem *pem)
{
    char certificate[PATH_BYTES], key[PATH_BYTES];
    if (!name_file(certificate, plan, node, ".pem") || !name_file(key, plan, node, "-key.pem"))
        return CLI_REFUSED;
    int status = write_file(key, 0600, &pem->key);
    if (status == CLI_OK)
        status = write_file(certificate, 0644, &pem->certificate);
    if (status == CLI_OK)
        printf("%s\n%s\n", certificate, key);
    return status;
}

/* ---- what is made ---- */

static struct kt_validity validity(int64_t days)
{
    return (struct kt_validity){.from_s = BEFORE_S, .until_s = days * DAY_S};
}

static int make_authority(const struct plan *plan, struct kt_pem *authority)
{
    struct kt_error error = {.text = ""};
    char name[48];
    /* Two authorities should not look alike in a list. */
    snprintf(name, sizeof(name), "Kontiki development CA %08x", (unsigned)(kt_random_system() >> 32));
    if (kt_certificate_authority(name, validity(KT_MAX(plan->days, DAYS_AUTHORITY)), authority, &error) != KT_OK)
        return cli_fail(CLI_REFUSED, "%s", error.text);
    return write_pair(plan, 0, authority);
}

static int use_or_make_authority(const struct plan *plan, struct kt_pem *authority)
{
    char certificate[PATH_BYTES], key[PATH_BYTES];
    if (!name_file(certificate, plan, 0, ".pem") || !name_file(key, plan, 0, "-key.pem"))
        return CLI_REFUSED;
    bool have_certificate = access(certificate, F_OK) == 0, have_key = access(key, F_OK) == 0;
    if (!have_certificate && !have_key)
        return make_authority(plan, authority);
    if (!have_certificate || !have_key)
        return cli_fail(CLI_REFUSED, "%s is there without %s: both are needed to sign with this authority",
                        have_key ? key : certificate, have_key ? certificate : key);
    int status = read_file(certificate, &authority->certificate);
    return status == CLI_OK ? read_file(key, &authority->key) : status;
}

static int make_node(const struct plan *plan, size_t i, const struct kt_pem *authority)
{
    const char *hosts[HOSTS_MAX] = {"localhost", "127.0.0.1", "::1"};
    struct kt_error error = {.text = ""};
    struct kt_pem pem;
    char name[32];
    struct kt_certificate_plan certificate = {
        .name = name, .node = plan->nodes[i], .hosts = hosts, .host_count = 3, .validity = validity(plan->days)};
    if (plan->hosts[i])
        hosts[certificate.host_count++] = plan->hosts[i];
    snprintf(name, sizeof(name), "Kontiki node %llu", (unsigned long long)plan->nodes[i]);
    kt_pem_init(&pem);
    int status = kt_certificate_issue(authority, &certificate, &pem, &error) == KT_OK
                     ? write_pair(plan, plan->nodes[i], &pem)
                     : cli_fail(CLI_REFUSED, "%s", error.text);
    kt_pem_release(&pem);
    return status;
}

static int refuse_existing(const struct plan *plan)
{
    static const char *const endings[] = {".pem", "-key.pem"};
    for (size_t i = 0; i < plan->count; i++) {
        for (size_t j = 0; j < KT_COUNT(endings); j++) {
            char path[PATH_BYTES];
            if (!name_file(path, plan, plan->nodes[i], endings[j]))
                return CLI_REFUSED;
            if (access(path, F_OK) == 0)
                return cli_fail(CLI_REFUSED, "%s exists and is not written over: move it away first", path);
        }
    }
    return CLI_OK;
}

static int make_all(const struct plan *plan)
{
    struct kt_pem authority;
    int status = refuse_existing(plan);
    if (status != CLI_OK)
        return status;
    if (mkdir(plan->folder, 0700) != 0 && errno != EEXIST)
        return cli_fail(CLI_REFUSED, "%s cannot be made: %s", plan->folder, strerror(errno));
    kt_pem_init(&authority);
    status = use_or_make_authority(plan, &authority);
    for (size_t i = 0; i < plan->count && status == CLI_OK; i++)
        status = make_node(plan, i, &authority);
    kt_pem_release(&authority);
    return status;
}

int cli_certs(struct cli *cli, int argc, char **argv)
{
    struct plan plan = {.count = 0};

    (void)cli;
    int status = read_plan(&plan, argc, argv);
    if (status == CLI_OK)
        status = make_all(&plan);
    for (size_t i = 0; i < plan.host_count; i++)
        kt_free(plan.hosts[i]);
    return status;
}
