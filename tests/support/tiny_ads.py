"""The smallest ADS server a real Envoy can live on: state of the world, one snapshot, every NACK kept.

Not ours: an independent second opinion on what the compiler makes, free of our own protocol code.
"""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import httpx
import yaml
from envoy.service.discovery.v3 import discovery_pb2

from xds_agent.snapshot.resource import CLUSTER, LISTENER, Snapshot

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"


class TinyAds(grpc.GenericRpcHandler):
    """Serves `snapshot` on a Unix socket; `push` exchanges it."""

    def __init__(self, socket: Path, snapshot: Snapshot) -> None:
        self.nacks: list[str] = []
        self.acks: dict[str, int] = {}
        self._snapshot, self._number = snapshot, 1
        self._wishes: dict[str, list[str]] = {}
        self._answers: queue.Queue[Any] = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != _METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )

    def push(self, snapshot: Snapshot) -> None:
        """Send another snapshot; `settled` says when Envoy has it."""
        self._snapshot, self._number = snapshot, self._number + 1
        for type_url in list(self._wishes):
            self._answer(type_url)

    def settled(self) -> bool:
        """All that Envoy asked for, clusters and listeners at least, is acknowledged at the newest number."""
        # Listeners are asked for once clusters are warm, which takes as long as it takes.
        surely = {kind for kind in (CLUSTER, LISTENER) if self._snapshot.of_type(kind)}
        return all(self.acks.get(kind) == self._number for kind in surely | self._wishes.keys())

    def stop(self) -> None:
        self._answers.put(None)
        self._server.stop(0).wait()

    def _stream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()
        while (answer := self._answers.get()) is not None:
            yield answer

    def _read(self, requests: Iterator[Any]) -> None:
        try:
            for request in requests:
                self._on(request)
        except grpc.RpcError:
            return

    def _on(self, request: Any) -> None:
        type_url, names = request.type_url, sorted(request.resource_names)
        if request.HasField("error_detail"):
            self.nacks.append(f"{type_url}: {request.error_detail.message}")
        elif request.version_info:
            self.acks[type_url] = int(request.version_info)
        if not request.response_nonce or names != self._wishes.get(type_url):
            self._wishes[type_url] = names
            self._answer(type_url)

    def _answer(self, type_url: str) -> None:
        answer = discovery_pb2.DiscoveryResponse(type_url=type_url, version_info=str(self._number))
        answer.nonce = f"{type_url}-{time.monotonic_ns()}"
        wanted = self._wishes[type_url]
        for name, resource in self._snapshot.of_type(type_url).items():
            if type_url in (CLUSTER, LISTENER) or name in wanted:
                answer.resources.add().CopyFrom(resource.body)
        self._answers.put(answer)


class EnvoyOnAds:
    """A real Envoy that takes everything from a `TinyAds`, and its log."""

    def __init__(self, binary: Path, snapshot: Snapshot) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mp-")
        root = Path(self._folder.name)
        self.admin = root / "admin"
        self.log = root / "envoy.log"
        self.ads = TinyAds(root / "ads", snapshot)
        config = root / "bootstrap.yml"
        config.write_text(yaml.safe_dump(_bootstrap(root)))
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    str(binary),
                    "-c",
                    str(config),
                    "--concurrency",
                    "1",
                    "--use-dynamic-base-id",
                    "-l",
                    "warning",
                ],
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> EnvoyOnAds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self.ads.stop()
        self._folder.cleanup()

    def wait_settled(self, patience_s: float = 30.0) -> None:
        """Until Envoy is LIVE, has acknowledged all it asked for and has stopped asking; raises on a NACK."""
        until = time.monotonic() + patience_s
        calm_since: float | None = None
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert not self.ads.nacks, self.ads.nacks
            if not (self.ads.settled() and self._is_live()):
                calm_since = None
            elif calm_since is None:
                calm_since = time.monotonic()
            elif time.monotonic() - calm_since > 0.5:
                return
            time.sleep(0.02)
        raise AssertionError(f"not settled: {self.ads.acks}\n{self.log.read_text()[-4000:]}")

    def _is_live(self) -> bool:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.admin))) as client:
                return client.get("http://envoy/ready").text.strip() == "LIVE"
        except httpx.TransportError:
            return False


def _bootstrap(root: Path) -> dict[str, Any]:
    pipe = {"endpoint": {"address": {"pipe": {"path": str(root / "ads")}}}}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    from_ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": "tiny", "cluster": "tiny"},
        "admin": {"address": {"pipe": {"path": str(root / "admin")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
            },
            "cds_config": from_ads,
            "lds_config": from_ads,
        },
        "layered_runtime": {
            "layers": [{"name": "inventory", "rtds_layer": {"name": "runtime", "rtds_config": from_ads}}]
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "ads",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [pipe]}]},
                }
            ]
        },
    }
