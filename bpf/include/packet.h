/* What the parser found out; offsets are bytes from the start of the frame. */
#pragma once
#include "types.h"

/* linux/icmp.h brings the C library along, which has no place here. */
struct icmphdr {
    __u8 type;
    __u8 code;
    __sum16 checksum;
    __be16 unused;
    __be16 mtu;
};

#define ICMP_ECHOREPLY     0
#define ICMP_DEST_UNREACH  3
#define ICMP_ECHO          8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_FRAG_NEEDED   4

enum fragment {
    FRAGMENT_NONE = 0,
    FRAGMENT_FIRST = 1, /* has the ports */
    FRAGMENT_LATER = 2, /* what looks like ports is payload */
};

enum followed {
    FOLLOWED_NOT = 0,
    FOLLOWED = 1,        /* a later fragment whose first one was seen, from a client */
    FOLLOWED_ANSWER = 2, /* or from a real */
    FOLLOWED_KERNEL = 3, /* or one that no service took */
};

enum moved {
    MOVED_NOT = 0,
    MOVED = 1,
    MOVED_KNOWN = 2,  /* and the flow table said which real to ask about */
    MOVED_TO_PIN = 3, /* and NAT knows the flow: the flow table shall, too */
};

struct packet {
    union address source, destination;
    __be16 source_port, destination_port;
    __u8 version, protocol, tcp_flags, fragment;
    __u8 traffic_class, hop_limit, icmp_type, keep_whole; /* keep_whole: may not be fragmented on its way */
    __u8 related; /* an ICMP error, seen as a packet of the flow it is about */
    __u8 moved;   /* (nat) enum moved: of the slot */
    __u16 l3_offset, l4_offset;
    __u16 l3_length; /* by its own header: Ethernet pads short packets */
    __u16 frame_length;
    __u16 ring;     /* by which it is balanced */
    __u8 monitored; /* the drop that monitor mode spared it */
    __u8 sampled;
    __u8 followed;         /* (nat) enum followed */
    __u32 current;         /* (nat) the current real of that slot; then the one the flow has */
    __u32 fragment_id;     /* (nat) of a later fragment that is FOLLOWED: the slot of its flow */
    __u16 fragment_offset; /* bytes */
    __u8 no_checksum;      /* a UDP datagram that has none */
    __u8 padding;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static __always_inline bool opens_connection(const struct packet *packet) {
    return packet->protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline __u32 mix(__u32 hash) {
    hash ^= hash >> 16;
    hash *= 0x85ebca6b;
    hash ^= hash >> 13;
    hash *= 0xc2b2ae35;
    return hash ^ hash >> 16;
}

static __always_inline __u32 fold(__u64 value) {
    value *= 0x9e3779b97f4a7c15ULL;
    return (__u32)(value >> 32) ^ (__u32)value;
}

/* `offset` bytes into the frame; the kernel's verifier has to see the bound, which the compiler would fold
 * away. */
#define AT(data, offset, mask)                                                                               \
    ({                                                                                                       \
        __u64 bounded_ = (offset);                                                                           \
        asm volatile("%0 &= %1" : "+r"(bounded_) : "i"(mask));                                               \
        (void *)(data) + bounded_;                                                                           \
    })
#define L3_MASK 0x1f   /* Ethernet and two tags are 22 bytes */
#define L4_MASK 0x3fff /* six extension headers at most */
