/* Checksums and hashes. No state, any thread. */
#ifndef KT_BASE_HASH_H
#define KT_BASE_HASH_H

#include "base/types.h"

/* CRC-32C (Castagnoli) as in iSCSI; crc is the result so far, 0 to begin. Uses the processor's instruction, if any. */
uint32_t kt_crc32c(uint32_t crc, const void *data, size_t len);
/* A 64-bit hash for tables and state comparison; fixed for ever, the same on every machine. seed chains calls. */
uint64_t kt_hash64(uint64_t seed, const void *data, size_t len);
/* Lower-case hexadecimal of the bytes; out holds 2 * len + 1. */
void kt_hex(const void *data, size_t len, char *out);
/* Reads 2 * len digits of either case; false if the text is anything else. */
bool kt_unhex(struct kt_slice text, void *out, size_t len);

#endif
