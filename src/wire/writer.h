/* The counterpart of reader.h: integers and byte strings into a kt_buf, which remembers a failure. */
#ifndef KT_WIRE_WRITER_H
#define KT_WIRE_WRITER_H

#include "base/buf.h"

void kt_write_be16(struct kt_buf *out, uint16_t value);
void kt_write_be32(struct kt_buf *out, uint32_t value);
void kt_write_be64(struct kt_buf *out, uint64_t value);
void kt_write_le16(struct kt_buf *out, uint16_t value);
void kt_write_le32(struct kt_buf *out, uint32_t value);
void kt_write_le64(struct kt_buf *out, uint64_t value);
void kt_write_varint(struct kt_buf *out, uint64_t value);
void kt_write_string(struct kt_buf *out, struct kt_slice bytes);

/* The same into memory that the caller knows to be large enough. */
void kt_put_be16(void *to, uint16_t value);
void kt_put_be32(void *to, uint32_t value);
void kt_put_be64(void *to, uint64_t value);
void kt_put_le32(void *to, uint32_t value);
void kt_put_le64(void *to, uint64_t value);
uint16_t kt_get_be16(const void *from);
uint32_t kt_get_be32(const void *from);
uint64_t kt_get_be64(const void *from);
uint32_t kt_get_le32(const void *from);
uint64_t kt_get_le64(const void *from);

#endif
