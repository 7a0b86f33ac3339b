/* Maglev's table, and a ring's step to one, by programs that the agent has the kernel run, since Python
 * takes much longer. Slot for slot they are what `populate` and `Ring.step` of
 * xds_agent/datapath/maglev.py make, so that edges of mixed versions lead a flow to one backend.
 *
 * For a table the agent writes `choosers`, each one's first turn into `turns` (sorted, which is a heap), and
 * `run`, has `populate` run until nothing is left, and reads `table`. For a step it writes `table`, `ring`
 * and `run`, has `step` run, and reads `ring`. */
#include "include/types.h"

#define CHOOSERS (1 << 13) /* a power of two: then a mask is all that the verifier asks for */
#define DEPTH    13        /* of a heap of so many, less one */
#define PROBES   16
#define STEPS    (1 << 23) /* as many as bpf_loop allows */
#define TOGETHER 16        /* slots of a ring */
#define ROOM     (RING_SLOTS + TOGETHER - 1)

/* A real that fills slots in an order of its own. */
struct chooser {
    __u32 number;
    __u32 weight;
    __u32 at;   /* the slot it looks at next, and how far the one after that is */
    __u32 skip; /* less than the number of slots */
    __u32 turn; /* which of its turns is next, from 1 */
};

struct run {
    __u32 slots;
    __u32 choosers;
    __u32 heaviest;
    __u32 alike; /* all weights are the same: turns go round, `next` says whose it is */
    __u32 left;  /* slots without a real */
    __u32 next;
    __u32 gap; /* of the heap, while a turn is put back */
};

struct run run = {};
struct chooser choosers[CHOOSERS] = {};
/* A heap of when each is next to choose: round << 15 | place. */
__u64 turns[CHOOSERS] = {};
/* What lies beyond the last slot is nobody's. */
__u32 table[ROOM] = {};
/* Slots as packets find them. */
__u64 ring[ROOM] = {};

char LICENSE[] SEC("license") = "GPL";

/* The earlier child goes up into the gap, unless the turn that is put back is earlier still. The gap lies in
 * memory since the verifier knows nothing of what lies there, and so goes through this once. */
static long sink(__u32 depth, __u64 *turn) {
    __u32 gap = run.gap, child = 2 * gap + 1, other = child + 1;
    if (child >= run.choosers)
        return 1;
    if (other < run.choosers && turns[other & (CHOOSERS - 1)] < turns[child & (CHOOSERS - 1)])
        child = other;
    __u64 earlier = turns[child & (CHOOSERS - 1)];
    if (*turn <= earlier)
        return 1;
    turns[gap & (CHOOSERS - 1)] = earlier;
    run.gap = child;
    return 0;
}

/* The turn of `place` is over; the heap's first goes to where its next one is. */
static __always_inline void pass_on(__u32 place, struct chooser *one) {
    __u64 turn = ++one->turn;
    if (run.alike) {
        run.next = place + 1 < run.choosers ? place + 1 : 0;
        return;
    }
    if (one->weight != run.heaviest)
        turn = (turn * run.heaviest + one->weight - 1) / one->weight;
    turn = turn << 15 | place;
    run.gap = 0;
    bpf_loop(DEPTH, sink, &turn, 0);
    turns[run.gap & (CHOOSERS - 1)] = turn;
}

/* Whose turn it is takes the next free slot of its order, or has looked at some that were taken. */
static long choose(__u32 index, void *context) {
    __u32 place = (run.alike ? run.next : turns[0]) & (CHOOSERS - 1);
    struct chooser *one = &choosers[place];
    __u32 at = one->at, skip = one->skip, slots = run.slots;
    if (at >= ROOM)
        return 1;
    __u32 *slot = &table[at];
    for (int probe = 1; probe < PROBES && *slot; probe++) {
        at += skip;
        if (at >= slots)
            at -= slots;
        if (at >= ROOM)
            return 1;
        slot = &table[at];
    }
    one->at = at;
    if (*slot)
        return 0;
    *slot = one->number;
    pass_on(place, one);
    return --run.left == 0;
}

/* Returns how many slots are left: run it again then. */
SEC("syscall")
int populate(void *context) {
    if (run.left)
        bpf_loop(STEPS, choose, NULL, 0);
    return run.left;
}

/* The previous real stays: whoever came after the slot's first step is in the flow table. */
static long step_slots(__u32 index, void *context) {
    __u32 first = index * TOGETHER;
    if (first > ROOM - TOGETHER)
        return 1;
    for (int i = 0; i < TOGETHER; i++) {
        __u64 slot = ring[first + i], next = table[first + i];
        /* Without a branch, which would be foreseen wrongly at every third slot: numbers have 31 bits. */
        __u64 changed = ((SLOT_CURRENT(slot) ^ next) + 0x7fffffff) << 32 & SLOT_MOVED;
        ring[first + i] = slot >> 32 << 32 | changed | next;
    }
    return 0;
}

/* Returns 0 if all slots have gone to `table`. */
SEC("syscall")
int step(void *context) {
    long blocks = run.slots / TOGETHER + 1;
    return bpf_loop(blocks, step_slots, NULL, 0) != blocks;
}
