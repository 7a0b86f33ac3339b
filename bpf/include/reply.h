/* Stage: replies that XDP gives itself, in the name of the service's address: echo, and the size that fits.
 */
#pragma once
#include "forward.h"

#define QUOTED 128 /* bytes of the packet that was too big; it is larger than that by far */

struct too_big4 {
    struct iphdr ip;
    struct icmphdr icmp;
};

struct too_big6 {
    struct ipv6hdr ip;
    struct icmp6hdr icmp;
};

struct pseudo6 {
    struct in6_addr source, destination;
    __be32 length;
    __be32 next;
};

static __always_inline void turn_link(struct ethhdr *ethernet) {
    __u8 mac[ETH_ALEN] __attribute__((aligned(4)));
    copy_mac(mac, ethernet->h_source);
    copy_mac(ethernet->h_source, ethernet->h_dest);
    copy_mac(ethernet->h_dest, mac);
}

static __always_inline enum reason reply_echo(struct xdp_md *ctx, const struct packet *packet) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + LINK_ROOM > end)
        return DROP_INTERNAL;
    struct icmphdr *icmp = AT(data, packet->l4_offset, L4_MASK);
    if ((void *)(icmp + 1) > end)
        return DROP_INTERNAL;
    /* Type and code are one word under the checksum. */
    __be16 *kind = (void *)icmp, before = *kind;
    *kind = bpf_htons(packet->version == 4 ? ICMP_ECHOREPLY << 8 : ICMPV6_ECHO_REPLY << 8);
    icmp->checksum = checksum_after(icmp->checksum, difference16(before, *kind));
    if (packet->version == 4) {
        struct iphdr *ip = AT(data, packet->l3_offset, L3_MASK);
        if ((void *)(ip + 1) > end)
            return DROP_INTERNAL;
        ip->saddr = packet->destination.words[0];
        ip->daddr = packet->source.words[0];
        __be16 *lifetime = (void *)&ip->ttl;
        before = *lifetime;
        ip->ttl = OUTER_TTL;
        ip->check = checksum_after(ip->check, difference16(before, *lifetime));
    } else {
        struct ipv6hdr *ip = AT(data, packet->l3_offset, L3_MASK);
        if ((void *)(ip + 1) > end)
            return DROP_INTERNAL;
        __builtin_memcpy(&ip->saddr, &packet->destination, 16);
        __builtin_memcpy(&ip->daddr, &packet->source, 16);
        ip->hop_limit = OUTER_TTL;
    }
    turn_link(data);
    return SEND_ECHO;
}

static __always_inline bool is_echo(const struct packet *packet) {
    return !packet->fragment && packet->icmp_type == (packet->version == 4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST);
}

static __always_inline enum reason too_big_ipv4(struct xdp_md *ctx, const struct packet *packet, __u32 mtu) {
    struct too_big4 *reply = open_gap(ctx, packet, sizeof(*reply), ETH_P_IP);
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    if (!reply || (void *)(reply + 1) + QUOTED > end || data + LINK_ROOM > end)
        return DROP_NO_ROOM;
    struct iphdr *ip = &reply->ip;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = 0;
    ip->tot_len = bpf_htons(sizeof(*reply) + QUOTED);
    ip->id = 0;
    ip->frag_off = bpf_htons(0x4000);
    ip->ttl = OUTER_TTL;
    ip->protocol = IPPROTO_ICMP;
    ip->check = 0;
    ip->saddr = packet->destination.words[0];
    ip->daddr = packet->source.words[0];
    ip->check = ipv4_checksum(ip);
    reply->icmp.type = ICMP_DEST_UNREACH;
    reply->icmp.code = ICMP_FRAG_NEEDED;
    reply->icmp.checksum = 0;
    reply->icmp.unused = 0;
    reply->icmp.mtu = bpf_htons(mtu);
    reply->icmp.checksum =
        fold_checksum(bpf_csum_diff(0, 0, (void *)&reply->icmp, sizeof(reply->icmp) + QUOTED, 0));
    turn_link(data);
    return SEND_TOO_BIG;
}

static __always_inline enum reason too_big_ipv6(struct xdp_md *ctx, const struct packet *packet, __u32 mtu) {
    struct too_big6 *reply = open_gap(ctx, packet, sizeof(*reply), ETH_P_IPV6);
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    if (!reply || (void *)(reply + 1) + QUOTED > end || data + LINK_ROOM > end)
        return DROP_NO_ROOM;
    struct pseudo6 pseudo = {.length = bpf_htonl(sizeof(reply->icmp) + QUOTED),
                             .next = bpf_htonl(IPPROTO_ICMPV6)};
    __builtin_memcpy(&pseudo.source, &packet->destination, 16);
    __builtin_memcpy(&pseudo.destination, &packet->source, 16);
    *(__be32 *)&reply->ip = bpf_htonl(0x60000000);
    reply->ip.payload_len = bpf_htons(sizeof(reply->icmp) + QUOTED);
    reply->ip.nexthdr = IPPROTO_ICMPV6;
    reply->ip.hop_limit = OUTER_TTL;
    reply->ip.saddr = pseudo.source;
    reply->ip.daddr = pseudo.destination;
    reply->icmp.icmp6_type = ICMPV6_PKT_TOOBIG;
    reply->icmp.icmp6_code = 0;
    reply->icmp.icmp6_cksum = 0;
    reply->icmp.icmp6_mtu = bpf_htonl(mtu);
    __s64 sum = bpf_csum_diff(0, 0, (void *)&pseudo, sizeof(pseudo), 0);
    sum = bpf_csum_diff(0, 0, (void *)&reply->icmp, sizeof(reply->icmp) + QUOTED, sum);
    reply->icmp.icmp6_cksum = fold_checksum(sum);
    turn_link(data);
    return SEND_TOO_BIG;
}

/* The sender learns the size that fits; silence would be a path MTU black hole. */
static __always_inline enum reason reply_too_big(struct xdp_md *ctx, const struct packet *packet, __u32 mtu) {
    int surplus = packet->frame_length - packet->l3_offset - QUOTED;
    /* Errors are never answered, nor packets that may be cut (only whoever made them can). */
    if (packet->related || !packet->keep_whole || packet->fragment || surplus < 0)
        return DROP_TOO_BIG;
    if (bpf_xdp_adjust_tail(ctx, -surplus))
        return DROP_NO_ROOM;
    return packet->version == 4 ? too_big_ipv4(ctx, packet, mtu) : too_big_ipv6(ctx, packet, mtu);
}
