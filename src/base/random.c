/* Randomness of the kernel, xoshiro256** (Blackman and Vigna) and what is made of them. */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"

void kt_random_bytes(void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            kt_fatal("random", "the kernel gives no random bytes: %d", errno);
        at += n;
        len -= (size_t)n;
    }
}

uint64_t kt_random_system(void)
{
    uint64_t value;
    kt_random_bytes(&value, sizeof(value));
    return value;
}

/* splitmix64 spreads a small seed over the whole state, which must not be all zeros. */
void kt_random_seed(struct kt_random *random, uint64_t seed)
{
    for (size_t i = 0; i < KT_COUNT(random->s); i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        random->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotate(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

uint64_t kt_random_next(struct kt_random *random)
{
    uint64_t *s = random->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t kt_random_below(struct kt_random *random, uint64_t bound)
{
    KT_CHECK(bound > 0);
    /* The lowest 2^64 mod bound values would make small results likelier; draw again. */
    uint64_t unfair = (0 - bound) % bound;
    uint64_t value;
    do {
        value = kt_random_next(random);
    } while (value < unfair);
    return value % bound;
}

void kt_uuid(char out[37])
{
    uint8_t bytes[16];
    char hex[33];
    kt_random_bytes(bytes, sizeof(bytes));
    bytes[6] = (uint8_t)(0x40 | (bytes[6] & 0x0f)); /* version 4, RFC 9562 section 5.4 */
    bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f)); /* variant 10 */
    kt_hex(bytes, sizeof(bytes), hex);
    static const int group_len[] = {8, 4, 4, 4, 12};
    const char *from = hex;
    for (size_t i = 0; i < KT_COUNT(group_len); i++) {
        memcpy(out, from, (size_t)group_len[i]);
        out += group_len[i];
        from += group_len[i];
        *out++ = i + 1 < KT_COUNT(group_len) ? '-' : '\0';
    }
}
