/* Stage: parse. A cursor walks the headers; each step checks its own bounds. */
#pragma once
#include "packet.h"

#define MAX_VLAN_TAGS  2
#define MAX_EXTENSIONS 6
#define PARSED         REASONS /* no reason to stop */

struct cursor {
    void *position;
    void *end;
};

struct vlan_tag {
    __be16 tci;
    __be16 protocol;
};

struct extension {
    __u8 next;
    __u8 length;
    __be16 offset; /* of a fragment header */
    __be32 identification;
};

/* The header at the cursor, or 0 where the packet ends before it does; the cursor then stands behind it. */
#define TAKE(cursor, type)                                                                                   \
    ({                                                                                                       \
        type *taken_ = (cursor)->position;                                                                   \
        if ((void *)(taken_ + 1) > (cursor)->end)                                                            \
            taken_ = 0;                                                                                      \
        else                                                                                                 \
            (cursor)->position = taken_ + 1;                                                                 \
        taken_;                                                                                              \
    })

/* Returns the ethertype behind the tags in network order, 0 if truncated. */
static __always_inline __be16 parse_link(struct cursor *cursor) {
    struct ethhdr *ethernet = TAKE(cursor, struct ethhdr);
    if (!ethernet)
        return 0;
    __be16 protocol = ethernet->h_proto;
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
            break;
        struct vlan_tag *tag = TAKE(cursor, struct vlan_tag);
        if (!tag)
            return 0;
        protocol = tag->protocol;
    }
    return protocol;
}

static __always_inline enum reason parse_ipv4(struct cursor *cursor, struct packet *packet) {
    struct iphdr *ip = TAKE(cursor, struct iphdr);
    if (!ip)
        return DROP_TRUNCATED;
    __u32 header = ip->ihl * 4;
    __u32 length = bpf_ntohs(ip->tot_len);
    if (ip->version != 4 || header < sizeof(*ip) || length < header)
        return DROP_BAD_HEADER;
    if (length > (__u32)packet->frame_length - packet->l3_offset)
        return DROP_TRUNCATED;
    packet->version = 4;
    packet->source.words[0] = ip->saddr;
    packet->destination.words[0] = ip->daddr;
    packet->protocol = ip->protocol;
    packet->traffic_class = ip->tos;
    packet->hop_limit = ip->ttl;
    packet->l3_length = length;
    packet->l4_offset = packet->l3_offset + header;
    __u16 fragment = bpf_ntohs(ip->frag_off);
    packet->keep_whole = !!(fragment & 0x4000);
    if (fragment & 0x3fff) {
        packet->fragment = fragment & 0x1fff ? FRAGMENT_LATER : FRAGMENT_FIRST;
        packet->fragment_id = ip->id;
        packet->fragment_offset = fragment << 3;
    }
    cursor->position = (void *)ip + header;
    return PARSED;
}

static __always_inline bool is_extension(__u8 protocol) {
    return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
           protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH;
}

static __always_inline enum reason parse_ipv6(struct cursor *cursor, struct packet *packet) {
    struct ipv6hdr *ip = TAKE(cursor, struct ipv6hdr);
    if (!ip)
        return DROP_TRUNCATED;
    if (ip->version != 6)
        return DROP_BAD_HEADER;
    __u32 length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
    if (length > (__u32)packet->frame_length - packet->l3_offset)
        return DROP_TRUNCATED;
    packet->version = 6;
    __builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
    __builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
    packet->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
    packet->hop_limit = ip->hop_limit;
    packet->l3_length = length;
    packet->keep_whole = 1;
    __u8 protocol = ip->nexthdr;
    __u32 offset = packet->l3_offset + sizeof(*ip);
    /* Most packets have none: the loop costs them one comparison. */
    for (int i = 0; is_extension(protocol); i++) {
        if (i == MAX_EXTENSIONS)
            return DROP_EXTENSIONS;
        struct extension *extension = TAKE(cursor, struct extension);
        if (!extension)
            return DROP_TRUNCATED;
        __u32 size = (extension->length + 1) * 8;
        if (protocol == IPPROTO_AH)
            size = (extension->length + 2) * 4;
        if (protocol == IPPROTO_FRAGMENT) {
            size = 8;
            __u16 fragment = bpf_ntohs(extension->offset);
            if (fragment & 0xfff9) { /* offset or more to come; else an atomic fragment: whole */
                packet->fragment = fragment & 0xfff8 ? FRAGMENT_LATER : FRAGMENT_FIRST;
                packet->fragment_id = extension->identification;
                packet->fragment_offset = fragment & 0xfff8;
            }
        }
        protocol = extension->next;
        offset += size;
        cursor->position = (void *)extension + size;
        if (packet->fragment == FRAGMENT_LATER)
            break; /* what follows is payload, whatever it looks like */
    }
    packet->protocol = protocol;
    packet->l4_offset = offset;
    return PARSED;
}

static __always_inline __u32 transport_header(__u8 protocol) {
    if (protocol == IPPROTO_TCP)
        return sizeof(struct tcphdr);
    return protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? 8 : 0;
}

/* A first fragment that ends within the transport header, or a later one that would write over it: ports and
 * flags would be others once it is put together (RFC 1858, RFC 3128). What Ethernet pads with is no header.
 */
static __always_inline bool splits_header(const struct packet *packet) {
    __u32 header = transport_header(packet->protocol);
    if (packet->fragment == FRAGMENT_LATER)
        return packet->fragment_offset < header;
    return packet->l4_offset + header > (__u32)packet->l3_offset + packet->l3_length;
}

/* Ports, TCP flags, ICMP type. Later fragments have none. */
static __always_inline enum reason parse_transport(struct cursor *cursor, struct packet *packet) {
    if (packet->fragment && splits_header(packet))
        return DROP_TINY_FRAGMENT;
    if (packet->fragment == FRAGMENT_LATER)
        return PARSED;
    if (packet->protocol == IPPROTO_TCP) {
        struct tcphdr *tcp = TAKE(cursor, struct tcphdr);
        if (!tcp)
            return DROP_TRUNCATED;
        packet->source_port = tcp->source;
        packet->destination_port = tcp->dest;
        packet->tcp_flags = ((__u8 *)tcp)[13];
    } else if (packet->protocol == IPPROTO_UDP) {
        struct udphdr *udp = TAKE(cursor, struct udphdr);
        if (!udp)
            return DROP_TRUNCATED;
        packet->source_port = udp->source;
        packet->destination_port = udp->dest;
        packet->no_checksum = !udp->check;
    } else if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6) {
        struct icmphdr *icmp = TAKE(cursor, struct icmphdr);
        if (!icmp)
            return DROP_TRUNCATED;
        packet->icmp_type = icmp->type;
    }
    return PARSED;
}

/* A global function: the kernel verifies it once, and its caller without the ways through it (one third of
 * the load time). */
__attribute__((noinline)) enum reason parse(struct xdp_md *ctx, struct packet *packet) {
    if (!packet)
        return DROP_INTERNAL;
    struct cursor cursor = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
    packet->frame_length = cursor.end - cursor.position;
    __be16 protocol = parse_link(&cursor);
    if (!protocol)
        return DROP_TRUNCATED;
    packet->l3_offset = cursor.position - (void *)(long)ctx->data;
    enum reason reason;
    if (protocol == bpf_htons(ETH_P_IP))
        reason = parse_ipv4(&cursor, packet);
    else if (protocol == bpf_htons(ETH_P_IPV6))
        reason = parse_ipv6(&cursor, packet);
    else
        return protocol == bpf_htons(ETH_P_ARP) ? PASS_NEIGHBOUR : PASS_NOT_IP;
    return reason == PARSED ? parse_transport(&cursor, packet) : reason;
}
