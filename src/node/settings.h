/*
 * The settings of a node: one table (settings_table.c) declares them all and drives parsing, checks, --help,
 * --print-config and docs/settings.md.
 *
 * Sources, later wins: defaults, the YAML file, the environment, --set on the command line. A value that cannot be
 * understood is refused from every source, with the name of the setting and where the value came from; an unknown
 * name is refused with the nearest known one. An empty environment variable counts as unset.
 *
 * One thread, at start.
 */
#ifndef KT_NODE_SETTINGS_H
#define KT_NODE_SETTINGS_H

#include <stdio.h>

#include "base/buf.h"
#include "base/error.h"

#define KT_SETTINGS_FILE_MAX    (1u << 20) /* bytes: a settings file is written by hand */
#define KT_SETTINGS_TEXT_MAX    4096       /* bytes of one value: a path or an address is far below */
#define KT_SETTINGS_LIST_MAX    1024       /* token hashes or users; a linear search looks through them */
#define KT_SETTINGS_MEMBERS_MAX 16         /* what a status can show (cluster/node/replica.h) */

struct kt_settings_texts {
    char **items;
    size_t count;
};

struct kt_settings_user {
    char *name, *password, *api_key, *role; /* password, api_key: verifiers, or NULL */
};

struct kt_settings_users {
    struct kt_settings_user *items;
    size_t count;
};

struct kt_settings_member {
    kt_node_id id;
    char *address;
};

struct kt_settings_members {
    struct kt_settings_member *items;
    size_t count;
};

enum kt_setting_kind {
    KT_SETTING_TEXT,    /* char *; NULL is none */
    KT_SETTING_ADDRESS, /* char *, "host:port" or "[v6]:port"; "off" where the row allows it is NULL */
    KT_SETTING_NUMBER,  /* uint64_t within the row's bounds */
    KT_SETTING_SWITCH,  /* bool */
    KT_SETTING_CHOICE,  /* char *, one of the row's words */
    KT_SETTING_FSYNC,   /* char *; see settings.c */
    KT_SETTING_TEXTS,   /* struct kt_settings_texts */
    KT_SETTING_USERS,   /* struct kt_settings_users; from the file only */
    KT_SETTING_MEMBERS, /* struct kt_settings_members */
    KT_SETTING_INERT,   /* known from older configurations, without effect here: accepted with a warning */
};

enum kt_setting_source { KT_FROM_DEFAULT, KT_FROM_FILE, KT_FROM_ENVIRONMENT, KT_FROM_COMMAND_LINE };

#define KT_SETTING_OFF     1u /* an address that may be "off" */
#define KT_SETTING_RELOAD  2u /* may change without a restart */
#define KT_SETTING_APPENDS 4u /* the environment adds to the file's list instead of replacing it */

struct kt_setting {
    const char *name; /* "network.bind_addr" */
    const char *also; /* another accepted name, or NULL */
    enum kt_setting_kind kind;
    size_t offset;           /* of the value in struct kt_settings */
    const char *initial;     /* the default as text; "" is none */
    uint64_t min, max;       /* of a count */
    const char *unit;        /* "seconds", or "" */
    const char *environment; /* names, separated by blanks; the first that is set wins */
    const char *choices;     /* words, separated by blanks */
    unsigned flags;
    const char *sentence;
};

struct kt_settings {
    char *bind_addr;
    uint64_t idle_timeout_s, connections_max;
    char *data_dir;
    uint64_t segment_mb, map_gb, log_keep_mb, min_free_mb, transfer_mb_per_s;
    char *fsync_policy;
    uint64_t machine_versions_max;
    bool instance_recreate, flush_all;
    uint64_t change_log_mb, change_log_hours;
    bool auth_required, auth_insecure;
    struct kt_settings_texts token_hashes;
    char *secrets_file;
    struct kt_settings_users users;
    char *kv_address, *kv_revision;
    uint64_t kv_success_code, kv_idle_s;
    bool gate_tls, kv_tls, gate_verify;
    char *gate_certificate, *gate_key, *gate_ca; /* what clients of both ports are shown, and who signs theirs */
    char *admin_address, *metrics_address;
    bool metrics_enabled;
    uint64_t node_id;
    char *cluster_name, *cluster_listen;
    struct kt_settings_members members;
    bool cluster_insecure;
    char *tls_ca, *tls_certificate, *tls_key; /* all three or none */
    uint64_t election_ms, heartbeat_ms;
    uint64_t requests_max, request_mb_max, request_timeout_ms, stop_timeout_ms;
    char *log_level;

    uint8_t *sources; /* enum kt_setting_source of each row */
};

extern const struct kt_setting kt_setting_rows[];
extern const size_t kt_setting_count;

/* All defaults. Release with kt_settings_release. */
void kt_settings_init(struct kt_settings *settings);
void kt_settings_release(struct kt_settings *settings);

/* The row of a name (or of its other name), or NULL. */
const struct kt_setting *kt_setting_find(struct kt_slice name);
/* The known name with the smallest edit distance; never NULL. */
const char *kt_setting_nearest(struct kt_slice name);

/* Sets one value from text; lists are separated by commas. KT_BAD_REQUEST with a sentence. */
KT_MUST_USE enum kt_code kt_settings_set(struct kt_settings *settings, const struct kt_setting *row,
                                         struct kt_slice text, enum kt_setting_source source, struct kt_error *error);
/* "name=value" of --set. */
KT_MUST_USE enum kt_code kt_settings_assign(struct kt_settings *settings, const char *assignment,
                                            struct kt_error *error);
/* A YAML document in memory. */
KT_MUST_USE enum kt_code kt_settings_yaml(struct kt_settings *settings, struct kt_slice text, struct kt_error *error);
/* The same from a file of at most KT_SETTINGS_FILE_MAX bytes. */
KT_MUST_USE enum kt_code kt_settings_file(struct kt_settings *settings, const char *path, struct kt_error *error);
/* Looks up every row's environment names with get (getenv in kontikid). */
KT_MUST_USE enum kt_code kt_settings_environment(struct kt_settings *settings, char *(*get)(const char *name),
                                                 struct kt_error *error);
/*
 * What depends on more than one setting: derives the member list and the peer address where they are not given, and
 * refuses what must not be (open listeners without authentication, members that do not add up). Once, after all
 * sources.
 */
KT_MUST_USE enum kt_code kt_settings_finish(struct kt_settings *settings, struct kt_error *error);

/* Appends to the list of that kind. For the YAML reader; the same refusals as above. Texts are copied. */
KT_MUST_USE enum kt_code kt_settings_add_text(struct kt_settings_texts *texts, struct kt_slice text,
                                              struct kt_error *error);
KT_MUST_USE enum kt_code kt_settings_add_member(struct kt_settings_members *members, struct kt_slice id,
                                                struct kt_slice address, struct kt_error *error);
KT_MUST_USE enum kt_code kt_settings_add_user(struct kt_settings_users *users, const struct kt_slice fields[4],
                                              struct kt_error *error);
/* Back to empty. */
void kt_settings_clear_list(struct kt_settings *settings, const struct kt_setting *row);
void kt_settings_mark(struct kt_settings *settings, const struct kt_setting *row, enum kt_setting_source source);

/* True for an address on which only this machine can reach a listener: 127.0.0.0/8, ::1, localhost. */
bool kt_address_is_loopback(const char *address);
/* The settings part of --help, docs/settings.md, and the effective settings as YAML without secrets. */
void kt_settings_help(FILE *out);
void kt_settings_markdown(FILE *out);
void kt_settings_print(const struct kt_settings *settings, FILE *out);

#endif
