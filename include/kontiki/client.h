/*
 * libkontiki: a small blocking client of a Kontiki cluster.
 *
 * A client knows several nodes. A call goes to the node that answered last; when that one is gone, hangs, or answers
 * that it cannot serve right now, the call moves on to the next one, until it has an answer or its time is over. So
 * calls survive the loss of a node and a change of leader.
 *
 * What is sent twice: calls that change nothing, and calls that the server recognises when they come again (they carry
 * an idempotency key, which is added where it is missing). Any other call whose answer is lost ends with
 * KT_OUTCOME_UNKNOWN: it may have happened or not, and only the caller can decide whether to repeat it. A request that
 * provably did not reach a server is always sent again.
 *
 * One thread at a time per client; different clients are independent. Calls block, and only wait for sockets (and for
 * the system's resolver, which has time limits of its own, when an endpoint is a name and no numeric address). SIGPIPE
 * is never raised. Links against the static library kt_client; no event loop is needed.
 */
#ifndef KONTIKI_CLIENT_H
#define KONTIKI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kontiki/code.h"

#define KONTIKI_ENDPOINTS_MAX   16          /* nodes that a client may know; a cluster has no more */
#define KONTIKI_FRAME_BYTES_MAX (16u << 20) /* one request or answer of either protocol */
#define KONTIKI_TIMEOUT_MS      10000u
#define KONTIKI_ATTEMPT_MS      2500u
#define KONTIKI_CONNECT_MS      1000u

struct kontiki_client;

/*
 * TLS 1.2 or 1.3 to the state machine listeners. The files are PEM and are read by kontiki_open. The server's
 * certificate must be signed by an authority that is trusted, be valid today, and name the host of the endpoint (a host
 * name or an IP address among its subject alternative names; the common name does not count).
 */
struct kontiki_tls {
    const char *ca_cert;     /* the authorities that are trusted; NULL: those of the system */
    const char *client_cert; /* shown to servers that ask: the certificate, then those between it and an authority */
    const char *client_key;  /* its key, without a passphrase; both or neither */
    const char
        *server_name; /* asked for and looked for in place of the endpoint's host, at every endpoint; NULL: not */
    bool insecure;    /* any certificate is taken: encrypted, but nobody knows by whom it is read. For trying out */
};

/* Everything is copied by kontiki_open. */
struct kontiki_options {
    const char *const *machine;    /* "host:port" of the nodes' state machine (RCP) listeners; IPv6 in brackets */
    size_t machine_count;          /* 0: no machine calls */
    const char *const *kv;         /* of the nodes' key-value listeners */
    size_t kv_count;               /* 0: no key-value calls */
    const char *token;             /* bearer token of machine calls; NULL: none is sent */
    const char *user, *password;   /* login of key-value calls; NULL: none */
    const char *api_key;           /* the same by API key; it goes before user and password */
    unsigned timeout_ms;           /* of one call with all its attempts; 0: KONTIKI_TIMEOUT_MS */
    unsigned attempt_ms;           /* of one attempt of a call that may be repeated; 0: KONTIKI_ATTEMPT_MS */
    unsigned connect_ms;           /* of connecting to one node, and then of the TLS handshake; 0: KONTIKI_CONNECT_MS */
    const struct kontiki_tls *tls; /* of machine calls; NULL: plain. Key-value calls are always plain */
    /*
     * Repeat also writes that carry no idempotency key (key-value writes, operations this library does not know). The
     * caller says by it that a late repetition may overwrite what somebody else wrote in between.
     */
    bool retry_unknown;
};

/* What a call ended with. Filled by every call; kontiki_result_release frees what it points to. */
struct kontiki_result {
    enum kt_code code;     /* KT_OK, the server's answer where a code maps it, or why there is none */
    char text[256];        /* a sentence for people; empty with KT_OK */
    char server_code[48];  /* as the server wrote it: "GUARD_FAILED", "1008"; empty when no server answered */
    bool server_retryable; /* the server said that the same request may succeed later */
    /* NUL-terminated beyond len. NULL when there is none. */
    char *body; /* machine calls: the result, a JSON object. kv_get and kv_keys: one encoded value. */
    size_t body_len;
    char *details;      /* machine calls: details of an error, a JSON object; NULL: none */
    int leader;         /* machine calls: whether the answering node led; -1: it did not say */
    uint64_t offset;    /* machine calls: WAL offset of the write, or that a read saw; 0: not said */
    unsigned attempts;  /* requests that were sent, or tried to be */
    char endpoint[280]; /* of the node that answered, or that was tried last */
};

/*
 * Makes a client; nothing is connected yet. KT_BAD_REQUEST: an endpoint is no address, there are none at all, or too
 * many, or a file of tls cannot be used; the sentence is written to text, if that is not NULL (text_size bytes at
 * most).
 */
KT_MUST_USE enum kt_code kontiki_open(const struct kontiki_options *options, struct kontiki_client **client, char *text,
                                      size_t text_size);
/* Closes its connections. NULL is fine. */
void kontiki_close(struct kontiki_client *client);

/* Frees what the result points to and empties it. A zeroed result is fine. */
void kontiki_result_release(struct kontiki_result *result);

/*
 * One operation of the state machine protocol. op: its upper-case name, "APPLY_EVENT". params: a JSON object, or NULL
 * for {}. CREATE_INSTANCE, APPLY_EVENT, DELETE_INSTANCE, BATCH and MIGRATE_INSTANCES get an idempotency_key (a random
 * UUID) if they have none.
 * result->body is the result object. Returns result->code:
 *   KT_OK, or the code of the server's error (KT_GUARD_FAILED, KT_CONFLICT ...);
 *   KT_OUTCOME_UNKNOWN: the operation may have happened;
 *   KT_UNAVAILABLE or another code of class KT_RETRY: it has not happened, no node could serve it in time, or no node's
 *   TLS is good, which is told without waiting;
 *   KT_BAD_REQUEST without server_code: params are no JSON object, or op is no name; nothing was sent.
 */
KT_MUST_USE enum kt_code kontiki_machine_call(struct kontiki_client *client, const char *op, const char *params,
                                              struct kontiki_result *result);

/*
 * Events of instances, as they happen: a subscription that survives the node it stands on. Each event is given once, in
 * order; when the connection is lost the watch goes on at the next endpoint, right behind the last event that was
 * given.
 */
struct kontiki_watch;

/*
 * op: WATCH_INSTANCE or WATCH_ALL. params: its parameters, a JSON object, or NULL for {}. Blocks until a node has
 * answered, at most options->timeout_ms. KT_OK: result->body is what it answered. Else *watch is NULL, and code and
 * sentence are those of kontiki_open or kontiki_machine_call. The options are copied.
 */
KT_MUST_USE enum kt_code kontiki_watch_open(const struct kontiki_options *options, const char *op, const char *params,
                                            struct kontiki_watch **watch, struct kontiki_result *result);
/*
 * The next message within wait_ms: KT_OK, result->body is the whole message, a JSON object. Its "type" is "event", or
 * another word if the server tells something about the subscription ("lagging": events were cut off before they could
 * be told). KT_MORE: none came. Anything else ends the watch: no node could go on with it within options->timeout_ms,
 * or one refused to. result->endpoint names the node that is watched at.
 */
KT_MUST_USE enum kt_code kontiki_watch_next(struct kontiki_watch *watch, unsigned wait_ms,
                                            struct kontiki_result *result);
/* Ends the subscription by closing its connection. NULL is fine. */
void kontiki_watch_close(struct kontiki_watch *watch);

/* A key of the key-value protocol. Names are C strings; the key is any bytes, 65535 at most. All borrowed. */
struct kontiki_key {
    const char *database, *collection;
    const void *key;
    size_t key_len;
};

/* Values are encoded values of the key-value protocol, type byte first: kontiki_value_* below make and show them. */
KT_MUST_USE enum kt_code kontiki_kv_ping(struct kontiki_client *client, struct kontiki_result *result);
/* KT_NOT_FOUND: no such key. KT_OK: the value is result->body. */
KT_MUST_USE enum kt_code kontiki_kv_get(struct kontiki_client *client, const struct kontiki_key *key,
                                        struct kontiki_result *result);
/* Writes. KT_OUTCOME_UNKNOWN when the answer was lost, unless options.retry_unknown. A plain set removes any expiry. */
KT_MUST_USE enum kt_code kontiki_kv_set(struct kontiki_client *client, const struct kontiki_key *key, const void *value,
                                        size_t value_len, struct kontiki_result *result);
/* ttl_ms: from now on this machine's wall clock, which must agree with the servers'; at least 1. */
KT_MUST_USE enum kt_code kontiki_kv_set_ttl(struct kontiki_client *client, const struct kontiki_key *key,
                                            const void *value, size_t value_len, uint64_t ttl_ms,
                                            struct kontiki_result *result);
/* KT_OK also when there was no such key. */
KT_MUST_USE enum kt_code kontiki_kv_delete(struct kontiki_client *client, const struct kontiki_key *key,
                                           struct kontiki_result *result);
/* KT_OK or KT_NOT_FOUND. */
KT_MUST_USE enum kt_code kontiki_kv_exists(struct kontiki_client *client, const struct kontiki_key *key,
                                           struct kontiki_result *result);
/* All keys of a collection, as an encoded list of strings in result->body. key->key is not looked at. */
KT_MUST_USE enum kt_code kontiki_kv_keys(struct kontiki_client *client, const struct kontiki_key *key,
                                         struct kontiki_result *result);

/*
 * An encoded String value of the bytes; *value is freed with kontiki_free. KT_TOO_LARGE: it could not be sent.
 */
KT_MUST_USE enum kt_code kontiki_value_string(const void *text, size_t len, void **value, size_t *value_len);
/*
 * An encoded value for people: a String as it is (its bytes, also if they are no UTF-8), numbers and booleans as in
 * JSON, Empty as null, Binary as hexadecimal digits, lists and maps as JSON. *text is NUL-terminated beyond *len and
 * freed with kontiki_free. KT_BAD_REQUEST: the bytes are no value.
 */
KT_MUST_USE enum kt_code kontiki_value_text(const void *value, size_t value_len, char **text, size_t *len);
void kontiki_free(void *memory);

#endif
