/* Stage: sample, for a capture or the flow log. A copy is made before anything changes the packet, and handed
 * out once its fate is known, which is the same with and without: no reader at all, a dead or a slow one
 * costs samples and no packets. What is dropped anyway goes to the reader itself, by AF_XDP. */
#pragma once
#include "count.h"

/* The verifier has to see this very number compared, and not one the compiler thinks equal. */
#define HOLD(number) asm volatile("" : "+r"(number))

static __always_inline bool anybody_reads(const struct sampling *sampling) {
    const volatile __u32 *one_in = sampling->one_in;
    return one_in[TAP_FLOWS] | one_in[TAP_CAPTURE];
}

/* Of each run of `one_in` packets exactly one, at a random place: an exact rate that keeps no rhythm. */
static __always_inline bool takes_turn(struct sampler *sampler, __u32 tap, __u32 one_in) {
    if (!sampler->left[tap] || sampler->left[tap] > one_in) {
        sampler->left[tap] = one_in;
        sampler->pick[tap] = bpf_get_prandom_u32() % one_in;
    }
    return --sampler->left[tap] == sampler->pick[tap];
}

static __always_inline bool is_in(const union address *address, const struct tap *tap) {
    __u32 other = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        other |= (address->words[i] & tap->mask.words[i]) ^ tap->network.words[i];
    return !other;
}

static __always_inline bool concerns(const struct tap *tap, const struct packet *packet, __u64 now) {
    if (now >= tap->until_ns)
        return false;
    if (tap->protocol && tap->protocol != packet->protocol)
        return false;
    if (tap->port && tap->port != packet->source_port && tap->port != packet->destination_port)
        return false;
    return !tap->version || (tap->version == packet->version &&
                             (is_in(&packet->source, tap) || is_in(&packet->destination, tap)));
}

static __always_inline __u32 frame_length(const struct xdp_md *ctx) {
    return (__u32)(ctx->data_end - ctx->data);
}

/* The first bytes of the frame as it is now. */
static __always_inline void copy_frame(struct xdp_md *ctx, struct sample_record *record, __u32 most) {
    __u64 length = frame_length(ctx), captured = length < most ? length : most;
    record->sample.length = length;
    record->sample.captured = 0;
    HOLD(captured);
    if (captured && captured <= SAMPLE_BYTES && !bpf_xdp_load_bytes(ctx, 0, record->bytes, captured))
        record->sample.captured = captured;
}

static __always_inline void describe(struct xdp_md *ctx, const struct packet *packet,
                                     struct sample_record *record) {
    record->sample.time_ns = bpf_ktime_get_ns();
    record->sample.interface = ctx->ingress_ifindex;
    record->sample.queue = ctx->rx_queue_index;
    record->sample.leaving = 0;
    record->flow.source = packet->source;
    record->flow.destination = packet->destination;
    record->flow.source_port = packet->source_port;
    record->flow.destination_port = packet->destination_port;
    record->flow.protocol = packet->protocol;
    record->flow.version = packet->version;
}

/* Before the packet's fate is known, and before it is changed. */
static __noinline int take_sample(struct xdp_md *ctx, struct packet *packet,
                                  const struct sampling *sampling) {
    __u32 only = 0, wanted = 0, bytes = 0;
    struct sampler *sampler = bpf_map_lookup_elem(&samplers, &only);
    if (!sampler)
        return 0;
    __u64 now = bpf_ktime_get_coarse_ns();
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        __u32 one_in = sampling->one_in[tap];
        if (!one_in || !concerns(&sampling->taps[tap], packet, now) || !takes_turn(sampler, tap, one_in))
            continue;
        wanted |= 1U << tap;
        if (tap == TAP_CAPTURE)
            bytes = sampling->taps[tap].bytes;
    }
    sampler->wanted = wanted;
    if (wanted) {
        packet->sampled = 1;
        describe(ctx, packet, &sampler->record);
        copy_frame(ctx, &sampler->record, bytes);
    }
    return 0;
}

/* Nobody is woken: readers look by themselves, however many packets there are. */
static __always_inline void hand_out(struct sample_record *record, enum tap_row tap, __u32 bytes,
                                     const struct packet *packet) {
    __u32 row = tap;
    __u64 size = sizeof(record->sample) + sizeof(record->flow) + bytes;
    void *ring = bpf_map_lookup_elem(&sample_rings, &row);
    HOLD(size);
    bool lost = !ring || size > sizeof(*record) || bpf_ringbuf_output(ring, record, size, BPF_RB_NO_WAKEUP);
    count(record->sample.service, lost ? NOTE_SAMPLE_LOST : NOTE_SAMPLED, packet);
}

/* The dropped packet itself, as it came; false where no socket takes it. A full socket drops it, too. */
static __always_inline bool hand_over(struct xdp_md *ctx, const struct sample_record *record,
                                      const struct packet *packet) {
    struct queue_key key = {.interface = record->sample.interface, .queue = record->sample.queue};
    __u32 *row = bpf_map_lookup_elem(&sample_queues, &key);
    __u64 captured = record->sample.captured;
    HOLD(captured);
    if (!row || !captured || captured > SAMPLE_BYTES || frame_length(ctx) != record->sample.length)
        return false;
    /* Its DSCP may have been set before something else let it be dropped. */
    if (bpf_xdp_store_bytes(ctx, 0, (void *)record->bytes, captured) ||
        bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct sample)))
        return false;
    struct sample *said = (void *)(long)ctx->data_meta;
    if ((void *)(said + 1) > (void *)(long)ctx->data)
        return false;
    *said = record->sample;
    if (bpf_redirect_map(&sample_sockets, *row, XDP_DROP) != XDP_REDIRECT)
        return false;
    count(record->sample.service, NOTE_SAMPLED, packet);
    return true;
}

static __always_inline bool asks_for(const struct tap *tap, const struct sample *sample) {
    __u64 reasons = 1ULL << (sample->reason & 63);
    if (sample->monitored)
        reasons |= 1ULL << (sample->monitored & 63);
    if (!(tap->reasons & reasons))
        return false;
    return !(tap->flags & TAP_BY_SERVICE) || tap->service == sample->service;
}

/* Once its fate is known; returns the verdict. */
static __noinline int finish_sample(struct xdp_md *ctx, const struct packet *packet,
                                    const struct sampling *sampling, __u32 service, enum reason reason) {
    __u32 only = 0;
    struct sampler *sampler = bpf_map_lookup_elem(&samplers, &only);
    if (!sampler || !sampler->wanted)
        return verdict_of(reason);
    struct sample_record *record = &sampler->record;
    record->sample.service = service;
    record->sample.reason = reason;
    record->sample.monitored = packet->monitored;
    if (sampler->wanted & 1U << TAP_FLOWS && asks_for(&sampling->taps[TAP_FLOWS], &record->sample)) {
        record->sample.one_in = sampling->one_in[TAP_FLOWS];
        hand_out(record, TAP_FLOWS, 0, packet);
    }
    const struct tap *capture = &sampling->taps[TAP_CAPTURE];
    if (!(sampler->wanted & 1U << TAP_CAPTURE) || !asks_for(capture, &record->sample))
        return verdict_of(reason);
    record->sample.one_in = sampling->one_in[TAP_CAPTURE];
    if (is_drop(reason) && hand_over(ctx, record, packet))
        return XDP_REDIRECT;
    hand_out(record, TAP_CAPTURE, record->sample.captured, packet);
    if (verdict_of(reason) == XDP_TX && capture->flags & TAP_LEAVING) {
        copy_frame(ctx, record, capture->bytes);
        record->sample.leaving = 1;
        hand_out(record, TAP_CAPTURE, record->sample.captured, packet);
    }
    return verdict_of(reason);
}
