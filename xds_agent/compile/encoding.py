"""Small protobuf values that many resources hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from envoy.config.core.v3 import address_pb2, config_source_pb2
from google.protobuf import any_pb2, duration_pb2


def ads() -> Any:
    """A config source that says: ask on the stream you have, and wait for the answer without a limit.

    After Envoy's own 15 s it would open a listener whose secret is still missing, and reset what connects.
    """
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    source.initial_fetch_timeout.SetInParent()
    return source


ADS = ads()


def packed(message: Any) -> Any:
    """google.protobuf.Any of a message, the same bytes every time."""
    holder = any_pb2.Any()
    holder.Pack(message, deterministic=True)
    return holder


def duration(value: timedelta) -> Any:
    """google.protobuf.Duration."""
    microseconds = value // timedelta(microseconds=1)
    return duration_pb2.Duration(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)


Family = Literal["ipv4", "dual"]


def listen_address(port: int, family: Family, *, udp: bool = False) -> Any:
    """Every IPv4 address of the host, or with `dual` every address: one socket, IPv4 clients seen as such."""
    address = address_pb2.Address()
    socket = address.socket_address
    socket.address, socket.port_value = ("::" if family == "dual" else "0.0.0.0"), port
    socket.ipv4_compat = family == "dual"
    if udp:
        socket.protocol = address_pb2.SocketAddress.UDP
    return address


def length_delimited(field: int, value: bytes) -> bytes:
    """One field of wire type 2 with its tag, as it stands inside its parent message."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
