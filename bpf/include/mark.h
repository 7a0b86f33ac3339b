/* Stage: mark. DSCP of what is forwarded; the two ECN bits stay as they are. */
#pragma once
#include "checksum.h"
#include "packet.h"

static __always_inline void mark(struct xdp_md *ctx, struct packet *packet, __u8 dscp) {
    void *end = (void *)(long)ctx->data_end;
    struct iphdr *ip = AT((long)ctx->data, packet->l3_offset, L3_MASK);
    __u8 marked = dscp << 2 | (packet->traffic_class & 3);
    if (packet->traffic_class == marked || (void *)(ip + 1) > end)
        return;
    packet->traffic_class = marked;
    __be16 *word = (void *)ip, before = *word;
    if (packet->version == 4) {
        ip->tos = marked;
        ip->check = checksum_after(ip->check, difference16(before, *word));
    } else {
        *word = bpf_htons(0x6000 | (__u16)marked << 4 | (bpf_ntohs(before) & 0xf));
    }
}
