/*
 * Values of the settings: defaults, one value from text, the environment, and the rules between settings.
 *
 * fsync_policy is understood in all the ways in which it is written elsewhere (every_write, never, every_n:100,
 * every_ms:100); what is weaker than every_write gets every_write and a line in the log.
 */
#include "node/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <strings.h>

#include "base/address.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"

static void *value_of(struct kt_settings *settings, const struct kt_setting *row)
{
    KT_CHECK(row->offset != SIZE_MAX);
    return (char *)settings + row->offset;
}

static void set_text(char **value, struct kt_slice text)
{
    kt_free(*value);
    *value = text.len ? kt_slice_dup_text(text) : NULL;
}

void kt_settings_init(struct kt_settings *settings)
{
    memset(settings, 0, sizeof(*settings));
    settings->sources = kt_zalloc(kt_setting_count);
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        struct kt_error error;
        if (row->initial[0] == '\0')
            continue;
        enum kt_code code = kt_settings_set(settings, row, kt_slice_text(row->initial), KT_FROM_DEFAULT, &error);
        KT_CHECK(code == KT_OK);
    }
}

void kt_settings_clear_list(struct kt_settings *settings, const struct kt_setting *row)
{
    if (row->kind == KT_SETTING_TEXTS) {
        struct kt_settings_texts *texts = value_of(settings, row);
        for (size_t i = 0; i < texts->count; i++)
            kt_free(texts->items[i]);
        kt_free(texts->items);
        memset(texts, 0, sizeof(*texts));
    } else if (row->kind == KT_SETTING_USERS) {
        struct kt_settings_users *users = value_of(settings, row);
        for (size_t i = 0; i < users->count; i++) {
            kt_free(users->items[i].name);
            kt_free(users->items[i].password);
            kt_free(users->items[i].api_key);
            kt_free(users->items[i].role);
        }
        kt_free(users->items);
        memset(users, 0, sizeof(*users));
    } else if (row->kind == KT_SETTING_MEMBERS) {
        struct kt_settings_members *members = value_of(settings, row);
        for (size_t i = 0; i < members->count; i++)
            kt_free(members->items[i].address);
        kt_free(members->items);
        memset(members, 0, sizeof(*members));
    }
}

static bool is_text(enum kt_setting_kind kind)
{
    return kind == KT_SETTING_TEXT || kind == KT_SETTING_ADDRESS || kind == KT_SETTING_CHOICE ||
           kind == KT_SETTING_FSYNC;
}

void kt_settings_release(struct kt_settings *settings)
{
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        kt_settings_clear_list(settings, row);
        if (is_text(row->kind))
            kt_free(*(char **)value_of(settings, row));
    }
    kt_free(settings->sources);
    memset(settings, 0, sizeof(*settings));
}

void kt_settings_mark(struct kt_settings *settings, const struct kt_setting *row, enum kt_setting_source source)
{
    settings->sources[row - kt_setting_rows] = (uint8_t)source;
}

const struct kt_setting *kt_setting_find(struct kt_slice name)
{
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if (kt_slice_is(name, row->name) || (row->also && kt_slice_is(name, row->also)))
            return row;
    }
    return NULL;
}

#define NAME_MAX_COMPARED 64 /* bytes: names are shorter; what is longer is compared by its beginning */

static unsigned edit_distance(struct kt_slice a, const char *b)
{
    const unsigned char *left = a.data;
    size_t rows = KT_MIN(a.len, (size_t)NAME_MAX_COMPARED), columns = KT_MIN(strlen(b), (size_t)NAME_MAX_COMPARED);
    unsigned line[NAME_MAX_COMPARED + 1];

    for (size_t j = 0; j <= columns; j++)
        line[j] = (unsigned)j;
    for (size_t i = 1; i <= rows; i++) {
        unsigned diagonal = line[0];
        line[0] = (unsigned)i;
        for (size_t j = 1; j <= columns; j++) {
            unsigned replaced = diagonal + (tolower(left[i - 1]) != b[j - 1]);
            diagonal = line[j];
            line[j] = KT_MIN(replaced, KT_MIN(line[j], line[j - 1]) + 1);
        }
    }
    return line[columns];
}

const char *kt_setting_nearest(struct kt_slice name)
{
    const char *nearest = kt_setting_rows[0].name;
    unsigned best = UINT32_MAX;

    for (size_t i = 0; i < kt_setting_count; i++) {
        unsigned distance = edit_distance(name, kt_setting_rows[i].name);
        if (distance < best) {
            best = distance;
            nearest = kt_setting_rows[i].name;
        }
    }
    return nearest;
}

static bool parse_count(struct kt_slice text, uint64_t *out)
{
    const char *digits = text.data;
    uint64_t value = 0;

    if (text.len == 0 || text.len > 19)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(digits[i] - '0');
    }
    *out = value;
    return true;
}

static bool slice_is_any_case(struct kt_slice text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.data, word, text.len) == 0;
}

static bool parse_switch(struct kt_slice text, bool *out)
{
    static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no", "off"};

    for (size_t i = 0; i < KT_COUNT(yes); i++) {
        if (slice_is_any_case(text, yes[i]) || slice_is_any_case(text, no[i])) {
            *out = slice_is_any_case(text, yes[i]);
            return true;
        }
    }
    return false;
}

/* The address of a text that is not NUL-terminated; the sentence of a refusal quotes it. */
static enum kt_code parse_address(struct kt_slice text, struct kt_address *address, struct kt_error *error)
{
    if (text.len == 0 || text.len > KT_SETTINGS_TEXT_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "an address of %zu bytes", text.len);
    char *copy = kt_slice_dup_text(text);
    enum kt_code code = kt_address_parse(copy, address, error);
    kt_free(copy);
    return code;
}

bool kt_address_is_loopback(const char *text)
{
    struct kt_address address;
    struct in6_addr six;
    struct in_addr four;

    if (kt_address_parse(text, &address, NULL) != KT_OK)
        return false;
    if (strcasecmp(address.host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET6, address.host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    return inet_pton(AF_INET, address.host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

static enum kt_code check_fsync(struct kt_slice text, struct kt_error *error)
{
    static const char *const weaker[] = {"never", "every_n", "every_ms"};
    char word[32];
    snprintf(word, sizeof(word), "%.*s", (int)KT_MIN(text.len, sizeof(word) - 1), (const char *)text.data);
    size_t len = strcspn(word, ":");
    if (slice_is_any_case(text, "every_write") || slice_is_any_case(text, "everywrite"))
        return KT_OK;
    for (size_t i = 0; i < KT_COUNT(weaker); i++) {
        if (strlen(weaker[i]) != len || strncasecmp(word, weaker[i], len) != 0)
            continue;
        kt_warn("settings",
                "storage.fsync_policy %s is taken as every_write: an acknowledged write is on the disks of a majority; "
                "writes share a sync here, so that is not slow",
                word);
        return KT_OK;
    }
    return kt_error_set(error, KT_BAD_REQUEST, "%s is no policy: every_write, or never, every_n:N, every_ms:N", word);
}

static enum kt_code check_choice(const struct kt_setting *row, struct kt_slice text, struct kt_error *error)
{
    const char *at = row->choices;
    while (*at) {
        size_t len = strcspn(at, " ");
        if (text.len == len && memcmp(at, text.data, len) == 0)
            return KT_OK;
        at += len + (at[len] == ' ');
    }
    return kt_error_set(error, KT_BAD_REQUEST, "'%.*s' is none of: %s", (int)text.len, (const char *)text.data,
                        row->choices);
}

enum kt_code kt_settings_add_text(struct kt_settings_texts *texts, struct kt_slice text, struct kt_error *error)
{
    if (texts->count >= KT_SETTINGS_LIST_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "more than %d entries", KT_SETTINGS_LIST_MAX);
    if (text.len == 0 || text.len > KT_SETTINGS_TEXT_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "an entry of %zu bytes", text.len);
    texts->items = kt_realloc(texts->items, (texts->count + 1) * sizeof(*texts->items));
    texts->items[texts->count++] = kt_slice_dup_text(text);
    return KT_OK;
}

enum kt_code kt_settings_add_member(struct kt_settings_members *members, struct kt_slice id, struct kt_slice address,
                                    struct kt_error *error)
{
    struct kt_address parsed;
    uint64_t number;

    if (members->count >= KT_SETTINGS_MEMBERS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "more than %d members", KT_SETTINGS_MEMBERS_MAX);
    if (!parse_count(id, &number) || number < 1 || number > KT_NODE_ID_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "'%.*s' is no member id (1..%u)", (int)KT_MIN(id.len, (size_t)40),
                            (const char *)id.data, KT_NODE_ID_MAX);
    enum kt_code code = parse_address(address, &parsed, error);
    if (code != KT_OK)
        return code;
    if (parsed.port == 0)
        return kt_error_set(error, KT_BAD_REQUEST, "a member needs a port that others know, not 0");
    for (size_t i = 0; i < members->count; i++) {
        if (members->items[i].id == number)
            return kt_error_set(error, KT_BAD_REQUEST, "member %u is listed twice", (unsigned)number);
        if (kt_slice_is(address, members->items[i].address))
            return kt_error_set(error, KT_BAD_REQUEST, "two members have the address %s", members->items[i].address);
    }
    members->items = kt_realloc(members->items, (members->count + 1) * sizeof(*members->items));
    members->items[members->count++] = (struct kt_settings_member){.id = number, .address = kt_slice_dup_text(address)};
    return KT_OK;
}

enum kt_code kt_settings_add_user(struct kt_settings_users *users, const struct kt_slice fields[4],
                                  struct kt_error *error)
{
    struct kt_settings_user user = {NULL, NULL, NULL, NULL};

    if (users->count >= KT_SETTINGS_LIST_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "more than %d users", KT_SETTINGS_LIST_MAX);
    if (fields[0].len == 0)
        return kt_error_set(error, KT_BAD_REQUEST, "a user without name");
    if (fields[3].len == 0)
        return kt_error_set(error, KT_BAD_REQUEST, "user '%.*s' has no role (read, readwrite, admin)",
                            (int)KT_MIN(fields[0].len, (size_t)80), (const char *)fields[0].data);
    set_text(&user.name, fields[0]);
    set_text(&user.password, fields[1]);
    set_text(&user.api_key, fields[2]);
    set_text(&user.role, fields[3]);
    users->items = kt_realloc(users->items, (users->count + 1) * sizeof(*users->items));
    users->items[users->count++] = user;
    return KT_OK;
}

static struct kt_slice trim(struct kt_slice text)
{
    const char *at = text.data;
    while (text.len > 0 && isspace((unsigned char)*at)) {
        at++;
        text.len--;
    }
    while (text.len > 0 && isspace((unsigned char)at[text.len - 1]))
        text.len--;
    return kt_slice(at, text.len);
}

static enum kt_code add_from_text(struct kt_settings *settings, const struct kt_setting *row, struct kt_slice entry,
                                  struct kt_error *error)
{
    if (row->kind == KT_SETTING_TEXTS)
        return kt_settings_add_text(value_of(settings, row), entry, error);
    const char *at = entry.data, *sign = memchr(at, '@', entry.len);
    if (!sign)
        return kt_error_set(error, KT_BAD_REQUEST, "'%.*s' is no member (id@host:port)",
                            (int)KT_MIN(entry.len, (size_t)100), at);
    size_t id_len = (size_t)(sign - at);
    return kt_settings_add_member(value_of(settings, row), kt_slice(at, id_len),
                                  kt_slice(sign + 1, entry.len - id_len - 1), error);
}

static enum kt_code set_list(struct kt_settings *settings, const struct kt_setting *row, struct kt_slice text,
                             enum kt_setting_source source, struct kt_error *error)
{
    if (!(source == KT_FROM_ENVIRONMENT && (row->flags & KT_SETTING_APPENDS)))
        kt_settings_clear_list(settings, row);
    while (text.len > 0) {
        const char *at = text.data, *comma = memchr(at, ',', text.len);
        size_t len = comma ? (size_t)(comma - at) : text.len;
        enum kt_code code = add_from_text(settings, row, trim(kt_slice(at, len)), error);
        if (code != KT_OK)
            return code;
        len += comma != NULL;
        text = kt_slice(at + len, text.len - len);
    }
    return KT_OK;
}

static enum kt_code set_value(struct kt_settings *settings, const struct kt_setting *row, struct kt_slice text,
                              enum kt_setting_source source, struct kt_error *error)
{
    const char *shown = text.data;
    int len = (int)KT_MIN(text.len, (size_t)100);
    struct kt_address address;
    uint64_t number;
    enum kt_code code;

    if (text.len > KT_SETTINGS_TEXT_MAX * 4 || (text.len && memchr(text.data, '\0', text.len)))
        return kt_error_set(error, KT_BAD_REQUEST, "the value is no text of a sensible length");
    switch (row->kind) {
    case KT_SETTING_TEXT:
        if (text.len > KT_SETTINGS_TEXT_MAX)
            return kt_error_set(error, KT_BAD_REQUEST, "the value has %zu bytes", text.len);
        set_text(value_of(settings, row), text);
        return KT_OK;
    case KT_SETTING_ADDRESS:
        if ((row->flags & KT_SETTING_OFF) && slice_is_any_case(text, "off")) {
            set_text(value_of(settings, row), kt_slice(NULL, 0));
            return KT_OK;
        }
        code = parse_address(text, &address, error);
        if (code == KT_OK)
            set_text(value_of(settings, row), text);
        return code;
    case KT_SETTING_NUMBER:
        if (!parse_count(text, &number))
            return kt_error_set(error, KT_BAD_REQUEST, "'%.*s' is no number", len, shown);
        if (number < row->min || number > row->max)
            return kt_error_set(error, KT_BAD_REQUEST, "%llu is not within %llu..%llu%s%s", (unsigned long long)number,
                                (unsigned long long)row->min, (unsigned long long)row->max, row->unit[0] ? " " : "",
                                row->unit);
        *(uint64_t *)value_of(settings, row) = number;
        return KT_OK;
    case KT_SETTING_SWITCH:
        if (!parse_switch(text, value_of(settings, row)))
            return kt_error_set(error, KT_BAD_REQUEST, "'%.*s' is neither true nor false", len, shown);
        return KT_OK;
    case KT_SETTING_CHOICE:
        code = check_choice(row, text, error);
        if (code == KT_OK)
            set_text(value_of(settings, row), text);
        return code;
    case KT_SETTING_FSYNC:
        code = check_fsync(text, error);
        if (code == KT_OK)
            set_text(value_of(settings, row), kt_slice_text("every_write"));
        return code;
    case KT_SETTING_TEXTS:
    case KT_SETTING_MEMBERS:
        return set_list(settings, row, text, source, error);
    case KT_SETTING_USERS:
        return kt_error_set(error, KT_BAD_REQUEST, "users can only be given in a file");
    case KT_SETTING_INERT:
        kt_warn("settings", "%s has no effect: %s", row->name, row->sentence);
        return KT_OK;
    }
    return kt_error_set(error, KT_INTERNAL, "a setting of an unknown kind");
}

enum kt_code kt_settings_set(struct kt_settings *settings, const struct kt_setting *row, struct kt_slice text,
                             enum kt_setting_source source, struct kt_error *error)
{
    struct kt_error why = {.code = KT_OK};
    enum kt_code code = set_value(settings, row, text, source, &why);

    if (code != KT_OK)
        return kt_error_set(error, code, "%s: %s", row->name, why.text);
    kt_settings_mark(settings, row, source);
    return KT_OK;
}

enum kt_code kt_settings_assign(struct kt_settings *settings, const char *assignment, struct kt_error *error)
{
    const char *equals = strchr(assignment, '=');
    if (!equals)
        return kt_error_set(error, KT_BAD_REQUEST, "'%.100s' is not name=value", assignment);
    struct kt_slice name = kt_slice(assignment, (size_t)(equals - assignment));
    const struct kt_setting *row = kt_setting_find(name);
    if (!row)
        return kt_error_set(error, KT_BAD_REQUEST, "there is no setting '%.*s'; did you mean %s?",
                            (int)KT_MIN(name.len, (size_t)80), (const char *)name.data, kt_setting_nearest(name));
    return kt_settings_set(settings, row, kt_slice_text(equals + 1), KT_FROM_COMMAND_LINE, error);
}

/*
 * The level that RUST_LOG begins with, in our words; NULL if it begins with something else: it is there for programs of
 * many kinds, and no reason not to start.
 */
static const char *log_level_of(const char *filter)
{
    static const char *const words[][2] = {{"trace", "debug"}, {"debug", "debug"}, {"info", "info"},
                                           {"warn", "warn"},   {"error", "error"}, {"off", "error"}};
    size_t len = strcspn(filter, ",");
    for (size_t i = 0; i < KT_COUNT(words); i++) {
        if (strlen(words[i][0]) == len && strncasecmp(filter, words[i][0], len) == 0)
            return words[i][1];
    }
    return NULL;
}

enum kt_code kt_settings_environment(struct kt_settings *settings, char *(*get)(const char *name),
                                     struct kt_error *error)
{
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        for (const char *at = row->environment; *at;) {
            char name[64];
            size_t len = strcspn(at, " ");
            KT_CHECK(len < sizeof(name));
            memcpy(name, at, len);
            name[len] = '\0';
            at += len + (at[len] == ' ');
            const char *value = get(name);
            if (!value || !value[0])
                continue;
            if (strcmp(name, "RUST_LOG") == 0 && !(value = log_level_of(value)))
                continue;
            struct kt_error why;
            if (kt_settings_set(settings, row, kt_slice_text(value), KT_FROM_ENVIRONMENT, &why) != KT_OK)
                return kt_error_set(error, why.code, "environment %s: %s", name, why.text);
            break;
        }
    }
    return KT_OK;
}

static enum kt_code refuse_open(const char *setting, const char *address, struct kt_error *error)
{
    return kt_error_set(error, KT_BAD_REQUEST,
                        "%s %s can be reached from other machines, but authentication is off: set auth.required, or "
                        "auth.insecure if everybody who can reach it may do everything",
                        setting, address);
}

static enum kt_code check_exposure(const struct kt_settings *settings, struct kt_error *error)
{
    if (!kt_address_is_loopback(settings->cluster_listen) && !settings->tls_ca && !settings->cluster_insecure)
        return kt_error_set(error, KT_BAD_REQUEST,
                            "cluster.listen %s can be reached from other machines, and peers are neither encrypted nor "
                            "authenticated: set cluster.tls, or cluster.insecure in a network that you trust",
                            settings->cluster_listen);
    if (settings->auth_required || settings->auth_insecure)
        return KT_OK;
    if (!kt_address_is_loopback(settings->bind_addr))
        return refuse_open("network.bind_addr", settings->bind_addr, error);
    if (settings->kv_address && !kt_address_is_loopback(settings->kv_address))
        return refuse_open("listen.kv.address", settings->kv_address, error);
    if (settings->admin_address && !kt_address_is_loopback(settings->admin_address))
        return refuse_open("admin.address", settings->admin_address, error);
    return KT_OK;
}

static enum kt_code check_tls(const struct kt_settings *settings, struct kt_error *error)
{
    bool ca = settings->tls_ca, certificate = settings->tls_certificate, key = settings->tls_key;
    if (ca == certificate && certificate == key)
        return KT_OK;
    return kt_error_set(error, KT_BAD_REQUEST, "cluster.tls.%s is not set: ca, cert and key belong together",
                        !ca            ? "ca"
                        : !certificate ? "cert"
                                       : "key");
}

static enum kt_code check_gate_tls(const struct kt_settings *settings, struct kt_error *error)
{
    const char *on = settings->gate_tls ? "tls.enabled" : settings->kv_tls ? "listen.kv.tls" : NULL;

    if (on && (!settings->gate_certificate || !settings->gate_key))
        return kt_error_set(error, KT_BAD_REQUEST, "%s is on, but tls.%s is not set", on,
                            settings->gate_certificate ? "key_path" : "cert_path");
    if (settings->gate_verify && !settings->gate_ca)
        return kt_error_set(error, KT_BAD_REQUEST, "tls.require_client_cert is on, but tls.client_ca_path is not set");
    if (settings->gate_verify && !on)
        kt_warn("settings", "tls.require_client_cert has no effect: tls.enabled is off");
    if (settings->gate_ca && !settings->gate_verify)
        kt_warn("settings", "tls.client_ca_path has no effect: tls.require_client_cert is off");
    return KT_OK;
}

#define PEER_ADDRESS "127.0.0.1:7501" /* of a node that is a cluster of its own and was told nothing */

enum kt_code kt_settings_finish(struct kt_settings *settings, struct kt_error *error)
{
    struct kt_settings_members *members = &settings->members;
    char id[24];

    snprintf(id, sizeof(id), "%llu", (unsigned long long)settings->node_id);
    if (members->count == 0) {
        const char *address = settings->cluster_listen ? settings->cluster_listen : PEER_ADDRESS;
        enum kt_code code = kt_settings_add_member(members, kt_slice_text(id), kt_slice_text(address), error);
        if (code != KT_OK)
            return code;
    }
    const struct kt_settings_member *self = NULL;
    for (size_t i = 0; i < members->count; i++) {
        if (members->items[i].id == settings->node_id)
            self = &members->items[i];
    }
    if (!self)
        return kt_error_set(error, KT_BAD_REQUEST, "node.id %s is not in cluster.members", id);
    if (!settings->cluster_listen)
        settings->cluster_listen = kt_text_dup(self->address);
    if (!settings->cluster_name)
        return kt_error_set(error, KT_BAD_REQUEST, "cluster.name is empty");
    if (!settings->data_dir)
        return kt_error_set(error, KT_BAD_REQUEST, "storage.data_dir is empty");
    if (settings->heartbeat_ms * 3 > settings->election_ms)
        return kt_error_set(error, KT_BAD_REQUEST,
                            "cluster.heartbeat_ms %llu is more than a third of cluster.election_ms %llu",
                            (unsigned long long)settings->heartbeat_ms, (unsigned long long)settings->election_ms);
    enum kt_code code = check_tls(settings, error);
    if (code == KT_OK)
        code = check_gate_tls(settings, error);
    return code == KT_OK ? check_exposure(settings, error) : code;
}
