/* Stage: rate limits by GCRA (a leaky bucket in one number, changed by compare and exchange). Sources share a
 * fixed table without keys: nothing is inserted, so no flood can evict anybody. A source owns two cells of
 * one cache line and passes while either has room; an innocent suffers only where both are shared with
 * abusers. Of floods from everywhere that line is in no cache, and fetching it is the stage's price: it is
 * asked for as soon as the source is known, and needed a few stages later. */
#pragma once
#include "maps.h"
#include "packet.h"
#include "parse.h"

/* How often a lost race is tried again. Then the packet counts as one too many: the limit is never exceeded.
 */
#define LIMIT_TRIES 2

enum limit_kind {
    LIMIT_PACKETS = 0x243f6a88, /* salts: each kind has cells of its own */
    LIMIT_SYNS = 0x13198a2e,
    LIMIT_SSH = 0x03707344,
    LIMIT_DHCP = 0x0a409382,
    LIMIT_BYTES = 0, /* none: */
};

/* Each packet is charged to its bytes, too. So their pair is that of packets, so many cells further: never
 * the same two, in which a source would use up one limit by the other. */
#define LIMIT_BYTES_TURN 1

static __always_inline bool takes(__u64 *cell, __u64 now, const struct limit *limit, __u64 cost_ns) {
#pragma unroll
    for (int i = 0; i < LIMIT_TRIES; i++) {
        __u64 old = *(volatile __u64 *)cell;
        __u64 start = old > now ? old : now; /* another CPU's clock may be ahead: never subtract first */
        if (start - now > limit->burst_ns)
            return false;
        if (__sync_val_compare_and_swap(cell, old, start + cost_ns) == old)
            return true;
    }
    return false;
}

static __always_inline bool conforms(__u64 *cell, __u64 now, const struct limit *limit) {
    return takes(cell, now, limit, limit->interval_ns);
}

static __always_inline bool conforms_bytes(__u64 *cell, __u64 now, const struct limit *limit,
                                           const struct packet *packet) {
    return takes(cell, now, limit, packet->frame_length * limit->interval_ns >> 10);
}

/* `old` was read before `now`, so no writer's clock is ahead of ours, and what is further ahead than a full
 * bucket is a cell that was idle for so long that the clock went round. After a lost race neither holds: the
 * cell is new, and its writer may have read the clock before us or after. */
static __always_inline bool takes_cell(__u32 *cell, __u32 old, __u32 now, __u32 burst, __u32 cost,
                                       __u32 full) {
    __u32 ahead = old - now;
    if (ahead > full)
        ahead = 0;
    if (ahead > burst)
        return false;
    __u32 seen = __sync_val_compare_and_swap(cell, old, now + ahead + cost);
    if (seen == old)
        return true;
    ahead = (__s32)(seen - now) > 0 ? seen - now : 0;
    return ahead <= burst && __sync_val_compare_and_swap(cell, seen, now + ahead + cost) == seen;
}

/* IPv6 sources are limited by /64: that is what one customer has. All kinds of limits share a block. */
static __always_inline __u32 source_hash(const struct packet *packet, __u32 seed) {
    __u32 key = packet->version == 4 ? packet->source.words[0] : ~fold(packet->source.halves[0]);
    return mix(key ^ seed);
}

/* The processor goes on while the line comes: it waits for loads and exchanges, but not for a store. */
static __always_inline void fetch_cells(const struct packet *packet, __u32 seed, __u32 mask) {
    __u32 row = source_hash(packet, seed) & mask;
    struct limit_block *block = bpf_map_lookup_elem(&limit_blocks, &row);
    if (block)
        *(volatile __u32 *)&block->touched = 0;
}

/* `now_ns` becomes what the clock said; `turn`: how many cells further than the pair of this kind. */
static __always_inline bool cells_conform(__u32 hash, enum limit_kind kind, __u32 turn,
                                          const struct source_limit *limit, __u32 cost,
                                          const struct settings *settings, __u64 *now_ns, __u32 mask) {
    __u32 row = hash & mask;
    struct limit_block *block = bpf_map_lookup_elem(&limit_blocks, &row);
    if (!limit->interval || !block) {
        *now_ns = bpf_ktime_get_coarse_ns();
        return true;
    }
    /* From a second round: the row used up the good bits of the first. */
    __u32 pair = mix(hash ^ kind), first = ((pair & 0xffff) * LIMIT_CELLS >> 16) + turn;
    if (turn && first >= LIMIT_CELLS)
        first -= LIMIT_CELLS;
    __u32 second = first + 1 + ((pair >> 16) * (LIMIT_CELLS - 1) >> 16);
    if (second >= LIMIT_CELLS)
        second -= LIMIT_CELLS;
    __u32 *one = &block->cells[first & 15], *other = &block->cells[second & 15];
    __u32 here = *(volatile __u32 *)one, there = *(volatile __u32 *)other;
    *now_ns = bpf_ktime_get_coarse_ns();
    __u32 now = *now_ns >> (settings->source_shift & 63), full = settings->source_full;
    /* Both are charged, always: they stay in step, and their sum lets no more through than one. */
    bool conforms_here = takes_cell(one, here, now, limit->burst, cost, full);
    return takes_cell(other, there, now, limit->burst, cost, full) | conforms_here;
}

static __always_inline bool source_conforms(const struct packet *packet, enum limit_kind kind,
                                            const struct source_limit *limit, const struct settings *settings,
                                            __u64 *now_ns, __u32 seed, __u32 mask) {
    return cells_conform(source_hash(packet, seed), kind, 0, limit, limit->interval, settings, now_ns, mask);
}

/* All leases together: who floods spoofs addresses. The cell is that of the host itself, row 0, which no
 * service has. */
static __always_inline bool leases_conform(const struct settings *settings, __u64 now) {
    __u32 only = 0;
    struct service_cell *cell = bpf_map_lookup_elem(&service_cells, &only);
    return !cell || !settings->dhcp_total.interval_ns || conforms(&cell->packets, now, &settings->dhcp_total);
}

/* Limits of a source that few packets meet, or few hosts have: one copy of the above for all of them, and a
 * function of its own for the verifier. Bytes, `length` of them, are rounded up to whole units. */
__attribute__((noinline)) __u32 seldom_conforms(__u32 hash, __u32 kind, __u32 length, __u32 mask) {
    __u32 only = 0;
    __u64 now_ns;
    struct settings *current = bpf_map_lookup_elem(&settings, &only);
    if (!current)
        return true;
    const struct source_limit *limit = &current->source_bytes;
    __u32 salt = LIMIT_PACKETS, turn = LIMIT_BYTES_TURN;
    if (kind != LIMIT_BYTES) {
        limit = kind == LIMIT_SSH ? &current->ssh_packets : &current->dhcp_packets;
        salt = kind;
        turn = 0;
        length = 1024;
    }
    __u32 cost = ((__u64)length * limit->interval + 1023) >> 10;
    if (!cells_conform(hash, salt, turn, limit, cost, current, &now_ns, mask))
        return false;
    return kind != LIMIT_DHCP || leases_conform(current, now_ns);
}

/* PARSED, or why not. */
static __always_inline enum reason service_conforms(const struct service *service,
                                                    const struct packet *packet, bool opens, __u64 now) {
    const struct limit *limit = opens ? &service->syns : &service->packets;
    if (!limit->interval_ns && !service->bytes.interval_ns)
        return PARSED;
    __u32 row = service->id;
    struct service_cell *cell = bpf_map_lookup_elem(&service_cells, &row);
    if (!cell)
        return PARSED;
    if (limit->interval_ns && !conforms(opens ? &cell->syns : &cell->packets, now, limit))
        return opens ? DROP_SERVICE_SYN_RATE : DROP_SERVICE_RATE;
    if (service->bytes.interval_ns && !conforms_bytes(&cell->bytes, now, &service->bytes, packet))
        return DROP_SERVICE_BYTES;
    return PARSED;
}

static __always_inline bool answer_conforms(const struct service_answers *answers, __u32 id,
                                            const struct packet *packet) {
    if (!answers->bytes.interval_ns)
        return true;
    struct service_cell *cell = bpf_map_lookup_elem(&service_cells, &id);
    return !cell || conforms_bytes(&cell->answers, bpf_ktime_get_coarse_ns(), &answers->bytes, packet);
}
