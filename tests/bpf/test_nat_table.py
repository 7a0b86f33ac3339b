"""NAT's table of flows: whose a port is, for how long, and what a flood cannot do."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import NAT_RINGS, SHOP, Bench
from tests.bpf.support.nat import BOTH, SHOP4, back, begin, bytes_to, establish, opened, sent_port
from tests.bpf.support.packets import ACK, FIN, RST, SYN, Packet
from xds_agent.datapath.program import Sizes

pytestmark = pytest.mark.root

TIGHT = Sizes(services=64, reals=64, limit_blocks=1024, flows=4096, nat_ports=64, nat_banks=1)


@BOTH
def test_flows_share_no_port_of_a_real(bench: Bench, opening: Packet) -> None:
    seen = set()
    for number in range(600):
        packet = opening.but(sport=1024 + number)
        frame = bench.run(packet)[1]
        backend = bench.real_of(packet, NAT_RINGS[packet.version])
        assert backend
        seen.add((backend.number, sent_port(frame, packet.version)))
    assert len(seen) == 600


def test_a_flood_takes_no_port_of_a_confirmed_flow(loaded: Loader) -> None:
    """64 ports, a third of them confirmed; 5,000 SYNs that reals answer and nobody acknowledges take none.

    A blind acknowledgement (wrong number) confirms nothing.
    """
    bench = Bench(loaded(sizes=TIGHT))
    live = [
        (SHOP4.but(sport=2000 + number), establish(bench, SHOP4.but(sport=2000 + number)))
        for number in range(20)
    ]
    before = opened(bench)
    for number in range(5000):
        spoofed = SHOP4.but(source=str(ip_address(0x0B000000 + number)))
        verdict, frame = bench.run(spoofed)
        if verdict != "TX":
            continue
        backend = bench.real_of(spoofed, NAT_RINGS[4])
        assert backend
        sent = bench.translated(spoofed, backend, sent_port(frame, 4))
        bench.run(bench.answer(sent, flags=SYN | ACK, seq=number << 16))
        bench.run(spoofed.but(flags=ACK, ack=(number << 16) + 0x20000))
    assert opened(bench) == before
    for opening, sent in live:
        onward = opening.but(flags=ACK)
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
        answer = bench.answer(sent, flags=ACK)
        bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


def test_ports_that_are_all_open_are_refused_not_taken(loaded: Loader) -> None:
    bench = Bench(
        loaded(sizes=Sizes(services=64, reals=64, limit_blocks=1024, flows=64, nat_ports=8, nat_banks=1))
    )
    live = [SHOP4.but(sport=2000 + number) for number in range(8)]
    sent = [establish(bench, opening) for opening in live]
    assert len({packet.sport for packet in sent}) == 8
    bench.expect(SHOP4.but(sport=3000), "drop_nat_full", service=SHOP)
    for opening, was in zip(live, sent, strict=True):
        onward = opening.but(flags=ACK)
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, was))


@pytest.mark.parametrize(
    ("ends", "free"),
    [
        (["client RST"], True),
        (["real RST"], True),
        (["client FIN", "real FIN"], True),
        (["client FIN"], False),
        (["real FIN"], False),
        ([], False),
    ],
)
def test_ended_connections_give_their_ports_back_sooner(loaded: Loader, ends: list[str], free: bool) -> None:
    """With no patience for closed flows, the eighth port is free at the next second, or is not."""
    bench = Bench(
        loaded(sizes=Sizes(services=64, reals=64, limit_blocks=1024, flows=64, nat_ports=8, nat_banks=1))
    )
    bench.configure(nat_closing_s=0, nat_tcp_s=65535)
    live = [SHOP4.but(sport=2000 + number) for number in range(8)]
    sent = [establish(bench, opening) for opening in live]
    for end in ends:
        flags = RST if end.endswith("RST") else FIN | ACK
        if end.startswith("client"):
            bench.run(live[3].but(flags=flags))
        else:
            bench.run(bench.answer(sent[3], flags=flags))
    age(bench, seconds=5)
    newcomer = SHOP4.but(sport=3000)
    if not free:
        bench.expect(newcomer, "drop_nat_full", service=SHOP)
        return
    assert begin(bench, newcomer)[0].sport == sent[3].sport


def age(bench: Bench, *, seconds: int) -> None:
    """All flows were last seen so much earlier."""
    table = bench.generation.maps["nat_sets"]
    for row in range(1):
        tags = table.get(row)["tags"]
        table.put(row, {"tags": [tag - (seconds << 8) for tag in tags]})


def test_the_same_ports_after_the_end_are_a_new_flow(bench: Bench) -> None:
    sent = establish(bench, SHOP4)
    bench.run(bench.answer(sent, flags=RST))
    assert begin(bench, SHOP4)[0].sport == sent.sport
    bench.expect(
        SHOP4.but(flags=ACK, ack=9),
        "send_nat",
        service=SHOP,
        frame=bytes_to(bench, SHOP4.but(flags=ACK, ack=9), sent),
    )


def test_a_table_of_another_meaning_starts_empty(bench: Bench, loaded: Loader) -> None:
    """Same size, another first port: a row would be another flow's."""
    sizes = Sizes(
        services=64,
        reals=64,
        limit_blocks=1024,
        flows=4096,
        nat_ports=4096,
        nat_banks=4,
        nat_first_port=24096,
    )
    following = loaded(predecessor=bench.generation, sizes=sizes)
    assert set(following.fresh) == {"nat_sets", "nat_flows", "nat_geometry", "nat_fragments"}
