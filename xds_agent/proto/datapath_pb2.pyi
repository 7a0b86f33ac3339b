from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    TCP: _ClassVar[Protocol]
    UDP: _ClassVar[Protocol]
    ICMP: _ClassVar[Protocol]

class Forward(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORWARD_UNSPECIFIED: _ClassVar[Forward]
    NAT: _ClassVar[Forward]
    DSR: _ClassVar[Forward]
    GUE: _ClassVar[Forward]
    ECHO: _ClassVar[Forward]
    KERNEL: _ClassVar[Forward]
PROTOCOL_UNSPECIFIED: Protocol
TCP: Protocol
UDP: Protocol
ICMP: Protocol
FORWARD_UNSPECIFIED: Forward
NAT: Forward
DSR: Forward
GUE: Forward
ECHO: Forward
KERNEL: Forward

class Service(_message.Message):
    __slots__ = ("name", "protocol", "vip", "port", "forward", "pass_without_real", "packets_per_second", "syn_per_second", "health", "qos", "ingress_bits", "egress_bits", "hash_addresses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VIP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    PASS_WITHOUT_REAL_FIELD_NUMBER: _ClassVar[int]
    PACKETS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SYN_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    INGRESS_BITS_FIELD_NUMBER: _ClassVar[int]
    EGRESS_BITS_FIELD_NUMBER: _ClassVar[int]
    HASH_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: Protocol
    vip: bool
    port: int
    forward: Forward
    pass_without_real: bool
    packets_per_second: int
    syn_per_second: int
    health: HealthCheck
    qos: int
    ingress_bits: int
    egress_bits: int
    hash_addresses: bool
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., vip: bool = ..., port: _Optional[int] = ..., forward: _Optional[_Union[Forward, str]] = ..., pass_without_real: bool = ..., packets_per_second: _Optional[int] = ..., syn_per_second: _Optional[int] = ..., health: _Optional[_Union[HealthCheck, _Mapping]] = ..., qos: _Optional[int] = ..., ingress_bits: _Optional[int] = ..., egress_bits: _Optional[int] = ..., hash_addresses: bool = ...) -> None: ...

class HealthCheck(_message.Message):
    __slots__ = ("type", "path", "host", "statuses", "port", "interval_ms", "timeout_ms", "unhealthy_after", "healthy_after")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_AFTER_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_AFTER_FIELD_NUMBER: _ClassVar[int]
    type: str
    path: str
    host: str
    statuses: _containers.RepeatedScalarFieldContainer[int]
    port: int
    interval_ms: int
    timeout_ms: int
    unhealthy_after: int
    healthy_after: int
    def __init__(self, type: _Optional[str] = ..., path: _Optional[str] = ..., host: _Optional[str] = ..., statuses: _Optional[_Iterable[int]] = ..., port: _Optional[int] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., unhealthy_after: _Optional[int] = ..., healthy_after: _Optional[int] = ...) -> None: ...

class Reals(_message.Message):
    __slots__ = ("service", "reals")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    REALS_FIELD_NUMBER: _ClassVar[int]
    service: str
    reals: _containers.RepeatedCompositeFieldContainer[Real]
    def __init__(self, service: _Optional[str] = ..., reals: _Optional[_Iterable[_Union[Real, _Mapping]]] = ...) -> None: ...

class Real(_message.Message):
    __slots__ = ("address", "port", "weight", "priority")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    address: bytes
    port: int
    weight: int
    priority: int
    def __init__(self, address: _Optional[bytes] = ..., port: _Optional[int] = ..., weight: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class AccessList(_message.Message):
    __slots__ = ("name", "ipv4", "ipv6", "timed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IPV4_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    TIMED_FIELD_NUMBER: _ClassVar[int]
    name: str
    ipv4: bytes
    ipv6: bytes
    timed: _containers.RepeatedCompositeFieldContainer[Timed]
    def __init__(self, name: _Optional[str] = ..., ipv4: _Optional[bytes] = ..., ipv6: _Optional[bytes] = ..., timed: _Optional[_Iterable[_Union[Timed, _Mapping]]] = ...) -> None: ...

class Timed(_message.Message):
    __slots__ = ("network", "until")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    network: str
    until: int
    def __init__(self, network: _Optional[str] = ..., until: _Optional[int] = ...) -> None: ...

class Protection(_message.Message):
    __slots__ = ("monitor", "source_packets_per_second", "source_syn_per_second", "ssh_packets_per_second", "cookies_above", "flow_log_one_in", "flow_log_every_ms", "source_bits_per_second")
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PACKETS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SYN_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SSH_PACKETS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    COOKIES_ABOVE_FIELD_NUMBER: _ClassVar[int]
    FLOW_LOG_ONE_IN_FIELD_NUMBER: _ClassVar[int]
    FLOW_LOG_EVERY_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_BITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    monitor: bool
    source_packets_per_second: int
    source_syn_per_second: int
    ssh_packets_per_second: int
    cookies_above: int
    flow_log_one_in: int
    flow_log_every_ms: int
    source_bits_per_second: int
    def __init__(self, monitor: bool = ..., source_packets_per_second: _Optional[int] = ..., source_syn_per_second: _Optional[int] = ..., ssh_packets_per_second: _Optional[int] = ..., cookies_above: _Optional[int] = ..., flow_log_one_in: _Optional[int] = ..., flow_log_every_ms: _Optional[int] = ..., source_bits_per_second: _Optional[int] = ...) -> None: ...
