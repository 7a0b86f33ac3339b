"""The program's hashes once more, written from their description; what the oracle steers by."""

from __future__ import annotations

from ipaddress import ip_address

_32, _64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def mix(value: int) -> int:
    """The finaliser of MurmurHash3, 32 bits."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & _32
    value ^= value >> 13
    value = value * 0xC2B2AE35 & _32
    return value ^ value >> 16


def fold(value: int) -> int:
    """Fibonacci hashing of 64 bits into 32."""
    value = value * 0x9E3779B97F4A7C15 & _64
    return (value >> 32 ^ value) & _32


def _in_memory(data: bytes) -> int:
    """A field in network order as this little-endian machine's registers hold it."""
    return int.from_bytes(data, "little")


def flow_hash(source: str, sport: int, dport: int, seed: int) -> int:
    """Of a service's packet; ports 0 for those hashed by addresses."""
    ports = _in_memory(sport.to_bytes(2, "big")) | _in_memory(dport.to_bytes(2, "big")) << 16
    packed = ip_address(source).packed
    if len(packed) == 4:
        return mix(_in_memory(packed) ^ mix(ports ^ seed))
    high, low = _in_memory(packed[:8]), _in_memory(packed[8:])
    return mix(fold(high ^ fold(low)) ^ mix(ports ^ seed))


def slot(value: int) -> int:
    """Of a ring of 65537."""
    return value * 65537 >> 32


def limit_cells(source: str, salt: int, seed: int, mask: int, turn: int = 0) -> tuple[int, int, int]:
    """Block and the two cells in it that a source owns; `turn`: so many further (of bytes: 1)."""
    packed = ip_address(source).packed
    key = _in_memory(packed) if len(packed) == 4 else ~fold(_in_memory(packed[:8])) & _32
    value = mix(key ^ seed)
    pair = mix(value ^ salt)
    first = (((pair & 0xFFFF) * 15 >> 16) + turn) % 15
    return value & mask, first, (first + 1 + ((pair >> 16) * 14 >> 16)) % 15


def address_hash(address: str) -> int:
    """Of one address: an IPv4 address is its own."""
    packed = ip_address(address).packed
    if len(packed) == 4:
        return _in_memory(packed)
    return fold(_in_memory(packed[:8]) ^ fold(_in_memory(packed[8:])))


def nat_place(
    flow: tuple[str, int, str, int, int], real: str, *, seeds: tuple[int, int], sets: int, bank_mask: int
) -> tuple[int, int]:
    """Rows of the two sets in which a flow (client, port, service, port, protocol) to that real may be."""
    client, sport, service, dport, protocol = flow
    limit_seed, balance_seed = seeds
    first = flow_hash(client, sport, dport, balance_seed)
    first = mix(first ^ mix(address_hash(service) ^ protocol ^ limit_seed))
    base = (mix(address_hash(real)) & bank_mask) * sets
    return base + (first * sets >> 32), base + (mix(first ^ 0x9E3779B9) * sets >> 32)
