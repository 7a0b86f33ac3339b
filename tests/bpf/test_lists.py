"""Lists by source: the longest prefix decides, and one generation follows another whole."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from tests.bpf.support.bench import Bench
from tests.bpf.support.packets import Packet
from xds_agent.datapath.acl import NETWORKS, paint
from xds_agent.datapath.prefixes import Prefixes

pytestmark = pytest.mark.root

HOST4 = Packet(destination="203.0.113.77", dport=9)
HOST6 = Packet(source="2001:db8::7", destination="2001:db8:ffff::77", dport=9)


@pytest.mark.parametrize(
    ("denied", "source", "reason"),
    [
        (["198.51.100.0/24"], "198.51.100.7", "drop_denied"),
        (["198.51.100.0/24"], "198.51.101.7", "pass_kernel"),
        (["198.0.0.0/8"], "198.51.100.7", "drop_denied"),
        (["198.51.100.7/32"], "198.51.100.7", "drop_denied"),
        (["198.51.100.7/32"], "198.51.100.8", "pass_kernel"),
        (["0.0.0.0/0"], "255.255.255.254", "drop_denied"),
        (["198.51.100.0/24", "198.51.100.128/25"], "198.51.100.7", "drop_denied"),
        (["2001:db8::/32"], "2001:db8::7", "drop_denied"),
        (["2001:db8::7/128"], "2001:db8::8", "pass_kernel"),
        (["::/0"], "2001:db8::8", "drop_denied"),
    ],
)
def test_deny_lists(bench: Bench, denied: list[str], source: str, reason: str) -> None:
    bench.lists_of(deny=denied)
    bench.expect((HOST6 if ":" in source else HOST4).but(source=source), reason)


def test_the_longest_prefix_decides(bench: Bench) -> None:
    bench.lists_of(deny=["198.0.0.0/8", "198.51.100.64/26"], exempt=["198.51.100.0/24", "198.51.100.65/32"])
    fates = {"198.1.2.3": "drop_denied", "198.51.100.1": "pass_kernel", "198.51.100.66": "drop_denied"}
    for source, reason in {**fates, "198.51.100.65": "pass_kernel"}.items():
        bench.expect(HOST4.but(source=source), reason)
    assert bench.counters.service(0)["note_exempt"].packets == 2


def test_generations_replace_each_other_whole(bench: Bench) -> None:
    """Both parities of the long table, twice, and nothing left behind."""
    for number in range(4):
        net = f"198.51.100.{number * 4}/30"
        bench.lists_of(deny=[net, f"2001:db8:{number}::/48"])
        for other in range(4):
            reason = "drop_denied" if other == number else "pass_kernel"
            bench.expect(HOST4.but(source=f"198.51.100.{other * 4 + 1}"), reason)
            bench.expect(HOST6.but(source=f"2001:db8:{other}::1"), reason)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("first", ["0.0.0.0", "198.51.100.0", "198.51.254.0", "255.255.252.0"])
def test_a_class_is_that_of_its_network_alone(bench: Bench, first: str, turn: int) -> None:
    """Neighbours share bytes and rows of the directory; the last one lies beside the generation's parity."""
    networks = [IPv4Network((int(ip_address(first)) + at * 256, 24)) for at in range(4)]
    none, exempt, denied, asking = networks[turn:] + networks[:turn]
    for _ in range(2):  # generations of either parity
        bench.lists_of(exempt=[str(exempt)], deny=[str(denied), f"{asking[128]}/25"])
        for source in (none[9], none[200], asking[9], exempt[9], exempt[200]):
            bench.expect(HOST4.but(source=str(source)), "pass_kernel")
        for source in (denied[9], denied[200], asking[200]):
            bench.expect(HOST4.but(source=str(source)), "drop_denied")
    assert bench.counters.service(0)["note_exempt"].packets == 4


@pytest.mark.parametrize("prefix", ["198.51.100.0/24", "198.51.100.7/32", "2001:db8::/32", "198.51.0.0/16"])
@pytest.mark.parametrize(
    ("order", "reason"), [(("deny", "exempt"), "pass_kernel"), (("exempt", "deny"), "drop_denied")]
)
def test_of_two_rules_for_one_prefix_the_last_counts(
    bench: Bench, prefix: str, order: tuple[str, str], reason: str
) -> None:
    """In the directory as in the tries: who comes first is the writer's to say."""
    lists = bench.lists
    lists.replace([(ip_network(prefix), lists.classes[name]) for name in order])
    packet = HOST6.but(source="2001:db8::1") if ":" in prefix else HOST4.but(source="198.51.100.7")
    bench.expect(packet, reason)


def test_many_prefixes_are_painted_once_each() -> None:
    networks = [IPv4Network((0x0B000000 + number * 256, 24)) for number in range(100_000)]
    classes = bytearray(NETWORKS)
    keys, numbers = paint([(Prefixes.of(networks), 2)], classes, ask=3)
    assert sum(classes) == 200_000 and not keys and not numbers
