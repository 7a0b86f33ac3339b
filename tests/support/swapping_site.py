"""A site under load that changes in every way that may close nothing; one change after the other, for ever.

Compiled as control compiles: an HTTP service, a gRPC service and a TCP service carry the load, services and
names beside them come and go. `change` makes one of KINDS and says which.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.load import PATIENT, Doors
from tests.support.ports import free_port
from tests.support.real_material import Ca
from xds_agent.compile import Compiler, KeyPair, Material
from xds_agent.explain.closings import closings
from xds_agent.model import SITE_CA, Ports, Site, load_site
from xds_agent.snapshot.resource import Snapshot

NODE = "edge1"
WEB, RPC = "web.example.com", "rpc.example.com"
# Filter chains without load; the default one answers 421 to whoever knows no name.
_IDLE_CHAINS = ("filter chain side", "filter chain default", "filter chains default, side")


class SwappingSite:
    """`ports` are those of two backends of each kind (`Echoes.ports`)."""

    def __init__(self, ports: Mapping[str, Sequence[int]], seed: int = 1) -> None:
        self._ports = ports
        self._dice = random.Random(seed)
        self._compiler = Compiler()
        self._ca = Ca.new(SITE_CA)
        own = {key: free_port() for key in ("http", "https", "grpc")}
        self._own_ports, self._tcp_port = (
            Ports.model_construct(**{**Ports().model_dump(), **own}),
            free_port(),
        )
        self._numbers = {"http": 0, "grpc": 0, "tcp": 0}
        self._side = {"http": 0, "grpc": 0, "tcp": 0}
        self._timeout_ms = 1000
        self._more: dict[str, dict[str, str]] = {}
        self._made = 0
        self._pairs = {name: self._pair(name) for name in ("web", "rpc", "side")}
        self._number = 0
        self.snapshot = self._compiled()

    @property
    def doors(self) -> Doors:
        ports = self._own_ports
        return Doors(ports.https, WEB, ports.grpc, RPC, self._tcp_port, self._ca.pem)

    # --- the ways to change

    def change(self) -> tuple[str, Snapshot]:
        """The next change, by what it is, and the set it leads to."""
        kind = KINDS[self._made % len(KINDS)]
        self._made += 1
        getattr(self, f"_{kind}")()
        before, self.snapshot = self.snapshot, self._compiled()
        assert before.revision != self.snapshot.revision, kind
        told = closings({NODE: before}, {NODE: self.snapshot})
        assert all(one.reason.startswith(_IDLE_CHAINS) for one in told), (kind, told)
        return kind, self.snapshot

    def _swap(self) -> None:
        """Another cluster, with other endpoints, under the same route; the one before goes."""
        kind = self._dice.choice(["http", "grpc"])
        self._numbers[kind] += 1
        self._side[kind] ^= 1

    def _rename(self) -> None:
        """The same endpoints under another name."""
        self._numbers[self._dice.choice(["http", "grpc"])] += 1

    def _endpoints(self) -> None:
        """All endpoints exchanged."""
        self._side[self._dice.choice(["http", "grpc", "tcp"])] ^= 1

    def _settings(self) -> None:
        """Every cluster changes in place, and has to warm again."""
        self._timeout_ms = 3000 - self._timeout_ms

    def _service(self) -> None:
        """A service with a name of its own under the certificate of the load comes, or goes."""
        self._toggle("more", "web")

    def _names(self) -> None:
        """A name under the certificate of the load is exchanged for another: in place."""
        self._more[f"name-{self._made}"] = {"certificate": "web"}
        for old in [name for name in self._more if name.startswith("name-")][:-2]:
            del self._more[old]

    def _chain(self) -> None:
        """A certificate of its own: a filter chain beside those of the load comes, or goes."""
        self._toggle("side", "side")

    def _certificate(self) -> None:
        """A new key pair for the load's names."""
        name = self._dice.choice(["web", "rpc"])
        self._pairs[name] = self._pair(name)

    def _toggle(self, name: str, certificate: str) -> None:
        if self._more.pop(name, None) is None:
            self._more[name] = {"certificate": certificate}

    # --- compiled

    def _pair(self, name: str) -> KeyPair:
        names = {"web": [WEB, "*.example.com"], "rpc": [RPC], "side": ["side.example.com"]}
        return self._ca.issue(names[name])

    def _compiled(self) -> Snapshot:
        self._number += 1
        site = self._site()
        found = self._compiler.compile(site, Material(dict(self._pairs), {})).snapshots()[NODE]
        return Snapshot(found.resources, found.revision, self._number, found.digests)

    def _site(self) -> Site:
        more = copy.deepcopy(self._more)
        edge: dict[str, Any] = {
            "certificates": [{"name": name} for name in self._pairs],
            "domains": [
                {"name": WEB, "certificate": "web"},
                {"name": RPC, "certificate": "rpc"},
                *({"name": f"{name}.example.com", **one} for name, one in more.items()),
            ],
            "services": [
                self._service_of("http", f"web-{self._numbers['http']}", domains=[WEB]),
                self._service_of("grpc", f"rpc-{self._numbers['grpc']}", domains=[RPC]),
                self._service_of("tcp", "raw", listen={"port": self._tcp_port}),
                *(self._service_of("http", name, domains=[f"{name}.example.com"]) for name in more),
            ],
            "ports": self._own_ports.model_dump(exclude_none=True),
            "limits": PATIENT,
        }
        hosts = {NODE: {"address": "127.0.0.1", "groups": ["ingress"]}}
        return load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})

    def _service_of(self, kind: str, name: str, **more: Any) -> dict[str, Any]:
        port = self._ports[kind][self._side[kind]]
        return {
            "name": name, "protocol": kind, "connect_timeout": f"{self._timeout_ms}ms",
            "endpoints": [{"address": "127.0.0.1", "port": port}], **more,
        }  # fmt: skip


KINDS = (
    "swap", "rename", "endpoints", "service", "swap", "certificate", "names", "settings", "chain", "swap",
)  # fmt: skip
