/* Stage: ICMP errors. Their quoted packet is one that a real sent through us: the error belongs to its flow.
 * Eight quoted bytes behind the IP header suffice (RFC 792). */
#pragma once
#include "classify.h"
#include "parse.h"

struct ports {
    __be16 source;
    __be16 destination;
};

static __always_inline bool is_icmp_error(const struct packet *packet) {
    if (packet->fragment)
        return false;
    if (packet->version == 4 && packet->protocol == IPPROTO_ICMP)
        return packet->icmp_type == ICMP_DEST_UNREACH || packet->icmp_type == ICMP_TIME_EXCEEDED ||
               packet->icmp_type == ICMP_PARAMETERPROB;
    if (packet->version == 6 && packet->protocol == IPPROTO_ICMPV6)
        return packet->icmp_type >= ICMPV6_DEST_UNREACH && packet->icmp_type <= ICMPV6_PARAMPROB;
    return false;
}

/* The quoted packet read backwards, as its receiver would answer it. False if it is no use to us. */
static __always_inline bool quoted_flow(struct xdp_md *ctx, const struct packet *error, struct packet *flow) {
    struct cursor cursor = {AT((long)ctx->data, error->l4_offset, L4_MASK), (void *)(long)ctx->data_end};
    if (!TAKE(&cursor, struct icmphdr))
        return false;
    if (error->version == 4) {
        struct iphdr *ip = TAKE(&cursor, struct iphdr);
        if (!ip || ip->version != 4 || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
            return false;
        flow->source.words[0] = ip->daddr;
        flow->destination.words[0] = ip->saddr;
        flow->protocol = ip->protocol;
        cursor.position = (void *)ip + ip->ihl * 4;
    } else {
        struct ipv6hdr *ip = TAKE(&cursor, struct ipv6hdr);
        if (!ip || ip->version != 6)
            return false;
        __builtin_memcpy(&flow->source, &ip->daddr, sizeof(flow->source));
        __builtin_memcpy(&flow->destination, &ip->saddr, sizeof(flow->destination));
        flow->protocol = ip->nexthdr;
    }
    if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
        return false;
    struct ports *ports = TAKE(&cursor, struct ports);
    /* What Ethernet pads with is not quoted. */
    if (!ports || cursor.position - (void *)(long)ctx->data > (__u32)error->l3_offset + error->l3_length)
        return false;
    flow->version = error->version;
    flow->source_port = ports->destination;
    flow->destination_port = ports->source;
    return true;
}

/* Returns the balanced service the error is for; the packet then carries that flow's tuple. */
static __always_inline struct service *steer_icmp_error(struct xdp_md *ctx, struct packet *packet) {
    struct packet flow = {};
    if (!quoted_flow(ctx, packet, &flow))
        return 0;
    struct service *service = classify(&flow);
    if (!service || service->forward == FORWARD_KERNEL || service->forward == FORWARD_ECHO)
        return 0;
    packet->source = flow.source;
    packet->destination = flow.destination;
    packet->source_port = flow.source_port;
    packet->destination_port = flow.destination_port;
    packet->protocol = flow.protocol;
    packet->related = 1;
    return service;
}
