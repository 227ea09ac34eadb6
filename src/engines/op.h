/*
 * Operations: what the log carries. An entry's payload is a fixed header and the body of one operation.
 *
 *   0  u8   format, 1
 *   1  u8   reserved, 0
 *   2  le16 code        kind of operation: (engine id << 8) | number in the engine; appended, never reused
 *   4  le64 time_ms     wall time stamped by the proposing leader; never goes backwards in the log as applied
 *  12  le64 origin      the client session of a node that asked, random; 0: nobody will ask again
 *  20  le64 sequence    1, 2, ... within the origin
 *  28  le64 done_below  the origin has its answer for every sequence below this: their records may go
 *  36       body        the operation's struct (field.h)
 *
 * (origin, sequence) makes a second application of the same request return the first one's result.
 */
#ifndef KT_ENGINES_OP_H
#define KT_ENGINES_OP_H

#include "base/buf.h"

#define KT_OP_HEADER_BYTES         36
#define KT_OP_FORMAT               1
#define KT_OP_CODE(engine, number) ((uint16_t)(((engine) << 8) | (number)))

struct kt_op {
    uint16_t code;
    kt_time_ms time_ms;
    uint64_t origin;
    uint64_t sequence;
    uint64_t done_below;
    struct kt_slice body; /* borrowed */
};

/* Starts an encoded operation with zeros for what the cluster stamps; the caller appends the body. */
void kt_op_begin(struct kt_buf *out, uint16_t code);
/* Stamping, in place; bytes is a whole encoded operation. */
void kt_op_stamp_time(void *bytes, kt_time_ms time_ms);
void kt_op_stamp_origin(void *bytes, uint64_t origin, uint64_t sequence, uint64_t done_below);
/* Total. KT_CORRUPT if the bytes are no operation of a format this version knows. */
KT_MUST_USE enum kt_code kt_op_decode(struct kt_slice bytes, struct kt_op *op);

#endif
