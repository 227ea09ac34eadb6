/*
 * Who may do what: bearer tokens by SHA-256, users by password verifier or API key, and the permissions they carry.
 * Built once from the settings, read-only afterwards: any thread.
 *
 * A password verifier is "sha256:<64 hex digits>" or "pbkdf2-sha256:<iterations>:<salt hex>:<key hex>";
 * kt_auth_verifier makes the second. Comparisons take the same time whatever differs.
 */
#ifndef KT_AUTH_AUTH_H
#define KT_AUTH_AUTH_H

#include "base/error.h"
#include "base/types.h"

/* No secret that a person or a program chooses is longer; it bounds the work of hashing what a stranger sends. */
#define KT_AUTH_SECRET_BYTES_MAX 4096

struct kt_auth;

struct kt_principal {
    const char *name;     /* "token" for bearer tokens, "local" without authentication */
    unsigned permissions; /* enum kt_permission of engines/command.h: read 1, write 2, admin 4 */
};

struct kt_auth_user {
    const char *name;
    const char *password; /* verifier, or NULL: no login by password */
    const char *api_key;  /* "sha256:<hex>" of the key, or NULL */
    const char *role;     /* "read", "readwrite", "admin" */
};

struct kt_auth_options {
    bool required;
    const char *const *token_hashes; /* hex SHA-256, either case */
    size_t token_hash_count;
    const char *secrets_file; /* one hash per line, # comments; or NULL */
    const struct kt_auth_user *users;
    size_t user_count;
};

/*
 * KT_BAD_REQUEST with a sentence for anything malformed, never quoting a hash; required without any token and user is
 * refused too. KT_IO_FAILED if the secrets file cannot be read. Copies what it needs of the options.
 */
KT_MUST_USE enum kt_code kt_auth_create(const struct kt_auth_options *options, struct kt_auth **auth,
                                        struct kt_error *error);
void kt_auth_free(struct kt_auth *auth);

bool kt_auth_required(const struct kt_auth *auth);
/* The administrator that every connection is while authentication is off. */
const struct kt_principal *kt_auth_local(const struct kt_auth *auth);
/*
 * NULL: refused. Without required authentication any non-empty token is accepted. Here and below a secret longer than
 * KT_AUTH_SECRET_BYTES_MAX is refused. The principal lives as long as auth.
 */
const struct kt_principal *kt_auth_bearer(const struct kt_auth *auth, struct kt_slice token);
/* Slow on purpose (PBKDF2): call on the pool. NULL: refused; an unknown user takes as long as a known one. */
const struct kt_principal *kt_auth_password(const struct kt_auth *auth, struct kt_slice name, struct kt_slice password);
const struct kt_principal *kt_auth_api_key(const struct kt_auth *auth, struct kt_slice key);

/* "sha256:<hex>" / 64 hex digits of a token; out holds 65 bytes. */
void kt_auth_token_hash(struct kt_slice token, char out[65]);
/* A new PBKDF2 verifier with a random salt, of at most KT_AUTH_SECRET_BYTES_MAX bytes; out holds 160 bytes. Slow. */
void kt_auth_verifier(struct kt_slice password, char out[160]);

#endif
