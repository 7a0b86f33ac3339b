"""What the simulated Azure refuses as the real one does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simcloud.azure import CLOUD
from simcloud.cloud import Account
from simcloud.schema import Refused
from simcloud.world import Record, Store

NETWORK = "azure-native:network"
RULE = {
    "name": "one",
    "priority": 100,
    "direction": "Inbound",
    "access": "Allow",
    "protocol": "Tcp",
    "sourceAddressPrefix": "*",
    "sourcePortRange": "*",
    "destinationAddressPrefix": "*",
    "destinationPortRange": "443",
}
Make = Callable[..., Record]


@pytest.fixture
def azure(tmp_path: Path) -> Account:
    account = Account(CLOUD, Store(tmp_path, "azure-native"), {"subscriptionId": "s", "location": "eastus"})
    group = {"resourceGroupName": "g", "location": "eastus"}
    account.create("azure-native:resources:ResourceGroup", "g", "urn:g", group)
    return account


@pytest.fixture
def make(azure: Account) -> Make:
    """Makes a resource of the group; Refused with all that is wrong."""

    def made(token: str, name: str = "one", **said: Any) -> Record:
        given = {"resourceGroupName": "g", "location": "eastus", **said}
        inputs, wrong = azure.check(token, name, given, {}, b"1234")
        if wrong:
            raise Refused("; ".join(reason for _, reason in wrong))
        return azure.create(token, name, f"urn:{token}:{name}", inputs)

    return made


def changed(**fields: Any) -> dict[str, Any]:
    """The rule with other fields; None takes one out."""
    return {key: value for key, value in {**RULE, **fields}.items() if value is not None}


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize(
    ("one", "many", "value", "word"),
    [
        ("PortRange", "PortRanges", ["*"], "SecurityRuleInvalidPortRange"),
        ("PortRange", "PortRanges", ["80", "*"], "SecurityRuleInvalidPortRange"),
        ("AddressPrefix", "AddressPrefixes", ["*"], "SecurityRuleParameterContainsUnsupportedValue"),
        ("AddressPrefix", "AddressPrefixes", ["Internet"], "SecurityRuleParameterContainsUnsupportedValue"),
        ("AddressPrefix", "AddressPrefixes", ["10.0.0.0/8", "10.1.0.0/16"], "OverlappingSubnetsNotPermitted"),
        ("PortRange", "PortRanges", None, "has one of"),
        ("AddressPrefix", "AddressPrefixes", None, "has one of"),
    ],
)
def test_a_list_of_a_rule_takes_nothing_that_stands_for_all(
    make: Make, side: str, one: str, many: str, value: list[str] | None, word: str
) -> None:
    """`*` and service tags go into the field for one value alone."""
    rule = changed(**{f"{side}{one}": None, f"{side}{many}": value})
    with pytest.raises(Refused, match=word):
        make(f"{NETWORK}:NetworkSecurityGroup", securityRules=[rule])
    both = changed(**{f"{side}{many}": ["8000-8010"] if one == "PortRange" else ["10.0.0.0/8"]})
    with pytest.raises(Refused, match="has one of"):
        make(f"{NETWORK}:NetworkSecurityGroup", securityRules=[both])
    make(f"{NETWORK}:NetworkSecurityGroup", securityRules=[RULE])


def network(make: Make) -> tuple[Record, Record]:
    """A network, and a subnet in it."""
    space = {"addressPrefixes": ["10.0.0.0/16"]}
    return (
        make(f"{NETWORK}:VirtualNetwork", virtualNetworkName="n", addressSpace=space),
        make(f"{NETWORK}:Subnet", virtualNetworkName="n", subnetName="s", addressPrefix="10.0.0.0/24"),
    )


def address(make: Make, name: str, zones: list[str]) -> Record:
    said = {"sku": {"name": "Standard"}, "publicIPAllocationMethod": "Static"}
    return make(f"{NETWORK}:PublicIPAddress", name, publicIpAddressName=name, zones=zones, **said)


def test_an_address_in_some_zones_is_in_all_and_never_changes_them(azure: Account, make: Make) -> None:
    """hashicorp/terraform-provider-azurerm#16470: what is read is not what was said, and replaces it."""
    token = f"{NETWORK}:PublicIPAddress"
    for said, there in ((["1", "2"], ["1", "2", "3"]), (["2"], ["2"])):
        made = address(make, f"a{len(said)}", said)
        read = azure.read(token, made.id)
        assert read is not None and read.inputs["zones"] == read.outputs["zones"] == there
        assert azure.difference(token, read.inputs, made.inputs)[1] == (["zones"] if said != there else [])


@pytest.mark.parametrize(
    ("zones", "own", "fits"),
    [
        (["1"], ["1"], True),
        (["1"], ["2"], False),
        (["1"], ["1", "2", "3"], True),
        (["1"], [], False),
        ([], [], True),
        ([], ["1"], False),
    ],
)
def test_a_machine_has_an_address_of_its_zone(
    make: Make, zones: list[str], own: list[str], fits: bool
) -> None:
    subnet = network(make)[1]
    public = address(make, "a", own)
    card = make(
        f"{NETWORK}:NetworkInterface",
        ipConfigurations=[{"name": "m", "subnet": {"id": subnet.id}, "publicIPAddress": {"id": public.id}}],
    )
    image = {"publisher": "debian", "offer": "debian-12", "sku": "12-gen2", "version": "0.20250316.2053"}
    said = {
        "zones": zones,
        "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
        "storageProfile": {"imageReference": image},
        "networkProfile": {"networkInterfaces": [{"id": card.id}]},
    }
    if fits:
        make("azure-native:compute:VirtualMachine", **said)
        return
    with pytest.raises(Refused, match="has a zone constraint"):
        make("azure-native:compute:VirtualMachine", **said)


@pytest.mark.parametrize(
    ("routes", "word"),
    [
        ([{"nextHopType": "VirtualAppliance"}], "InvalidNextHopIpAddress"),
        ([{"nextHopType": "Internet", "nextHopIpAddress": "10.0.0.9"}], "InvalidNextHopIpAddress"),
        ([{"nextHopType": "Router"}], "is not a next hop"),
        ([{"nextHopType": "None"}, {"nextHopType": "Internet"}], "RouteConflict"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(make: Make, routes: list[dict[str, str]], word: str) -> None:
    given = [{"name": f"r{n}", "addressPrefix": "10.1.0.0/16", **one} for n, one in enumerate(routes)]
    with pytest.raises(Refused, match=word):
        make(f"{NETWORK}:RouteTable", routes=given)


@pytest.mark.parametrize(
    ("name", "tags", "word"),
    [
        ("prod", {"azure-team": "x"}, "are reserved"),
        ("prod", {"Windows": "x"}, "are reserved"),
        ("prod", {f"t{number}": "x" for number in range(51)}, "TooManyTags"),
        ("login-vip", {}, "ReservedResourceName"),
        ("prod-windows-1", {}, "ReservedResourceName"),
    ],
)
def test_words_of_its_own_are_refused(make: Make, name: str, tags: dict[str, str], word: str) -> None:
    said = {"sku": {"name": "Standard"}, "publicIPAllocationMethod": "Static", "publicIpAddressName": name}
    with pytest.raises(Refused, match=word):
        make(f"{NETWORK}:PublicIPAddress", tags=tags, **said)


def test_a_network_is_not_moved_from_under_what_stands_in_it(azure: Account, make: Make) -> None:
    whole, subnet = network(make)

    def change(record: Record, **said: Any) -> None:
        azure.update(record.token, "one", "urn", record.id, {**record.inputs, **said})

    with pytest.raises(Refused, match="NetcfgSubnetRangeOutsideVnet"):
        change(whole, addressSpace={"addressPrefixes": ["10.1.0.0/16"]})
    change(whole, addressSpace={"addressPrefixes": ["10.0.0.0/15"]})
    change(subnet, addressPrefix="10.0.1.0/24")
    configuration = {"name": "m", "subnet": {"id": subnet.id}}
    make(f"{NETWORK}:NetworkInterface", ipConfigurations=[configuration])
    with pytest.raises(Refused, match="InUseSubnetCannotBeUpdated"):
        change(subnet, addressPrefix="10.0.2.0/24")
    change(subnet, addressPrefix="10.0.1.0/24", defaultOutboundAccess=False)
