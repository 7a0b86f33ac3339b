/* For backends that edges reach by GUE: takes the outer header off, so that the kernel sees the client's own
 * packet to the service's address, which the backend has on its loopback. Only from edges it was told of. */
#include "include/types.h"
#include "include/packet.h"
#include "include/parse.h"
#include "include/forward.h"

struct tunnel {
    __be16 port;
};
/* Where the node agent sends to; another port is set at load. */
const volatile struct tunnel tunnel = {.port = bpf_htons(6080)};

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, 1024);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct prefix4);
    __type(value, __u32);
} edges4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, 1024);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct prefix6);
    __type(value, __u32);
} edges6 SEC(".maps");

/* Row: reason. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, REASONS);
    __type(key, __u32);
    __type(value, struct counter);
} counters SEC(".maps");

/* Enums that only exist in code would be missing from BTF. */
struct vocabulary {
    enum reason reason;
};
const volatile struct vocabulary vocabulary = {};

static __always_inline bool is_edge(const struct packet *packet) {
    if (packet->version == 4) {
        struct prefix4 key = {32, packet->source.words[0]};
        return bpf_map_lookup_elem(&edges4, &key);
    }
    struct prefix6 key = {.length = 128};
    __builtin_memcpy(key.address, &packet->source, sizeof(key.address));
    return bpf_map_lookup_elem(&edges6, &key);
}

/* A queue on the way marked the outer header "congested": the client's TCP must hear of it (RFC 6040). */
static __always_inline void keep_congestion(const struct packet *outer, struct iphdr *inner) {
    if ((outer->traffic_class & 3) != 3)
        return;
    __be16 *word = (void *)inner, before = *word;
    if (inner->version == 4 && inner->tos & 3) {
        inner->tos |= 3;
        inner->check = checksum_after(inner->check, difference16(before, *word));
    } else if (inner->version == 6 && before & bpf_htons(0x30)) {
        *word = before | bpf_htons(0x30);
    }
}

static __always_inline enum reason decapsulate(struct xdp_md *ctx, const struct packet *outer) {
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct udphdr *udp = AT(data, outer->l4_offset, L4_MASK);
    struct iphdr *inner = (void *)(udp + 1);
    if ((void *)(inner + 1) > end)
        return DROP_TRUNCATED;
    __u8 version = inner->version;
    if (version != 4 && version != 6)
        return DROP_BAD_HEADER;
    keep_congestion(outer, inner);
    __u32 size = outer->l4_offset + sizeof(*udp) - outer->l3_offset;
    __u8 link[LINK_ROOM] __attribute__((aligned(8)));
    if (data + LINK_ROOM > end)
        return DROP_TRUNCATED;
    move_link(link, data);
    if (bpf_xdp_adjust_head(ctx, size))
        return DROP_INTERNAL;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (data + LINK_ROOM > end)
        return DROP_TRUNCATED;
    /* As far as the link header goes: what follows it is the packet. */
    if (outer->l3_offset == ETH_HLEN) {
        __builtin_memcpy(data, link, ETH_HLEN);
    } else if (outer->l3_offset == ETH_HLEN + sizeof(struct vlan_tag)) {
        __builtin_memcpy(data, link, ETH_HLEN + sizeof(struct vlan_tag));
    } else {
        __builtin_memcpy(data, link, ETH_HLEN + 2 * sizeof(struct vlan_tag));
    }
    __be16 *protocol = AT(data, outer->l3_offset - sizeof(*protocol), L3_MASK);
    if ((void *)(protocol + 1) > end)
        return DROP_INTERNAL;
    *protocol = version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
    return PASS_DECAPSULATED;
}

static __always_inline enum reason decide(struct xdp_md *ctx, struct packet *packet) {
    enum reason reason = parse(ctx, packet);
    /* What the kernel would refuse it refuses itself; only the tunnel is our business. */
    if (reason != PARSED || packet->fragment || packet->protocol != IPPROTO_UDP ||
        packet->destination_port != tunnel.port)
        return PASS_KERNEL;
    return is_edge(packet) ? decapsulate(ctx, packet) : DROP_TUNNEL_PEER;
}

SEC("xdp")
int xdp_decap(struct xdp_md *ctx) {
    struct packet packet = {};
    __u32 row = decide(ctx, &packet);
    struct counter *counter = bpf_map_lookup_elem(&counters, &row);
    if (counter) {
        counter->packets++;
        counter->bytes += packet.frame_length;
    }
    return verdict_of(row);
}

/* What a peer of XDP_TX needs on its side of a veth pair: any program, and this one does nothing. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx) {
    return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
