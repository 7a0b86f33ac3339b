/* SYN cookies: what a connection request said, in the sequence number of the answer, under a keyed hash. XDP
 * answers (xdp_cookie), tc recognises (tc_ingress); nothing is kept in between.
 *
 * 24 bits of hash over addresses, ports, the client's number and the minute; 8 bits: MSS (2), SACK (1),
 * window scale (4, 15: none), and one left over. */
#pragma once
#include "packet.h"
#include "siphash.h"

#define COOKIE_NO_SCALE  15
#define COOKIE_OUR_SCALE 7
#define OPTION_END       0
#define OPTION_NOTHING   1
#define OPTION_MSS       2
#define OPTION_SCALE     3
#define OPTION_SACK      4
#define OPTION_TIME      8
#define OPTIONS_LONGEST  40
#define OPTIONS_MOST     12

struct tcp_options {
    __u8 bytes[OPTIONS_LONGEST + 12]; /* what is read beyond an option that is cut off is zero */
    __u32 length;
    __u16 mss;
    __u8 scale;
    __u8 sack;
    __u8 has_time;
    __u8 padding[3];
    __u32 time;
    __u32 echoed;
};

static __always_inline __u32 four_bytes(const __u8 *at) {
    return (__u32)at[0] << 24 | (__u32)at[1] << 16 | (__u32)at[2] << 8 | at[3];
}

/* One option; returns where the next one is, OPTIONS_LONGEST where there is none. Functions of their own, so
 * that the verifier walks through one option once and not through all their orders. */
__attribute__((noinline)) __u32 read_option(struct tcp_options *options, __u32 at) {
    if (!options || at >= options->length || at >= OPTIONS_LONGEST)
        return OPTIONS_LONGEST;
    const __u8 *option = &options->bytes[at];
    __u8 kind = option[0], size = option[1];
    if (kind == OPTION_NOTHING)
        return at + 1;
    if (kind == OPTION_END || size < 2)
        return OPTIONS_LONGEST;
    if (kind == OPTION_MSS && size == 4) {
        options->mss = (__u16)option[2] << 8 | option[3];
    } else if (kind == OPTION_SCALE && size == 3) {
        options->scale = option[2] > 14 ? 14 : option[2];
    } else if (kind == OPTION_SACK && size == 2) {
        options->sack = 1;
    } else if (kind == OPTION_TIME && size == 10) {
        options->has_time = 1;
        options->time = four_bytes(option + 2);
        options->echoed = four_bytes(option + 6);
    }
    return at + size;
}

/* Reads `bytes` into the other fields. */
__attribute__((noinline)) int read_options(struct tcp_options *options) {
    if (!options)
        return 0;
    options->mss = 536; /* RFC 9293: whoever says nothing */
    options->scale = COOKIE_NO_SCALE;
    __u32 at = 0;
    for (int i = 0; i < OPTIONS_MOST; i++) {
        at = read_option(options, at);
        if (at >= OPTIONS_LONGEST)
            break;
    }
    return 1;
}

/* The largest of a few sizes that is not larger. */
static __always_inline __u32 mss_index(__u16 mss) {
    return mss >= 1460 ? 3 : mss >= 1440 ? 2 : mss >= 1300 ? 1 : 0;
}

/* The smallest is what every host takes (RFC 9293); the kernel takes no less for IPv6. */
static __always_inline __u16 mss_of(__u32 index, __u8 version) {
    return index == 3 ? 1460 : index == 2 ? 1440 : index == 1 ? 1300 : version == 4 ? 536 : 1220;
}

static __always_inline __u32 cookie_said(const struct tcp_options *options) {
    return mss_index(options->mss) << 5 | (__u32)options->sack << 4 | options->scale;
}

/* A function of its own: the verifier walks through it once. */
__attribute__((noinline)) __u32 cookie_of(const struct packet *packet, const struct settings *settings,
                                          __u32 client_number, __u32 said, __u32 minute) {
    if (!packet || !settings)
        return 0;
    __u64 words[6] = {packet->source.halves[0],
                      packet->source.halves[1],
                      packet->destination.halves[0],
                      packet->destination.halves[1],
                      (__u64)packet->source_port << 48 | (__u64)packet->destination_port << 32 |
                          client_number,
                      (__u64)minute << 32 | said};
    return (__u32)siphash(words, 6, settings->cookie_key) << 8 | said;
}

static __always_inline __u32 minute_now(void) {
    return bpf_ktime_get_coarse_ns() / 60000000000ULL;
}
