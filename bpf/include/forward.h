/* Stage: forward. GUE (IP in UDP, variant 1 of draft-ietf-intarea-gue: no header of its own) over any network
 * that lets UDP through; DSR by MAC rewrite for reals on the same link. */
#pragma once
#include "checksum.h"
#include "packet.h"

#define LINK_ROOM 22 /* Ethernet and two tags: always moved whole, what is too much is overwritten */
#define OUTER_TTL 64

struct outer4 {
    struct iphdr ip;
    struct udphdr udp;
};

struct outer6 {
    struct ipv6hdr ip;
    struct udphdr udp;
};

/* In words: the compiler, knowing of no alignment, would go byte by byte. */
static __always_inline void copy_mac(void *to, const void *from) {
    *(__u32 *)to = *(const __u32 *)from;
    *(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline void move_link(void *to, const void *from) {
    *(__u64 *)to = *(const __u64 *)from;
    *(__u64 *)(to + 8) = *(const __u64 *)(from + 8);
    *(__u32 *)(to + 16) = *(const __u32 *)(from + 16);
    *(__u16 *)(to + 20) = *(const __u16 *)(from + 20);
}

/* Makes room between link header and IP header, which then announces `ethertype`; returns the place of the
 * new header. */
static __always_inline void *open_gap(struct xdp_md *ctx, const struct packet *packet, int size,
                                      __u16 ethertype) {
    if (bpf_xdp_adjust_head(ctx, -size))
        return 0;
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + size + LINK_ROOM > end)
        return 0;
    move_link(data, data + size);
    __be16 *protocol = AT(data, packet->l3_offset - sizeof(*protocol), L3_MASK);
    if ((void *)(protocol + 1) > end)
        return 0;
    *protocol = bpf_htons(ethertype);
    return AT(data, packet->l3_offset, L3_MASK);
}

/* From us to the next hop; the frame was addressed to us. */
static __always_inline void address_link(struct ethhdr *ethernet, const __u8 mac[6]) {
    copy_mac(ethernet->h_source, ethernet->h_dest);
    copy_mac(ethernet->h_dest, mac);
}

static __always_inline void fill_udp(struct udphdr *udp, const struct packet *packet, __be16 port,
                                     __u32 hash) {
    /* Differs between flows, so that networks and NICs spread them. */
    udp->source = bpf_htons(0xc000 | (hash & 0x3fff));
    udp->dest = port;
    udp->len = bpf_htons(packet->l3_length + sizeof(*udp));
    udp->check = 0; /* RFC 6935: the inner packet has its own */
}

static __always_inline enum reason gue_over_ipv4(struct xdp_md *ctx, const struct packet *packet,
                                                 const struct real *real, const struct settings *settings,
                                                 __u32 hash) {
    struct outer4 *outer = open_gap(ctx, packet, sizeof(*outer), ETH_P_IP);
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    if (!outer || (void *)(outer + 1) > end || data + LINK_ROOM > end)
        return DROP_NO_ROOM;
    outer->ip.version = 4;
    outer->ip.ihl = 5;
    outer->ip.tos = packet->traffic_class; /* DSCP and ECN (RFC 6040) */
    outer->ip.tot_len = bpf_htons(packet->l3_length + sizeof(*outer));
    outer->ip.id = 0;
    outer->ip.frag_off = bpf_htons(0x4000);
    outer->ip.ttl = OUTER_TTL;
    outer->ip.protocol = IPPROTO_UDP;
    outer->ip.check = 0;
    outer->ip.saddr = settings->tunnel_source4;
    outer->ip.daddr = real->address.words[0];
    outer->ip.check = ipv4_checksum(&outer->ip);
    fill_udp(&outer->udp, packet, settings->gue_port, hash);
    address_link(data, real->mac);
    return SEND_GUE;
}

static __always_inline enum reason gue_over_ipv6(struct xdp_md *ctx, const struct packet *packet,
                                                 const struct real *real, const struct settings *settings,
                                                 __u32 hash) {
    struct outer6 *outer = open_gap(ctx, packet, sizeof(*outer), ETH_P_IPV6);
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    if (!outer || (void *)(outer + 1) > end || data + LINK_ROOM > end)
        return DROP_NO_ROOM;
    *(__be32 *)&outer->ip = bpf_htonl(0x60000000 | (__u32)packet->traffic_class << 20 | (hash & 0xfffff));
    outer->ip.payload_len = bpf_htons(packet->l3_length + sizeof(outer->udp));
    outer->ip.nexthdr = IPPROTO_UDP;
    outer->ip.hop_limit = OUTER_TTL;
    __builtin_memcpy(&outer->ip.saddr, &settings->tunnel_source6, 16);
    __builtin_memcpy(&outer->ip.daddr, &real->address, 16);
    fill_udp(&outer->udp, packet, settings->gue_port, hash);
    address_link(data, real->mac);
    return SEND_GUE;
}

static __always_inline enum reason forward_gue(struct xdp_md *ctx, const struct packet *packet,
                                               const struct real *real, const struct settings *settings,
                                               __u32 hash) {
    if (real->version == 4)
        return gue_over_ipv4(ctx, packet, real, settings, hash);
    return gue_over_ipv6(ctx, packet, real, settings, hash);
}

static __always_inline enum reason forward_dsr(struct xdp_md *ctx, const struct real *real) {
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
        return DROP_INTERNAL;
    address_link(ethernet, real->mac);
    return SEND_DSR;
}
