"""Ports of tunnels are counted by the site file's order, from the file through the output to the role."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.plan import plan_site
from edge_iac.plan.changes import changes
from edge_iac.site import Site, parse_site

from plugins.module_utils import interconnect
from tests.support.cloud_sites import site_of
from tests.unit.pulumi.support.graph import graph_of

MORE = {"network": "10.120.0.0/20", "zones": 1, "hosts": {"edge": {"role": "ingress", "count": 2}}}


def said(clouds: list[str] | None = None) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(site_of(7, interconnect="wireguard"))
    document["clouds"] = {name: document["clouds"][name] for name in clouds or document["clouds"]}
    return document


def site(document: dict[str, Any]) -> Site:
    return parse_site(yaml.safe_dump(document, sort_keys=False), shown="big.yaml", stem="big")


def ports(of: Site) -> dict[str, int]:
    """Gateway -> its port, as role `interconnect` counts it from the stack's output."""
    networks = graph_of(of).outputs["edge_inventory"]["interconnect"]["networks"]
    edges = {f"{one['cloud']}/{one['region']}": one["gateways"] for one in networks}
    return {
        name: interconnect.port(one, name)
        for one in interconnect.networks(networks, edges)
        for name in one.gateways
    }


def tunnels(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What `site-plan show` says of tunnels."""
    found = changes(plan_site(site(before)), plan_site(site(after)))
    return [one for one in found if one.startswith("tunnels of ")]


@pytest.mark.parametrize(
    ("clouds", "region"),
    [(["aws", "gcp", "azure"], "centralus"), (["azure", "gcp", "aws"], "ap-south-1")],
)
def test_a_region_at_the_end_of_the_file_moves_no_tunnel_whatever_its_name(
    clouds: list[str], region: str
) -> None:
    before, after = said(clouds), said(clouds)
    regions = after["clouds"][clouds[-1]]["regions"]
    assert region < min(regions)
    regions[region] = MORE
    old, new = ports(site(before)), ports(site(after))
    assert len(old) == 6 and len(new) == 8
    assert new.items() >= old.items()
    assert tunnels(before, after) == []


def test_an_edit_that_moves_tunnels_is_told_with_their_regions() -> None:
    before, after = said(), said()
    after["clouds"]["gcp"]["regions"]["us-west1"] = MORE
    old, new = ports(site(before)), ports(site(after))
    moved = {name for name in old if new[name] != old[name]}
    assert moved == {"edge-azure-eastus-1", "edge-azure-eastus-2"}
    [sentence] = tunnels(before, after)
    assert sentence.startswith("tunnels of azure eastus get other ports")
