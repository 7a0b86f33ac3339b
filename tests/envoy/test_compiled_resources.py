"""What the compiler makes, accepted by a real Envoy, and answering as the inventory says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import golden
from tests.support.free_ports import on_free_ports
from tests.support.real_material import real_material
from tests.support.tiny_ads import EnvoyOnAds
from xds_agent.compile import Compiler

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("name", golden.CASES)
def test_envoy_takes_every_golden_site(envoy_path: Path, name: str) -> None:
    case = golden.case(name)
    site = on_free_ports(case.site)
    material, _ = real_material(site)
    compiled = Compiler().compile(site, material, now=case.now)
    for snapshot in {one.revision: one for one in compiled.snapshots().values()}.values():
        with EnvoyOnAds(envoy_path, snapshot) as envoy:
            envoy.wait_settled()
