/* Internet checksums, whole (RFC 1071) and by what has changed (RFC 1624). */
#pragma once
#include "types.h"

static __always_inline __sum16 fold_checksum(__u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

/* Differences add up; words of 32 bits count like the two of 16 they are made of. */
static __always_inline __u64 difference16(__be16 before, __be16 after) {
    return (__u64)(__u16)~before + after;
}

static __always_inline __u64 difference32(__be32 before, __be32 after) {
    return (__u64)(__u32)~before + after;
}

static __always_inline __u64 difference_address(const union address *before, const union address *after,
                                                __u8 version) {
    __u64 sum = difference32(before->words[0], after->words[0]);
    if (version == 6) {
        sum += difference32(before->words[1], after->words[1]);
        sum += difference32(before->words[2], after->words[2]);
        sum += difference32(before->words[3], after->words[3]);
    }
    return sum;
}

static __always_inline __sum16 checksum_after(__sum16 check, __u64 difference) {
    return fold_checksum((__u16)~check + difference);
}

static __always_inline __sum16 ipv4_checksum(const struct iphdr *ip) {
    const __u16 *words = (const void *)ip;
    __u32 sum = 0;
#pragma unroll
    for (int i = 0; i < 10; i++)
        sum += words[i];
    return fold_checksum(sum);
}
