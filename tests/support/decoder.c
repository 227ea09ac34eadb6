#include "support/decoder.h"

#include "base/check.h"
#include "gateway/conn_memory.h"

#define OUT_BYTES_MAX (64u << 20)

/* One for the whole process: what is under test keeps nothing in it. */
static struct kt_dispatch *shared_dispatch(void)
{
    static struct kt_dispatch *dispatch;

    if (!dispatch) {
        struct kt_auth_options auth = {.required = false};
        struct kt_dispatch_options options = {.loop = uv_default_loop()};
        static struct kt_auth *open;

        KT_CHECK(kt_auth_create(&auth, &open, NULL) == KT_OK);
        options.auth = open;
        KT_CHECK(kt_dispatch_open(&options, &dispatch, NULL) == KT_OK);
    }
    return dispatch;
}

void decoder_feed(const struct kt_protocol *protocol, struct kt_slice bytes, struct kt_buf *out)
{
    struct kt_dispatch *dispatch = shared_dispatch();
    struct kt_conn *conn;
    const uint8_t *at = bytes.data;
    size_t left = bytes.len, turn = 0;

    kt_buf_init(out, OUT_BYTES_MAX);
    conn = kt_conn_memory_open(dispatch, protocol, NULL, out);
    while (left > 0) {
        /* Small pieces first, so that messages are cut everywhere; then what is left. */
        size_t piece = turn < 16 ? KT_MIN(left, (size_t)(at[0] % 7 + 1)) : left;

        kt_conn_memory_feed(conn, kt_slice(at, piece));
        at += piece;
        left -= piece;
        turn++;
    }
    /* A login is verified on the pool. */
    while (kt_conn_memory_pending(conn) > 0)
        uv_run(kt_dispatch_loop(dispatch), UV_RUN_ONCE);
    kt_conn_memory_close(conn);
}
