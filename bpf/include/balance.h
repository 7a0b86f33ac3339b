/* Stage: load balance. Maglev rings of two generations: only a slot that moved asks the flow table. */
#pragma once
#include "count.h"

static __always_inline __u32 flow_hash(const struct packet *packet, const struct service *service,
                                       __u32 seed) {
    __u32 ports = (__u32)packet->source_port | (__u32)packet->destination_port << 16;
    if (service->flags & SERVICE_HASH_ADDRESSES)
        ports = 0;
    if (packet->version == 4)
        return mix(packet->source.words[0] ^ mix(ports ^ seed));
    return mix(fold(packet->source.halves[0] ^ fold(packet->source.halves[1])) ^ mix(ports ^ seed));
}

/* Without a division: the hash as a fraction of the ring. */
static __always_inline __u32 slot_of(__u32 hash) {
    return (__u64)hash * RING_SLOTS >> 32;
}

static __always_inline __u32 coarse_s(void) {
    return bpf_ktime_get_coarse_ns() / 1000000000;
}

static __always_inline bool takes_packets(__u32 number) {
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    return real && (real->state == REAL_UP || real->state == REAL_DRAINING);
}

static __always_inline bool is_real(__u32 number) {
    struct real *real = bpf_map_lookup_elem(&reals, &number);
    return real && real->state != REAL_ABSENT;
}

static __always_inline struct flow *find_flow(const struct flow_key *key) {
    struct flow *flow = bpf_map_lookup_elem(&flows, key);
    if (flow)
        return flow;
    flow = bpf_map_lookup_elem(&flows_new, key);
    if (!flow)
        return 0;
    /* It came back: no flood's doing. */
    bpf_map_update_elem(&flows, key, flow, BPF_ANY);
    return flow;
}

static __always_inline void flow_key_of(struct flow_key *key, const struct packet *packet, bool ports) {
    *key = (struct flow_key){.source = packet->source,
                             .destination = packet->destination,
                             .source_port = ports ? packet->source_port : 0,
                             .destination_port = ports ? packet->destination_port : 0,
                             .protocol = packet->protocol,
                             .version = packet->version};
}

/* Once a second at most: the line stays shared between CPUs otherwise. */
static __always_inline void touch(struct flow *flow, __u32 now_s) {
    if (flow->seen_s != now_s)
        flow->seen_s = now_s;
}

static __always_inline bool is_idle(const struct flow *flow, const struct packet *packet,
                                    const struct settings *settings, __u32 now_s) {
    return packet->protocol == IPPROTO_UDP && now_s - flow->seen_s > settings->flow_idle_s;
}

/* A slot whose real changed: new connections go to the current real, everything else to where it was. */
__attribute__((noinline)) __u32 real_of_moved(struct packet *packet, struct service *service, __u64 slot,
                                              __u32 row) {
    __u32 only = 0, now_s = coarse_s();
    struct settings *known = bpf_map_lookup_elem(&settings, &only);
    if (!packet || !service || !known)
        return 0;
    __u32 current = SLOT_CURRENT(slot), previous = SLOT_PREVIOUS(slot);
    struct flow_key key;
    flow_key_of(&key, packet, !(service->flags & SERVICE_HASH_ADDRESSES));
    struct flow fresh = {current, now_s, service->ring, row};
    if (opens_connection(packet)) {
        if (!current)
            return 0;
        bpf_map_update_elem(&flows_new, &key, &fresh, BPF_ANY);
        bpf_map_delete_elem(&flows, &key); /* the ports' earlier connection is over */
        count(service->id, NOTE_FLOW_NEW, packet);
        return current;
    }
    struct flow *flow = find_flow(&key);
    if (flow) {
        bool idle = is_idle(flow, packet, known, now_s);
        if (!idle && takes_packets(flow->real)) {
            count(service->id, NOTE_FLOW_PINNED, packet);
            touch(flow, now_s);
            return flow->real;
        }
        if (!current) /* nobody else either: it may come back */
            return 0;
        if (!idle)
            count(service->id, NOTE_FLOW_REMAPPED, packet);
        *flow = fresh;
        return current;
    }
    if (previous && takes_packets(previous))
        fresh.real = previous;
    if (fresh.real && !packet->related) {
        bpf_map_update_elem(&flows_new, &key, &fresh, BPF_ANY);
        count(service->id, NOTE_FLOW_NEW, packet);
    }
    return fresh.real;
}

/* The same for `nat`, whose own table knows every flow: this only says whom to ask about first. forward_nat
 * asks about the current real too, and pins the flow once it was found or made there; a packet of which
 * nothing is known pins nothing. A TCP flow cannot go on elsewhere, so it stays with a real that is down. */
__attribute__((noinline)) __u32 nat_candidate(struct packet *packet, __u32 id, __u64 slot) {
    __u32 only = 0, now_s = coarse_s();
    struct settings *known = bpf_map_lookup_elem(&settings, &only);
    if (!packet || !known)
        return 0;
    __u32 current = SLOT_CURRENT(slot), number = SLOT_PREVIOUS(slot);
    packet->moved = MOVED;
    packet->current = current;
    if (opens_connection(packet))
        return current;
    struct flow_key key;
    flow_key_of(&key, packet, true);
    struct flow *flow = find_flow(&key);
    if (flow && is_idle(flow, packet, known, now_s))
        return current;
    if (flow)
        number = flow->real;
    if (!number || (packet->protocol == IPPROTO_UDP ? !takes_packets(number) : !is_real(number)))
        return current;
    if (flow) {
        packet->moved = MOVED_KNOWN;
        touch(flow, now_s);
        count(id, NOTE_FLOW_PINNED, packet);
    }
    return number;
}

/* Of a slot that moved: where the flow goes from now on, whatever the slot does. */
__attribute__((noinline)) int pin_flow(struct packet *packet, __u32 row, __u32 id) {
    if (!packet)
        return 0;
    struct flow_key key;
    flow_key_of(&key, packet, true);
    struct flow fresh = {packet->current, coarse_s(), packet->ring, row};
    bpf_map_update_elem(&flows_new, &key, &fresh, BPF_ANY);
    bpf_map_delete_elem(&flows, &key); /* where it, or the ports' earlier connection, was */
    count(id, NOTE_FLOW_NEW, packet);
    return 0;
}

/* Returns the number of a real, 0 if there is none. */
static __always_inline __u32 choose_real(struct packet *packet, struct service *service, __u32 hash) {
    __u32 number = service->ring;
    void *ring = bpf_map_lookup_elem(&rings, &number);
    if (!ring)
        return 0;
    __u32 row = slot_of(hash);
    __u64 *entry = bpf_map_lookup_elem(ring, &row);
    if (!entry)
        return 0;
    __u64 slot = *(volatile __u64 *)entry;
    if (!(slot & SLOT_MOVED))
        return SLOT_CURRENT(slot);
    if (service->forward == FORWARD_NAT)
        return nat_candidate(packet, service->id, slot);
    return real_of_moved(packet, service, slot, row);
}
