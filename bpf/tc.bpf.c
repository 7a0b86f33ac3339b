/* For traffic that the kernel sends and receives: tc_egress marks DSCP and chooses the HTB class of what
 * leaves in a service's name; tc_ingress accepts connections that XDP answered with cookies. Shares maps with
 * xdp_main. */
#include "include/types.h"
#include "include/maps_shared.h"
#include "include/packet.h"
#include "include/cookie.h"
#include "include/checksum.h"
#include <linux/pkt_cls.h>

/* Enums that only exist in code would be missing from BTF. */
struct vocabulary {
    enum reason reason;
};
const volatile struct vocabulary vocabulary = {};

/* By service id: what leaves in its name. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, __u32);
    __type(value, struct egress);
} service_egress SEC(".maps");

/* By DSCP: the class of what no service marks. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u32);
} dscp_classes SEC(".maps");

static __always_inline void count(__u32 service, enum reason reason, __u32 bytes) {
    __u32 row = service * REASONS + reason;
    struct counter *counter = bpf_map_lookup_elem(&counters, &row);
    if (!counter)
        return;
    counter->packets++;
    counter->bytes += bytes;
}

/* Where the network header lies: tags may be in the frame or beside it. False: not IP, or cut off. */
static __always_inline bool read_network(struct __sk_buff *skb, struct packet *packet) {
    __be16 protocol = 0;
    __u32 at = ETH_HLEN - sizeof(protocol);
#pragma unroll
    for (int i = 0; i < 3; i++) {
        if (bpf_skb_load_bytes(skb, at, &protocol, sizeof(protocol)))
            return false;
        at += sizeof(protocol);
        if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
            break;
        at += sizeof(protocol); /* the tag's number; then the next protocol */
    }
    packet->l3_offset = at;
    if (protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr ip;
        if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
            return false;
        packet->version = 4;
        packet->source.words[0] = ip.saddr;
        packet->destination.words[0] = ip.daddr;
        packet->protocol = ip.protocol;
        packet->traffic_class = ip.tos;
        packet->fragment = ip.frag_off & bpf_htons(0x1fff) ? FRAGMENT_LATER : FRAGMENT_NONE;
        packet->l4_offset = at + ip.ihl * 4;
        return true;
    }
    if (protocol != bpf_htons(ETH_P_IPV6))
        return false;
    struct ipv6hdr ip;
    if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
        return false;
    packet->version = 6;
    __builtin_memcpy(&packet->source, &ip.saddr, 16);
    __builtin_memcpy(&packet->destination, &ip.daddr, 16);
    packet->protocol = ip.nexthdr;
    packet->traffic_class = ip.priority << 4 | ip.flow_lbl[0] >> 4;
    packet->l4_offset = at + sizeof(ip);
    return true;
}

static __always_inline bool read_ports(struct __sk_buff *skb, struct packet *packet) {
    __be16 ports[2];
    if (packet->fragment || (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) ||
        bpf_skb_load_bytes(skb, packet->l4_offset, ports, sizeof(ports)))
        return false;
    packet->source_port = ports[0];
    packet->destination_port = ports[1];
    return true;
}

static __always_inline struct service *service_at(const struct packet *packet, const union address *address,
                                                  __be16 port) {
    if (packet->version == 4) {
        struct service_key4 key = {address->words[0], port, packet->protocol, 0};
        return bpf_map_lookup_elem(&services4, &key);
    }
    struct service_key6 key = {.address = *address, .port = port, .protocol = packet->protocol};
    return bpf_map_lookup_elem(&services6, &key);
}

static __always_inline void set_dscp(struct __sk_buff *skb, struct packet *packet, __u8 dscp) {
    __u8 marked = dscp << 2 | (packet->traffic_class & 3);
    if (marked == packet->traffic_class)
        return;
    __be16 before, after;
    if (bpf_skb_load_bytes(skb, packet->l3_offset, &before, sizeof(before)))
        return;
    if (packet->version == 4) {
        after = bpf_htons((bpf_ntohs(before) & 0xff00) | marked);
        bpf_l3_csum_replace(skb, packet->l3_offset + __builtin_offsetof(struct iphdr, check), before, after,
                            sizeof(before));
    } else {
        after = bpf_htons(0x6000 | (__u16)marked << 4 | (bpf_ntohs(before) & 0xf));
    }
    bpf_skb_store_bytes(skb, packet->l3_offset, &after, sizeof(after), 0);
    packet->traffic_class = marked;
}

SEC("tc")
int tc_egress(struct __sk_buff *skb) {
    struct packet packet = {};
    if (!read_network(skb, &packet))
        return TC_ACT_UNSPEC;
    __u32 class = 0;
    if (read_ports(skb, &packet)) {
        /* The one in whose name the packet leaves. */
        struct service *service = service_at(&packet, &packet.source, packet.source_port);
        __u32 id = service ? service->id : 0;
        struct egress *egress = bpf_map_lookup_elem(&service_egress, &id);
        if (service && egress) {
            if (egress->marked)
                set_dscp(skb, &packet, egress->dscp);
            class = egress->class;
            count(id, NOTE_EGRESS, skb->len);
        }
    }
    if (!class) {
        __u32 dscp = packet.traffic_class >> 2;
        __u32 *usual = bpf_map_lookup_elem(&dscp_classes, &dscp);
        class = usual ? *usual : 0;
    }
    if (class)
        skb->priority = class;
    return TC_ACT_UNSPEC; /* others on this hook have their say */
}

/* Of the kernel's net/tcp.h, which has no header for user space. */
struct bpf_tcp_req_attrs {
    __u32 rcv_tsval;
    __u32 rcv_tsecr;
    __u16 mss;
    __u8 rcv_wscale;
    __u8 snd_wscale;
    __u8 ecn_ok;
    __u8 wscale_ok;
    __u8 sack_ok;
    __u8 tstamp_ok;
    __u8 usec_ts_ok;
    __u8 reserved[3];
};
/* Only passed on; libbpf wants it to be a struct. */
struct sock {
    __u32 opaque;
};
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
                                   int attrs__sz) __ksym __weak;

/* Whether the acknowledgement carries a cookie of this minute or the one before; `said` then holds its bits.
 */
static __always_inline bool is_cookie(const struct packet *packet, __u32 client_number, __u32 cookie,
                                      const struct settings *settings) {
    __u32 said = cookie & 0xff, minute = minute_now();
    return cookie == cookie_of(packet, settings, client_number, said, minute) ||
           cookie == cookie_of(packet, settings, client_number, said, minute - 1);
}

static __always_inline bool attributes_of(struct __sk_buff *skb, const struct packet *packet,
                                          const struct tcphdr *tcp, __u32 said,
                                          struct bpf_tcp_req_attrs *attributes) {
    struct tcp_options options = {.length = tcp->doff * 4 - sizeof(*tcp)};
    __u32 length = options.length;
    if (length && length <= OPTIONS_LONGEST &&
        bpf_skb_load_bytes(skb, packet->l4_offset + sizeof(*tcp), options.bytes, length))
        return false;
    read_options(&options);
    __u8 scale = said & 15;
    attributes->mss = mss_of(said >> 5 & 3, packet->version);
    attributes->sack_ok = said >> 4 & 1;
    attributes->wscale_ok = scale != COOKIE_NO_SCALE;
    attributes->snd_wscale = attributes->wscale_ok ? scale : 0;
    attributes->rcv_wscale = attributes->wscale_ok ? COOKIE_OUR_SCALE : 0;
    attributes->tstamp_ok = options.has_time;
    attributes->rcv_tsval = options.time;
    attributes->rcv_tsecr = options.echoed;
    return true;
}

static __always_inline struct bpf_sock *socket_for(struct __sk_buff *skb, const struct packet *packet) {
    struct bpf_sock_tuple tuple = {};
    if (packet->version == 4) {
        tuple.ipv4.saddr = packet->source.words[0];
        tuple.ipv4.daddr = packet->destination.words[0];
        tuple.ipv4.sport = packet->source_port;
        tuple.ipv4.dport = packet->destination_port;
        return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
    }
    __builtin_memcpy(tuple.ipv6.saddr, &packet->source, 16);
    __builtin_memcpy(tuple.ipv6.daddr, &packet->destination, 16);
    tuple.ipv6.sport = packet->source_port;
    tuple.ipv6.dport = packet->destination_port;
    return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

SEC("tc")
int tc_ingress(struct __sk_buff *skb) {
    struct packet packet = {};
    struct tcphdr tcp;
    __u32 only = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!current || !current->cookies_above.interval_ns || !read_network(skb, &packet) ||
        packet.protocol != IPPROTO_TCP || !read_ports(skb, &packet) ||
        bpf_skb_load_bytes(skb, packet.l4_offset, &tcp, sizeof(tcp)) || !tcp.ack || tcp.syn || tcp.rst)
        return TC_ACT_UNSPEC;
    /* A listener: no connection is known, nor a request of it that the kernel answered itself. */
    struct bpf_sock *listener = socket_for(skb, &packet);
    if (!listener)
        return TC_ACT_UNSPEC;
    __u32 cookie = bpf_ntohl(tcp.ack_seq) - 1;
    struct bpf_tcp_req_attrs attributes = {};
    if (listener->state == BPF_TCP_LISTEN && is_cookie(&packet, bpf_ntohl(tcp.seq) - 1, cookie, current) &&
        attributes_of(skb, &packet, &tcp, cookie & 0xff, &attributes)) {
        struct sock *sk = (struct sock *)bpf_skc_to_tcp_sock(listener);
        if (sk && !bpf_sk_assign_tcp_reqsk(skb, sk, &attributes, sizeof(attributes))) {
            struct service *service = service_at(&packet, &packet.destination, packet.destination_port);
            count(service ? service->id : 0, NOTE_COOKIE_ACCEPTED, skb->len);
        }
    }
    bpf_sk_release(listener);
    return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
