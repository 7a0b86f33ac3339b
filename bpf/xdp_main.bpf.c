/* MarchProxy's XDP program: parse, classify, exempt, access lists, limits, load balance, count. */
#include "include/types.h"
#include "include/maps.h"
#include "include/packet.h"
#include "include/parse.h"
#include "include/count.h"
#include "include/classify.h"
#include "include/exempt.h"
#include "include/acl.h"
#include "include/limit.h"
#include "include/icmp.h"
#include "include/balance.h"
#include "include/forward.h"
#include "include/reply.h"
#include "include/mark.h"
#include "include/syn_ack.h"
#include "include/sample.h"

const volatile struct features features = {.acl = 1,
                                           .limit = 1,
                                           .balance = 1,
                                           .nat = 1,
                                           .sampling = 1,
                                           .limit_mask = 32767,
                                           .nat_first_port = 20000,
                                           .nat_sets = 1596};

#include "include/fragment.h"
#include "include/forward_nat.h"

/* Enums that only exist in code, and structs that only inner maps hold, would be missing from BTF. */
struct vocabulary {
    enum reason reason;
    enum acl_class acl_class;
    enum forward forward;
    enum own_flag own_flag;
    enum service_flag service_flag;
    enum real_state real_state;
    enum setting_flag setting_flag;
    enum nat_state nat_state;
    enum stage stage;
    enum tap_row tap;
    enum tap_flag tap_flag;
    struct sample_record sample_record;
    struct acl_row acl_row;
    struct prefix4 prefix4;
    struct prefix6 prefix6;
};
const volatile struct vocabulary vocabulary = {};

/* Why this packet should not go on (PASS or DROP), or PARSED. */
static __always_inline enum reason protect(const struct packet *packet, const struct service *service,
                                           const struct settings *settings) {
    enum reason exemption = exempt(packet);
    __u64 now_ns;
    if (exemption == PASS_SSH) {
        if (features.limit &&
            !seldom_conforms(source_hash(packet, features.limit_seed), LIMIT_SSH, 0, features.limit_mask))
            return DROP_SSH_RATE;
        return PASS_SSH;
    }
    if (exemption == PASS_DHCP) {
        if (!features.limit ||
            seldom_conforms(source_hash(packet, features.limit_seed), LIMIT_DHCP, 0, features.limit_mask))
            return PASS_DHCP;
        /* In a flood the lists still know who hands out leases, where they say so. */
        return features.acl && acl(packet) == ACL_EXEMPT ? PASS_DHCP : DROP_DHCP_RATE;
    }
    if (exemption != PARSED)
        return exemption;
    if (features.acl) {
        enum acl_class class = acl(packet);
        if (class == ACL_DENY)
            return DROP_DENIED;
        if (class == ACL_EXEMPT) {
            count(service ? service->id : 0, NOTE_EXEMPT, packet);
            return PARSED;
        }
    }
    if (features.limit) {
        bool opens = opens_connection(packet);
        if (!source_conforms(packet, opens ? LIMIT_SYNS : LIMIT_PACKETS,
                             opens ? &settings->source_syns : &settings->source_packets, settings, &now_ns,
                             features.limit_seed, features.limit_mask))
            return opens ? DROP_SYN_RATE : DROP_SOURCE_RATE;
        if (settings->source_bytes.interval &&
            !seldom_conforms(source_hash(packet, features.limit_seed), LIMIT_BYTES, packet->frame_length,
                             features.limit_mask))
            return DROP_SOURCE_BYTES;
        if (service)
            return service_conforms(service, packet, opens, now_ns);
    }
    return PARSED;
}

/* From a client to a nat service: where its first fragment went. */
static __always_inline enum reason carry_later(struct xdp_md *ctx, struct packet *packet,
                                               const struct service *service, __u32 *id) {
    if (!packet->followed)
        return DROP_NAT_FRAGMENT;
    if (service->mtu && packet->l3_length > service->mtu)
        return DROP_TOO_BIG;
    if (service->flags & SERVICE_MARK)
        mark(ctx, packet, service->dscp);
    return carry_fragment(ctx, packet, id);
}

/* Nobody healthy. Where the kernel gets a first fragment, the later ones are its, too. */
static __always_inline enum reason without_real(struct packet *packet, const struct service *service) {
    if (!(service->flags & SERVICE_PASS_WITHOUT_REAL))
        return DROP_NO_REAL;
    if (features.nat && packet->fragment == FRAGMENT_FIRST)
        leave_fragment(packet, service->id);
    return PASS_NO_REAL;
}

static __always_inline enum reason balance(struct xdp_md *ctx, struct packet *packet, struct service *service,
                                           const struct settings *settings, __u32 *id) {
    if (service->forward == FORWARD_ECHO)
        return is_echo(packet) ? reply_echo(ctx, packet) : PASS_KERNEL;
    bool translated = features.nat && service->forward == FORWARD_NAT;
    if (packet->fragment && !translated && !(service->flags & SERVICE_HASH_ADDRESSES))
        return features.nat ? leave_fragment(packet, service->id) : PASS_FRAGMENT;
    if (packet->fragment == FRAGMENT_LATER && translated)
        return carry_later(ctx, packet, service, id);
    __u32 hash = flow_hash(packet, service, features.balance_seed);
    __u32 number = choose_real(packet, service, hash);
    if (!number)
        return without_real(packet, service);
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    if (!real || real->state == REAL_ABSENT)
        return DROP_INTERNAL;
    if (service->mtu && packet->l3_length > service->mtu)
        return reply_too_big(ctx, packet, service->mtu);
    if (service->flags & SERVICE_MARK)
        mark(ctx, packet, service->dscp);
    if (translated) {
        packet->ring = service->ring;
        enum reason reason = forward_nat(ctx, packet, number, hash, service->id);
        if (packet->moved == MOVED_TO_PIN)
            pin_flow(packet, slot_of(hash), service->id);
        return reason == DROP_NO_REAL ? without_real(packet, service) : reason;
    }
    count_real(number, packet);
    return service->forward == FORWARD_DSR ? forward_dsr(ctx, real)
                                           : forward_gue(ctx, packet, real, settings, hash);
}

static __always_inline bool wants_cookie(const struct settings *settings) {
    __u32 only = 0;
    __u64 *cell = bpf_map_lookup_elem(&cookie_cell, &only);
    return cell && settings->cookies_above.interval_ns &&
           !conforms(cell, bpf_ktime_get_coarse_ns(), &settings->cookies_above);
}

/* Everything between parse and count. */
static __always_inline enum reason decide(struct xdp_md *ctx, struct packet *packet, struct service *service,
                                          const struct settings *settings, __u32 *id) {
    bool monitor = settings->flags & SETTING_MONITOR;
    if (features.nat && (packet->followed == FOLLOWED_ANSWER || is_to_nat(packet, settings))) {
        enum reason answered = packet->followed == FOLLOWED_ANSWER ? carry_fragment(ctx, packet, id)
                                                                   : answer_nat(ctx, packet, id);
        if (answered != PARSED)
            return answered;
    }
    enum reason reason = protect(packet, service, settings);
    if (is_drop(reason)) {
        if (features.local_sockets && expected(ctx, packet))
            return PASS_EXPECTED;
        if (!monitor)
            return reason;
        count_monitored(*id, reason, packet);
        packet->monitored = reason;
    } else if (reason != PARSED) {
        return reason;
    }
    if (!features.balance)
        return PASS_KERNEL;
    /* An address that answers pings is a service of ICMP itself; errors to it are about others all the same.
     */
    if ((!service || service->forward == FORWARD_ECHO) && is_icmp_error(packet)) {
        struct service *about = steer_icmp_error(ctx, packet);
        if (about) {
            service = about;
            *id = service->id;
        }
    }
    if (!service || service->forward == FORWARD_KERNEL) {
        /* A listener on all addresses is found for any destination: what goes on to another host is not its.
         */
        if (features.cookies && !packet->fragment && opens_connection(packet) && is_to_own(packet) &&
            wants_cookie(settings))
            bpf_tail_call(ctx, &stages, STAGE_COOKIE);
        if (!packet->fragment || (service && packet->fragment == FRAGMENT_LATER))
            return PASS_KERNEL;
        enum reason left = features.nat ? leave_fragment(packet, *id) : PASS_FRAGMENT;
        return service ? PASS_KERNEL : left;
    }
    return balance(ctx, packet, service, settings, id);
}

SEC("xdp")
int xdp_main(struct xdp_md *ctx) {
    __u32 only = 0, id = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    struct sampling *readers = bpf_map_lookup_elem(&sampling, &only);
    if (!current || !readers)
        return XDP_PASS;
    struct packet packet = {};
    enum reason reason = parse(ctx, &packet);
    if (reason == PARSED && features.limit)
        fetch_cells(&packet, features.limit_seed, features.limit_mask);
    if (features.sampling && anybody_reads(readers))
        take_sample(ctx, &packet, readers);
    if (reason == PARSED) {
        if (features.nat && packet.fragment == FRAGMENT_LATER)
            follow_first(&packet);
        struct service *service = classify(&packet);
        if (service)
            id = service->id;
        reason = decide(ctx, &packet, service, current, &id);
    } else if (is_drop(reason) && current->flags & SETTING_MONITOR) {
        count_monitored(0, reason, &packet);
        packet.monitored = reason;
        reason = PASS_KERNEL;
    }
    count(id, reason, &packet);
    if (features.sampling && packet.sampled)
        return finish_sample(ctx, &packet, readers, id, reason);
    return verdict_of(reason);
}

/* A stage of its own: the packet is parsed once more, which only happens to floods. */
SEC("xdp")
int xdp_cookie(struct xdp_md *ctx) {
    __u32 only = 0, id = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    struct sampling *readers = bpf_map_lookup_elem(&sampling, &only);
    struct packet packet = {};
    if (!current || !readers || parse(ctx, &packet) != PARSED)
        return XDP_DROP;
    struct service *service = classify(&packet);
    if (service)
        id = service->id;
    /* Only where somebody listens: a port that is closed must not look open. */
    enum reason reason = PASS_KERNEL;
    if (socket_state(ctx, &packet) == BPF_TCP_LISTEN)
        reason = answer_syn(ctx, &packet, current);
    count(id, reason, &packet);
    if (features.sampling && anybody_reads(readers))
        return finish_sample(ctx, &packet, readers, id, reason);
    return verdict_of(reason);
}

char _license[] SEC("license") = "GPL";
