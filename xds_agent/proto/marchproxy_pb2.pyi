from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Revision(_message.Message):
    __slots__ = ("id", "number", "digests", "parts")
    ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    number: int
    digests: _containers.RepeatedCompositeFieldContainer[TypeDigest]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, id: _Optional[str] = ..., number: _Optional[int] = ..., digests: _Optional[_Iterable[_Union[TypeDigest, _Mapping]]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("type_url", "resources", "removed")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    resources: _containers.RepeatedScalarFieldContainer[bytes]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type_url: _Optional[str] = ..., resources: _Optional[_Iterable[bytes]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ("hello", "heartbeat", "answer")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    answer: Answer
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("active_revision", "envoy_state", "last_error", "counters", "endpoints", "certificate_not_after", "loads")
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
    LOADS_FIELD_NUMBER: _ClassVar[int]
    active_revision: str
    envoy_state: str
    last_error: str
    counters: _containers.ScalarMap[str, int]
    endpoints: _containers.RepeatedCompositeFieldContainer[EndpointReport]
    certificate_not_after: int
    loads: _containers.RepeatedCompositeFieldContainer[ServiceLoad]
    def __init__(self, active_revision: _Optional[str] = ..., envoy_state: _Optional[str] = ..., last_error: _Optional[str] = ..., counters: _Optional[_Mapping[str, int]] = ..., endpoints: _Optional[_Iterable[_Union[EndpointReport, _Mapping]]] = ..., certificate_not_after: _Optional[int] = ..., loads: _Optional[_Iterable[_Union[ServiceLoad, _Mapping]]] = ...) -> None: ...

class EndpointReport(_message.Message):
    __slots__ = ("probe", "health", "samples_ms", "rtt_ms_min", "rtt_ms_p50", "rtt_ms_p95", "words")
    class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[EndpointReport.Health]
        WELL: _ClassVar[EndpointReport.Health]
        DOWN: _ClassVar[EndpointReport.Health]
    UNKNOWN: EndpointReport.Health
    WELL: EndpointReport.Health
    DOWN: EndpointReport.Health
    PROBE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_MIN_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_P50_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_P95_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    probe: int
    health: EndpointReport.Health
    samples_ms: _containers.RepeatedScalarFieldContainer[float]
    rtt_ms_min: float
    rtt_ms_p50: float
    rtt_ms_p95: float
    words: str
    def __init__(self, probe: _Optional[int] = ..., health: _Optional[_Union[EndpointReport.Health, str]] = ..., samples_ms: _Optional[_Iterable[float]] = ..., rtt_ms_min: _Optional[float] = ..., rtt_ms_p50: _Optional[float] = ..., rtt_ms_p95: _Optional[float] = ..., words: _Optional[str] = ...) -> None: ...

class ServiceLoad(_message.Message):
    __slots__ = ("service", "cloud", "region", "requests", "failed", "bytes")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    service: str
    cloud: str
    region: str
    requests: int
    failed: int
    bytes: int
    def __init__(self, service: _Optional[str] = ..., cloud: _Optional[str] = ..., region: _Optional[str] = ..., requests: _Optional[int] = ..., failed: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class ProbeAssignment(_message.Message):
    __slots__ = ("probes", "limit_per_s", "services")
    PROBES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PER_S_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    probes: _containers.RepeatedCompositeFieldContainer[Probe]
    limit_per_s: int
    services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, probes: _Optional[_Iterable[_Union[Probe, _Mapping]]] = ..., limit_per_s: _Optional[int] = ..., services: _Optional[_Iterable[str]] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("id", "address", "port", "kind", "path", "host", "statuses", "grpc_service", "interval_ms", "timeout_ms", "unhealthy_after", "healthy_after")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    GRPC_SERVICE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_AFTER_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_AFTER_FIELD_NUMBER: _ClassVar[int]
    id: int
    address: str
    port: int
    kind: str
    path: str
    host: str
    statuses: _containers.RepeatedScalarFieldContainer[int]
    grpc_service: str
    interval_ms: int
    timeout_ms: int
    unhealthy_after: int
    healthy_after: int
    def __init__(self, id: _Optional[int] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., kind: _Optional[str] = ..., path: _Optional[str] = ..., host: _Optional[str] = ..., statuses: _Optional[_Iterable[int]] = ..., grpc_service: _Optional[str] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., unhealthy_after: _Optional[int] = ..., healthy_after: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("heartbeat_s", "question", "assignment")
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    heartbeat_s: int
    question: Question
    assignment: ProbeAssignment
    def __init__(self, heartbeat_s: _Optional[int] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., assignment: _Optional[_Union[ProbeAssignment, _Mapping]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "held", "connections", "flows", "requests")
    ID_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    held: bool
    connections: bool
    flows: bool
    requests: _containers.RepeatedCompositeFieldContainer[CanaryRequest]
    def __init__(self, id: _Optional[int] = ..., held: bool = ..., connections: bool = ..., flows: bool = ..., requests: _Optional[_Iterable[_Union[CanaryRequest, _Mapping]]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "error", "held", "connections", "flows", "sessions", "sessions_known", "replies")
    class ConnectionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FlowsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SessionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: str
    held: _containers.RepeatedCompositeFieldContainer[HeldResource]
    connections: _containers.ScalarMap[str, int]
    flows: _containers.ScalarMap[str, int]
    sessions: _containers.ScalarMap[str, int]
    sessions_known: bool
    replies: _containers.RepeatedCompositeFieldContainer[CanaryReply]
    def __init__(self, id: _Optional[int] = ..., error: _Optional[str] = ..., held: _Optional[_Iterable[_Union[HeldResource, _Mapping]]] = ..., connections: _Optional[_Mapping[str, int]] = ..., flows: _Optional[_Mapping[str, int]] = ..., sessions: _Optional[_Mapping[str, int]] = ..., sessions_known: bool = ..., replies: _Optional[_Iterable[_Union[CanaryReply, _Mapping]]] = ...) -> None: ...

class CanaryRequest(_message.Message):
    __slots__ = ("address", "port", "scheme", "host", "method", "path", "headers", "own_certificate", "handshake_only")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    OWN_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKE_ONLY_FIELD_NUMBER: _ClassVar[int]
    address: str
    port: int
    scheme: str
    host: str
    method: str
    path: str
    headers: _containers.ScalarMap[str, str]
    own_certificate: bool
    handshake_only: bool
    def __init__(self, address: _Optional[str] = ..., port: _Optional[int] = ..., scheme: _Optional[str] = ..., host: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., own_certificate: bool = ..., handshake_only: bool = ...) -> None: ...

class CanaryReply(_message.Message):
    __slots__ = ("status", "by_envoy", "refused", "failed", "words")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BY_ENVOY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    status: int
    by_envoy: bool
    refused: str
    failed: str
    words: str
    def __init__(self, status: _Optional[int] = ..., by_envoy: bool = ..., refused: _Optional[str] = ..., failed: _Optional[str] = ..., words: _Optional[str] = ...) -> None: ...

class HeldResource(_message.Message):
    __slots__ = ("type_url", "name", "version", "state", "refused", "endpoints")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    name: str
    version: str
    state: str
    refused: str
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type_url: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[str] = ..., refused: _Optional[str] = ..., endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class LeaderSaid(_message.Message):
    __slots__ = ("publication", "nodes", "response", "live")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    publication: Publication
    nodes: _containers.RepeatedScalarFieldContainer[str]
    response: ReportResponse
    live: int
    def __init__(self, publication: _Optional[_Union[Publication, _Mapping]] = ..., nodes: _Optional[_Iterable[str]] = ..., response: _Optional[_Union[ReportResponse, _Mapping]] = ..., live: _Optional[int] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("number", "anew", "resources", "views")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    number: int
    anew: bool
    resources: _containers.RepeatedScalarFieldContainer[bytes]
    views: _containers.RepeatedCompositeFieldContainer[PublishedView]
    def __init__(self, number: _Optional[int] = ..., anew: bool = ..., resources: _Optional[_Iterable[bytes]] = ..., views: _Optional[_Iterable[_Union[PublishedView, _Mapping]]] = ...) -> None: ...

class PublishedView(_message.Message):
    __slots__ = ("revision", "number", "nodes", "resources")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    revision: str
    number: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, revision: _Optional[str] = ..., number: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., resources: _Optional[_Iterable[int]] = ...) -> None: ...

class FollowerSaid(_message.Message):
    __slots__ = ("outcome", "report")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    outcome: NodeOutcome
    report: NodeReport
    def __init__(self, outcome: _Optional[_Union[NodeOutcome, _Mapping]] = ..., report: _Optional[_Union[NodeReport, _Mapping]] = ...) -> None: ...

class NodeOutcome(_message.Message):
    __slots__ = ("kind", "node", "revision", "type_url", "names", "words")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    node: str
    revision: str
    type_url: str
    names: _containers.RepeatedScalarFieldContainer[str]
    words: str
    def __init__(self, kind: _Optional[str] = ..., node: _Optional[str] = ..., revision: _Optional[str] = ..., type_url: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., words: _Optional[str] = ...) -> None: ...

class NodeReport(_message.Message):
    __slots__ = ("node", "report", "since")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    report: ReportRequest
    since: float
    def __init__(self, node: _Optional[str] = ..., report: _Optional[_Union[ReportRequest, _Mapping]] = ..., since: _Optional[float] = ...) -> None: ...

class ForwardRequest(_message.Message):
    __slots__ = ("method", "path", "query", "body", "user", "all_tenants", "tenants")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    method: str
    path: str
    query: bytes
    body: bytes
    user: str
    all_tenants: bool
    tenants: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, method: _Optional[str] = ..., path: _Optional[str] = ..., query: _Optional[bytes] = ..., body: _Optional[bytes] = ..., user: _Optional[str] = ..., all_tenants: bool = ..., tenants: _Optional[_Iterable[str]] = ...) -> None: ...

class ForwardResponse(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...
