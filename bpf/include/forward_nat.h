/* Stage: forward by full NAT. Reals see the edge's address and a port that stands for the flow; their answers
 * come back to it and leave as the service's. Works across routers and in clouds that drop foreign sources.
 */
#pragma once
#include "fragment.h"
#include "limit.h"
#include "mark.h"
#include "nat.h"
#include "translate.h"

static __always_inline void nat_source(union address *source, const struct settings *settings, __u8 version) {
    if (version == 4)
        source->words[0] = settings->nat_source4;
    else
        *source = settings->nat_source6;
}

/* Writes the flow into the slot that was claimed for it. */
static __always_inline bool nat_open(struct nat_entry *entry, const struct packet *packet, __u32 slot,
                                     __u32 number, const struct real *real, __u32 hash, __u32 id,
                                     const struct ethhdr *ethernet) {
    __u32 row = slot / NAT_WAYS;
    struct nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &slot);
    struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
    if (!flow || !set)
        return false;
    flow->client = packet->source;
    flow->service = packet->destination;
    flow->real = number;
    flow->id = id;
    flow->client_port = packet->source_port;
    flow->service_port = packet->destination_port;
    flow->real_port = real->port ? real->port : packet->destination_port;
    flow->protocol = packet->protocol;
    flow->version = packet->version;
    flow->expected = 0;
    flow->ring = packet->ring;
    flow->slot = slot_of(hash);
    copy_mac(flow->client_mac, ethernet->h_source);
    entry->flow = flow;
    entry->place = &set->tags[slot & (NAT_WAYS - 1)];
    entry->tag = *(volatile __u64 *)entry->place;
    entry->port = slot;
    return true;
}

/* A flow's state after a packet of its client. `confirmed`: it acknowledges what the real said. */
static __always_inline __u8 after_client(__u8 state, const struct packet *packet, bool confirmed) {
    if (packet->protocol == IPPROTO_UDP)
        return (state & NAT_STAGE) == NAT_ANSWERED ? NAT_UDP | NAT_OPEN : state;
    if (opens_connection(packet)) /* again; or the ports once more, after the connection ended */
        return state & (NAT_RESET | NAT_FIN_CLIENT | NAT_FIN_REAL) ? NAT_NEW : state;
    if (packet->tcp_flags & TCP_RST)
        return state | NAT_RESET;
    if ((state & NAT_STAGE) == NAT_ANSWERED && confirmed)
        state = (state & ~NAT_STAGE) | NAT_OPEN;
    return packet->tcp_flags & TCP_FIN ? state | NAT_FIN_CLIENT : state;
}

static __always_inline __u8 after_real(__u8 state, const struct packet *packet) {
    if ((state & NAT_STAGE) == NAT_NEW &&
        (packet->protocol == IPPROTO_UDP || packet->tcp_flags & (TCP_SYN | TCP_RST)))
        state = (state & ~NAT_STAGE) | NAT_ANSWERED;
    if (packet->protocol != IPPROTO_TCP)
        return state;
    if (packet->tcp_flags & TCP_RST)
        return state | NAT_RESET;
    return packet->tcp_flags & TCP_FIN ? state | NAT_FIN_REAL : state;
}

/* Whether a client's acknowledgement proves that it received the real's first packet: spoofed sources cannot.
 */
static __always_inline bool confirms(const struct tcphdr *tcp, const struct nat_flow *flow) {
    return tcp->ack && bpf_ntohl(tcp->ack_seq) - flow->expected < 0x10000;
}

static __always_inline __u32 kept_as(__u8 state) {
    return (state & NAT_STAGE) == NAT_OPEN ? FRAGMENT_CONFIRMED : 0;
}

/* The identification stays: where two senders' are alike, the checksum tells what does not belong together.
 * A datagram without one would be another's in part, and nobody would know. */
static __always_inline enum reason keep_translated(struct packet *packet, __u32 slot, __u32 flags,
                                                   const struct settings *settings, __u32 id) {
    if (packet->no_checksum) {
        if (!(settings->flags & SETTING_MONITOR))
            return DROP_NAT_FRAGMENT;
        count_monitored(id, DROP_NAT_FRAGMENT, packet);
        packet->monitored = DROP_NAT_FRAGMENT;
    }
    return keep_fragment(packet, slot, flags);
}

/* From the client to real `number`. */
__attribute__((noinline)) int forward_nat(struct xdp_md *ctx, struct packet *packet, __u32 number, __u32 hash,
                                          __u32 id) {
    __u32 only = 0, now_s = coarse_s();
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    if (!packet || !current || !real)
        return DROP_INTERNAL;
    if (real->version != packet->version)
        return DROP_OTHER_VERSION;
    if (packet->hop_limit <= 1)
        return DROP_HOP_LIMIT;
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct tcphdr *tcp = AT((long)ctx->data, packet->l4_offset, L4_MASK);
    void *end = (void *)(long)ctx->data_end;
    if ((void *)(ethernet + 1) > end)
        return DROP_INTERNAL;
    struct nat_key key;
    struct nat_entry entry = {};
    nat_key_of(&key, packet, real, hash, &features);
    __u8 state = packet->protocol == IPPROTO_UDP ? NAT_UDP | NAT_NEW : NAT_NEW;
    bool found = nat_find(&entry, &key, packet);
    if (!found && packet->moved && packet->current != number) {
        /* Not where it may have been from before: then where new ones go. */
        number = packet->current;
        real = bpf_map_lookup_elem(&reals, &number);
        if (!real || !number)
            return DROP_NO_REAL;
        if (real->version != packet->version)
            return DROP_OTHER_VERSION;
        packet->moved = MOVED;
        nat_key_of(&key, packet, real, hash, &features);
        found = nat_find(&entry, &key, packet);
    }
    if (found) {
        if (!packet->related) {
            bool confirmed = (void *)(tcp + 1) <= end && confirms(tcp, entry.flow);
            state = after_client(entry.tag, packet, confirmed);
            if ((state & NAT_STAGE) == NAT_OPEN && (entry.tag & NAT_STAGE) != NAT_OPEN)
                count(id, NOTE_NAT_OPEN, packet);
            nat_touch(&entry, state, now_s);
        }
    } else {
        if (packet->related || (packet->protocol == IPPROTO_TCP && !opens_connection(packet)))
            return DROP_NAT_UNKNOWN;
        __u32 slot = nat_claim(&key, now_s);
        if (slot == NAT_NONE)
            return DROP_NAT_FULL;
        if (!nat_open(&entry, packet, slot, number, real, hash, id, ethernet))
            return DROP_INTERNAL;
        *(volatile __u64 *)entry.place = tag_of(key.fingerprint, now_s, state);
        count(id, NOTE_NAT_NEW, packet);
    }
    if (packet->moved == MOVED && !packet->related)
        packet->moved = MOVED_TO_PIN;
    /* The flow says where it goes: the ring may have moved on. */
    __u32 chosen = entry.flow->real;
    if (chosen != number) {
        real = bpf_map_lookup_elem(&reals, &chosen);
        if (!real)
            return DROP_INTERNAL;
    }
    packet->current = chosen;
    count_real(chosen, packet);
    struct tuple to = {.destination = real->address, .destination_port = entry.flow->real_port};
    if (!is_still(&entry))
        return DROP_NAT_UNKNOWN;
    nat_source(&to.source, current, packet->version);
    to.source_port = bpf_htons(features.nat_first_port + entry.port % (features.nat_sets * NAT_WAYS));
    if (packet->related) {
        struct tuple quoted = {.source = to.destination,
                               .destination = to.source,
                               .source_port = to.destination_port,
                               .destination_port = to.source_port};
        return translate_error(ctx, packet, &to.source, &to.destination, &quoted, real->mac) ? SEND_NAT
                                                                                             : DROP_INTERNAL;
    }
    if (*(__u32 *)entry.flow->client_mac != *(__u32 *)ethernet->h_source ||
        *(__u16 *)(entry.flow->client_mac + 4) != *(__u16 *)(ethernet->h_source + 4))
        copy_mac(entry.flow->client_mac, ethernet->h_source);
    if (packet->fragment) {
        enum reason refused = keep_translated(packet, entry.port, kept_as(state), current, id);
        if (refused != PARSED)
            return refused;
    }
    return translate(ctx, packet, &to, real->mac) ? SEND_NAT : DROP_INTERNAL;
}

static __always_inline bool is_to_nat(const struct packet *packet, const struct settings *settings) {
    if (packet->version == 4)
        return settings->nat_source4 && packet->destination.words[0] == settings->nat_source4;
    return settings->nat_source6.halves[0] && same_address(&packet->destination, &settings->nat_source6);
}

/* An answer's rate and mark, which are those of its service. */
static __always_inline bool answer_passes(struct xdp_md *ctx, struct packet *packet,
                                          const struct settings *settings, __u32 id) {
    struct service_answers *answers = bpf_map_lookup_elem(&service_answers, &id);
    if (!answers)
        return true;
    if (features.limit && !answer_conforms(answers, id, packet)) {
        if (!(settings->flags & SETTING_MONITOR))
            return false;
        count_monitored(id, DROP_ANSWER_BYTES, packet);
    }
    if (answers->marked)
        mark(ctx, packet, answers->dscp);
    return true;
}

/* From a real, or about a packet that went to one: back to the client. PARSED if it is no such packet: then
 * it is the host's. */
__attribute__((noinline)) int answer_nat(struct xdp_md *ctx, struct packet *packet, __u32 *id) {
    __u32 only = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!packet || !id || !current)
        return DROP_INTERNAL;
    if (packet->fragment == FRAGMENT_LATER)
        return PARSED;
    struct packet answer = *packet;
    bool related = is_icmp_error(packet);
    if (related ? !quoted_flow(ctx, packet, &answer)
                : packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
        return PARSED;
    struct nat_entry entry = {};
    if (!nat_find_answer(&entry, &answer, &features))
        return PARSED;
    struct tuple to = {.source = entry.flow->service,
                       .destination = entry.flow->client,
                       .source_port = entry.flow->service_port,
                       .destination_port = entry.flow->client_port};
    *id = entry.flow->id;
    if (packet->hop_limit <= 1)
        return DROP_HOP_LIMIT;
    if (related) {
        struct tuple quoted = {.source = to.destination,
                               .destination = to.source,
                               .source_port = to.destination_port,
                               .destination_port = to.source_port};
        packet->protocol = answer.protocol;
        return is_still(&entry) && translate_error(ctx, packet, &to.source, &to.destination, &quoted,
                                                   entry.flow->client_mac)
                   ? SEND_ANSWER
                   : DROP_INTERNAL;
    }
    __u8 state = after_real(entry.tag, packet);
    struct tcphdr *tcp = AT((long)ctx->data, packet->l4_offset, L4_MASK);
    if (packet->protocol == IPPROTO_TCP && packet->tcp_flags & TCP_SYN &&
        (void *)(tcp + 1) <= (void *)(long)ctx->data_end)
        entry.flow->expected = bpf_ntohl(tcp->seq) + 1;
    nat_touch(&entry, state, coarse_s());
    if (!answer_passes(ctx, packet, current, *id))
        return DROP_ANSWER_BYTES;
    if (packet->fragment) {
        enum reason refused =
            keep_translated(packet, entry.port, FRAGMENT_ANSWER | kept_as(state), current, *id);
        if (refused != PARSED)
            return refused;
    }
    return is_still(&entry) && translate(ctx, packet, &to, entry.flow->client_mac) ? SEND_ANSWER
                                                                                   : DROP_INTERNAL;
}

/* A later fragment that follows its first one: addresses change, and there are no ports. */
__attribute__((noinline)) int carry_fragment(struct xdp_md *ctx, struct packet *packet, __u32 *id) {
    __u32 only = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!packet || !id || !current)
        return DROP_INTERNAL;
    __u32 slot = packet->fragment_id, row = slot / NAT_WAYS;
    struct nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &slot);
    struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
    if (!packet->followed || !flow || !set)
        return DROP_INTERNAL;
    struct nat_entry entry = {.flow = flow, .place = &set->tags[slot & (NAT_WAYS - 1)]};
    entry.tag = *(volatile __u64 *)entry.place;
    bool answer = packet->followed == FOLLOWED_ANSWER;
    /* It may have become another's since it was found. */
    if (!is_readable(entry.tag) || !is_fragment_of(flow, packet, answer))
        return DROP_NAT_FRAGMENT;
    __u32 number = flow->real;
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    if (!real || (void *)(ethernet + 1) > (void *)(long)ctx->data_end)
        return DROP_INTERNAL;
    *id = flow->id;
    if (packet->hop_limit <= 1)
        return DROP_HOP_LIMIT;
    if (answer && !answer_passes(ctx, packet, current, *id))
        return DROP_ANSWER_BYTES;
    union address source = flow->service, destination = answer ? flow->client : real->address;
    if (!answer)
        nat_source(&source, current, packet->version);
    address_link(ethernet, answer ? flow->client_mac : real->mac);
    if (!is_still(&entry) || !translate_network(ctx, packet, &source, &destination))
        return DROP_NAT_FRAGMENT;
    if (answer)
        return SEND_ANSWER;
    count_real(number, packet);
    return SEND_NAT;
}

/* What becomes of a fragment that no service takes. Only at addresses of nat services may it be one of
 * theirs: there a later one whose first was not seen is nobody's, and would only wait in the kernel for what
 * never comes. The address from which the host itself speaks gets all of them. */
__attribute__((noinline)) int leave_fragment(struct packet *packet, __u32 id) {
    __u32 only = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!packet || !current)
        return DROP_INTERNAL;
    if ((packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) || is_to_nat(packet, current) ||
        !is_to_translated(packet))
        return PASS_FRAGMENT;
    if (packet->fragment != FRAGMENT_LATER) {
        keep_fragment(packet, NAT_NONE, 0);
        return PASS_FRAGMENT;
    }
    if (packet->followed)
        return PASS_FRAGMENT;
    if (!(current->flags & SETTING_MONITOR))
        return DROP_NAT_FRAGMENT;
    count_monitored(id, DROP_NAT_FRAGMENT, packet);
    packet->monitored = DROP_NAT_FRAGMENT;
    return PASS_FRAGMENT;
}
