/* SipHash-2-4 (Aumasson, Bernstein 2012) over whole 64-bit words: a keyed hash that nobody without the key
 * can foresee. */
#pragma once
#include "types.h"

#define ROTATE(word, bits) ((word) << (bits) | (word) >> (64 - (bits)))
#define SIP_ROUND(v)                                                                                         \
    ({                                                                                                       \
        v[0] += v[1], v[1] = ROTATE(v[1], 13) ^ v[0], v[0] = ROTATE(v[0], 32);                               \
        v[2] += v[3], v[3] = ROTATE(v[3], 16) ^ v[2];                                                        \
        v[0] += v[3], v[3] = ROTATE(v[3], 21) ^ v[0];                                                        \
        v[2] += v[1], v[1] = ROTATE(v[1], 17) ^ v[2], v[2] = ROTATE(v[2], 32);                               \
    })

static __always_inline __u64 siphash(const __u64 *words, int count, const __u64 key[2]) {
    __u64 v[4] = {key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL,
                  key[0] ^ 0x6c7967656e657261ULL, key[1] ^ 0x7465646279746573ULL};
#pragma unroll
    for (int i = 0; i < count; i++) {
        v[3] ^= words[i];
        SIP_ROUND(v);
        SIP_ROUND(v);
        v[0] ^= words[i];
    }
    __u64 last = (__u64)count * 8 << 56;
    v[3] ^= last;
    SIP_ROUND(v);
    SIP_ROUND(v);
    v[0] ^= last;
    v[2] ^= 0xff;
#pragma unroll
    for (int i = 0; i < 4; i++)
        SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
