"""Golden sites: a change of what the compiler makes is a change of a file, to be read in review."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import envoy_data_plane.envoy.config.cluster.v3 as cluster_v3
import envoy_data_plane.envoy.config.endpoint.v3 as endpoint_v3
import envoy_data_plane.envoy.config.listener.v3 as listener_v3
import envoy_data_plane.envoy.config.route.v3 as route_v3
import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 as tls_v3
import envoy_data_plane.envoy.service.runtime.v3 as runtime_v3
import pytest

from tests.support import golden
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME, SECRET

ROOT = Path(__file__).resolve().parents[3]
DECODERS = {
    CLUSTER: cluster_v3.Cluster,
    ENDPOINTS: endpoint_v3.ClusterLoadAssignment,
    LISTENER: listener_v3.Listener,
    ROUTES: route_v3.RouteConfiguration,
    RUNTIME: runtime_v3.Runtime,
    SECRET: tls_v3.Secret,
}
_PRINT_REVISIONS = """
from tests.support import golden
for name in golden.CASES:
    for host, snapshot in sorted(golden.case(name).compile().snapshots().items()):
        print(name, host, snapshot.revision)
"""


@pytest.mark.parametrize("name", golden.CASES)
def test_resources_are_those_of_the_golden_files(name: str) -> None:
    made = golden.outputs(golden.case(name).compile())
    kept = {path.name for path in (golden.FOLDER / name).glob("*.yml")} - {"site.yml"}
    assert set(made) == kept, "write them anew: python -m tests.support.golden"
    for file, text in made.items():
        assert text == (golden.FOLDER / name / file).read_text(), file


@pytest.mark.parametrize("name", golden.CASES)
def test_an_independent_decoder_reads_every_resource(name: str) -> None:
    for snapshot in golden.case(name).compile().snapshots().values():
        for type_url, named in snapshot.resources.items():
            for resource in named.values():
                if type_url not in DECODERS:
                    continue  # our own types, which no Envoy reads
                message = DECODERS[type_url].parse(resource.body.value)
                assert (getattr(message, "name", None) or message.cluster_name) == resource.name
                assert not message._unknown_fields


def test_same_bytes_for_every_hash_seed() -> None:
    revisions = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_REVISIONS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(revisions) == 1
    assert revisions.pop().count("\n") >= len(golden.CASES)
