/* What the HTTP port shows: rendered from a struct, and of a whole node. */
#include "admin/admin_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/one_node.h"
#include "wire/json.h"

static struct admin_view leader_view(void)
{
    return (struct admin_view){
        .name = "te\"st",
        .uptime_ms = 1234,
        .replica = {.self = 1,
                    .leader = 1,
                    .role = KT_LEADER,
                    .serving = true,
                    .term = 3,
                    .first = 2,
                    .last = 90,
                    .durable = 89,
                    .commit = 88,
                    .applied = 87,
                    .visible = 86,
                    .proposals = 5,
                    .reads = 6,
                    .peer_count = 2,
                    .peers = {{.id = 1, .address = "127.0.0.1:7501", .voter = true, .connected = true, .match = 89},
                              {.id = 2, .address = "127.0.0.1:7502", .voter = false, .match = 80}},
                    .elections = 4},
        .log_bytes = 1000,
        .log_segments = 2,
        .state_used_bytes = 2000,
        .state_bytes = 3000,
        .connections = 7,
    };
}

static const char *text_of(struct kt_buf *buf)
{
    kt_buf_append_u8(buf, 0);
    assert_int_equal(kt_buf_code(buf), KT_OK);
    return (const char *)buf->data;
}

static void status__of_a_leader__is_the_documented_json(void **state)
{
    (void)state;
    struct admin_view view = leader_view();
    struct kt_buf out;
    kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
    admin_render_status(&view, &out);
    assert_string_equal(
        text_of(&out),
        "{\"node\":1,\"name\":\"te\\\"st\",\"version\":\"0.1.0\",\"role\":\"leader\",\"serving\":true,\"leader\":1,"
        "\"term\":3,\"first\":2,\"last\":90,\"durable\":89,\"commit\":88,\"applied\":87,\"visible\":86,"
        "\"uptime_ms\":1234,\"log_bytes\":1000,\"state_bytes\":3000,\"connections\":7,\"proposals\":5,\"reads\":6,"
        "\"members\":[{\"id\":1,\"address\":\"127.0.0.1:7501\",\"voter\":true,\"connected\":true,\"match\":89},"
        "{\"id\":2,\"address\":\"127.0.0.1:7502\",\"voter\":false,\"connected\":false,\"match\":80}]}\n");
    kt_buf_release(&out);
}

static void metrics__of_a_leader__hold_every_number(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "kontiki_info{version=\"0.1.0\",cluster=\"te\\\"st\",node=\"1\"} 1",
        "kontiki_role{role=\"follower\"} 0",
        "kontiki_role{role=\"candidate\"} 0",
        "kontiki_role{role=\"leader\"} 1",
        "kontiki_uptime_milliseconds 1234",
        "kontiki_serving 1",
        "kontiki_leader_id 1",
        "kontiki_term 3",
        "kontiki_log_first_index 2",
        "kontiki_log_last_index 90",
        "kontiki_log_durable_index 89",
        "kontiki_commit_index 88",
        "kontiki_applied_index 87",
        "kontiki_visible_index 86",
        "kontiki_apply_lag_entries 1",
        "# TYPE kontiki_elections_won_total counter\nkontiki_elections_won_total 4",
        "kontiki_proposals_in_flight 5",
        "kontiki_reads_in_flight 6",
        "kontiki_client_connections 7",
        "kontiki_log_bytes 1000",
        "kontiki_log_segments 2",
        "kontiki_state_used_bytes 2000",
        "kontiki_state_bytes 3000",
        "kontiki_peer_connected{peer=\"2\"} 0",
        "kontiki_peer_lag_entries{peer=\"2\"} 10",
    };
    struct admin_view view = leader_view();
    struct kt_buf out;
    kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
    admin_render_metrics(&view, &out);
    const char *text = text_of(&out);
    for (size_t i = 0; i < KT_COUNT(lines); i++) {
        char line[128];
        snprintf(line, sizeof(line), "\n%s\n", lines[i]);
        if (!strstr(text, line))
            fail_msg("no line: %s", lines[i]);
    }
    assert_null(strstr(text, "peer=\"1\""));
    kt_buf_release(&out);
    /* Only a leader knows how far the others are. */
    view.replica.role = KT_FOLLOWER;
    admin_render_metrics(&view, &out);
    assert_null(strstr(text_of(&out), "peer_lag_entries"));
    kt_buf_release(&out);
}

static void ready__without_a_leader_or_far_behind__is_not(void **state)
{
    (void)state;
    static const struct {
        kt_node_id leader;
        kt_index commit, applied;
        bool ready;
        const char *text;
    } rows[] = {
        {1, 10, 10, true, "ready\n"},
        {1, 10 + KT_ADMIN_READY_LAG_MAX, 10, true, "ready\n"},
        {1, 11 + KT_ADMIN_READY_LAG_MAX, 10, false, "not ready: 10 of 1011 committed entries are applied\n"},
        {0, 10, 10, false, "not ready: no leader is known\n"},
        {1, 0, 10, true, "ready\n"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct admin_view view = leader_view();
        struct kt_buf out;
        kt_buf_init(&out, HTTP_BODY_BYTES_MAX);
        view.replica.leader = rows[i].leader;
        view.replica.commit = rows[i].commit;
        view.replica.applied = rows[i].applied;
        assert_int_equal(admin_render_ready(&view, &out), rows[i].ready);
        assert_string_equal(text_of(&out), rows[i].text);
        kt_buf_release(&out);
    }
}

/* ---- a whole node ---- */

struct page {
    char text[16384];
    size_t len;
    bool whole;
};

static bool poll_page(int fd, struct page *page)
{
    ssize_t n = recv(fd, page->text + page->len, sizeof(page->text) - 1 - page->len, MSG_DONTWAIT);
    if (n > 0)
        page->len += (size_t)n;
    page->text[page->len] = '\0';
    page->whole |= n == 0;
    return page->whole;
}

/* The body; the status line must begin with the status. */
static const char *get(struct one_node *node, struct kt_admin *admin, const char *path, const char *status,
                       struct page *page)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)kt_admin_port(admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[128], line[32];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
    assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
    memset(page, 0, sizeof(*page));
    one_node_until(node, poll_page(fd, page));
    close(fd);
    snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
    assert_memory_equal(page->text, line, strlen(line));
    const char *body = strstr(page->text, "\r\n\r\n");
    assert_non_null(body);
    return body + 4;
}

static unsigned three(void *data)
{
    (void)data;
    return 3;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static void admin__of_a_whole_node__shows_it_and_stops_looking_when_it_stops(void **state)
{
    (void)state;
    struct one_node node;
    struct page page;
    struct kt_admin *admin;
    struct kt_json *json;
    uint64_t number;
    bool closed = false;
    one_node_open(&node, NULL, 0, 0);
    struct kt_admin_options options = {.loop = &node.loop,
                                       .address = "127.0.0.1:0",
                                       .name = "test",
                                       .cluster = node.cluster,
                                       .state = node.state,
                                       .connections = three};
    assert_int_equal(kt_admin_open(&options, &admin, NULL), KT_OK);
    assert_string_equal(get(&node, admin, "/healthz", "200", &page), "OK");
    assert_string_equal(get(&node, admin, "/readyz", "200", &page), "ready\n");
    const char *body = get(&node, admin, "/status", "200", &page);
    assert_non_null(strstr(page.text, "Content-Type: application/json\r\n"));
    assert_int_equal(kt_json_parse(kt_slice_text(body), &json, NULL), KT_OK);
    assert_true(kt_slice_is(kt_json_string(kt_json_get(json, "role")), "leader"));
    assert_true(kt_json_bool(kt_json_get(json, "serving")));
    assert_true(kt_json_u64(kt_json_get(json, "connections"), &number) && number == 3);
    assert_true(kt_json_u64(kt_json_get(json, "log_bytes"), &number) && number > 0);
    assert_true(kt_json_u64(kt_json_get(json, "state_bytes"), &number) && number > 0);
    assert_int_equal(kt_json_count(kt_json_get(json, "members")), 1);
    kt_json_free(json);
    assert_non_null(strstr(get(&node, admin, "/metrics?x=y", "200", &page), "kontiki_serving 1\n"));
    assert_non_null(strstr(page.text, "version=0.0.4"));
    get(&node, admin, "/nothing", "404", &page);
    /* A stopping node takes its cluster away before its HTTP port. */
    kt_admin_stopping(admin);
    assert_string_equal(get(&node, admin, "/healthz", "200", &page), "OK");
    assert_string_equal(get(&node, admin, "/readyz", "503", &page), "not ready: this node is stopping\n");
    get(&node, admin, "/status", "503", &page);
    get(&node, admin, "/metrics", "503", &page);
    kt_admin_close(admin, on_closed, &closed);
    one_node_until(&node, closed);
    one_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status__of_a_leader__is_the_documented_json),
        cmocka_unit_test(metrics__of_a_leader__hold_every_number),
        cmocka_unit_test(ready__without_a_leader_or_far_behind__is_not),
        cmocka_unit_test(admin__of_a_whole_node__shows_it_and_stops_looking_when_it_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
