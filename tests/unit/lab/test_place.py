"""Names and addresses of a lab follow from its checkout and its inventory."""

from pathlib import Path

import pytest

from lab import place
from lab.errors import LabError

HOSTS = """
all:
  children:
    lab:
      children:
        control: {hosts: {control1: {lab_network: control, lab_number: 10}}}
        aws:
          vars: {cloud: aws, lab_network: aws}
          hosts: {edge1: {lab_number: 11}, edge2: {lab_number: 12, lab_network: control}}
    ingress: {hosts: {edge1: }}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    (folder / "group_vars" / "lab").mkdir(parents=True)
    (folder / "group_vars" / "lab" / "place.yml").write_text(
        "lab_name: lab\nlab_networks: {control: 0, aws: 1, gcp: 2}\n"
    )
    (folder / "hosts.yml").write_text(HOSTS)
    return folder / "hosts.yml"


def test_a_host_takes_its_address_from_network_and_number(inventory: Path, tmp_path: Path) -> None:
    here = place.load(inventory, tmp_path)
    assert [(host.name, host.address) for host in here.hosts] == [
        ("control1", f"10.{here.octet}.0.10"),
        ("edge1", f"10.{here.octet}.1.11"),
        ("edge2", f"10.{here.octet}.0.12"),
    ]


def test_a_host_is_in_every_group_that_names_it(inventory: Path, tmp_path: Path) -> None:
    here = place.load(inventory, tmp_path)
    assert here.host("edge1").groups == ("all", "lab", "aws", "ingress")
    assert [host.name for host in here.in_group("ingress")] == ["edge1"]
    assert here.host("edge1").cloud == "aws"


def test_only_networks_with_hosts_are_made(inventory: Path, tmp_path: Path) -> None:
    here = place.load(inventory, tmp_path)
    assert [network.name for network in here.networks] == [f"{here.prefix}-control", f"{here.prefix}-aws"]


def test_two_checkouts_share_no_name(inventory: Path, tmp_path: Path) -> None:
    one, other = place.load(inventory, tmp_path / "one"), place.load(inventory, tmp_path / "other")
    assert {host.container for host in one.hosts}.isdisjoint(host.container for host in other.hosts)
    assert {net.name for net in one.networks}.isdisjoint(net.name for net in other.networks)


def test_the_range_stays_clear_of_the_usual_ones() -> None:
    octets = {place.octet_of(Path(f"/checkout/{number}")) for number in range(2000)}
    assert min(octets) == 128 and max(octets) == 223


def test_an_evaded_clash_is_remembered(inventory: Path, tmp_path: Path) -> None:
    (tmp_path / ".lab").mkdir()
    (tmp_path / ".lab" / "octet").write_text("201\n")
    assert place.load(inventory, tmp_path).supernet == "10.201.0.0/16"


def test_a_host_without_a_place_is_named(inventory: Path, tmp_path: Path) -> None:
    inventory.write_text("all: {hosts: {stray: {lab_network: aws}}}")
    with pytest.raises(LabError, match="host stray has no lab_number"):
        place.load(inventory, tmp_path)


def test_an_unknown_host_brings_the_known_ones(inventory: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError) as problem:
        place.load(inventory, tmp_path).host("edge9")
    assert "control1, edge1, edge2" in problem.value.remedy
