/* What can become of a packet: the one table of reasons. Python reads these names from BTF and shows them
 * everywhere (lower case); nothing else names them. Each packet counts one PASS, DROP or SEND reason;
 * NOTE reasons are counted beside it. */
#pragma once
#include <stdbool.h>

enum reason {
    PASS_KERNEL = 0,   /* nobody's in particular: the host's own traffic, or a service that Envoy serves */
    PASS_NOT_IP,       /* neither ARP nor IP */
    PASS_NEIGHBOUR,    /* ARP, IPv6 neighbour discovery: without it the host has no network */
    PASS_DHCP,         /* a lease being renewed: never denied, has caps of its own */
    PASS_SSH,          /* port 22: never denied, has a cap of its own */
    PASS_EXPECTED,     /* denied or over its rate, but a socket of this host is connected to that peer */
    PASS_FRAGMENT,     /* a fragment that no service takes by addresses alone */
    PASS_DECAPSULATED, /* (backends) what was in the tunnel, to the kernel */
    PASS_NO_REAL,      /* no healthy real, and the service says: then let it pass */
    DROP_SOURCE_BYTES = 15, /* bytes of this source (IPv6: of its /64) */
    DROP_TRUNCATED = 16,
    DROP_BAD_HEADER,  /* header length, version or total length contradict each other */
    DROP_EXTENSIONS,  /* more IPv6 extension headers than MAX_EXTENSIONS */
    DROP_DENIED,      /* the source is on a deny list */
    DROP_SOURCE_RATE, /* packets of this source (IPv6: of its /64) */
    DROP_SYN_RATE,    /* connection attempts of this source */
    DROP_SSH_RATE,
    DROP_SERVICE_RATE,     /* packets to this service from all sources */
    DROP_SERVICE_SYN_RATE, /* connection attempts to this service from all sources */
    DROP_NO_REAL,          /* no healthy real */
    DROP_TOO_BIG,          /* larger than the way to the real takes, and may not be answered */
    DROP_NO_ROOM,          /* the driver left no headroom to encapsulate */
    DROP_SERVICE_BYTES,    /* bytes to this service from all sources */
    DROP_ANSWER_BYTES,     /* bytes of its answers */
    DROP_NAT_UNKNOWN,      /* in the middle of a TCP connection of which nothing is known */
    DROP_NAT_FULL,         /* every port this flow may have is in use */
    DROP_NAT_FRAGMENT,     /* a later fragment, whose first one has the ports and was not seen just before; or
                              the first one of a datagram without a checksum */
    DROP_FRAGMENTS_FULL,   /* no place for a first fragment among those of confirmed flows */
    DROP_TINY_FRAGMENT,    /* cuts the transport header in two, or would write over it */
    DROP_OTHER_VERSION,    /* a real of the other IP version in the ring of a nat service */
    DROP_HOP_LIMIT,        /* used up */
    DROP_TUNNEL_PEER,      /* (backends) encapsulated by somebody who is no edge of ours */
    DROP_INTERNAL,         /* a map is missing or inconsistent: a mistake of ours */
    DROP_DHCP_RATE,        /* more leases than a host can be asking for */
    DROP_END,
    SEND_GUE = 40, /* encapsulated to a real */
    SEND_DSR,      /* handed to a real on the same link */
    SEND_NAT,      /* translated, to a real */
    SEND_ANSWER,   /* translated back, to the client */
    SEND_ECHO,     /* ping answered in the name of a healthy service */
    SEND_TOO_BIG,  /* answered with the size that fits */
    SEND_COOKIE,   /* a connection request answered by a cookie, not by the kernel */
    SEND_END,
    NOTE_EXEMPT = 52,     /* the source is on an allow list */
    NOTE_FLOW_NEW,        /* a flow of a moved slot seen for the first time */
    NOTE_FLOW_PINNED,     /* a packet whose real came from the flow table, not from the ring */
    NOTE_FLOW_REMAPPED,   /* its real is gone: the flow went to another one */
    NOTE_NAT_NEW,         /* a flow got a port */
    NOTE_NAT_OPEN,        /* a flow was confirmed by its client */
    NOTE_EGRESS,          /* what the kernel sent in a service's name */
    NOTE_COOKIE_ACCEPTED, /* a client came back with its cookie */
    NOTE_SAMPLED,         /* a copy of it, or what was dropped itself, went to a sampler */
    NOTE_SAMPLE_LOST,     /* it would have, and the sampler had no room or was gone */
    REASONS = 64,         /* rows of one service in `counters` */
};

#define FIRST_DROP DROP_SOURCE_BYTES
#define FIRST_SEND SEND_GUE
#define DROPS      (DROP_END - FIRST_DROP)

static __always_inline bool is_drop(enum reason reason) {
    return reason >= FIRST_DROP && reason < DROP_END;
}

static __always_inline int verdict_of(enum reason reason) {
    if (reason < FIRST_DROP)
        return XDP_PASS;
    return reason < FIRST_SEND ? XDP_DROP : XDP_TX;
}
