/* Stage: access lists by source, longest prefix first. IPv4 is DIR-24-8: two bits per /24, whatever the
 * number of prefixes; only a /24 with longer prefixes in it asks a trie. Of sources from everywhere the bits
 * are in no near cache, and waiting for them is the stage's price: so they are as few as they can be. IPv6
 * asks a trie. */
#pragma once
#include "maps.h"
#include "packet.h"

static __always_inline enum acl_class acl_long(void *directory, __be32 address) {
    __u32 behind = DIRECTORY_ROWS;
    struct acl_row *last = bpf_map_lookup_elem(directory, &behind);
    if (!last)
        return ACL_NONE;
    __u32 parity = last->fours[0];
    void *table = bpf_map_lookup_elem(&acl4_long, &parity);
    if (!table)
        return ACL_NONE;
    struct prefix4 key = {32, address};
    __u32 *class = bpf_map_lookup_elem(table, &key);
    return class ? *class : ACL_NONE;
}

static __always_inline enum acl_class acl_ipv4(__be32 address) {
    __u32 current = 0, network = bpf_ntohl(address) >> 8, row = network >> 8;
    void *directory = bpf_map_lookup_elem(&acl4, &current);
    if (!directory)
        return ACL_NONE;
    struct acl_row *classes = bpf_map_lookup_elem(directory, &row);
    if (!classes)
        return ACL_NONE;
    enum acl_class class = classes->fours[network >> 2 & 63] >> (network & 3) * 2 & 3;
    return class == ACL_ASK ? acl_long(directory, address) : class;
}

static __always_inline enum acl_class acl_ipv6(const union address *address) {
    __u32 current = 0;
    void *table = bpf_map_lookup_elem(&acl6, &current);
    if (!table)
        return ACL_NONE;
    struct prefix6 key = {.length = 128};
    __builtin_memcpy(key.address, address, sizeof(key.address));
    __u32 *class = bpf_map_lookup_elem(table, &key);
    return class ? *class : ACL_NONE;
}

static __always_inline enum acl_class acl(const struct packet *packet) {
    return packet->version == 4 ? acl_ipv4(packet->source.words[0]) : acl_ipv6(&packet->source);
}
