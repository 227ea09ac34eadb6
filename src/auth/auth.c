/*
 * Tokens, users and their verifiers.
 *
 * How long a check takes must not tell what exists: every stored hash is compared, without stopping at the first match,
 * and every login by password costs as many PBKDF2 iterations as the most expensive verifier, whoever it is for.
 */
#include "auth/auth.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"

/* The bits of enum kt_permission, which belongs to a layer above. */
#define READ      1u
#define READWRITE 3u
#define ADMIN     7u

#define HASH_BYTES     32
#define HASH_HEX_BYTES ((size_t)2 * HASH_BYTES)

/* What a new verifier gets: about 30 ms of a core, and the salt length of RFC 8018 twice over. */
#define ITERATIONS_NEW 100000u
#define SALT_BYTES_NEW 16
/* RFC 8018 section 4.2 asks for a thousand at least; the maximum keeps a login within seconds. */
#define ITERATIONS_MIN 1000u
#define ITERATIONS_MAX 10000000u
#define SALT_BYTES_MIN 8
#define SALT_BYTES_MAX 64

/* Some fifteen thousand tokens; a larger file is not a list of hashes. */
#define SECRETS_FILE_BYTES_MAX ((size_t)1024 * 1024)

struct verifier {
    bool set;
    unsigned iterations; /* 0: the plain SHA-256 */
    size_t salt_len;
    uint8_t salt[SALT_BYTES_MAX];
    uint8_t hash[HASH_BYTES];
};

struct user {
    struct kt_principal principal;
    char *name;
    struct verifier password, api_key;
};

struct token {
    uint8_t hash[HASH_BYTES];
};

struct kt_auth {
    bool required;
    struct kt_principal local, bearer;
    struct token *tokens;
    size_t token_count;
    struct user *users;
    size_t user_count;
    unsigned iterations; /* of the most expensive verifier: what each login by password costs */
};

static void sha256(struct kt_slice bytes, uint8_t out[HASH_BYTES])
{
    if (EVP_Digest(bytes.len ? bytes.data : "", bytes.len, out, NULL, EVP_sha256(), NULL) != 1)
        kt_fatal("auth", "the cryptography library refuses to compute sha-256");
}

static void pbkdf2(struct kt_slice password, const uint8_t *salt, size_t salt_len, unsigned iterations,
                   uint8_t out[HASH_BYTES])
{
    const char *bytes = password.len ? password.data : "";
    if (PKCS5_PBKDF2_HMAC(bytes, (int)password.len, salt, (int)salt_len, (int)iterations, EVP_sha256(), HASH_BYTES,
                          out) != 1)
        kt_fatal("auth", "the cryptography library refuses to compute pbkdf2");
}

static bool same(const uint8_t a[HASH_BYTES], const uint8_t b[HASH_BYTES])
{
    return CRYPTO_memcmp(a, b, HASH_BYTES) == 0;
}

/* The text up to a colon, which is stepped over; false if there is none. */
static bool take_field(struct kt_slice *text, struct kt_slice *field)
{
    const char *from = text->data, *colon = text->len ? memchr(from, ':', text->len) : NULL;
    if (!colon)
        return false;
    *field = kt_slice(from, (size_t)(colon - from));
    *text = kt_slice(colon + 1, text->len - field->len - 1);
    return true;
}

static bool read_iterations(struct kt_slice field, unsigned *out)
{
    const char *digits = field.data;
    unsigned value = 0;
    for (size_t i = 0; i < field.len; i++) {
        if (digits[i] < '0' || digits[i] > '9' || value > ITERATIONS_MAX)
            return false;
        value = value * 10 + (unsigned)(digits[i] - '0');
    }
    *out = value;
    return value >= ITERATIONS_MIN && value <= ITERATIONS_MAX;
}

/* "sha256:..." or, if allowed, "pbkdf2-sha256:..."; false if malformed. */
static bool verifier_parse(const char *text, bool pbkdf2_allowed, struct verifier *out)
{
    struct kt_slice rest = kt_slice_text(text), kind, iterations, salt;
    *out = (struct verifier){.set = true};
    if (!take_field(&rest, &kind))
        return false;
    if (kt_slice_is(kind, "sha256"))
        return kt_unhex(rest, out->hash, HASH_BYTES);
    if (!pbkdf2_allowed || !kt_slice_is(kind, "pbkdf2-sha256"))
        return false;
    if (!take_field(&rest, &iterations) || !read_iterations(iterations, &out->iterations) || !take_field(&rest, &salt))
        return false;
    out->salt_len = salt.len / 2;
    return out->salt_len >= SALT_BYTES_MIN && out->salt_len <= SALT_BYTES_MAX &&
           kt_unhex(salt, out->salt, out->salt_len) && kt_unhex(rest, out->hash, HASH_BYTES);
}

static enum kt_code add_token(struct kt_auth *auth, struct kt_slice hex, const char *where, size_t number,
                              struct kt_error *error)
{
    struct token token;
    if (!kt_unhex(hex, token.hash, HASH_BYTES))
        return kt_error_set(error, KT_BAD_REQUEST, "%s %zu is not a sha-256 hash of %zu hexadecimal digits", where,
                            number, HASH_HEX_BYTES);
    auth->tokens = kt_realloc(auth->tokens, (auth->token_count + 1) * sizeof(*auth->tokens));
    auth->tokens[auth->token_count++] = token;
    return KT_OK;
}

static struct kt_slice trimmed(const char *from, const char *end)
{
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (end > from && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    return kt_slice(from, (size_t)(end - from));
}

static enum kt_code add_secrets(struct kt_auth *auth, struct kt_slice text, struct kt_error *error)
{
    const char *at = text.data, *end = at + text.len;
    for (size_t number = 1; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct kt_slice line = trimmed(at, newline ? newline : end);
        at = newline ? newline + 1 : end;
        if (line.len == 0 || *(const char *)line.data == '#')
            continue;
        enum kt_code code = add_token(auth, line, "line of the secrets file", number, error);
        if (code != KT_OK)
            return code;
    }
    return KT_OK;
}

static enum kt_code read_secrets(struct kt_auth *auth, const char *path, struct kt_error *error)
{
    struct kt_buf text;
    FILE *file = fopen(path, "re");
    if (!file)
        return kt_error_errno(error, KT_IO_FAILED, errno, "the secrets file %s cannot be opened", path);
    kt_buf_init(&text, SECRETS_FILE_BYTES_MAX + 1);
    enum kt_code code = KT_OK;
    uint8_t *to;
    size_t n = 0;
    do {
        to = kt_buf_reserve(&text, KT_MIN((size_t)4096, text.max - text.len));
        n = to ? fread(to, 1, KT_MIN((size_t)4096, text.max - text.len), file) : 0;
        text.len += n;
    } while (n > 0);
    if (ferror(file))
        code = kt_error_errno(error, KT_IO_FAILED, errno, "the secrets file %s cannot be read", path);
    else if (kt_buf_code(&text) != KT_OK)
        code = kt_error_set(error, kt_buf_code(&text), "the secrets file %s cannot be held in memory", path);
    else if (text.len > SECRETS_FILE_BYTES_MAX)
        code = kt_error_set(error, KT_BAD_REQUEST, "the secrets file %s is larger than %zu bytes", path,
                            SECRETS_FILE_BYTES_MAX);
    else if (text.len > 0)
        code = add_secrets(auth, kt_buf_slice(&text), error);
    fclose(file);
    kt_buf_release(&text);
    return code;
}

static bool role_permissions(const char *role, unsigned *out)
{
    static const struct {
        const char *name;
        unsigned permissions;
    } roles[] = {{"read", READ}, {"readwrite", READWRITE}, {"admin", ADMIN}};
    for (size_t i = 0; role && i < KT_COUNT(roles); i++) {
        if (strcmp(role, roles[i].name) == 0) {
            *out = roles[i].permissions;
            return true;
        }
    }
    return false;
}

static enum kt_code add_user(struct kt_auth *auth, const struct kt_auth_user *from, struct kt_error *error)
{
    struct user user = {.name = NULL};
    const char *name = from->name;
    if (!name || !*name)
        return kt_error_set(error, KT_BAD_REQUEST, "user %zu has no name", auth->user_count + 1);
    if (!role_permissions(from->role, &user.principal.permissions))
        return kt_error_set(error, KT_BAD_REQUEST, "role \"%s\" of user \"%s\" is none of read, readwrite, admin",
                            from->role ? from->role : "", name);
    if (!from->password && !from->api_key)
        return kt_error_set(error, KT_BAD_REQUEST, "user \"%s\" has neither a password nor an api key", name);
    if (from->password && !verifier_parse(from->password, true, &user.password))
        return kt_error_set(error, KT_BAD_REQUEST,
                            "the password of user \"%s\" is neither sha256:<hex> nor "
                            "pbkdf2-sha256:<%u to %u>:<salt hex>:<key hex>",
                            name, ITERATIONS_MIN, ITERATIONS_MAX);
    if (from->api_key && !verifier_parse(from->api_key, false, &user.api_key))
        return kt_error_set(error, KT_BAD_REQUEST, "the api key of user \"%s\" is not sha256:<hex>", name);
    for (size_t i = 0; i < auth->user_count; i++) {
        const struct user *other = &auth->users[i];
        if (strcmp(other->name, name) == 0)
            return kt_error_set(error, KT_BAD_REQUEST, "user \"%s\" is there twice", name);
        if (user.api_key.set && other->api_key.set && same(user.api_key.hash, other->api_key.hash))
            return kt_error_set(error, KT_BAD_REQUEST, "users \"%s\" and \"%s\" have the same api key", other->name,
                                name);
    }
    user.name = kt_text_dup(name);
    user.principal.name = user.name;
    auth->users[auth->user_count++] = user;
    auth->iterations = KT_MAX(auth->iterations, user.password.iterations);
    return KT_OK;
}

static enum kt_code fill(struct kt_auth *auth, const struct kt_auth_options *options, struct kt_error *error)
{
    enum kt_code code = KT_OK;
    for (size_t i = 0; i < options->token_hash_count && code == KT_OK; i++)
        code = add_token(auth, kt_slice_text(options->token_hashes[i]), "token hash", i + 1, error);
    if (code == KT_OK && options->secrets_file)
        code = read_secrets(auth, options->secrets_file, error);
    auth->users = kt_zalloc(options->user_count * sizeof(*auth->users));
    for (size_t i = 0; i < options->user_count && code == KT_OK; i++)
        code = add_user(auth, &options->users[i], error);
    if (code == KT_OK && auth->required && auth->token_count == 0 && auth->user_count == 0)
        code = kt_error_set(error, KT_BAD_REQUEST, "authentication is required, but there is no token and no user");
    return code;
}

enum kt_code kt_auth_create(const struct kt_auth_options *options, struct kt_auth **auth, struct kt_error *error)
{
    struct kt_auth *made = kt_zalloc(sizeof(*made));
    made->required = options->required;
    made->local = (struct kt_principal){.name = "local", .permissions = ADMIN};
    made->bearer = (struct kt_principal){.name = "token", .permissions = ADMIN};
    enum kt_code code = fill(made, options, error);
    if (code != KT_OK) {
        kt_auth_free(made);
        made = NULL;
    }
    *auth = made;
    return code;
}

void kt_auth_free(struct kt_auth *auth)
{
    if (!auth)
        return;
    for (size_t i = 0; i < auth->user_count; i++)
        kt_free(auth->users[i].name);
    kt_free(auth->users);
    kt_free(auth->tokens);
    kt_free(auth);
}

bool kt_auth_required(const struct kt_auth *auth)
{
    return auth->required;
}

const struct kt_principal *kt_auth_local(const struct kt_auth *auth)
{
    return &auth->local;
}

static bool plausible(struct kt_slice secret)
{
    return secret.len > 0 && secret.len <= KT_AUTH_SECRET_BYTES_MAX;
}

const struct kt_principal *kt_auth_bearer(const struct kt_auth *auth, struct kt_slice token)
{
    uint8_t hash[HASH_BYTES];
    if (!plausible(token))
        return NULL;
    sha256(token, hash);
    bool known = !auth->required;
    for (size_t i = 0; i < auth->token_count; i++)
        known |= same(hash, auth->tokens[i].hash);
    return known ? &auth->bearer : NULL;
}

const struct kt_principal *kt_auth_password(const struct kt_auth *auth, struct kt_slice name, struct kt_slice password)
{
    /* Stands in for a user who is not there or has no password: it costs the same, and its answer is not looked at. */
    static const struct verifier nobody = {.salt_len = SALT_BYTES_MIN};
    const struct verifier *verifier = &nobody;
    const struct kt_principal *principal = NULL;
    uint8_t hash[HASH_BYTES], rest[HASH_BYTES];
    if (!plausible(password))
        return NULL;
    for (size_t i = 0; i < auth->user_count; i++) {
        const struct user *user = &auth->users[i];
        if (kt_slice_is(name, user->name) && user->password.set) {
            verifier = &user->password;
            principal = &user->principal;
        }
    }
    if (verifier->iterations)
        pbkdf2(password, verifier->salt, verifier->salt_len, verifier->iterations, hash);
    else
        sha256(password, hash);
    if (auth->iterations > verifier->iterations)
        pbkdf2(password, nobody.salt, nobody.salt_len, auth->iterations - verifier->iterations, rest);
    bool right = same(hash, verifier->hash);
    OPENSSL_cleanse(hash, sizeof(hash));
    OPENSSL_cleanse(rest, sizeof(rest));
    return right ? principal : NULL;
}

const struct kt_principal *kt_auth_api_key(const struct kt_auth *auth, struct kt_slice key)
{
    const struct kt_principal *found = NULL;
    uint8_t hash[HASH_BYTES];
    if (!plausible(key))
        return NULL;
    sha256(key, hash);
    for (size_t i = 0; i < auth->user_count; i++) {
        const struct user *user = &auth->users[i];
        if (same(hash, user->api_key.hash) & user->api_key.set)
            found = &user->principal;
    }
    return found;
}

void kt_auth_token_hash(struct kt_slice token, char out[65])
{
    uint8_t hash[HASH_BYTES];
    sha256(token, hash);
    kt_hex(hash, sizeof(hash), out);
}

void kt_auth_verifier(struct kt_slice password, char out[160])
{
    uint8_t salt[SALT_BYTES_NEW], key[HASH_BYTES];
    char salt_hex[2 * sizeof(salt) + 1], key_hex[HASH_HEX_BYTES + 1];
    KT_CHECK(password.len <= KT_AUTH_SECRET_BYTES_MAX);
    kt_random_bytes(salt, sizeof(salt));
    pbkdf2(password, salt, sizeof(salt), ITERATIONS_NEW, key);
    kt_hex(salt, sizeof(salt), salt_hex);
    kt_hex(key, sizeof(key), key_hex);
    snprintf(out, 160, "pbkdf2-sha256:%u:%s:%s", ITERATIONS_NEW, salt_hex, key_hex);
    OPENSSL_cleanse(key, sizeof(key));
}
