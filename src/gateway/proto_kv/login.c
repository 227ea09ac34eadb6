/*
 * Login (kv.md 3.4). Verifying a password is slow on purpose, so it runs on the pool; the connection takes no further
 * message meanwhile, because what a client sends behind its login is meant to be done as the user it names.
 */
#include "gateway/proto_kv/kv_internal.h"

#include "base/alloc.h"
#include "wire/reader.h"

enum { LOGIN_PASSWORD = 1, LOGIN_API_KEY = 2 };

/* One verification on the pool: copies, since what arrived is gone when it runs. At most one per connection. */
struct verification {
    struct kt_pool_work work;
    struct kt_answer *answer;
    const struct kt_auth *auth;
    const struct kt_principal *principal;
    size_t name_len, password_len;
    uint8_t bytes[]; /* name, password */
};

static void logged_in(struct kt_conn *conn, const struct kt_principal *principal)
{
    struct kv_session *session = kt_conn_state(conn);

    session->login = principal;
    session->principal = principal;
}

/* Pool. */
static void verify(struct kt_pool_work *work)
{
    struct verification *verification = KT_CONTAINER(work, struct verification, work);
    const uint8_t *bytes = verification->bytes;

    verification->principal = kt_auth_password(verification->auth, kt_slice(bytes, verification->name_len),
                                               kt_slice(bytes + verification->name_len, verification->password_len));
}

static void verified(struct kt_pool_work *work)
{
    struct verification *verification = KT_CONTAINER(work, struct verification, work);
    struct kt_conn *conn = kt_answer_conn(verification->answer);

    if (conn) {
        struct kv_session *session = kt_conn_state(conn);

        if (verification->principal)
            logged_in(conn, verification->principal);
        kv_write_response(kt_answer_buf(verification->answer),
                          verification->principal ? session->success_code : (uint16_t)KV_STATUS_BAD_CREDENTIALS,
                          kt_slice(NULL, 0));
        kt_conn_resume(conn);
    }
    kt_answer_ready(verification->answer);
    explicit_bzero(verification->bytes, verification->name_len + verification->password_len);
    kt_free(verification);
}

static void login_password(struct kt_conn *conn, struct kt_reader *reader)
{
    struct kt_dispatch *dispatch = kt_conn_dispatch(conn);
    struct kt_slice name = kt_read_bytes(reader, kt_read_be16(reader));
    struct kt_slice password = kt_read_bytes(reader, kt_read_be16(reader));
    struct verification *verification;

    if (!kt_reader_ok(reader)) {
        kv_answer_text(conn, KV_STATUS_BAD_REQUEST, "invalid payload for basic authentication");
        return;
    }
    verification = kt_zalloc(sizeof(*verification) + name.len + password.len);
    verification->auth = kt_dispatch_auth(dispatch);
    verification->name_len = name.len;
    verification->password_len = password.len;
    if (name.len > 0)
        memcpy(verification->bytes, name.data, name.len);
    if (password.len > 0)
        memcpy(verification->bytes + name.len, password.data, password.len);
    verification->answer = kt_answer_begin(conn);
    kt_conn_pause(conn);
    verification->work.run = verify;
    verification->work.done = verified;
    kt_dispatch_work(dispatch, KT_POOL_LOGIN, &verification->work);
}

static void login_api_key(struct kt_conn *conn, struct kt_reader *reader)
{
    struct kv_session *session = kt_conn_state(conn);
    struct kt_slice key = kt_read_bytes(reader, kt_read_be16(reader));
    const struct kt_principal *principal;

    if (!kt_reader_ok(reader)) {
        kv_answer_text(conn, KV_STATUS_BAD_REQUEST, "invalid payload for API key authentication");
        return;
    }
    principal = kt_auth_api_key(kt_dispatch_auth(kt_conn_dispatch(conn)), key);
    if (principal)
        logged_in(conn, principal);
    kv_answer(conn, principal ? session->success_code : (uint16_t)KV_STATUS_BAD_CREDENTIALS, kt_slice(NULL, 0));
}

void kv_login(struct kt_conn *conn, struct kt_slice payload)
{
    struct kt_reader reader;
    uint8_t type;

    kt_reader_init(&reader, payload);
    type = kt_read_u8(&reader);
    if (payload.len == 0)
        kv_answer_text(conn, KV_STATUS_BAD_REQUEST, "authentication type is required");
    else if (type == LOGIN_PASSWORD)
        login_password(conn, &reader);
    else if (type == LOGIN_API_KEY)
        login_api_key(conn, &reader);
    else
        kv_answer_text(conn, KV_STATUS_BAD_REQUEST, "unsupported authentication type");
}
