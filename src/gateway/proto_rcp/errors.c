/* Failures as RCP tells them: the code, the words, and details that say more than the code does. */
#include "engines/rcp_error.h"
#include "gateway/proto_rcp/rcp_internal.h"

void rcp_failure_of(const struct kt_reply *reply, kt_node_id leader, struct kt_arena *arena,
                    struct rcp_failure *failure)
{
    struct kt_rcp_error row = kt_rcp_error(reply->code);

    *failure = (struct rcp_failure){
        .code = row.code,
        .message = reply->text[0] ? reply->text : kt_code_text(reply->code),
        .retryable = row.retryable,
        .details = kt_buf_slice(&reply->details),
    };
    if (failure->details.len == 0 && row.reason) {
        struct kt_buf text;
        struct kt_json_writer writer;

        kt_buf_init(&text, 128);
        kt_json_writer_init(&writer, &text);
        kt_json_begin_object(&writer);
        kt_json_put_text_member(&writer, "reason", row.reason);
        if (leader != 0)
            kt_json_put_u64_member(&writer, "leader", leader);
        kt_json_end_object(&writer);
        failure->details = kt_arena_dup(arena, kt_buf_slice(&text));
        kt_buf_release(&text);
    }
}
