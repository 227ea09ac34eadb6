/* cluster status, leader, wait: what the nodes say of themselves over HTTP. */
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"

#define ANSWER_MS 2000 /* for one node, so that one that hangs does not hide the others */
#define AGAIN_MS  20

struct node {
    const char *endpoint;
    struct kt_json *status; /* NULL: did not answer */
};

struct view {
    struct node nodes[CLI_ENDPOINTS_MAX];
    size_t count, answered;
    uint64_t commit; /* the highest */
};

static uint64_t number(const struct kt_json *status, const char *name)
{
    uint64_t value = 0;
    return kt_json_u64(kt_json_get(status, name), &value) ? value : 0;
}

static bool has_role(const struct kt_json *status, const char *name)
{
    const struct kt_json *role = kt_json_get(status, "role");
    return kt_json_is(role, KT_JSON_STRING) && kt_slice_is(kt_json_string(role), name);
}

static bool leads(const struct kt_json *status)
{
    return has_role(status, "leader") && kt_json_bool(kt_json_get(status, "serving"));
}

static struct kt_json *ask(const char *endpoint, uint64_t deadline_ms)
{
    struct kt_buf body;
    struct kt_json *json = NULL;
    struct kt_error error;
    unsigned status = 0;

    kt_buf_init(&body, CLI_TEXT_MAX);
    if (cli_http_get(endpoint, "/status", deadline_ms, &status, &body, &error) == KT_OK && status == 200 &&
        kt_json_parse(kt_buf_slice(&body), &json, &error) == KT_OK && !kt_json_is(json, KT_JSON_OBJECT)) {
        kt_json_free(json);
        json = NULL;
    }
    kt_buf_release(&body);
    return json;
}

static void look(const struct cli *cli, uint64_t deadline_ms, struct view *view)
{
    memset(view, 0, sizeof(*view));
    view->count = cli->admin.count;
    for (size_t i = 0; i < view->count; i++) {
        struct node *node = &view->nodes[i];
        node->endpoint = cli->admin.items[i];
        node->status = ask(node->endpoint, KT_MIN(deadline_ms, kt_clock_ms() + ANSWER_MS));
        if (!node->status)
            continue;
        view->answered++;
        view->commit = KT_MAX(view->commit, number(node->status, "commit"));
    }
}

static void view_release(struct view *view)
{
    for (size_t i = 0; i < view->count; i++)
        kt_json_free(view->nodes[i].status);
}

/* The serving leader of the highest term: one that was cut off may not know yet that it is none. */
static const struct node *leader_of(const struct view *view)
{
    const struct node *leader = NULL;
    for (size_t i = 0; i < view->count; i++) {
        const struct node *node = &view->nodes[i];
        if (node->status && leads(node->status) &&
            (!leader || number(node->status, "term") > number(leader->status, "term")))
            leader = node;
    }
    return leader;
}

static void print_json(const struct view *view)
{
    struct kt_buf text;
    struct kt_json_writer writer;

    kt_buf_init(&text, CLI_TEXT_MAX);
    kt_json_writer_init(&writer, &text);
    kt_json_begin_object(&writer);
    kt_json_put_key(&writer, "nodes");
    kt_json_begin_array(&writer);
    for (size_t i = 0; i < view->count; i++) {
        kt_json_begin_object(&writer);
        kt_json_put_text_member(&writer, "endpoint", view->nodes[i].endpoint);
        kt_json_put_key(&writer, "status");
        if (view->nodes[i].status) {
            struct kt_buf one;
            kt_buf_init(&one, CLI_TEXT_MAX);
            kt_json_print(view->nodes[i].status, false, &one);
            kt_json_put_raw(&writer, kt_buf_slice(&one));
            kt_buf_release(&one);
        } else {
            kt_json_put_null(&writer);
        }
        kt_json_end_object(&writer);
    }
    kt_json_end_array(&writer);
    kt_json_end_object(&writer);
    fwrite(text.data, 1, text.len, stdout);
    fputc('\n', stdout);
    kt_buf_release(&text);
}

static void print_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    double value = (double)bytes;
    char text[32];
    while (value >= 1024 && unit + 1 < KT_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(text, sizeof(text), unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    printf(" %10s", text);
}

/* The leader that the nodes asked speak of, if it was not asked itself; 0: they know none. */
static uint64_t named_leader(const struct view *view)
{
    uint64_t named = 0;

    for (size_t i = 0; i < view->count; i++) {
        if (view->nodes[i].status && number(view->nodes[i].status, "leader"))
            named = number(view->nodes[i].status, "leader");
    }
    for (size_t i = 0; i < view->count; i++) {
        if (view->nodes[i].status && number(view->nodes[i].status, "node") == named)
            return 0;
    }
    return named;
}

static void print_table(const struct view *view)
{
    const struct node *leader = leader_of(view);

    printf("  %-5s %-10s %6s %10s %10s %6s %6s %10s %10s  %s\n", "node", "role", "term", "commit", "applied", "lag",
           "conns", "log", "state", "http");
    for (size_t i = 0; i < view->count; i++) {
        const struct node *node = &view->nodes[i];
        if (!node->status) {
            printf("  %-5s %-10s %6s %10s %10s %6s %6s %10s %10s  %s\n", "?", "no answer", "", "", "", "", "", "", "",
                   node->endpoint);
            continue;
        }
        uint64_t applied = number(node->status, "applied");
        const struct kt_json *named = kt_json_get(node->status, "role");
        struct kt_slice role = kt_json_is(named, KT_JSON_STRING) ? kt_json_string(named) : kt_slice("?", 1);
        printf("%c %-5llu %-10.*s %6llu %10llu %10llu %6llu %6llu", node == leader ? '*' : ' ',
               (unsigned long long)number(node->status, "node"), (int)KT_MIN(role.len, (size_t)10),
               (const char *)role.data, (unsigned long long)number(node->status, "term"),
               (unsigned long long)number(node->status, "commit"), (unsigned long long)applied,
               (unsigned long long)(view->commit > applied ? view->commit - applied : 0),
               (unsigned long long)number(node->status, "connections"));
        print_size(number(node->status, "log_bytes"));
        print_size(number(node->status, "state_bytes"));
        printf("  %s\n", node->endpoint);
    }
    if (leader)
        return;
    uint64_t named = named_leader(view);
    if (named)
        printf("Node %llu leads; it is not among those that were asked (--admin-endpoint).\n",
               (unsigned long long)named);
    else
        puts("No leader serves: writes and linearizable reads wait.");
}

static int no_answer(const struct view *view)
{
    return cli_fail(CLI_NO_ANSWER, "nothing answered: asked %zu HTTP port%s, the first was %s", view->count,
                    view->count == 1 ? "" : "s", view->nodes[0].endpoint);
}

static int show_status(const struct cli *cli)
{
    struct view view;
    look(cli, kt_clock_ms() + cli->timeout_ms, &view);
    int status = CLI_OK;
    if (view.answered == 0)
        status = no_answer(&view);
    else if (cli->json)
        print_json(&view);
    else
        print_table(&view);
    view_release(&view);
    return status;
}

static int show_leader(const struct cli *cli)
{
    uint64_t deadline_ms = kt_clock_ms() + cli->timeout_ms;
    int status = CLI_NO_ANSWER;

    for (;;) {
        struct view view;
        look(cli, deadline_ms, &view);
        const struct node *leader = leader_of(&view);
        if (leader) {
            printf("%llu\n", (unsigned long long)number(leader->status, "node"));
            status = CLI_OK;
        } else if (view.answered == 0) {
            status = no_answer(&view);
        } else if (kt_clock_ms() >= deadline_ms) {
            status =
                cli_fail(CLI_REFUSED, "%zu of %zu nodes answered, and none of them leads", view.answered, view.count);
        } else {
            view_release(&view);
            poll(NULL, 0, AGAIN_MS);
            continue;
        }
        view_release(&view);
        return status;
    }
}

static bool is_ready(const char *endpoint, uint64_t deadline_ms)
{
    struct kt_buf body;
    struct kt_error error;
    unsigned status = 0;

    kt_buf_init(&body, CLI_TEXT_MAX);
    bool ready = cli_http_get(endpoint, "/readyz", KT_MIN(deadline_ms, kt_clock_ms() + ANSWER_MS), &status, &body,
                              &error) == KT_OK &&
                 status == 200;
    kt_buf_release(&body);
    return ready;
}

/* A node asked that has won an election answers nothing that needs certainty before its own entry is committed. */
static const char *leader_to_be(const struct cli *cli, uint64_t deadline_ms)
{
    struct view view;
    const char *found = NULL;

    look(cli, deadline_ms, &view);
    for (size_t i = 0; i < view.count; i++) {
        const struct kt_json *status = view.nodes[i].status;
        if (status && has_role(status, "leader") && !leads(status))
            found = view.nodes[i].endpoint;
    }
    view_release(&view);
    return found;
}

static int wait_ready(const struct cli *cli)
{
    uint64_t deadline_ms = kt_clock_ms() + cli->timeout_ms;
    const char *missing = NULL;

    do {
        missing = NULL;
        for (size_t i = 0; i < cli->admin.count && !missing; i++) {
            if (!is_ready(cli->admin.items[i], deadline_ms))
                missing = cli->admin.items[i];
        }
        if (!missing)
            missing = leader_to_be(cli, deadline_ms);
        if (!missing) {
            puts("ready");
            return CLI_OK;
        }
        poll(NULL, 0, AGAIN_MS);
    } while (kt_clock_ms() < deadline_ms);
    return cli_fail(CLI_NO_ANSWER, "%s is not ready after %u ms", missing, cli->timeout_ms);
}

int cli_cluster(struct cli *cli, int argc, char **argv)
{
    struct kt_error error = {.text = ""};

    if (argc != 1)
        return cli_fail(CLI_USAGE, "cluster needs one of: status, leader, wait");
    if (cli_need_admin(cli, &error) != KT_OK)
        return cli_fail(CLI_USAGE, "%s", error.text);
    if (strcmp(argv[0], "status") == 0)
        return show_status(cli);
    if (strcmp(argv[0], "leader") == 0)
        return show_leader(cli);
    if (strcmp(argv[0], "wait") == 0)
        return wait_ready(cli);
    return cli_fail(CLI_USAGE, "cluster has no command '%s': status, leader, wait", argv[0]);
}
