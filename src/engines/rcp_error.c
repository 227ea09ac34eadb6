#include "engines/rcp_error.h"

struct kt_rcp_error kt_rcp_error(enum kt_code code)
{
    switch (code) {
    case KT_BAD_VERSION:
        return (struct kt_rcp_error){"UNSUPPORTED_PROTOCOL", false, NULL};
    case KT_BAD_FRAME:
    case KT_BAD_REQUEST:
    case KT_UNKNOWN_COMMAND:
    case KT_NOT_AVAILABLE:
    case KT_TOO_LARGE:
    case KT_WRONG_ENGINE:
        return (struct kt_rcp_error){"BAD_REQUEST", false, NULL};
    case KT_BAD_CREDENTIALS:
        return (struct kt_rcp_error){"AUTH_FAILED", false, NULL};
    case KT_UNAUTHENTICATED:
    case KT_FORBIDDEN:
        return (struct kt_rcp_error){"UNAUTHORIZED", false, NULL};
    case KT_NOT_FOUND:
    case KT_COLLECTION_NOT_FOUND:
        return (struct kt_rcp_error){"NOT_FOUND", false, NULL};
    case KT_MACHINE_NOT_FOUND:
        return (struct kt_rcp_error){"MACHINE_NOT_FOUND", false, NULL};
    case KT_MACHINE_EXISTS:
        return (struct kt_rcp_error){"MACHINE_VERSION_EXISTS", false, NULL};
    case KT_MACHINE_LIMIT:
        return (struct kt_rcp_error){"MACHINE_VERSION_LIMIT_EXCEEDED", false, NULL};
    case KT_INSTANCE_NOT_FOUND:
        return (struct kt_rcp_error){"INSTANCE_NOT_FOUND", false, NULL};
    case KT_INSTANCE_EXISTS:
        return (struct kt_rcp_error){"INSTANCE_EXISTS", false, NULL};
    case KT_INVALID_TRANSITION:
        return (struct kt_rcp_error){"INVALID_TRANSITION", false, NULL};
    case KT_GUARD_FAILED:
        return (struct kt_rcp_error){"GUARD_FAILED", false, NULL};
    case KT_CONFLICT:
        return (struct kt_rcp_error){"CONFLICT", false, NULL};
    case KT_NOT_LEADER:
    case KT_UNAVAILABLE:
        return (struct kt_rcp_error){"INTERNAL_ERROR", true, "no_leader"};
    case KT_OUTCOME_UNKNOWN:
    case KT_STALE:
        return (struct kt_rcp_error){"INTERNAL_ERROR", true, "unknown_outcome"};
    case KT_BUSY:
        return (struct kt_rcp_error){"INTERNAL_ERROR", true, "busy"};
    case KT_SHUTTING_DOWN:
        return (struct kt_rcp_error){"INTERNAL_ERROR", true, "shutting_down"};
    case KT_NO_MEMORY:
        return (struct kt_rcp_error){"INTERNAL_ERROR", true, "no_memory"};
    case KT_DISK_FULL:
        return (struct kt_rcp_error){"WAL_IO_ERROR", true, "disk_full"};
    case KT_IO_FAILED:
        return (struct kt_rcp_error){"WAL_IO_ERROR", true, NULL};
    case KT_OK:
    case KT_MORE:
    case KT_CORRUPT:
    case KT_INTERNAL:
        break;
    }
    return (struct kt_rcp_error){"INTERNAL_ERROR", true, NULL};
}
