from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Revision(_message.Message):
    __slots__ = ("id", "number", "digests")
    ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    number: int
    digests: _containers.RepeatedCompositeFieldContainer[TypeDigest]
    def __init__(self, id: _Optional[str] = ..., number: _Optional[int] = ..., digests: _Optional[_Iterable[_Union[TypeDigest, _Mapping]]] = ...) -> None: ...

class TypeDigest(_message.Message):
    __slots__ = ("type_url", "count", "sum")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    count: int
    sum: bytes
    def __init__(self, type_url: _Optional[str] = ..., count: _Optional[int] = ..., sum: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("chain", "ca", "crl")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    CA_FIELD_NUMBER: _ClassVar[int]
    CRL_FIELD_NUMBER: _ClassVar[int]
    chain: bytes
    ca: bytes
    crl: bytes
    def __init__(self, chain: _Optional[bytes] = ..., ca: _Optional[bytes] = ..., crl: _Optional[bytes] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("hello", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent_version", "envoy_version", "kernel", "distribution", "nics", "btf", "machine")
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVOY_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    NICS_FIELD_NUMBER: _ClassVar[int]
    BTF_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    agent_version: str
    envoy_version: str
    kernel: str
    distribution: str
    nics: _containers.RepeatedCompositeFieldContainer[Nic]
    btf: bool
    machine: str
    def __init__(self, agent_version: _Optional[str] = ..., envoy_version: _Optional[str] = ..., kernel: _Optional[str] = ..., distribution: _Optional[str] = ..., nics: _Optional[_Iterable[_Union[Nic, _Mapping]]] = ..., btf: bool = ..., machine: _Optional[str] = ...) -> None: ...

class Nic(_message.Message):
    __slots__ = ("name", "driver", "mtu", "rx_queues", "xdp")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    RX_QUEUES_FIELD_NUMBER: _ClassVar[int]
    XDP_FIELD_NUMBER: _ClassVar[int]
    name: str
    driver: str
    mtu: int
    rx_queues: int
    xdp: str
    def __init__(self, name: _Optional[str] = ..., driver: _Optional[str] = ..., mtu: _Optional[int] = ..., rx_queues: _Optional[int] = ..., xdp: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("active_revision", "envoy_state", "last_error", "counters", "endpoints", "certificate_not_after")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ACTIVE_REVISION_FIELD_NUMBER: _ClassVar[int]
    ENVOY_STATE_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    active_revision: str
    envoy_state: str
    last_error: str
    counters: _containers.ScalarMap[str, int]
    endpoints: _containers.RepeatedCompositeFieldContainer[EndpointReport]
    certificate_not_after: int
    def __init__(self, active_revision: _Optional[str] = ..., envoy_state: _Optional[str] = ..., last_error: _Optional[str] = ..., counters: _Optional[_Mapping[str, int]] = ..., endpoints: _Optional[_Iterable[_Union[EndpointReport, _Mapping]]] = ..., certificate_not_after: _Optional[int] = ...) -> None: ...

class EndpointReport(_message.Message):
    __slots__ = ("address", "port", "healthy", "rtt_ms_min", "rtt_ms_p50", "rtt_ms_p95")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_MIN_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_P50_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_P95_FIELD_NUMBER: _ClassVar[int]
    address: str
    port: int
    healthy: bool
    rtt_ms_min: float
    rtt_ms_p50: float
    rtt_ms_p95: float
    def __init__(self, address: _Optional[str] = ..., port: _Optional[int] = ..., healthy: bool = ..., rtt_ms_min: _Optional[float] = ..., rtt_ms_p50: _Optional[float] = ..., rtt_ms_p95: _Optional[float] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("heartbeat_s",)
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    heartbeat_s: int
    def __init__(self, heartbeat_s: _Optional[int] = ...) -> None: ...
