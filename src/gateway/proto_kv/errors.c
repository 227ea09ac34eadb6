/*
 * Result codes in the words of the key-value protocol, revision A. Clients look at the number alone, and payloads are
 * empty where the reference leaves them empty. What only a cluster can say is 2000 with a prefix that a program can
 * read.
 */
#include "gateway/proto_kv/kv_internal.h"

struct kv_error_row kv_error_row(enum kt_code code)
{
    switch (code) {
    case KT_BAD_FRAME:
    case KT_BAD_VERSION:
        return (struct kv_error_row){KV_STATUS_MALFORMED, NULL, true};
    case KT_UNKNOWN_COMMAND:
        return (struct kv_error_row){KV_STATUS_UNKNOWN_COMMAND, NULL, true};
    case KT_BAD_CREDENTIALS:
        return (struct kv_error_row){KV_STATUS_BAD_CREDENTIALS, NULL, false};
    case KT_BAD_REQUEST:
    case KT_NOT_AVAILABLE:
    case KT_TOO_LARGE:
        return (struct kv_error_row){KV_STATUS_BAD_REQUEST, NULL, true};
    case KT_UNAUTHENTICATED:
    case KT_FORBIDDEN: /* revision A has no status of its own for it */
        return (struct kv_error_row){KV_STATUS_UNAUTHORIZED, NULL, false};
    case KT_COLLECTION_NOT_FOUND:
        return (struct kv_error_row){KV_STATUS_NO_COLLECTION, NULL, false};
    case KT_WRONG_ENGINE:
        return (struct kv_error_row){KV_STATUS_WRONG_ENGINE, NULL, false};
    case KT_NOT_FOUND:
    case KT_MACHINE_NOT_FOUND:
    case KT_INSTANCE_NOT_FOUND:
        return (struct kv_error_row){KV_STATUS_NOT_FOUND, NULL, false};
    case KT_NOT_LEADER:
        return (struct kv_error_row){KV_STATUS_INTERNAL, "NOT_LEADER: ", true};
    case KT_UNAVAILABLE:
    case KT_BUSY:
    case KT_SHUTTING_DOWN:
    case KT_DISK_FULL:
    case KT_NO_MEMORY:
        return (struct kv_error_row){KV_STATUS_INTERNAL, "UNAVAILABLE: ", true};
    case KT_OUTCOME_UNKNOWN:
    case KT_STALE:
        return (struct kv_error_row){KV_STATUS_INTERNAL, "UNKNOWN: ", true};
    case KT_MACHINE_EXISTS:
    case KT_MACHINE_LIMIT:
    case KT_INSTANCE_EXISTS:
    case KT_INVALID_TRANSITION:
    case KT_GUARD_FAILED:
    case KT_CONFLICT:
        return (struct kv_error_row){KV_STATUS_BAD_REQUEST, NULL, true};
    case KT_OK:
    case KT_MORE:
    case KT_IO_FAILED:
    case KT_CORRUPT:
    case KT_INTERNAL:
        break;
    }
    return (struct kv_error_row){KV_STATUS_INTERNAL, NULL, false};
}
