/* Tries a card before the datapath comes on it. Whatever arrives passes, but for the answers to one question
 * that the agent asks a neighbour: each of the first `most` is turned into that question again and sent back
 * by XDP_TX. So a neighbour that answers more often than it was asked has heard what XDP sent through the
 * card. */
#include "include/types.h"

#define ARP_OR_ND_BYTES 96 /* the longest question and answer */

struct trial {
    __u32 answer_bytes, question_bytes; /* a question is no longer than its answers: no frame has to grow */
    __u32 most;
    __u8 answer[ARP_OR_ND_BYTES]; /* what an answer looks like, where `mask` has bits */
    __u8 mask[ARP_OR_ND_BYTES];
    __u8 question[ARP_OR_ND_BYTES];
};
/* Set at load. */
const volatile struct trial trial = {};

struct seen {
    __u32 answers;
    __u32 reflected; /* of them */
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct seen);
} seen SEC(".maps");

SEC("xdp")
int xdp_reflect(struct xdp_md *ctx) {
    __u8 *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u32 row = 0;
    struct seen *count = bpf_map_lookup_elem(&seen, &row);
    if (!count || !trial.answer_bytes || frame + trial.answer_bytes > end)
        return XDP_PASS;
    for (__u32 at = 0; at < trial.answer_bytes && at < ARP_OR_ND_BYTES; at++)
        if (frame + at + 1 > end || ((frame[at] ^ trial.answer[at]) & trial.mask[at]))
            return XDP_PASS;
    if (__sync_fetch_and_add(&count->answers, 1) >= trial.most)
        return XDP_PASS;
    for (__u32 at = 0; at < trial.question_bytes && at < ARP_OR_ND_BYTES; at++)
        if (frame + at + 1 <= end)
            frame[at] = trial.question[at];
    __sync_fetch_and_add(&count->reflected, 1);
    return XDP_TX;
}

char _license[] SEC("license") = "GPL";
