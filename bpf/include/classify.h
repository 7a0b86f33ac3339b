/* Stage: classify. Which service a packet belongs to; whole packets by address, port and protocol. */
#pragma once
#include "maps.h"
#include "packet.h"

static __always_inline struct service *service_at(const struct packet *packet, __be16 port) {
    if (packet->version == 4) {
        struct service_key4 key = {packet->destination.words[0], port, packet->protocol, 0};
        return bpf_map_lookup_elem(&services4, &key);
    }
    struct service_key6 key = {.address = packet->destination, .port = port, .protocol = packet->protocol};
    return bpf_map_lookup_elem(&services6, &key);
}

/* Whether this host is meant, and not somebody it forwards to. */
static __always_inline bool is_to_own(const struct packet *packet) {
    struct own_key key = {.address = packet->destination, .version = packet->version};
    return bpf_map_lookup_elem(&own_addresses, &key);
}

/* Whether a nat service is there. */
static __always_inline bool is_to_translated(const struct packet *packet) {
    struct own_key key = {.address = packet->destination, .version = packet->version};
    __u32 *flags = bpf_map_lookup_elem(&own_addresses, &key);
    return flags && *flags & OWN_TRANSLATED;
}

/* Later fragments and ICMP have port 0, and with it an entry of their own or none. */
static __always_inline struct service *classify(const struct packet *packet) {
    return service_at(packet, packet->destination_port);
}
