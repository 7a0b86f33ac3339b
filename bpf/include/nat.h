/* Stage: the table of translated flows. Which slots a flow may have, finding it from either side, claiming
 * one; nothing here touches a packet. types.h says how the table works. */
#pragma once
#include "balance.h"

#define NAT_NONE 0xffffffff

/* Where a flow may be: rows of `nat_sets`. */
struct nat_key {
    __u32 fingerprint;
    __u32 rows[2];
};

/* A flow found: `tag` as it was read, and where it lies. */
struct nat_entry {
    struct nat_flow *flow;
    __u64 *place;
    __u64 tag;
    __u32 port; /* its offset in the range */
};

static __always_inline __u32 address_hash(const union address *address, __u8 version) {
    return version == 4 ? address->words[0] : fold(address->halves[0] ^ fold(address->halves[1]));
}

static __always_inline bool same_address(const union address *one, const union address *other) {
    return one->halves[0] == other->halves[0] && one->halves[1] == other->halves[1];
}

static __always_inline __u32 bank_of(const union address *real, __u8 version,
                                     const volatile struct features *features) {
    return mix(address_hash(real, version)) & features->nat_bank_mask;
}

/* The seed is the host's secret: nobody can aim at another flow's slots. */
static __always_inline void nat_key_of(struct nat_key *key, const struct packet *packet,
                                       const struct real *real, __u32 hash,
                                       const volatile struct features *features) {
    __u32 service = address_hash(&packet->destination, packet->version) ^ packet->protocol;
    __u32 first = mix(hash ^ mix(service ^ features->limit_seed)), second = mix(first ^ 0x9e3779b9);
    __u32 base = bank_of(&real->address, real->version, features) * features->nat_sets;
    key->rows[0] = base + ((__u64)first * features->nat_sets >> 32);
    key->rows[1] = base + ((__u64)second * features->nat_sets >> 32);
    /* Independent of the hash: flows that share it must still be told apart. */
    __u32 ports = (__u32)packet->source_port | (__u32)packet->destination_port << 16;
    __u32 source = packet->version == 4 ? packet->source.words[0]
                                        : fold(packet->source.halves[1] ^ fold(packet->source.halves[0]));
    key->fingerprint = fold((__u64)source << 32 | ports) ^ mix(service + 1);
}

static __always_inline bool is_readable(__u64 tag) {
    return (tag & NAT_STAGE) >= NAT_NEW;
}

static __always_inline __u32 way_of(const struct nat_set *set, __u32 fingerprint) {
    __u32 found = NAT_WAYS;
#pragma unroll
    for (int i = 0; i < NAT_WAYS; i++) {
        __u64 tag = *(const volatile __u64 *)&set->tags[i];
        if (tag >> 32 == fingerprint && is_readable(tag))
            found = i;
    }
    return found;
}

static __always_inline bool is_flow_of(const struct nat_flow *flow, const struct packet *packet) {
    return flow->client_port == packet->source_port && flow->service_port == packet->destination_port &&
           flow->protocol == packet->protocol && flow->version == packet->version &&
           same_address(&flow->client, &packet->source) && same_address(&flow->service, &packet->destination);
}

/* By the client's side of a flow. */
static __always_inline bool nat_find(struct nat_entry *entry, const struct nat_key *key,
                                     const struct packet *packet) {
#pragma unroll
    for (int choice = 0; choice < 2; choice++) {
        __u32 row = key->rows[choice];
        struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
        if (!set)
            return false;
        __u32 way = way_of(set, key->fingerprint);
        if (way == NAT_WAYS)
            continue;
        __u32 slot = row * NAT_WAYS + way;
        struct nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &slot);
        if (!flow || !is_flow_of(flow, packet))
            continue;
        entry->flow = flow;
        entry->place = &set->tags[way & (NAT_WAYS - 1)];
        entry->tag = *(volatile __u64 *)entry->place;
        entry->port = slot;
        return true;
    }
    return false;
}

/* By the real's side: `answer` comes from a real to a port of ours. */
static __always_inline bool nat_find_answer(struct nat_entry *entry, const struct packet *answer,
                                            const volatile struct features *features) {
    __u32 port = bpf_ntohs(answer->destination_port) - features->nat_first_port;
    __u32 ports = features->nat_sets * NAT_WAYS;
    if (port >= ports)
        return false;
    __u32 slot = bank_of(&answer->source, answer->version, features) * ports + port;
    __u32 row = slot / NAT_WAYS;
    struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
    if (!set)
        return false;
    entry->place = &set->tags[slot & (NAT_WAYS - 1)];
    entry->tag = *(volatile __u64 *)entry->place;
    struct nat_flow *flow = bpf_map_lookup_elem(&nat_flows, &slot);
    if (!flow || !is_readable(entry->tag) || flow->real_port != answer->source_port ||
        flow->protocol != answer->protocol || flow->version != answer->version)
        return false;
    __u32 number = flow->real;
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    if (!real || !same_address(&real->address, &answer->source))
        return false;
    entry->flow = flow;
    entry->port = slot;
    return true;
}

/* Whether what was read of the flow belongs together: whoever takes the slot over changes the tag first. */
static __always_inline bool is_still(const struct nat_entry *entry) {
    return *(volatile __u64 *)entry->place >> 32 == entry->tag >> 32;
}

static __always_inline __u64 tag_of(__u32 fingerprint, __u32 now_s, __u8 state) {
    return (__u64)fingerprint << 32 | (now_s << 8 | state);
}

/* Once a second at most: the line stays shared between CPUs otherwise. A lost race is another packet's gain.
 */
static __always_inline void nat_touch(const struct nat_entry *entry, __u8 state, __u32 now_s) {
    __u64 tag = tag_of(entry->tag >> 32, now_s, state);
    if (tag != entry->tag)
        __sync_val_compare_and_swap(entry->place, entry->tag, tag);
}

/* For how long (s) an idle flow in this state keeps its slot. */
static __always_inline __u32 patience_s(const struct settings *settings, __u8 state) {
    const __u8 both = NAT_FIN_CLIENT | NAT_FIN_REAL;
    if (state & NAT_RESET || (state & both) == both)
        return settings->nat_closing_s;
    if ((state & NAT_STAGE) < NAT_OPEN)
        return settings->nat_new_s;
    return state & NAT_UDP ? settings->nat_udp_s : settings->nat_tcp_s;
}

#define CLAIM_FREE    0x80000000 /* best */
#define CLAIM_EXPIRED 0x40000000 /* then the longest idle; then the oldest of those not confirmed */

/* How readily a slot is given away; 0: never. A function of its own for the verifier, which need not walk
 * through it for every slot. */
__attribute__((noinline)) __u32 claim_score(__u64 tag, __u32 now_s) {
    __u32 only = 0;
    __u8 state = tag;
    if ((state & NAT_STAGE) == NAT_FREE)
        return CLAIM_FREE;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!current)
        return 0;
    __u32 age_s = (now_s - ((__u32)tag >> 8)) & 0xffffff;
    if (age_s > patience_s(current, state))
        return CLAIM_EXPIRED | age_s;
    bool pending = (state & NAT_STAGE) == NAT_NEW || (state & NAT_STAGE) == NAT_ANSWERED;
    return pending ? age_s + 1 : 0;
}

/* The best slot of a set: score (with the number of free ones), then way in the low bits. */
__attribute__((noinline)) __u64 best_of_set(__u32 row, __u32 now_s) {
    struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
    if (!set)
        return 0;
    __u64 best = 0, free = 0;
    /* Unrolled, it would keep all scores on the stack, of which a chain of calls has 512 bytes together. */
#pragma clang loop unroll(disable)
    for (int way = 0; way < NAT_WAYS; way++) {
        __u64 score = claim_score(*(volatile __u64 *)&set->tags[way], now_s);
        free += score / CLAIM_FREE;
        score = score * NAT_WAYS | (NAT_WAYS - 1 - way);
        if (score > best)
            best = score;
    }
    return best < NAT_WAYS ? 0 : best + free * NAT_WAYS;
}

/* Takes a slot for a new flow, out of its emptier set; returns it, or NAT_NONE. The tag says WRITING until
 * the caller has written the flow. */
__attribute__((noinline)) __u32 nat_claim(struct nat_key *key, __u32 now_s) {
    if (!key)
        return NAT_NONE;
    __u32 row = key->rows[0];
    __u64 first = best_of_set(key->rows[0], now_s), second = best_of_set(key->rows[1], now_s), best = first;
    if (second / NAT_WAYS > first / NAT_WAYS) {
        best = second;
        row = key->rows[1];
    }
    struct nat_set *set = bpf_map_lookup_elem(&nat_sets, &row);
    if (!best || !set)
        return NAT_NONE;
    __u32 way = NAT_WAYS - 1 - (best & (NAT_WAYS - 1));
    __u64 *place = &set->tags[way & (NAT_WAYS - 1)], old = *(volatile __u64 *)place;
    /* Another CPU may have taken it meanwhile. */
    if (!claim_score(old, now_s) ||
        __sync_val_compare_and_swap(place, old, tag_of(key->fingerprint, now_s, NAT_WRITING)) != old)
        return NAT_NONE;
    return row * NAT_WAYS + way;
}
