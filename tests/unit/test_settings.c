/* Settings: every source, every kind, every refusal; and docs/settings.md is what the table says. */
#include "node/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"

#ifndef KT_SOURCE_FOLDER
#define KT_SOURCE_FOLDER "."
#endif

static int setup(void **state)
{
    struct kt_settings *settings = malloc(sizeof(*settings));
    kt_settings_init(settings);
    *state = settings;
    return 0;
}

static int teardown(void **state)
{
    kt_settings_release(*state);
    free(*state);
    return 0;
}

static void yaml_ok(struct kt_settings *settings, const char *text)
{
    struct kt_error error = {.text = ""};
    if (kt_settings_yaml(settings, kt_slice_text(text), &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void yaml_refused(struct kt_settings *settings, const char *text, const char *part)
{
    struct kt_error error = {.text = ""};
    assert_int_not_equal(kt_settings_yaml(settings, kt_slice_text(text), &error), KT_OK);
    if (!strstr(error.text, part))
        fail_msg("'%s' does not contain '%s'", error.text, part);
}

static void finish_ok(struct kt_settings *settings)
{
    struct kt_error error = {.text = ""};
    if (kt_settings_finish(settings, &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void finish_refused(struct kt_settings *settings, const char *part)
{
    struct kt_error error = {.text = ""};
    assert_int_equal(kt_settings_finish(settings, &error), KT_BAD_REQUEST);
    if (!strstr(error.text, part))
        fail_msg("'%s' does not contain '%s'", error.text, part);
}

static void assign_ok(struct kt_settings *settings, const char *assignment)
{
    struct kt_error error = {.text = ""};
    if (kt_settings_assign(settings, assignment, &error) != KT_OK)
        fail_msg("%s", error.text);
}

static void assign_refused(struct kt_settings *settings, const char *assignment, const char *part)
{
    struct kt_error error = {.text = ""};
    assert_int_not_equal(kt_settings_assign(settings, assignment, &error), KT_OK);
    if (!strstr(error.text, part))
        fail_msg("'%s' does not contain '%s'", error.text, part);
}

static void defaults__nothing_given__one_node_on_loopback(void **state)
{
    struct kt_settings *settings = *state;
    finish_ok(settings);
    assert_string_equal(settings->bind_addr, "127.0.0.1:7401");
    assert_string_equal(settings->kv_address, "127.0.0.1:8091");
    assert_string_equal(settings->admin_address, "127.0.0.1:9091");
    assert_string_equal(settings->data_dir, "./data");
    assert_int_equal(settings->idle_timeout_s, 300);
    assert_int_equal(settings->connections_max, 1000);
    assert_int_equal(settings->segment_mb, 64);
    assert_int_equal(settings->map_gb, 64);
    assert_int_equal(settings->kv_success_code, 0);
    assert_int_equal(settings->election_ms, 300);
    assert_int_equal(settings->heartbeat_ms, 60);
    assert_true(settings->instance_recreate);
    assert_false(settings->auth_required);
    assert_int_equal(settings->members.count, 1);
    assert_int_equal(settings->members.items[0].id, 1);
    assert_string_equal(settings->cluster_listen, settings->members.items[0].address);
    assert_true(kt_address_is_loopback(settings->cluster_listen));
}

static void yaml__every_kind__is_taken(void **state)
{
    struct kt_settings *settings = *state;
    yaml_ok(settings,
            "network: {bind_addr: '[::1]:7000', idle_timeout_secs: 7, max_connections: 12}\n"
            "storage:\n  data_dir: /var/lib/kontiki\n  fsync_policy: every_write\n"
            "  allow_instance_recreate: no\n"
            "auth:\n  required: true\n  token_hashes: [aa, bb]\n  secrets_file: ~\n"
            "  users:\n    - {name: u, password: 'sha256:00', role: admin}\n"
            "listen:\n  kv: {address: off, success_code: 1, revision: a}\n"
            "node: {id: 2}\n"
            "cluster:\n  name: west\n  members:\n    - 1@127.0.0.1:1\n    - {id: 2, address: 'localhost:2'}\n");
    finish_ok(settings);
    assert_string_equal(settings->bind_addr, "[::1]:7000");
    assert_int_equal(settings->idle_timeout_s, 7);
    assert_int_equal(settings->connections_max, 12);
    assert_string_equal(settings->data_dir, "/var/lib/kontiki");
    assert_false(settings->instance_recreate);
    assert_true(settings->auth_required);
    assert_int_equal(settings->token_hashes.count, 2);
    assert_string_equal(settings->token_hashes.items[1], "bb");
    assert_null(settings->secrets_file);
    assert_int_equal(settings->users.count, 1);
    assert_string_equal(settings->users.items[0].password, "sha256:00");
    assert_null(settings->users.items[0].api_key);
    assert_null(settings->kv_address);
    assert_int_equal(settings->kv_success_code, 1);
    assert_string_equal(settings->kv_revision, "a");
    assert_int_equal(settings->node_id, 2);
    assert_int_equal(settings->members.count, 2);
    assert_string_equal(settings->cluster_listen, "localhost:2");
}

static void yaml__unknown_name__names_the_nearest_and_the_line(void **state)
{
    yaml_refused(*state, "network:\n  bind_adr: x\n",
                 "line 2: there is no setting 'network.bind_adr'; did you mean "
                 "network.bind_addr?");
    yaml_refused(*state, "netwrok:\n  bind_addr: x\n", "there is no setting 'netwrok'");
    yaml_refused(*state, "cluster: {electionms: 5}\n", "did you mean cluster.election_ms?");
    yaml_refused(*state, "? [a]\n: b\n", "simple text");
}

static void yaml__wrong_shape__is_refused(void **state)
{
    yaml_refused(*state, "network: 5\n", "network must be a map");
    yaml_refused(*state, "[1, 2]\n", "the file must be a map");
    yaml_refused(*state, "network: {bind_addr: [a]}\n", "network.bind_addr must be a simple value");
    yaml_refused(*state, "auth: {token_hashes: abc}\n", "auth.token_hashes must be a list");
    yaml_refused(*state, "auth: {token_hashes: [[a]]}\n", "list");
    yaml_refused(*state, "auth: {users: [x]}\n", "list of maps");
    yaml_refused(*state, "auth: {users: [{name: x}]}\n", "no role");
    yaml_refused(*state, "auth: {users: [{role: admin}]}\n", "without name");
    yaml_refused(*state, "auth: {users: [{name: x, colour: red}]}\n", "'colour' is unknown");
    yaml_refused(*state, "auth: {users: [{name: x, name: y, role: read}]}\n", "given twice");
    yaml_refused(*state, "network: {max_connections: 1, max_connections: 2}\n", "given only once");
    yaml_refused(*state, "cluster: {members: [{id: 1}]}\n", "address of 0 bytes");
    yaml_refused(*state, "cluster: {members: [1@h:0]}\n", "not 0");
    yaml_refused(*state, "cluster: {members: ['127.0.0.1:1']}\n", "no member");
    yaml_refused(*state, "cluster: {members: [1@h:1, 1@h:2]}\n", "listed twice");
    yaml_refused(*state, "cluster: {members: [1@h:1, 2@h:1]}\n", "have the address h:1");
    yaml_refused(*state, "a: [\n", "line");
    yaml_refused(*state, "network: {max_connections: 1}\n---\nnetwork: {max_connections: 2}\n", "more than one");
    yaml_refused(*state, "a: &a\n  b: *a\n", "there is no setting 'a'");
    yaml_refused(*state, "network: &a\n  x: *a\n", "there is no setting 'network.x'");
}

static void yaml__values_out_of_bounds__are_refused(void **state)
{
    yaml_refused(*state, "network: {max_connections: 0}\n", "0 is not within 1..1000000 connections");
    yaml_refused(*state, "network: {max_connections: 1000001}\n", "not within");
    yaml_refused(*state, "network: {max_connections: -1}\n", "'-1' is no number");
    yaml_refused(*state, "network: {max_connections: 99999999999999999999}\n", "no number");
    yaml_refused(*state, "network: {max_connections: 1.5}\n", "no number");
    yaml_refused(*state, "network: {bind_addr: 127.0.0.1}\n", "has no port");
    yaml_refused(*state, "network: {bind_addr: '127.0.0.1:65536'}\n", "the port is a number");
    yaml_refused(*state, "network: {bind_addr: '::1:7401'}\n", "in brackets");
    yaml_refused(*state, "network: {bind_addr: ':7401'}\n", "has no host");
    yaml_refused(*state, "network: {bind_addr: off}\n", "has no port");
    yaml_refused(*state, "auth: {required: maybe}\n", "neither true nor false");
    yaml_refused(*state, "listen: {kv: {revision: c}}\n", "'c' is none of: auto a b");
    yaml_refused(*state, "node: {id: 65536}\n", "not within 1..65535");
}

static void yaml__empty_or_null__keeps_defaults(void **state)
{
    struct kt_settings *settings = *state;
    yaml_ok(settings, "");
    yaml_ok(settings, "# nothing\n");
    yaml_ok(settings, "network:\nstorage: ~\ncluster: {name: null}\n");
    assert_string_equal(settings->cluster_name, "kontiki");
}

static void fsync_policy__any_spelling__means_every_write(void **state)
{
    const char *forms[] = {"storage: {fsync_policy: never}\n", "storage: {fsync_policy: 'every_n:100'}\n",
                           "storage: {fsync_policy: !every_n 100}\n", "storage:\n  fsync_policy:\n    every_ms: 100\n",
                           "storage: {fsync_policy: {every_n: 5}}\n"};
    for (size_t i = 0; i < KT_COUNT(forms); i++) {
        yaml_ok(*state, forms[i]);
        assert_string_equal(((struct kt_settings *)*state)->fsync_policy, "every_write");
    }
    yaml_refused(*state, "storage: {fsync_policy: sometimes}\n", "is no policy");
    yaml_ok(*state, "storage: {fsync_policy: everywrite}\n");
    assert_string_equal(((struct kt_settings *)*state)->fsync_policy, "every_write");
}

static const char *const fake_environment[][2] = {
    {"RSTMDB_BIND", "127.0.0.1:1"},
    {"RSTMDB_DATA", "/r"},
    {"KONTIKI_DATA", "/k"},
    {"RSTMDB_AUTH_REQUIRED", "TRUE"},
    {"KONTIKI_NODE_ID", "3"},
    {"RSTMDB_AUTH_TOKEN_HASH", "cc,dd"},
    {"RSTMDB_COMPACT_ENABLED", "false"},
    {"RSTMDB_TLS_ENABLED", "0"},
    {"KONTIKI_CLUSTER_NAME", ""},
    {"KONTIKI_CLUSTER_MEMBERS", "1@127.0.0.1:1, 3@127.0.0.1:3"},
};

static char *fake_getenv(const char *name)
{
    for (size_t i = 0; i < KT_COUNT(fake_environment); i++) {
        if (strcmp(fake_environment[i][0], name) == 0)
            return (char *)(uintptr_t)fake_environment[i][1];
    }
    return NULL;
}

static void environment__both_names__ours_wins_and_lists_are_added_to(void **state)
{
    struct kt_settings *settings = *state;
    struct kt_error error;
    yaml_ok(settings, "auth: {token_hashes: [aa]}\nnetwork: {bind_addr: '127.0.0.1:9'}\n");
    assert_int_equal(kt_settings_environment(settings, fake_getenv, &error), KT_OK);
    finish_ok(settings);
    assert_string_equal(settings->bind_addr, "127.0.0.1:1");
    assert_string_equal(settings->data_dir, "/k");
    assert_true(settings->auth_required);
    assert_int_equal(settings->token_hashes.count, 3);
    assert_string_equal(settings->token_hashes.items[0], "aa");
    assert_string_equal(settings->token_hashes.items[2], "dd");
    assert_string_equal(settings->cluster_name, "kontiki");
    assert_string_equal(settings->cluster_listen, "127.0.0.1:3");
}

static const char *rust_log;

static char *rust_log_getenv(const char *name)
{
    return strcmp(name, "RUST_LOG") == 0 ? (char *)(uintptr_t)rust_log : NULL;
}

static void environment__rust_log__gives_the_level_if_it_begins_with_one(void **state)
{
    static const char *const cases[][2] = {
        {"warn", "warn"}, {"TRACE", "debug"}, {"error,rstmdb=info", "error"}, {"rstmdb=debug", "info"}, {"", "info"}};
    for (size_t i = 0; i < KT_COUNT(cases); i++) {
        struct kt_settings *settings = *state;
        struct kt_error error;
        kt_settings_release(settings);
        kt_settings_init(settings);
        rust_log = cases[i][0];
        assert_int_equal(kt_settings_environment(settings, rust_log_getenv, &error), KT_OK);
        assert_string_equal(settings->log_level, cases[i][1]);
    }
}

static char *bad_getenv(const char *name)
{
    return strcmp(name, "RSTMDB_MAX_CONNECTIONS") == 0 ? (char *)(uintptr_t) "many" : NULL;
}

static void environment__value_not_understood__is_refused_with_its_name(void **state)
{
    struct kt_error error;
    assert_int_equal(kt_settings_environment(*state, bad_getenv, &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "RSTMDB_MAX_CONNECTIONS"));
    assert_non_null(strstr(error.text, "'many' is no number"));
}

static void command_line__assignments__win_and_are_checked(void **state)
{
    struct kt_settings *settings = *state;
    yaml_ok(settings, "cluster: {members: [1@127.0.0.1:5]}\nlog: {level: error}\n");
    assign_ok(settings, "cluster.members=1@127.0.0.1:7,2@127.0.0.1:8");
    assign_ok(settings, "logging.level=debug");
    assert_int_equal(settings->members.count, 2);
    assert_string_equal(settings->members.items[0].address, "127.0.0.1:7");
    assert_string_equal(settings->log_level, "debug");
    assign_refused(settings, "log.level", "is not name=value");
    assign_refused(settings, "log.levle=debug", "did you mean log.level?");
    assign_refused(settings, "auth.users=x", "only be given in a file");
}

static void finish__tls_for_clients__needs_its_files(void **state)
{
    struct kt_settings *settings = *state;
    assign_ok(settings, "listen.kv.tls=true");
    finish_refused(settings, "listen.kv.tls is on, but tls.cert_path is not set");
    assign_ok(settings, "tls.enabled=true");
    finish_refused(settings, "tls.enabled is on, but tls.cert_path is not set");
    assign_ok(settings, "tls.cert_path=cert.pem");
    finish_refused(settings, "tls.enabled is on, but tls.key_path is not set");
    assign_ok(settings, "tls.key_path=key.pem");
    assign_ok(settings, "tls.require_client_cert=true");
    finish_refused(settings, "tls.require_client_cert is on, but tls.client_ca_path is not set");
    assign_ok(settings, "tls.client_ca_path=ca.pem");
    finish_ok(settings);
}

static void finish__reachable_listener_without_authentication__is_refused(void **state)
{
    struct kt_settings *settings = *state;
    assign_ok(settings, "network.bind_addr=0.0.0.0:7401");
    finish_refused(settings, "network.bind_addr 0.0.0.0:7401 can be reached");
    assign_ok(settings, "auth.insecure=true");
    finish_ok(settings);
    assign_ok(settings, "auth.insecure=false");
    assign_ok(settings, "auth.required=true");
    finish_ok(settings);
    assign_ok(settings, "auth.required=false");
    assign_ok(settings, "network.bind_addr=127.0.0.1:1");
    assign_ok(settings, "listen.kv.address=[::]:8091");
    finish_refused(settings, "listen.kv.address");
    assign_ok(settings, "listen.kv.address=off");
    assign_ok(settings, "admin.address=db.example:9091");
    finish_refused(settings, "admin.address");
    assign_ok(settings, "admin.address=off");
    finish_ok(settings);
    assign_ok(settings, "cluster.listen=10.0.0.1:7501");
    finish_refused(settings, "cluster.insecure");
    assign_ok(settings, "cluster.insecure=true");
    finish_ok(settings);
    assign_ok(settings, "cluster.insecure=false");
    assign_ok(settings, "cluster.tls.ca=ca.pem");
    assign_ok(settings, "cluster.tls.cert=node.pem");
    assign_ok(settings, "cluster.tls.key=key.pem");
    finish_ok(settings);
}

static void finish__certificates_in_part__are_refused_with_what_is_missing(void **state)
{
    static const char *const names[] = {"ca", "cert", "key"};
    struct kt_settings *settings = *state;
    for (unsigned given = 1; given < 7; given++) {
        size_t missing = KT_COUNT(names);
        for (size_t i = KT_COUNT(names); i-- > 0;) {
            char assignment[64], text[64];
            snprintf(assignment, sizeof(assignment), "cluster.tls.%s=%s", names[i], given >> i & 1 ? "x.pem" : "");
            assign_ok(settings, assignment);
            if (!(given >> i & 1))
                missing = i;
            snprintf(text, sizeof(text), "cluster.tls.%s is not set", names[missing % KT_COUNT(names)]);
            if (i == 0)
                finish_refused(settings, text);
        }
    }
}

static void finish__members_that_do_not_add_up__are_refused(void **state)
{
    struct kt_settings *settings = *state;
    assign_ok(settings, "cluster.members=2@127.0.0.1:7,3@127.0.0.1:8");
    finish_refused(settings, "node.id 1 is not in cluster.members");
    assign_ok(settings, "node.id=3");
    assign_ok(settings, "cluster.heartbeat_ms=101");
    finish_refused(settings, "more than a third");
    assign_ok(settings, "cluster.heartbeat_ms=100");
    assign_ok(settings, "cluster.name=");
    finish_refused(settings, "cluster.name is empty");
}

static void address__loopback__is_told_from_others(void **state)
{
    (void)state;
    assert_true(kt_address_is_loopback("127.0.0.1:1"));
    assert_true(kt_address_is_loopback("127.9.8.7:1"));
    assert_true(kt_address_is_loopback("[::1]:1"));
    assert_true(kt_address_is_loopback("LocalHost:1"));
    assert_false(kt_address_is_loopback("0.0.0.0:1"));
    assert_false(kt_address_is_loopback("[::]:1"));
    assert_false(kt_address_is_loopback("127.0.0.1.example.org:1"));
    assert_false(kt_address_is_loopback("127.evil.org:1"));
    assert_false(kt_address_is_loopback("128.0.0.1:1"));
    assert_false(kt_address_is_loopback("127.0.0.1"));
}

static char *text_of(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out);
    fclose(out);
    return text;
}

static void page__in_the_repository__is_what_the_table_says(void **state)
{
    (void)state;
    char *expected = text_of(kt_settings_markdown);
    FILE *file = fopen(KT_SOURCE_FOLDER "/docs/settings.md", "re");
    if (!file)
        fail_msg("docs/settings.md is missing: kontikid --print-settings-markdown > docs/settings.md");
    char *found = calloc(1, 1 << 20);
    size_t len = fread(found, 1, (1 << 20) - 1, file);
    fclose(file);
    if (strcmp(expected, found) != 0)
        fail_msg("docs/settings.md (%zu bytes) is stale: kontikid --print-settings-markdown > docs/settings.md", len);
    free(found);
    free(expected);
}

static void help__names_every_setting(void **state)
{
    (void)state;
    char *text = text_of(kt_settings_help);
    for (size_t i = 0; i < kt_setting_count; i++) {
        if (kt_setting_rows[i].offset != SIZE_MAX)
            assert_non_null(strstr(text, kt_setting_rows[i].name));
    }
    free(text);
}

static void print__effective_settings__load_again_and_hide_secrets(void **state)
{
    struct kt_settings *settings = *state;
    struct kt_settings again;
    char *text = NULL;
    size_t len = 0;

    yaml_ok(settings, "auth: {required: true, token_hashes: [5ec2e7], users: [{name: u, api_key: 'k3y', role: read}]}\n"
                      "storage: {data_dir: 'a \"b\" \\ c'}\nlisten: {kv: {address: off}}\n");
    finish_ok(settings);
    FILE *out = open_memstream(&text, &len);
    kt_settings_print(settings, out);
    fclose(out);
    assert_null(strstr(text, "5ec2e7"));
    assert_null(strstr(text, "k3y"));
    assert_non_null(strstr(text, "auth.required: true # from the file"));
    kt_settings_init(&again);
    yaml_ok(&again, text);
    assert_string_equal(again.data_dir, settings->data_dir);
    assert_null(again.kv_address);
    assert_int_equal(again.members.count, 1);
    assert_int_equal(again.requests_max, settings->requests_max);
    kt_settings_release(&again);
    free(text);
}

static void file__missing_or_too_large__is_refused(void **state)
{
    struct kt_error error;
    char path[] = "/tmp/test_settings_XXXXXX";
    assert_int_equal(kt_settings_file(*state, "/nonexistent/kontiki.yaml", &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "No such file"));
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    for (unsigned i = 0; i < KT_SETTINGS_FILE_MAX / 16 + 1; i++)
        fputs("# a comment ...\n", file);
    fclose(file);
    assert_int_equal(kt_settings_file(*state, path, &error), KT_TOO_LARGE);
    file = fopen(path, "we");
    fputs("node: {id: 7}\n", file);
    fclose(file);
    assert_int_equal(kt_settings_file(*state, path, &error), KT_OK);
    assert_int_equal(((struct kt_settings *)*state)->node_id, 7);
    remove(path);
}

static void ignore_line(void *data, const char *line)
{
    (void)data;
    (void)line;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults__nothing_given__one_node_on_loopback),
        TEST(yaml__every_kind__is_taken),
        TEST(yaml__unknown_name__names_the_nearest_and_the_line),
        TEST(yaml__wrong_shape__is_refused),
        TEST(yaml__values_out_of_bounds__are_refused),
        TEST(yaml__empty_or_null__keeps_defaults),
        TEST(fsync_policy__any_spelling__means_every_write),
        TEST(environment__both_names__ours_wins_and_lists_are_added_to),
        TEST(environment__rust_log__gives_the_level_if_it_begins_with_one),
        TEST(environment__value_not_understood__is_refused_with_its_name),
        TEST(command_line__assignments__win_and_are_checked),
        TEST(finish__tls_for_clients__needs_its_files),
        TEST(finish__reachable_listener_without_authentication__is_refused),
        TEST(finish__certificates_in_part__are_refused_with_what_is_missing),
        TEST(finish__members_that_do_not_add_up__are_refused),
        TEST(address__loopback__is_told_from_others),
        TEST(page__in_the_repository__is_what_the_table_says),
        TEST(help__names_every_setting),
        TEST(print__effective_settings__load_again_and_hide_secrets),
        TEST(file__missing_or_too_large__is_refused),
    };
    kt_log_sink(ignore_line, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
