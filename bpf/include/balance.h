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

/* A slot whose real changed: new connections go to the current real, everything else to where it was. */
static __always_inline __u32 real_of_moved(const struct packet *packet, const struct service *service,
                                           const struct settings *settings, __u64 slot, __u32 row,
                                           __u32 now_s) {
    __u32 current = SLOT_CURRENT(slot), previous = SLOT_PREVIOUS(slot);
    struct flow_key key = {.source = packet->source,
                           .destination = packet->destination,
                           .source_port = packet->source_port,
                           .destination_port = packet->destination_port,
                           .protocol = packet->protocol,
                           .version = packet->version};
    if (service->flags & SERVICE_HASH_ADDRESSES)
        key.source_port = key.destination_port = 0;
    struct flow fresh = {current, now_s, service->ring, row};
    if (opens_connection(packet)) {
        bpf_map_update_elem(&flows_new, &key, &fresh, BPF_ANY);
        bpf_map_delete_elem(&flows, &key); /* the ports' earlier connection is over */
        count(service->id, NOTE_FLOW_NEW, packet);
        return current;
    }
    struct flow *flow = find_flow(&key);
    if (flow) {
        bool idle = packet->protocol == IPPROTO_UDP && now_s - flow->seen_s > settings->flow_idle_s;
        if (!idle && takes_packets(flow->real)) {
            count(service->id, NOTE_FLOW_PINNED, packet);
            /* Once a second at most: the line stays shared between CPUs otherwise. */
            if (flow->seen_s != now_s)
                flow->seen_s = now_s;
            return flow->real;
        }
        if (!idle)
            count(service->id, NOTE_FLOW_REMAPPED, packet);
        *flow = fresh;
        return current;
    }
    if (previous && takes_packets(previous))
        fresh.real = previous;
    if (!packet->related) {
        bpf_map_update_elem(&flows_new, &key, &fresh, BPF_ANY);
        count(service->id, NOTE_FLOW_NEW, packet);
    }
    return fresh.real;
}

/* Returns the number of a real, 0 if there is none. */
static __always_inline __u32 choose_real(const struct packet *packet, const struct service *service,
                                         const struct settings *settings, __u32 hash) {
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
    return real_of_moved(packet, service, settings, slot, row, coarse_s());
}
