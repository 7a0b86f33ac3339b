/* Stage: fragments of what NAT translates. Only a first one has ports; where it goes is kept for a moment
 * under addresses, identification and protocol, and the later ones follow. The table is fixed and its places
 * are a keyed hash: nobody can aim at another's datagram. A full set gives away what is over, then the oldest
 * place of a flow that nobody confirmed; spoofed sources never get that of one that somebody did. */
#pragma once
#include "nat.h"

#define FRAGMENT_TICK_SHIFT 26         /* 67 ms */
#define FRAGMENT_TICKS      0xfff      /* mask: the clock goes round in four minutes and a half */
#define FRAGMENT_SECOND     15         /* ticks */
#define FRAGMENT_CONFIRMED  0x1000     /* its flow is: no spoofed source's */
#define FRAGMENT_ANSWER     0x2000     /* from a real */
#define FRAGMENT_KEY        0xffffc000 /* mask: the fingerprint */

static __always_inline __u32 fragment_now(void) {
    return bpf_ktime_get_coarse_ns() >> FRAGMENT_TICK_SHIFT & FRAGMENT_TICKS;
}

static __always_inline __u32 fragment_age(__u64 place, __u32 now) {
    return (now - (__u32)place) & FRAGMENT_TICKS;
}

/* The set that a datagram's place is in, and its key in that set. The protocol is of no account to IPv6
 * (RFC 8200), where a later fragment may not even say it. */
static __always_inline struct fragment_set *fragment_set_of(const struct packet *packet, __u32 *key,
                                                            const volatile struct features *features) {
    __u32 source = address_hash(&packet->source, packet->version);
    __u32 destination = address_hash(&packet->destination, packet->version);
    __u32 kind = packet->version == 4 ? packet->protocol : 256;
    __u32 hash = mix(source ^ mix(packet->fragment_id ^ mix(destination ^ kind ^ features->limit_seed)));
    __u32 row = hash & (FRAGMENT_SETS - 1);
    /* Never 0: that is a place nobody had yet. */
    __u32 print = fold((__u64)(source ^ mix(kind + features->limit_seed)) << 32 | packet->fragment_id) ^
                  mix(destination + 1);
    *key = (print | 1 << 14) & FRAGMENT_KEY;
    return bpf_map_lookup_elem(&nat_fragments, &row);
}

static __always_inline __u32 fragment_life(void) {
    __u32 only = 0;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    return current ? current->nat_fragment_s * FRAGMENT_SECOND : 0;
}

static __always_inline bool is_alive(__u64 place, __u32 now, __u32 life) {
    return (__u32)place && fragment_age(place, now) <= life;
}

#define FRAGMENT_REFUSED 0xffff /* the datagram's own place, and it is a confirmed flow's */

/* How readily a place is given to the newcomer `fresh`; 0: not at all. A function of its own for the
 * verifier, which need not walk through it for every place. */
__attribute__((noinline)) __u32 fragment_score(__u64 place, __u64 fresh, __u32 life) {
    __u32 now = fresh & FRAGMENT_TICKS, age = fragment_age(place, now);
    bool yields = fresh & FRAGMENT_CONFIRMED || !(place & FRAGMENT_CONFIRMED);
    if (!is_alive(place, now, life))
        return 0x4000;
    /* The same identification: again, or come round; or somebody writes over the beginning. */
    if (!(((__u32)place ^ (__u32)fresh) & FRAGMENT_KEY))
        return yields || place >> 32 == fresh >> 32 ? 0x8000 : FRAGMENT_REFUSED;
    if (!yields)
        return 0;
    return (place & FRAGMENT_CONFIRMED ? 0x1000 : 0x2000) | age;
}

/* A first fragment of the flow in that slot of NAT's table (NAT_NONE: the kernel's): the later ones follow
 * it. PARSED, or why it cannot go on either. */
__attribute__((noinline)) int keep_fragment(struct packet *packet, __u32 slot, __u32 flags) {
    if (!packet)
        return DROP_INTERNAL;
    __u32 key, life = fragment_life();
    struct fragment_set *set = fragment_set_of(packet, &key, &features);
    if (!set)
        return DROP_INTERNAL;
    __u64 fresh = (__u64)slot << 32 | key | flags | fragment_now(), best = 0;
    for (__u32 way = 0; way < FRAGMENT_WAYS; way++) {
        __u64 score = fragment_score(*(volatile __u64 *)&set->places[way], fresh, life);
        score = score * FRAGMENT_WAYS | way;
        if (score > best)
            best = score;
    }
    if (best < FRAGMENT_WAYS || best / FRAGMENT_WAYS == FRAGMENT_REFUSED)
        return DROP_FRAGMENTS_FULL;
    __u64 *place = &set->places[best & (FRAGMENT_WAYS - 1)], old = *(volatile __u64 *)place;
    if (old != fresh && __sync_val_compare_and_swap(place, old, fresh) != old)
        return DROP_FRAGMENTS_FULL; /* another CPU's fragment came first */
    return PARSED;
}

/* Whether a flow is one of these addresses: its slot may be another's by now. */
static __always_inline bool is_fragment_of(const struct nat_flow *flow, const struct packet *packet,
                                           bool answer) {
    if (flow->version != packet->version || (packet->version == 4 && flow->protocol != packet->protocol))
        return false;
    if (!answer)
        return same_address(&flow->client, &packet->source) &&
               same_address(&flow->service, &packet->destination);
    __u32 number = flow->real;
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    return real && same_address(&real->address, &packet->source);
}

/* A later fragment gets the slot of its flow and, from a client, the ports that its first one had:
 * it is classified and limited like the whole. */
__attribute__((noinline)) int follow_first(struct packet *packet) {
    if (!packet)
        return 0;
    __u32 key, now = fragment_now(), life = fragment_life();
    __u64 found = 0;
    struct fragment_set *set = fragment_set_of(packet, &key, &features);
    if (!set)
        return 0;
    for (__u32 way = 0; way < FRAGMENT_WAYS; way++) {
        __u64 place = *(volatile __u64 *)&set->places[way];
        if (is_alive(place, now, life) && ((__u32)place & FRAGMENT_KEY) == key)
            found = place;
    }
    __u32 slot = found >> 32, row = slot / NAT_WAYS;
    if (found && slot == NAT_NONE)
        packet->followed = FOLLOWED_KERNEL;
    bool answer = found & FRAGMENT_ANSWER;
    struct nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &slot);
    struct nat_set *tags = bpf_map_lookup_elem(&nat_sets, &row);
    if (!found || !flow || !tags || !is_readable(*(volatile __u64 *)&tags->tags[slot & (NAT_WAYS - 1)]) ||
        !is_fragment_of(flow, packet, answer))
        return 0;
    packet->fragment_id = slot;
    packet->followed = answer ? FOLLOWED_ANSWER : FOLLOWED;
    packet->protocol = flow->protocol;
    if (answer)
        return 0;
    packet->source_port = flow->client_port;
    packet->destination_port = flow->service_port;
    return 0;
}
