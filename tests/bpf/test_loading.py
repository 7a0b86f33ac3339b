"""Loading: what the verifier walked through, sharing of maps, sizes, and what cannot be loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.bpf.conftest import SEEDED, SMALL, Loader
from tests.bpf.support.bench import VIP4, WEB, Bench
from tests.bpf.support.packets import Packet
from xds_agent.datapath import pins
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.info import map_info
from xds_agent.datapath.layout import Value
from xds_agent.datapath.libbpf import Unavailable, words
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Object
from xds_agent.datapath.program import DROP, Features, Sizes, load
from xds_agent.datapath.services import Real, Service

pytestmark = pytest.mark.root

# Kernels differ in how much they prune; a sixth of the million they allow leaves room for that.
INSTRUCTIONS = 170_000


@pytest.mark.parametrize("local_sockets", [False, True])
def test_the_verifier_has_room_to_spare(loaded: Loader, local_sockets: bool) -> None:
    generation = loaded(features=Features(local_sockets=local_sockets))
    print(f"{generation.instructions} instructions verified")
    assert 1000 < generation.instructions < INSTRUCTIONS


def test_stages_that_are_off_do_not_exist(loaded: Loader) -> None:
    off = Features(acl=False, limit=False, balance=False)
    assert loaded(features=off).instructions < loaded().instructions
    bench = Bench(loaded(features=off))
    bench.lists_of(deny=["0.0.0.0/0"])
    bench.expect(Packet(destination=VIP4, dport=443), "pass_kernel", service=WEB)


def test_a_generation_takes_over_what_is_the_same(bench: Bench, loaded: Loader) -> None:
    """Lists, services, rings and counters live on; tables of another size start empty and are named."""
    bench.lists_of(deny=["198.51.100.0/24"])
    denied = Packet(destination="203.0.113.77")
    bench.expect(denied, "drop_denied")
    sizes = replace(SMALL, limit_blocks=2048, flows=8192)
    following = loaded(predecessor=bench.generation, sizes=sizes)
    assert set(following.fresh) == {"limit_blocks", "flows", "flows_new"}
    assert following.run(denied.bytes())[0] == DROP
    assert bench.counters.service(0)["drop_denied"].packets == 2


def test_nothing_is_fresh_in_an_equal_generation(bench: Bench, loaded: Loader) -> None:
    following = loaded(predecessor=bench.generation)
    assert following.fresh == () and following.layout == bench.generation.layout


def changed(program: Path, folder: Path, header: str, old: str, new: str) -> Path:
    """The program with one header changed, built in a folder of its own."""
    bpf = program.parents[1]
    shutil.copytree(bpf / "include", folder / "include")
    for name in ("Makefile", "xdp_main.bpf.c"):
        shutil.copy(bpf / name, folder)
    source = folder / "include" / header
    text = source.read_text().replace(old, new)
    assert text != source.read_text()
    source.write_text(text)
    subprocess.run(["make", "-s", "-C", folder], check=True)
    return folder / "build" / "xdp_main.bpf.o"


@pytest.mark.parametrize(
    ("old", "new", "fresh"),
    [
        (
            "    __u32 real;\n    __u32 seen_s;",
            "    __u32 seen_s;\n    __u32 real;",
            {"flows", "flows_new"},
        ),
        ("ACL_EXEMPT = 1,", "ACL_EXEMPT = 4,", {"acl4", "acl4_long", "acl6"}),
        ("__u8 fours[64];", "__u8 fours[63], rest;", {"acl4"}),
    ],
)
def test_a_map_of_another_layout_is_not_shared_and_all_others_are(
    bench: Bench, tmp_path: Path, program: Path, old: str, new: str, fresh: set[str]
) -> None:
    """Fields of equal size change places, numbers another meaning: sizes say nothing, the hash does."""
    swapped = changed(program, tmp_path, "types.h", old, new)
    other = load(swapped, sizes=SMALL, features=SEEDED, predecessor=bench.generation)
    try:
        assert other.layout != bench.generation.layout
        assert set(other.fresh) == fresh
    finally:
        other.close()


def test_sizes_that_cannot_be(program: Path) -> None:
    with pytest.raises(ValueError, match="limit_blocks: 1000 is not a power of two"):
        load(program, sizes=Sizes(limit_blocks=1000))
    with pytest.raises(ValueError, match="at least 1"):
        load(program, sizes=Sizes(flows=0))
    with pytest.raises(ValueError, match="services: 65537 is more than 65536"):
        load(program, sizes=Sizes(services=65537))


def test_objects_that_cannot_be_loaded(program: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make -C bpf"):
        load(tmp_path / "none.bpf.o")
    garbage = tmp_path / "garbage.bpf.o"
    garbage.write_bytes(b"\x7fELF" + bytes(200))
    with pytest.raises(OSError, match="opening"):
        load(garbage)


def test_a_refusal_of_the_verifier_is_quoted(program: Path, tmp_path: Path) -> None:
    careless = changed(program, tmp_path, "acl.h", "    if (!classes)\n        return ACL_NONE;\n", "")
    with pytest.raises(OSError, match="map_value_or_null"):
        load(careless, sizes=SMALL)


LONG = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp")
int far_off(struct xdp_md *ctx)
{
    __u64 sum = 0;
    for (int at = 0; at < 4000; at++)
        sum += bpf_ktime_get_ns();
    return *(int *)sum;
}
char _license[] SEC("license") = "GPL";
"""


def test_the_reason_is_quoted_however_long_the_verifiers_log(program: Path, tmp_path: Path) -> None:
    """It stands at the end, behind each step of what was walked through."""
    source, made = tmp_path / "far_off.bpf.c", tmp_path / "far_off.bpf.o"
    source.write_text(LONG)
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    clang = ["clang", "-O2", "-g", "-target", "bpf", "-I", include, "-c", str(source), "-o", str(made)]
    subprocess.run(clang, check=True)
    opened = Object(made, "far_off")
    try:
        with words() as said, pytest.raises(OSError, match="invalid mem access 'scalar'"):
            opened.load()
        assert max(map(len, said)) > 128 * 1024, "a log that says nothing about cut ones"
    finally:
        opened.close()


def test_a_full_map_says_which(bench: Bench) -> None:
    with pytest.raises(OSError, match="writing to map services4"):
        for port in range(1, 100):
            bench.tables.put_service(Service(1, ip_address(VIP4), port, 6))


def test_numbers_beyond_the_maps(bench: Bench) -> None:
    with pytest.raises(ValueError, match="service number 64 is not between 1 and 63"):
        bench.tables.put_service(Service(64, ip_address(VIP4), 1, 6))
    with pytest.raises(ValueError, match="real number 0"):
        bench.tables.put_real(0, Real(ip_address("10.0.0.1"), bytes(6)))


def test_fields_are_checked_by_name_and_size(bench: Bench) -> None:
    layout = bench.generation.struct("service")
    with pytest.raises(KeyError, match="no field 'prot'"):
        layout.pack({"prot": 1})
    with pytest.raises(ValueError, match="70000 does not fit into 2 bytes"):
        layout.pack({"flags": 70_000})
    packed = layout.pack({"id": 7, "mtu": 1400, "packets": {"interval_ns": 5, "burst_ns": 6}})
    read = layout.unpack(packed)
    assert (read["id"], read["mtu"], read["packets"]) == (7, 1400, {"interval_ns": 5, "burst_ns": 6})


def test_services_can_be_deleted(bench: Bench) -> None:
    service = bench.services[WEB][0]
    assert bench.tables.delete_service(service)
    assert not bench.tables.delete_service(service)
    bench.expect(Packet(destination=VIP4, dport=443), "pass_kernel")


@pytest.fixture
def folder(bpffs: Path) -> Path:
    """A place for pins."""
    return bpffs / "marchproxy"


def test_a_restarted_agent_finds_everything(bench: Bench, program: Path, folder: Path) -> None:
    """Lists, services and counters from pins alone, and the lists' generations go on from where they were."""
    bench.lists_of(deny=["198.51.100.0/30"])
    denied, free = Packet(source="198.51.100.1"), Packet(source="198.51.100.5")
    pins.pin(bench.generation, folder)
    bench.expect(denied, "drop_denied", service=WEB)
    bench.generation.close()
    (kept,) = pins.reopen(folder)
    again = load(program, sizes=SMALL, features=SEEDED, predecessor=kept)
    pins.close(kept)
    try:
        assert again.fresh == ()
        counters, lists = Counters(again), AccessLists(again)
        assert counters.service(WEB)["drop_denied"].packets == 1
        assert again.run(denied.bytes())[0] == DROP
        for net, packet in [("198.51.100.4/30", free), ("198.51.100.0/30", denied)]:
            lists.replace([(ip_network(net), lists.classes["deny"])])
            assert [again.run(one.bytes())[0] == DROP for one in (denied, free)] == [
                packet is denied,
                packet is free,
            ]
    finally:
        again.close()


def test_pins_follow_a_table_that_changed_its_size(bench: Bench, loaded: Loader, folder: Path) -> None:
    pins.pin(bench.generation, folder)
    sizes = replace(SMALL, flows=8192)
    following = loaded(predecessor=bench.generation, sizes=sizes)
    pins.pin(following, folder)
    (kept,) = pins.reopen(folder)
    entries = {name: map_info(fd).max_entries for name, fd in kept.fds.items()}
    pins.close(kept)
    assert entries["flows"] == 8192 and entries["services4"] == 64


def test_the_parity_of_lists_survives_a_restart(bench: Bench) -> None:
    """Whoever takes over must not write into the table that is live."""
    for _ in range(3):
        bench.lists_of(deny=["198.51.100.0/30"])
        assert AccessLists(bench.generation)._parity == bench.lists._parity


def refuses(patch: pytest.MonkeyPatch, map_name: str) -> None:
    """The kernel has no memory left for this map's next table."""
    inner = Map.put

    def put(self: Map, key: Value, value: Value) -> None:
        if self.name == map_name:
            raise OSError(12, "out of memory")
        inner(self, key, value)

    patch.setattr(Map, "put", put)


@pytest.mark.parametrize("restarted", [False, True])
def test_lists_that_fail_halfway_leave_those_that_are_live_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """Lists of IPv4 went live, those of IPv6 did not; the next ones come as far as the long table."""
    denied = Packet(source="198.51.100.1")
    bench.lists_of(deny=["198.51.100.8/30"])
    with monkeypatch.context() as broken, pytest.raises(OSError, match="out of memory"):
        refuses(broken, "acl6")
        bench.lists_of(deny=["198.51.100.0/30"])
    bench.expect(denied, "drop_denied", service=WEB)
    # The second time the long table of lists that never went live lies beside.
    for other in ("198.51.100.16/30", "198.51.100.24/30"):
        if restarted:
            bench.lists = AccessLists(bench.generation)
        with monkeypatch.context() as broken, pytest.raises(OSError, match="out of memory"):
            refuses(broken, "acl4")
            bench.lists_of(deny=[other])
        bench.expect(denied, "drop_denied", service=WEB)


def test_pins_need_bpffs(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(pins.NoBpffs, match="mount -t bpf"):
        pins.pin(bench.generation, tmp_path / "pins")
