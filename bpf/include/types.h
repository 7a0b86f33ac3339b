/* Types that maps hold and stages share. Python reads every layout from BTF. */
#pragma once
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/icmpv6.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "reasons.h"

#define RING_SLOTS     65537 /* Maglev: a prime much larger than any number of reals */
#define DIRECTORY_ROWS 65536 /* of 256 IPv4 /24 each, and one more row behind them */

/* An IPv4 address lies in words[0], the rest is zero. */
union address {
    __be32 words[4];
    __u64 halves[2];
    __u8 bytes[16];
};

/* GCRA: one packet per interval_ns (limits of bytes: 1024 bytes per interval_ns) on the long run, burst_ns of
 * it at once. interval_ns 0: no limit. */
struct limit {
    __u64 interval_ns;
    __u64 burst_ns;
};

/* The same for a source, whose cells are 32 bits wide: in units of 2^source_shift ns. Limits of bytes again
 * say the interval of 1024 of them. interval 0: no limit. */
struct source_limit {
    __u32 interval;
    __u32 burst;
};

enum setting_flag {
    SETTING_MONITOR = 1, /* decide and count, but let pass what would be dropped */
};

/* What may change while the program runs. */
struct settings {
    __u32 flags;
    __be16 gue_port;
    __u16 flow_idle_s; /* a UDP flow silent for so long is taken for a new one */
    __be32 tunnel_source4;
    __u32 reserved;
    union address tunnel_source6;
    __be32 nat_source4; /* what reals see instead of the client */
    __u16 nat_new_s;    /* how long (s, idle) a flow keeps its port: not confirmed yet, */
    __u16 nat_tcp_s;    /* open, */
    __u16 nat_udp_s;
    __u16 nat_closing_s; /* closed by both sides or reset */
    __u16
        nat_fragment_s; /* how long later fragments may follow their first; four minutes and more: forever */
    __u16 padding;
    union address nat_source6;
    struct source_limit source_packets;
    struct source_limit source_syns;
    struct source_limit ssh_packets;
    struct source_limit dhcp_packets;
    struct source_limit source_bytes;
    __u32 source_shift;
    __u32 source_full; /* burst of the largest of these and what one packet adds: no cell is further ahead of
                        * the clock */
    struct limit dhcp_total;    /* over all sources */
    struct limit cookies_above; /* connection requests to the host's own services; beyond it cookies answer */
    __u64 cookie_key[2];
};

/* What is fixed at load: code of a stage that is off does not exist. */
struct features {
    __u8 acl;
    __u8 limit;
    __u8 balance;
    __u8 local_sockets;
    __u8 nat;
    __u8 cookies;
    __u8 sampling;
    __u8 padding;
    __u16 nat_first_port;
    __u32 nat_sets;      /* of NAT_WAYS ports each, per bank */
    __u32 nat_bank_mask; /* banks minus one; a power of two minus one */
    __u32 limit_mask;    /* blocks of the limiter minus one; a power of two minus one */
    __u32 limit_seed;    /* secret of this host: nobody can aim at another source's cells */
    __u32 balance_seed;  /* the same on all hosts of a site: any of them finds the same real */
};

enum acl_class {
    ACL_NONE = 0,
    ACL_EXEMPT = 1, /* neither denied nor limited */
    ACL_DENY = 2,
    ACL_ASK = 3, /* the last of two bits, and only in a directory: a prefix beyond /24 lies below, ask the
                  * long table */
};

/* Two bits for each /24, the first in the lowest bits of the first byte. Of the row behind all others the
 * first byte is the parity of the generation. */
struct acl_row {
    __u8 fours[64];
};

struct prefix4 {
    __u32 length;
    __be32 address;
};

struct prefix6 {
    __u32 length;
    __u8 address[16]; /* not `union address`: its alignment would leave a hole */
};

/* One cache line: whatever a source needs is fetched at once. A cell holds the time (coarse clock, in units
 * of 2^source_shift ns, modulo 2^32) at which its bucket is empty again. `touched` means nothing: writing it
 * fetches the line. */
#define LIMIT_CELLS 15
struct limit_block {
    __u32 cells[LIMIT_CELLS];
    __u32 touched;
};

struct service_cell {
    __u64 packets;
    __u64 syns;
    __u64 bytes;
    __u64 answers; /* bytes of them */
    __u64 padding[4];
};

/* What the kernel sends in a service's name. */
struct egress {
    __u32 class; /* of HTB: major << 16 | minor; 0: by DSCP */
    __u8 marked;
    __u8 dscp;
    __u16 padding;
};

/* What holds for a service's answers, found by its id: they carry no address of it. */
struct service_answers {
    struct limit bytes;
    __u8 marked;
    __u8 dscp;
    __u8 padding[6];
};

enum own_flag {
    OWN_ADDRESS = 1,
    OWN_TRANSLATED = 2, /* a nat service is there: what its fragments are, only their first one says */
};

/* An IPv4 address alone might be an IPv6 one. */
struct own_key {
    union address address;
    __u32 version;
    __u32 padding;
};

struct service_key4 {
    __be32 address;
    __be16 port; /* 0: whatever has no port (ICMP), and fragments of a service hashed by addresses */
    __u8 protocol;
    __u8 padding;
};

struct service_key6 {
    union address address;
    __be16 port;
    __u8 protocol;
    __u8 padding[5]; /* all bytes of a key count, so none may be left to the compiler */
};

enum forward {
    FORWARD_KERNEL = 0, /* classified, limited and counted here, served by the host */
    FORWARD_GUE = 1,
    FORWARD_DSR = 2,
    FORWARD_ECHO = 3,
    FORWARD_NAT = 4,
};

enum service_flag {
    SERVICE_HASH_ADDRESSES = 1,    /* not ports: fragments reach the same real as the rest of their flow */
    SERVICE_PASS_WITHOUT_REAL = 2, /* no healthy real: to the kernel instead of a drop */
    SERVICE_MARK = 4,              /* what is forwarded gets the service's DSCP */
};

struct service {
    __u32 id; /* its row of `counters` and `service_cells`; 0 is the host itself */
    __u32 ring;
    __u16 flags;
    __u16 forward;
    __u32 mtu; /* bytes of the largest IP packet that still reaches a real; 0: no bound */
    struct limit packets;
    struct limit syns;
    struct limit bytes;
    __u8 dscp;
    __u8 padding[7];
};

enum real_state {
    REAL_ABSENT = 0,
    REAL_UP = 1,
    REAL_DRAINING = 2, /* keeps its flows, gets no new ones */
    REAL_DOWN = 3,
};

struct real {
    union address address;
    __u8 mac[6]; /* of the next hop */
    __u8 version;
    __u8 state;
    __be16 port; /* nat sends there; 0: the service's own */
    __u8 padding[6];
};

/* A ring slot is one u64, so that one read sees both: current real in bits 0 to 31, previous in 32 to 62.
 * MOVED stays set until no flow pinned in this slot is left; without it the flow table is not asked. */
#define SLOT_MOVED          (1ULL << 63)
#define SLOT_PREVIOUS(slot) ((__u32)((slot) >> 32) & 0x7fffffff)
#define SLOT_CURRENT(slot)  ((__u32)(slot))

struct flow_key {
    union address source;
    union address destination;
    __be16 source_port;
    __be16 destination_port;
    __u8 protocol;
    __u8 version;
    __u16 padding;
};

struct flow {
    __u32 real;
    __u32 seen_s; /* coarse clock, seconds */
    __u32 ring;   /* whose slot it is pinned in: the slot stays moved while the flow lives */
    __u32 slot;
};

/* NAT: a port of the range is a slot of a table, and a flow's hash says which eight slots (twice) it may
 * have. So both directions find the same entry without a search, nothing is inserted, and nothing evicts a
 * flow: a slot is taken when it is free, idle for too long, or not confirmed. A bank is a whole range of
 * ports; which one a real's flows use is a hash of its address, so that reals share no ports but those of
 * their bank. */
#define NAT_WAYS 8

/* What slots mean; with another meaning a table starts empty. */
struct nat_geometry {
    __u32 first_port;
    __u32 sets;
    __u32 bank_mask;
    __u32 seed;
};

/* One cache line. A tag: fingerprint of the flow (32 bits), seen_s (24), state (8). */
struct nat_set {
    __u64 tags[NAT_WAYS];
};

enum nat_state {
    NAT_FREE = 0,
    NAT_WRITING = 1,  /* claimed, nothing to be read yet */
    NAT_NEW = 2,      /* the client's first packet came */
    NAT_ANSWERED = 3, /* the real answered it */
    NAT_OPEN = 4,     /* the client has seen the answer (TCP: it acknowledged the right number) */
    NAT_STAGE = 7,    /* mask of the above */
    NAT_FIN_CLIENT = 0x10,
    NAT_FIN_REAL = 0x20,
    NAT_RESET = 0x40,
    NAT_UDP = 0x80,
};

/* Datagrams of which NAT has seen the first fragment. One cache line; a place: slot of the flow (32 bits),
 * fingerprint of addresses, identification and protocol (18), direction and whether the flow is confirmed (1
 * each), time (12). */
#define FRAGMENT_SETS 4096
#define FRAGMENT_WAYS 8
struct fragment_set {
    __u64 places[FRAGMENT_WAYS];
};

/* One cache line. */
struct nat_flow {
    union address client;
    union address service;
    __u32 real;
    __u32 id;
    __be16 client_port;
    __be16 service_port;
    __be16 real_port;
    __u8 protocol;
    __u8 version;
    __u32 expected;     /* the number the client must acknowledge to confirm the flow */
    __u8 client_mac[6]; /* of the hop the client's packets come from: answers go back there */
    __u16 ring;         /* the slot of its ring that it came by stays moved while the flow lives elsewhere */
    __u32 slot;
};

struct counter {
    __u64 packets;
    __u64 bytes;
};

/* Who reads samples. */
enum tap_row {
    TAP_FLOWS = 0,   /* the flow log: who with whom, and no bytes */
    TAP_CAPTURE = 1, /* frames as they came */
    TAPS = 2,
};

enum tap_flag {
    TAP_BY_SERVICE = 1,
    TAP_LEAVING = 2, /* also what XDP sent on, as it left */
};

/* What a reader asks for. Addresses and ports are those of the packet as it came, of either end. */
struct tap {
    __u64 until_ns; /* coarse clock: the reader puts it off, so a dead one costs nothing for long */
    __u64 reasons;  /* one bit each */
    union address network;
    union address mask;
    __u32 service;
    __u32 flags;
    __u32 bytes; /* of a frame at most */
    __be16 port; /* 0: any */
    __u8 protocol;
    __u8 version; /* of `network`; 0: any */
};

struct sampling {
    __u32 one_in[TAPS]; /* of the packets that match; 0: nobody reads. The only bytes looked at when it is off
                         */
    struct tap taps[TAPS];
};

/* What precedes a frame, in the ring and (as metadata of XDP, at most 32 bytes) in an AF_XDP socket. */
struct sample {
    __u64 time_ns; /* CLOCK_MONOTONIC */
    __u32 service;
    __u32 interface;
    __u32 one_in;
    __u16 queue;
    __u16 length;   /* of the frame */
    __u16 captured; /* bytes of it that follow */
    __u8 reason;
    __u8 monitored; /* the drop it would have met but for monitor mode */
    __u8 leaving;   /* as it left, not as it came */
    __u8 padding[3];
};

/* No larger frame meets a program without multi-buffer support, where a page has 4 KiB. */
#define SAMPLE_BYTES 3584

struct sample_record {
    struct sample sample;
    struct flow_key flow;
    __u8 bytes[SAMPLE_BYTES];
};

/* Each CPU's. Of each run of one_in packets the one numbered `pick` is taken. */
struct sampler {
    __u32 wanted; /* taps that take the packet at hand, one bit each */
    __u32 left[TAPS];
    __u32 pick[TAPS];
    __u32 padding;
    struct sample_record record;
};

struct queue_key {
    __u32 interface;
    __u32 queue;
};
