/* Stage: exemptions. What must reach the host whatever the lists and limits say, so that no edit can lock
 * anybody out: neighbours, leases, SSH, and answers to the host's own connections. */
#pragma once
#include "packet.h"

#define SSH_PORT 22
#define ND_FIRST 133 /* router solicitation */
#define ND_LAST  137 /* redirect */

/* Returns PARSED where there is no exemption. */
static __always_inline enum reason exempt(const struct packet *packet) {
    if (packet->fragment)
        return PARSED;
    if (packet->protocol == IPPROTO_UDP) {
        if (packet->version == 4 && packet->source_port == bpf_htons(67) &&
            packet->destination_port == bpf_htons(68))
            return PASS_DHCP;
        if (packet->version == 6 && packet->source_port == bpf_htons(547) &&
            packet->destination_port == bpf_htons(546))
            return PASS_DHCP;
    } else if (packet->protocol == IPPROTO_TCP) {
        if (packet->destination_port == bpf_htons(SSH_PORT))
            return PASS_SSH;
    } else if (packet->protocol == IPPROTO_ICMPV6 && packet->version == 6) {
        /* Hop limit 255 proves that no router lies between. */
        if (packet->icmp_type >= ND_FIRST && packet->icmp_type <= ND_LAST && packet->hop_limit == 255)
            return PASS_NEIGHBOUR;
    }
    return PARSED;
}

/* Of the socket of this host that would get the packet; 0 where there is none. A function of its own, which
 * the verifier walks once and not for each reason to drop. */
__attribute__((noinline)) __u32 socket_state(struct xdp_md *ctx, const struct packet *packet) {
    if (!packet)
        return 0;
    struct bpf_sock_tuple tuple = {};
    __u32 size;
    if (packet->version == 4) {
        tuple.ipv4.saddr = packet->source.words[0];
        tuple.ipv4.daddr = packet->destination.words[0];
        tuple.ipv4.sport = packet->source_port;
        tuple.ipv4.dport = packet->destination_port;
        size = sizeof(tuple.ipv4);
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, &packet->source, 16);
        __builtin_memcpy(tuple.ipv6.daddr, &packet->destination, 16);
        tuple.ipv6.sport = packet->source_port;
        tuple.ipv6.dport = packet->destination_port;
        size = sizeof(tuple.ipv6);
    }
    __u32 state = 0;
    /* The verifier tells the two kinds of sockets apart, so what follows the reads differs: the compiler
     * would join them. */
    if (packet->protocol == IPPROTO_TCP) {
        struct bpf_sock *sock = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
        if (sock) {
            state = sock->state;
            asm volatile("%0 += 0" : "+r"(state));
            bpf_sk_release(sock);
        }
    } else {
        struct bpf_sock *sock = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
        if (sock) {
            state = sock->state;
            asm volatile("%0 |= 0" : "+r"(state));
            bpf_sk_release(sock);
        }
    }
    return state;
}

/* A socket of this host that is connected to the sender: its answers come in without a table of connections.
 * Listeners do not count, nor UDP sockets that take packets from anybody. A request for a connection answers
 * nothing, so that floods of them are not looked up. */
static __always_inline bool expected(struct xdp_md *ctx, const struct packet *packet) {
    if (packet->fragment || (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) ||
        opens_connection(packet))
        return false;
    __u32 state = socket_state(ctx, packet);
    if (packet->protocol == IPPROTO_TCP)
        return state && state != BPF_TCP_LISTEN;
    return state == BPF_TCP_ESTABLISHED; /* connect(2) was called on it */
}
