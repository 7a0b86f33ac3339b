/* The benchmark's entry program: undoes what the program under test did to the frame, picks a source, and
 * goes on to it. Repeating a packet without this would measure the packet that came out of the round before.
 */
#include "include/types.h"

#define RESTORED 54 /* Ethernet, IPv4, ports and what follows them */

struct entry {
    __u32 flow_mask; /* sources 10.0.0.0 | a random number under this mask; all ones: any */
    __u32 length;
    __u8 head[RESTORED];
};
const volatile struct entry entry = {};

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} target SEC(".maps");

static __always_inline __be32 source_under(__u32 mask) {
    __u32 random = bpf_get_prandom_u32() & mask;
    return bpf_htonl(mask == 0xffffffff ? random : 0x0a000000 | random);
}

SEC("xdp")
int bench_entry(struct xdp_md *ctx) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    int surplus = end - data - entry.length;
    if (surplus) {
        if (bpf_xdp_adjust_head(ctx, surplus))
            return XDP_ABORTED;
        data = (void *)(long)ctx->data;
        end = (void *)(long)ctx->data_end;
    }
    if (data + RESTORED > end)
        return XDP_ABORTED;
    const volatile __u64 *words = (const volatile void *)entry.head;
#pragma unroll
    for (int i = 0; i < 6; i++)
        ((__u64 *)data)[i] = words[i];
    *(__u32 *)(data + 48) = *(const volatile __u32 *)(entry.head + 48);
    *(__u16 *)(data + 52) = *(const volatile __u16 *)(entry.head + 52);
    if (entry.flow_mask)
        ((struct iphdr *)(data + ETH_HLEN))->saddr = source_under(entry.flow_mask);
    bpf_tail_call(ctx, &target, 0);
    return XDP_ABORTED;
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx) {
    return XDP_PASS;
}

/* Sends live frames, for floods: out of this interface. */
const volatile __u32 leave_by = 0;

SEC("xdp")
int bench_send(struct xdp_md *ctx) {
    return bpf_redirect(leave_by, 0);
}

char _license[] SEC("license") = "GPL";
