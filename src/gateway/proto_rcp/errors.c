/* Result codes in the words of RCP: 16 codes and no more, since clients hold closed lists (rstmdb.md 2.4). */
#include "gateway/proto_rcp/rcp_internal.h"

struct rcp_error_row rcp_error_row(enum kt_code code)
{
    switch (code) {
    case KT_BAD_VERSION:
        return (struct rcp_error_row){"UNSUPPORTED_PROTOCOL", false, NULL};
    case KT_BAD_FRAME:
    case KT_BAD_REQUEST:
    case KT_UNKNOWN_COMMAND:
    case KT_NOT_AVAILABLE:
    case KT_TOO_LARGE:
    case KT_WRONG_ENGINE:
        return (struct rcp_error_row){"BAD_REQUEST", false, NULL};
    case KT_BAD_CREDENTIALS:
        return (struct rcp_error_row){"AUTH_FAILED", false, NULL};
    case KT_UNAUTHENTICATED:
    case KT_FORBIDDEN:
        return (struct rcp_error_row){"UNAUTHORIZED", false, NULL};
    case KT_NOT_FOUND:
    case KT_COLLECTION_NOT_FOUND:
        return (struct rcp_error_row){"NOT_FOUND", false, NULL};
    case KT_MACHINE_NOT_FOUND:
        return (struct rcp_error_row){"MACHINE_NOT_FOUND", false, NULL};
    case KT_MACHINE_EXISTS:
        return (struct rcp_error_row){"MACHINE_VERSION_EXISTS", false, NULL};
    case KT_MACHINE_LIMIT:
        return (struct rcp_error_row){"MACHINE_VERSION_LIMIT_EXCEEDED", false, NULL};
    case KT_INSTANCE_NOT_FOUND:
        return (struct rcp_error_row){"INSTANCE_NOT_FOUND", false, NULL};
    case KT_INSTANCE_EXISTS:
        return (struct rcp_error_row){"INSTANCE_EXISTS", false, NULL};
    case KT_INVALID_TRANSITION:
        return (struct rcp_error_row){"INVALID_TRANSITION", false, NULL};
    case KT_GUARD_FAILED:
        return (struct rcp_error_row){"GUARD_FAILED", false, NULL};
    case KT_CONFLICT:
        return (struct rcp_error_row){"CONFLICT", false, NULL};
    case KT_NOT_LEADER:
    case KT_UNAVAILABLE:
        return (struct rcp_error_row){"INTERNAL_ERROR", true, "no_leader"};
    case KT_OUTCOME_UNKNOWN:
    case KT_STALE:
        return (struct rcp_error_row){"INTERNAL_ERROR", true, "unknown_outcome"};
    case KT_BUSY:
        return (struct rcp_error_row){"INTERNAL_ERROR", true, "busy"};
    case KT_SHUTTING_DOWN:
        return (struct rcp_error_row){"INTERNAL_ERROR", true, "shutting_down"};
    case KT_NO_MEMORY:
        return (struct rcp_error_row){"INTERNAL_ERROR", true, "no_memory"};
    case KT_DISK_FULL:
        return (struct rcp_error_row){"WAL_IO_ERROR", true, "disk_full"};
    case KT_IO_FAILED:
        return (struct rcp_error_row){"WAL_IO_ERROR", true, NULL};
    case KT_OK:
    case KT_MORE:
    case KT_CORRUPT:
    case KT_INTERNAL:
        break;
    }
    return (struct rcp_error_row){"INTERNAL_ERROR", true, NULL};
}

void rcp_failure_of(const struct kt_reply *reply, kt_node_id leader, struct kt_arena *arena,
                    struct rcp_failure *failure)
{
    struct rcp_error_row row = rcp_error_row(reply->code);

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
