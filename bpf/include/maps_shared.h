/* The maps that XDP and tc programs have in common. Those "sized at load" are sized by the loader. */
#pragma once
#include "types.h"

#define SERVICES_DEFAULT 1024

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, struct service_key4);
    __type(value, struct service);
} services4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SERVICES_DEFAULT); /* sized at load */
    __type(key, struct service_key6);
    __type(value, struct service);
} services6 SEC(".maps");

/* Row: service id x REASONS + reason. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SERVICES_DEFAULT *REASONS); /* sized at load */
    __type(key, __u32);
    __type(value, struct counter);
} counters SEC(".maps");
