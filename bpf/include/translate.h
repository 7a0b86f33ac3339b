/* Stage: translate. Addresses and ports of a packet, or of the packet an ICMP error quotes, with every
 * checksum over them changed by the difference. */
#pragma once
#include "checksum.h"
#include "forward.h"
#include "icmp.h"

struct tuple {
    union address source, destination;
    __be16 source_port, destination_port;
};

static __always_inline __u32 both_ports(__be16 source, __be16 destination) {
    return (__u32)source | (__u32)destination << 16;
}

/* A checksum of UDP: 0 stands for "none", so that a sum of 0 is written as its other form. */
static __always_inline __sum16 udp_checksum_after(__sum16 check, __u64 difference) {
    if (!check)
        return 0;
    check = checksum_after(check, difference);
    return check ? check : 0xffff;
}

static __always_inline bool translate_ipv4(struct iphdr *ip, void *end, __be32 source, __be32 destination) {
    if ((void *)(ip + 1) > end)
        return false;
    __be16 *lifetime = (void *)&ip->ttl, before = *lifetime;
    ip->ttl--;
    __u64 difference = difference16(before, *lifetime) + difference32(ip->saddr, source) +
                       difference32(ip->daddr, destination);
    ip->saddr = source;
    ip->daddr = destination;
    ip->check = checksum_after(ip->check, difference);
    return true;
}

static __always_inline bool translate_ipv6(struct ipv6hdr *ip, void *end, const union address *source,
                                           const union address *destination) {
    if ((void *)(ip + 1) > end)
        return false;
    ip->hop_limit--;
    __builtin_memcpy(&ip->saddr, source, 16);
    __builtin_memcpy(&ip->daddr, destination, 16);
    return true;
}

static __always_inline bool translate_network(struct xdp_md *ctx, const struct packet *packet,
                                              const union address *source, const union address *destination) {
    void *end = (void *)(long)ctx->data_end, *ip = AT((long)ctx->data, packet->l3_offset, L3_MASK);
    if (packet->version == 4)
        return translate_ipv4(ip, end, source->words[0], destination->words[0]);
    return translate_ipv6(ip, end, source, destination);
}

/* The packet, whose own tuple `packet` holds, becomes one of `to` and goes to `mac`. False: inconsistent. */
static __always_inline bool translate(struct xdp_md *ctx, const struct packet *packet, const struct tuple *to,
                                      const __u8 mac[6]) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + sizeof(struct ethhdr) > end)
        return false;
    address_link(data, mac);
    if (!translate_network(ctx, packet, &to->source, &to->destination))
        return false;
    __u32 ports = both_ports(to->source_port, to->destination_port);
    __u64 difference = difference_address(&packet->source, &to->source, packet->version) +
                       difference_address(&packet->destination, &to->destination, packet->version) +
                       difference32(both_ports(packet->source_port, packet->destination_port), ports);
    struct udphdr *udp = AT(data, packet->l4_offset, L4_MASK);
    if ((void *)(udp + 1) > end)
        return false;
    *(__u32 *)udp = ports;
    if (packet->protocol == IPPROTO_UDP) {
        udp->check = udp_checksum_after(udp->check, difference);
        return true;
    }
    struct tcphdr *tcp = (void *)udp;
    if ((void *)(tcp + 1) > end)
        return false;
    tcp->check = checksum_after(tcp->check, difference);
    return true;
}

/* What the inner header of an ICMP error says, changed; returns by how much the sums over it differ. */
static __always_inline __u64 translate_quoted_ipv4(struct iphdr *ip, const struct tuple *to,
                                                   __u64 *addresses) {
    __sum16 before = ip->check;
    *addresses =
        difference32(ip->saddr, to->source.words[0]) + difference32(ip->daddr, to->destination.words[0]);
    ip->saddr = to->source.words[0];
    ip->daddr = to->destination.words[0];
    ip->check = checksum_after(before, *addresses);
    return *addresses + difference16(before, ip->check);
}

static __always_inline __u64 translate_quoted_ipv6(struct ipv6hdr *ip, const struct tuple *to,
                                                   __u64 *addresses) {
    union address source, destination;
    __builtin_memcpy(&source, &ip->saddr, 16);
    __builtin_memcpy(&destination, &ip->daddr, 16);
    *addresses =
        difference_address(&source, &to->source, 6) + difference_address(&destination, &to->destination, 6);
    __builtin_memcpy(&ip->saddr, &to->source, 16);
    __builtin_memcpy(&ip->daddr, &to->destination, 16);
    return *addresses;
}

/* An ICMP error goes on as one from `source` to `destination`, the packet it quotes as one of `quoted`. A
 * checksum behind the quoted ports is changed where it is quoted too. */
static __always_inline bool translate_error(struct xdp_md *ctx, const struct packet *packet,
                                            const union address *source, const union address *destination,
                                            const struct tuple *quoted, const __u8 mac[6]) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + sizeof(struct ethhdr) > end)
        return false;
    address_link(data, mac);
    struct icmphdr *icmp = AT(data, packet->l4_offset, L4_MASK);
    __u64 outside = 0, addresses = 0, inside;
    __u32 header = sizeof(struct ipv6hdr);
    if (packet->version == 4) {
        struct iphdr *ip = (void *)(icmp + 1);
        if ((void *)(ip + 1) > end)
            return false;
        header = ip->ihl * 4;
        inside = translate_quoted_ipv4(ip, quoted, &addresses);
    } else {
        struct ipv6hdr *ip = (void *)(icmp + 1), *outer = AT(data, packet->l3_offset, L3_MASK);
        if ((void *)(ip + 1) > end || (void *)(outer + 1) > end)
            return false;
        union address before;
        __builtin_memcpy(&before, &outer->saddr, 16);
        outside = difference_address(&before, source, 6);
        __builtin_memcpy(&before, &outer->daddr, 16);
        outside += difference_address(&before, destination, 6);
        inside = translate_quoted_ipv6(ip, quoted, &addresses);
    }
    __u32 at = packet->l4_offset + sizeof(*icmp) + header;
    __u32 *ports = AT(data, at, L4_MASK);
    if ((void *)(ports + 1) > end)
        return false;
    __u64 moved = difference32(*ports, both_ports(quoted->source_port, quoted->destination_port));
    *ports = both_ports(quoted->source_port, quoted->destination_port);
    __u32 check_at = at + (packet->protocol == IPPROTO_UDP ? 6 : 16);
    __sum16 *check = AT(data, check_at, L4_MASK);
    if (check_at + sizeof(*check) <= (__u32)packet->l3_offset + packet->l3_length &&
        (void *)(check + 1) <= end) {
        __sum16 before = *check;
        *check = packet->protocol == IPPROTO_UDP ? udp_checksum_after(before, addresses + moved)
                                                 : checksum_after(before, addresses + moved);
        moved += difference16(before, *check);
    }
    icmp->checksum = checksum_after(icmp->checksum, outside + inside + moved);
    return translate_network(ctx, packet, source, destination);
}
