"""node.yml: what a node agent is told before it knows anything else. Read once, with one clear error."""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

# Envoy's way to its agent and to its own admin: clusters that no inventory names.
XDS_CLUSTER = "xds_agent"
ADMIN_CLUSTER = "envoy_admin"
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# sun_path of a Unix socket holds 108 bytes with its closing zero.
_SOCKET_PATH_BYTES = 107


class ConfigError(Exception):
    """node.yml cannot be used; the words name the file and every fault in it."""


def _host_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not address:port, such as 10.65.0.10:18000")
    if host.startswith("["):
        ipaddress.IPv6Address(host.strip("[]"))
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{value!r} is not address:port, such as 10.65.0.10:18000")
    return value


def _socket_path(value: Path) -> Path:
    if len(str(value).encode()) > _SOCKET_PATH_BYTES:
        raise ValueError(f"a Unix socket's path has at most {_SOCKET_PATH_BYTES} bytes")
    return value


HostPort = Annotated[str, AfterValidator(_host_port)]
SocketPath = Annotated[Path, AfterValidator(_socket_path)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Part):
    """This host's certificate (leaf, then issuing CA), its key, and whom it trusts (root and issuing CA)."""

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None


class EnvoyConfig(_Part):
    """This host's Envoy: the two sockets it shares with the agent, and its limits."""

    # false: a host of the L4 tier alone, to which no Envoy ever comes.
    present: bool = True
    xds_socket: SocketPath = Path("/run/marchproxy/node/xds.sock")
    admin_socket: SocketPath = Path("/run/marchproxy/envoy/admin.sock")
    binary: Path = Path("/opt/marchproxy/envoy/bin/envoy")
    # Downstream connections over all listeners; one more is refused.
    max_connections: int = Field(default=50_000, ge=1)
    # Heap at which overload actions are complete, in MiB; null: 60 % of the host's memory.
    max_heap_mb: int | None = Field(default=None, ge=64)
    # Loopback TCP port that leads to the admin socket, for tools that know no Unix sockets; null: none.
    admin_port: Port | None = None


class Metrics(_Part):
    """Where /healthz and /metrics answer."""

    address: str = "0.0.0.0"
    port: int = Field(default=8082, ge=0, le=65535)


class DatapathConfig(_Part):
    """The XDP datapath of this host: where it runs, and how large its maps are."""

    interfaces: list[str] = Field(min_length=1)
    # Addresses of services on `vip`; the agent sets them. Empty: the first interface's own.
    vips: tuple[IPv4Address | IPv6Address, ...] = ()
    # `skb` works on any driver, slower by far, and is never chosen by itself.
    mode: Literal["native", "skb"] = "native"
    # Whether packets go through a card and back before it gets its first program.
    preflight: bool = True
    program: Path = Path("/opt/marchproxy/datapath/xdp_main.bpf.o")
    pins: Path = Path("/run/marchproxy/bpf/datapath")
    # The site's secret (a number below 2^32): with the same one on all of its hosts any of them finds the
    # same real, and nobody else can foresee which. null: a secret of this host alone.
    balance_seed_file: Path | None = None
    # A translated flow has 16 bits for the number of its ring.
    services: int = Field(default=1024, ge=2, le=65536)
    reals: int = Field(default=4096, ge=2)
    limit_blocks: int = Field(default=32_768, ge=1)
    flows: int = Field(default=65_536, ge=1)
    # A change after which control or the gateway is silent for so long is taken back.
    confirm_s: float = Field(default=10.0, gt=0)


class NodeConfig(_Part):
    """All of node.yml."""

    name: str = Field(min_length=1)
    trust_domain: str = "marchproxy.internal"
    control: list[HostPort] = Field(min_length=1)
    # Names that the certificates of `control` prove, in the same order; the last one serves for the rest.
    control_names: list[str] = Field(min_length=1)
    tls: Tls
    state_dir: Path = Path("/var/lib/marchproxy/node")
    # What is worth keeping as long as this host is up, and no longer.
    runtime_dir: Path = Path("/run/marchproxy/node")
    envoy: EnvoyConfig = EnvoyConfig()
    # null: no datapath.
    datapath: DatapathConfig | None = None
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _names_for_addresses(self) -> NodeConfig:
        if len(self.control_names) > len(self.control):
            raise ValueError("control_names has more entries than control: one name per address")
        return self

    def targets(self) -> list[tuple[str, str]]:
        """(address:port, name its certificate must prove) of each control host, in order."""
        last = self.control_names[-1]
        names = self.control_names + [last] * (len(self.control) - len(self.control_names))
        return list(zip(self.control, names, strict=True))


def load_config(path: Path) -> NodeConfig:
    """Read node.yml. Raises ConfigError with everything that is wrong with it."""
    try:
        document: Any = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping with name, control, control_names and tls")
    try:
        return NodeConfig.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(_fault(part) for part in error.errors())
        raise ConfigError(f"{path}: {faults}") from error


def _fault(part: Any) -> str:
    where = ".".join(str(step) for step in part["loc"])
    return f"{where}: {part['msg']}" if where else part["msg"]
