/* Every map of the datapath. max_entries of those marked "sized at load" are set by the loader. */
#pragma once
#include "maps_shared.h"

enum stage {
    STAGE_COOKIE = 0,
    STAGES = 8,
};

/* The inner maps are mmapable: a generation is built by writing 4 MiB of memory and put in place by one
 * write to the outer map. */
struct acl4_directory {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, DIRECTORY_ROWS + 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct acl_row);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct acl4_directory);
} acl4 SEC(".maps");

struct acl4_long_table {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, 1 << 20);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct prefix4);
    __type(value, __u32);
};

/* Row: parity of the generation. The directory says which one, so both change with one write. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 2);
    __type(key, __u32);
    __array(values, struct acl4_long_table);
} acl4_long SEC(".maps");

struct acl6_table {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, 1 << 20);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct prefix6);
    __type(value, __u32);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct acl6_table);
} acl6 SEC(".maps");

/* Mappable arrays begin at a page, so that a block is one cache line and not parts of two. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 32768); /* sized at load, with features.limit_mask */
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct limit_block);
} limit_blocks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, __u32);
    __type(value, struct service_cell);
} service_cells SEC(".maps");

/* Addresses of this host, with their enum own_flag: what else comes, it forwards. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct own_key);
    __type(value, __u32);
} own_addresses SEC(".maps");

/* One, for all services that the host serves itself. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} cookie_cell SEC(".maps");

/* Programs of the same generation that xdp_main goes on to. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, STAGES);
    __type(key, __u32);
    __type(value, __u32);
} stages SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, __u32);
    __type(value, struct service_answers);
} service_answers SEC(".maps");

struct ring {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, RING_SLOTS);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u64);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, __u32);
    __array(values, struct ring);
} rings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4096); /* sized at load */
    __type(key, __u32);
    __type(value, struct real);
} reals SEC(".maps");

/* Flows of moved slots. A flow enters `flows_new` and is taken over into `flows` by its next packet: a flood
 * of packets that never come back fills and empties the first table only. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536); /* sized at load */
    __type(key, struct flow_key);
    __type(value, struct flow);
} flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536); /* sized at load */
    __type(key, struct flow_key);
    __type(value, struct flow);
} flows_new SEC(".maps");

/* Rows: bank x nat_sets + set; of nat_flows: that x NAT_WAYS + way. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1596); /* sized at load, with features.nat_sets and nat_bank_mask */
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct nat_set);
} nat_sets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1596 * NAT_WAYS); /* sized at load */
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct nat_flow);
} nat_flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, FRAGMENT_SETS);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct fragment_set);
} nat_fragments SEC(".maps");

/* Written by the loader, read by the next one. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct nat_geometry);
} nat_geometry SEC(".maps");

/* What monitor mode let pass. Row: service id x DROPS + (reason - FIRST_DROP). */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SERVICES_DEFAULT *DROPS); /* sized at load */
    __type(key, __u32);
    __type(value, struct counter);
} monitored SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 4096); /* sized at load, as reals */
    __type(key, __u32);
    __type(value, struct counter);
} real_counters SEC(".maps");

/* Mapped by its readers: each writes what is its own. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct sampling);
} sampling SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sampler);
} samplers SEC(".maps");

struct sample_ring {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
};

/* Row: enum tap_row. Readers bring their own ring, of the size they like. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, TAPS);
    __type(key, __u32);
    __array(values, struct sample_ring);
} sample_rings SEC(".maps");

#define SAMPLE_SOCKETS 512 /* one per interface and queue */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SAMPLE_SOCKETS);
    __type(key, struct queue_key);
    __type(value, __u32);
} sample_queues SEC(".maps");

/* Row: what `sample_queues` says. The kernel empties the row of a socket that is closed. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, SAMPLE_SOCKETS);
    __type(key, __u32);
    __type(value, __u32);
} sample_sockets SEC(".maps");
