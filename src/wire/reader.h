/*
 * Reading integers and byte strings out of borrowed bytes. Reading past the end fails the reader: it yields zeros from
 * then on and kt_reader_ok is false, so a decoder reads everything and checks once. No allocation, any thread.
 * be: big-endian (client protocols), le: little-endian (our own records and peer frames).
 */
#ifndef KT_WIRE_READER_H
#define KT_WIRE_READER_H

#include "base/types.h"

struct kt_reader {
    const uint8_t *at, *end;
    bool failed;
};

void kt_reader_init(struct kt_reader *reader, struct kt_slice bytes);
/* Nothing was read past the end. */
bool kt_reader_ok(const struct kt_reader *reader);
/* The same, and nothing is left. */
bool kt_reader_done(const struct kt_reader *reader);
size_t kt_reader_left(const struct kt_reader *reader);

uint8_t kt_read_u8(struct kt_reader *reader);
uint16_t kt_read_be16(struct kt_reader *reader);
uint32_t kt_read_be32(struct kt_reader *reader);
uint64_t kt_read_be64(struct kt_reader *reader);
uint16_t kt_read_le16(struct kt_reader *reader);
uint32_t kt_read_le32(struct kt_reader *reader);
uint64_t kt_read_le64(struct kt_reader *reader);
/* Unsigned LEB128, at most 10 bytes; a longer one fails the reader. */
uint64_t kt_read_varint(struct kt_reader *reader);
/* len bytes, borrowed. */
struct kt_slice kt_read_bytes(struct kt_reader *reader, size_t len);
/* A varint length and that many bytes, borrowed. */
struct kt_slice kt_read_string(struct kt_reader *reader);

#endif
