/*
 * Settings from YAML: the only includer of yaml.h. The document is a tree of mappings whose paths, joined with dots,
 * are names of settings. The walk goes only as deep as names of settings do, so neither nesting nor aliases can make
 * it long.
 */
#include "node/settings.h"

#include <errno.h>
#include <yaml.h>

#include "base/alloc.h"

#define PATH_MAX_BYTES 128 /* longer than every name in the table */

struct walk {
    struct kt_settings *settings;
    yaml_document_t *document;
    struct kt_error *error;
    uint8_t *seen; /* by row: a name given twice is a mistake that would be hard to find otherwise */
};

static struct kt_slice scalar_of(const yaml_node_t *node)
{
    return kt_slice(node->data.scalar.value, node->data.scalar.length);
}

static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    struct kt_slice text = scalar_of(node);
    return text.len == 0 || kt_slice_is(text, "~") || kt_slice_is(text, "null") || kt_slice_is(text, "Null") ||
           kt_slice_is(text, "NULL");
}

static enum kt_code at_line(struct walk *walk, const yaml_node_t *node, const char *text)
{
    return kt_error_set(walk->error, KT_BAD_REQUEST, "line %zu: %s", node->start_mark.line + 1, text);
}

static enum kt_code not_a(struct walk *walk, const yaml_node_t *node, const struct kt_setting *row, const char *what)
{
    char text[192];
    snprintf(text, sizeof(text), "%s must be %s", row->name, what);
    return at_line(walk, node, text);
}

/* Reads the named scalar members of a mapping into fields; any other member is refused. */
static enum kt_code read_map(struct walk *walk, yaml_node_t *node, const struct kt_setting *row,
                             const char *const names[], struct kt_slice fields[], size_t count)
{
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        size_t i = 0;
        if (!key || !value || key->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE)
            return not_a(walk, node, row, "a list of maps of simple values");
        while (i < count && !kt_slice_is(scalar_of(key), names[i]))
            i++;
        if (i == count || fields[i].len) {
            char text[192];
            snprintf(text, sizeof(text), "%s: '%.60s' is %s", row->name, (const char *)key->data.scalar.value,
                     i == count ? "unknown" : "given twice");
            return at_line(walk, key, text);
        }
        if (!is_null(value))
            fields[i] = scalar_of(value);
    }
    return KT_OK;
}

static enum kt_code read_member(struct walk *walk, yaml_node_t *node, const struct kt_setting *row,
                                struct kt_error *why)
{
    struct kt_settings_members *members = &walk->settings->members;

    if (node->type == YAML_SCALAR_NODE) {
        struct kt_slice text = scalar_of(node);
        const char *at = text.data, *sign = text.len ? memchr(at, '@', text.len) : NULL;
        if (!sign)
            return kt_error_set(why, KT_BAD_REQUEST, "'%.*s' is no member (id@host:port)",
                                (int)KT_MIN(text.len, (size_t)100), at);
        size_t id_len = (size_t)(sign - at);
        return kt_settings_add_member(members, kt_slice(at, id_len), kt_slice(sign + 1, text.len - id_len - 1), why);
    }
    static const char *const names[] = {"id", "address"};
    struct kt_slice fields[2] = {{NULL, 0}, {NULL, 0}};
    enum kt_code code = read_map(walk, node, row, names, fields, 2);
    if (code != KT_OK) {
        *why = *walk->error;
        return code;
    }
    return kt_settings_add_member(members, fields[0], fields[1], why);
}

static enum kt_code read_list(struct walk *walk, yaml_node_t *node, const struct kt_setting *row)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return not_a(walk, node, row, "a list");
    kt_settings_clear_list(walk->settings, row);
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
        yaml_node_t *entry = yaml_document_get_node(walk->document, *item);
        struct kt_error why = {.code = KT_OK, .text = ""};
        enum kt_code code;
        if (!entry || entry->type == YAML_SEQUENCE_NODE)
            return not_a(walk, node, row, "a list of simple values or maps");
        if (row->kind == KT_SETTING_TEXTS) {
            if (entry->type != YAML_SCALAR_NODE)
                return not_a(walk, entry, row, "a list of texts");
            code = kt_settings_add_text(&walk->settings->token_hashes, scalar_of(entry), &why);
        } else if (row->kind == KT_SETTING_MEMBERS) {
            code = read_member(walk, entry, row, &why);
        } else {
            static const char *const names[] = {"name", "password", "api_key", "role"};
            struct kt_slice fields[4] = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
            if (entry->type != YAML_MAPPING_NODE)
                return not_a(walk, entry, row, "a list of maps with name, password, api_key, role");
            code = read_map(walk, entry, row, names, fields, 4);
            if (code != KT_OK)
                return code;
            code = kt_settings_add_user(&walk->settings->users, fields, &why);
        }
        if (code != KT_OK)
            return kt_error_set(walk->error, code, "line %zu: %s: %s", entry->start_mark.line + 1, row->name, why.text);
    }
    kt_settings_mark(walk->settings, row, KT_FROM_FILE);
    return KT_OK;
}

/* "every_n: 100" (a mapping) and "!every_n 100" (a tag) are the policy "every_n:100". */
static enum kt_code read_fsync(struct walk *walk, yaml_node_t *node, const struct kt_setting *row)
{
    char text[64] = "every_n";
    const char *tag = (const char *)node->tag;

    if (node->type == YAML_MAPPING_NODE) {
        yaml_node_pair_t *pair = node->data.mapping.pairs.start;
        yaml_node_t *key =
            pair < node->data.mapping.pairs.top ? yaml_document_get_node(walk->document, pair->key) : NULL;
        if (!key || key->type != YAML_SCALAR_NODE)
            return not_a(walk, node, row, "every_write");
        snprintf(text, sizeof(text), "%.40s", (const char *)key->data.scalar.value);
    } else if (node->type != YAML_SCALAR_NODE) {
        return not_a(walk, node, row, "every_write");
    } else if (tag && tag[0] == '!') {
        snprintf(text, sizeof(text), "%.40s", tag + 1);
    } else {
        snprintf(text, sizeof(text), "%.40s", (const char *)node->data.scalar.value);
    }
    struct kt_error why;
    if (kt_settings_set(walk->settings, row, kt_slice_text(text), KT_FROM_FILE, &why) != KT_OK)
        return kt_error_set(walk->error, why.code, "line %zu: %s", node->start_mark.line + 1, why.text);
    return KT_OK;
}

static enum kt_code read_setting(struct walk *walk, yaml_node_t *node, const struct kt_setting *row)
{
    uint8_t *seen = &walk->seen[row - kt_setting_rows];

    if (*seen)
        return not_a(walk, node, row, "given only once");
    *seen = 1;
    if (is_null(node) && !(node->tag && node->tag[0] == '!'))
        return KT_OK;
    if (row->kind == KT_SETTING_FSYNC)
        return read_fsync(walk, node, row);
    if (row->kind == KT_SETTING_TEXTS || row->kind == KT_SETTING_USERS || row->kind == KT_SETTING_MEMBERS)
        return read_list(walk, node, row);
    if (node->type != YAML_SCALAR_NODE)
        return not_a(walk, node, row, "a simple value");
    struct kt_error why;
    if (kt_settings_set(walk->settings, row, scalar_of(node), KT_FROM_FILE, &why) != KT_OK)
        return kt_error_set(walk->error, why.code, "line %zu: %s", node->start_mark.line + 1, why.text);
    return KT_OK;
}

static bool is_section(const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if ((strncmp(row->name, path, len) == 0 && row->name[len] == '.') ||
            (row->also && strncmp(row->also, path, len) == 0 && row->also[len] == '.'))
            return true;
    }
    return false;
}

/* Recursion ends with the deepest section of the table (three). */
static enum kt_code read_section(struct walk *walk, yaml_node_t *node, const char *prefix)
{
    char text[KT_ERROR_TEXT_MAX];

    if (is_null(node))
        return KT_OK;
    if (node->type != YAML_MAPPING_NODE) {
        snprintf(text, sizeof(text), "%s must be a map of settings", prefix[0] ? prefix : "the file");
        return at_line(walk, node, text);
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        char path[PATH_MAX_BYTES];
        if (!key || !value || key->type != YAML_SCALAR_NODE)
            return at_line(walk, node, "a name of a setting must be a simple text");
        int len = snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] ? "." : "", key->data.scalar.value);
        const struct kt_setting *row = len < (int)sizeof(path) ? kt_setting_find(kt_slice_text(path)) : NULL;
        enum kt_code code;
        if (row) {
            code = read_setting(walk, value, row);
        } else if (len < (int)sizeof(path) && is_section(path)) {
            code = read_section(walk, value, path);
        } else {
            snprintf(text, sizeof(text), "there is no setting '%.80s'; did you mean %s?", path,
                     kt_setting_nearest(kt_slice_text(path)));
            return at_line(walk, key, text);
        }
        if (code != KT_OK)
            return code;
    }
    return KT_OK;
}

enum kt_code kt_settings_yaml(struct kt_settings *settings, struct kt_slice text, struct kt_error *error)
{
    yaml_parser_t parser;
    yaml_document_t document, more;
    enum kt_code code = KT_OK;

    if (text.len > KT_SETTINGS_FILE_MAX)
        return kt_error_set(error, KT_TOO_LARGE, "%zu bytes of settings, the limit is %u", text.len,
                            KT_SETTINGS_FILE_MAX);
    if (!yaml_parser_initialize(&parser))
        return kt_error_set(error, KT_NO_MEMORY, "no memory to read settings");
    yaml_parser_set_input_string(&parser, text.len ? text.data : (const void *)"", text.len);
    if (!yaml_parser_load(&parser, &document)) {
        code = kt_error_set(error, KT_BAD_REQUEST, "line %zu: %s", parser.problem_mark.line + 1,
                            parser.problem ? parser.problem : "this is not YAML");
        yaml_parser_delete(&parser);
        return code;
    }
    struct walk walk = {settings, &document, error, kt_zalloc(kt_setting_count)};
    yaml_node_t *root = yaml_document_get_root_node(&document);
    if (root)
        code = read_section(&walk, root, "");
    kt_free(walk.seen);
    yaml_document_delete(&document);
    if (code == KT_OK && root) {
        if (!yaml_parser_load(&parser, &more)) {
            code = kt_error_set(error, KT_BAD_REQUEST, "line %zu: %s", parser.problem_mark.line + 1,
                                parser.problem ? parser.problem : "this is not YAML");
        } else {
            if (yaml_document_get_root_node(&more))
                code = kt_error_set(error, KT_BAD_REQUEST, "more than one YAML document");
            yaml_document_delete(&more);
        }
    }
    yaml_parser_delete(&parser);
    return code;
}

enum kt_code kt_settings_file(struct kt_settings *settings, const char *path, struct kt_error *error)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return kt_error_errno(error, KT_BAD_REQUEST, errno, "settings file %.150s", path);
    /* One byte more than allowed tells "as large as allowed" from "larger". */
    char *text = kt_alloc(KT_SETTINGS_FILE_MAX + 1);
    size_t len = fread(text, 1, KT_SETTINGS_FILE_MAX + 1, file);
    int failed = ferror(file) ? errno : 0;
    fclose(file);
    struct kt_error why;
    enum kt_code code = failed ? kt_error_errno(&why, KT_BAD_REQUEST, failed, "reading")
                               : kt_settings_yaml(settings, kt_slice(text, len), &why);
    kt_free(text);
    if (code != KT_OK)
        return kt_error_set(error, code, "settings file %.100s: %s", path, why.text);
    return KT_OK;
}
