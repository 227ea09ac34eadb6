/* The two ways of kt_crc32c, apart so that tests compare them. This folder and its tests only. */
#ifndef KT_BASE_HASH_INTERNAL_H
#define KT_BASE_HASH_INTERNAL_H

#include "base/types.h"

/* As kt_crc32c, with tables; any processor. */
uint32_t hash_crc32c_tables(uint32_t crc, const void *data, size_t len);
/* This processor has the instruction. */
bool hash_crc32c_instruction_usable(void);
/* As kt_crc32c, with the instruction, which must be usable. */
uint32_t hash_crc32c_instruction(uint32_t crc, const void *data, size_t len);

#endif
