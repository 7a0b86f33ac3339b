/* Stage by tail call: a connection request is answered by XDP with a cookie; the kernel hears of the
 * connection only when its client comes back. */
#pragma once
#include "cookie.h"
#include "reply.h"

/* MSS, window scale with a filler, SACK permitted with two, time stamps with two: whole words. */
#define SYN_ACK_OPTIONS 24

struct syn_ack {
    struct tcphdr tcp;
    __u8 options[SYN_ACK_OPTIONS];
};

static __always_inline void put_four(__u8 *at, __u32 value) {
    at[0] = value >> 24;
    at[1] = value >> 16;
    at[2] = value >> 8;
    at[3] = value;
}

/* Always the same room; what the client did not ask for is filled with nothing. */
static __always_inline void write_options(__u8 *to, const struct tcp_options *asked, __u8 version) {
    __builtin_memset(to, OPTION_NOTHING, SYN_ACK_OPTIONS);
    put_four(to, OPTION_MSS << 24 | 4 << 16 | (version == 4 ? 1460 : 1440));
    if (asked->scale != COOKIE_NO_SCALE)
        put_four(to + 4, OPTION_NOTHING << 24 | OPTION_SCALE << 16 | 3 << 8 | COOKIE_OUR_SCALE);
    if (asked->sack)
        put_four(to + 8, OPTION_NOTHING << 24 | OPTION_NOTHING << 16 | OPTION_SACK << 8 | 2);
    if (asked->has_time) {
        put_four(to + 12, OPTION_NOTHING << 24 | OPTION_NOTHING << 16 | OPTION_TIME << 8 | 10);
        put_four(to + 16, bpf_ktime_get_ns() / 1000000); /* the kernel's clock for TCP */
        put_four(to + 20, asked->time);
    }
}

/* Sum of the addresses, the length and the protocol: what stands before a TCP header in its checksum. */
static __always_inline __u64 pseudo_sum(const struct packet *packet, __u32 length) {
    __u64 sum = bpf_htonl(length + IPPROTO_TCP);
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum += (__u64)packet->source.words[i] + packet->destination.words[i];
    return sum;
}

static __always_inline void turn_ipv4(struct iphdr *ip, const struct packet *packet, __u32 length) {
    ip->ihl = 5;
    ip->tos = 0;
    ip->tot_len = bpf_htons(sizeof(*ip) + length);
    ip->id = 0;
    ip->frag_off = bpf_htons(0x4000);
    ip->ttl = OUTER_TTL;
    ip->saddr = packet->destination.words[0];
    ip->daddr = packet->source.words[0];
    ip->check = 0;
    ip->check = ipv4_checksum(ip);
}

static __always_inline void turn_ipv6(struct ipv6hdr *ip, const struct packet *packet, __u32 length) {
    *(__be32 *)ip = bpf_htonl(0x60000000);
    ip->payload_len = bpf_htons(length);
    ip->nexthdr = IPPROTO_TCP;
    ip->hop_limit = OUTER_TTL;
    __builtin_memcpy(&ip->saddr, &packet->destination, 16);
    __builtin_memcpy(&ip->daddr, &packet->source, 16);
}

/* A request with IP options or extension headers is the kernel's: nobody sends them for good. */
static __always_inline enum reason answer_syn(struct xdp_md *ctx, const struct packet *packet,
                                              const struct settings *settings) {
    __u32 network = packet->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
    struct tcphdr *tcp = AT((long)ctx->data, packet->l4_offset, L4_MASK);
    if ((void *)(tcp + 1) > (void *)(long)ctx->data_end || packet->l4_offset != packet->l3_offset + network)
        return PASS_KERNEL;
    struct tcp_options options = {.length = tcp->doff * 4 - sizeof(*tcp)};
    __u32 number = bpf_ntohl(tcp->seq), length = options.length;
    if (tcp->doff < 5 || packet->l3_length < network + tcp->doff * 4)
        return DROP_BAD_HEADER;
    if (length && length <= OPTIONS_LONGEST &&
        bpf_xdp_load_bytes(ctx, packet->l4_offset + sizeof(*tcp), options.bytes, length))
        return DROP_BAD_HEADER;
    read_options(&options);
    int missing = packet->l4_offset + (int)sizeof(struct syn_ack) - packet->frame_length;
    if (bpf_xdp_adjust_tail(ctx, missing))
        return DROP_NO_ROOM;
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct syn_ack *answer = AT(data, packet->l4_offset, L4_MASK);
    void *ip = AT(data, packet->l3_offset, L3_MASK);
    if ((void *)(answer + 1) > end || ip + sizeof(struct ipv6hdr) > end || data + LINK_ROOM > end)
        return DROP_INTERNAL;
    __u32 cookie = cookie_of(packet, settings, number, cookie_said(&options), minute_now());
    __builtin_memset(&answer->tcp, 0, sizeof(answer->tcp));
    answer->tcp.source = packet->destination_port;
    answer->tcp.dest = packet->source_port;
    answer->tcp.seq = bpf_htonl(cookie);
    answer->tcp.ack_seq = bpf_htonl(number + 1);
    answer->tcp.doff = sizeof(*answer) / 4;
    answer->tcp.syn = answer->tcp.ack = 1;
    answer->tcp.window = bpf_htons(0xffff);
    write_options(answer->options, &options, packet->version);
    answer->tcp.check = fold_checksum(bpf_csum_diff(0, 0, (void *)answer, sizeof(*answer), 0) +
                                      pseudo_sum(packet, sizeof(*answer)));
    if (packet->version == 4)
        turn_ipv4(ip, packet, sizeof(*answer));
    else
        turn_ipv6(ip, packet, sizeof(*answer));
    turn_link(data);
    return SEND_COOKIE;
}
