/* Stage: count. Each CPU has counters of its own; no atomics. */
#pragma once
#include "maps.h"
#include "packet.h"

static __always_inline void add(struct counter *counter, const struct packet *packet) {
    if (!counter)
        return;
    counter->packets++;
    counter->bytes += packet->frame_length;
}

static __always_inline void count(__u32 service, enum reason reason, const struct packet *packet) {
    __u32 row = service * REASONS + reason;
    add(bpf_map_lookup_elem(&counters, &row), packet);
}

static __always_inline void count_monitored(__u32 service, enum reason reason, const struct packet *packet) {
    __u32 row = service * DROPS + (reason - FIRST_DROP);
    add(bpf_map_lookup_elem(&monitored, &row), packet);
}

static __always_inline void count_real(__u32 real, const struct packet *packet) {
    add(bpf_map_lookup_elem(&real_counters, &real), packet);
}
