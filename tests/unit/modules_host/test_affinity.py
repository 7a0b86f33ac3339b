"""The module `irq_affinity`: a CPU of the interface's own node for every queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.marchproxy.edge.plugins.module_utils import affinity
from ansible_collections.marchproxy.edge.plugins.module_utils.affinity import AffinityError, Queues
from hypothesis import given
from hypothesis import strategies as st

INTERRUPTS = """           CPU0       CPU1
 37:          0          0 PCI-MSIX-0000:00:03.0   0-edge      virtio2-config
 38:          0      30686 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:      20901          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 50:          0          0 PCI-MSIX-0000:00:05.0   0-edge      ena-mgmnt@pci:0000:00:05.0
 51:          0          0 PCI-MSIX-0000:00:05.0   1-edge      ens5-Tx-Rx-0
 52:          0          0 PCI-MSIX-0000:00:05.0   2-edge      ens5-Tx-Rx-1
 60:          0          0 PCI-MSIX-0000:81:00.0   1-edge      mlx5_async0@pci:0000:81:00.0
 61:          0          0 PCI-MSIX-0000:81:00.0   2-edge      mlx5_comp7@pci:0000:81:00.0
NMI:          0          0   Non-maskable interrupts
"""


def test_only_interrupts_of_queues_are_steered() -> None:
    """That of configuration or of asynchronous events stays where the kernel put it."""
    found = affinity.queue_interrupts(INTERRUPTS, [37, 38, 39, 50, 51, 52, 60, 61])
    assert found == {38: 0, 39: 0, 51: 0, 52: 1, 61: 7}
    assert affinity.queue_interrupts(INTERRUPTS, [51]) == {51: 0}


@given(st.sets(st.integers(0, 500), min_size=1))
def test_masks_are_the_kernels(cpus: set[int]) -> None:
    mask = affinity.mask_of(sorted(cpus))
    bits = int(mask.replace(",", ""), 16)
    assert {cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1} == cpus
    assert all(len(group) == 8 for group in mask.split(",")[1:])
    assert affinity.same_mask(mask, f"00000000,{mask}" if len(mask.split(",")[0]) == 8 else mask)


def test_lists_of_cpus() -> None:
    assert affinity.cpus_of("0-2,5\n") == (0, 1, 2, 5)
    assert affinity.cpus_of("") == ()
    with pytest.raises(AffinityError, match="no list of CPUs"):
        affinity.cpus_of("all")


def queues(**changes: object) -> Queues:
    given: dict[str, object] = {
        "name": "ens5", "numa_node": 1, "local_cpus": (4, 5, 6, 7),
        "interrupts": {51: (0, "0-7"), 52: (1, "5")}, "rps": {0: "0", 1: "0"}, "xps": {0: "0", 1: "0"},
    }  # fmt: skip
    return Queues(**(given | changes))  # type: ignore[arg-type]


def test_a_queue_goes_to_a_cpu_of_its_node() -> None:
    found = {one.path: one.after for one in affinity.plan(queues())}
    assert found == {
        "/proc/irq/51/smp_affinity_list": "4",  # 52 is there already
        "/sys/class/net/ens5/queues/rx-0/rps_cpus": "f0",
        "/sys/class/net/ens5/queues/rx-1/rps_cpus": "f0",
        "/sys/class/net/ens5/queues/tx-0/xps_cpus": "50",
        "/sys/class/net/ens5/queues/tx-1/xps_cpus": "a0",
    }


def test_as_many_queues_as_cpus_need_no_rps() -> None:
    full = queues(rps=dict.fromkeys(range(4), "000000f0"), xps={}, interrupts={})
    assert {one.after for one in affinity.plan(full)} == {"0"}
    assert affinity.plan(queues(rps=dict.fromkeys(range(4), "0"), xps={}, interrupts={})) == []


def test_given_cpus_take_the_place_of_the_nodes() -> None:
    found = affinity.plan(queues(rps={}, xps={}), cpus=(0,))
    assert {one.after for one in found} == {"0"}


@given(st.integers(1, 16), st.integers(1, 16))
def test_every_cpu_sends_by_exactly_one_queue(count: int, cpus: int) -> None:
    serving = tuple(range(cpus))
    found = affinity.plan(
        queues(local_cpus=serving, xps=dict.fromkeys(range(count), "ffffffff"), rps={}, interrupts={})
    )
    masks = [int(one.after.replace(",", ""), 16) for one in found]
    if count > 1:
        assert sum(mask.bit_count() for mask in masks) == cpus
        union = 0
        for mask in masks:
            union |= mask
        assert union == (1 << cpus) - 1


def test_an_interface_is_read_from_the_kernels_files(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/net/ens5"
    (folder / "queues/rx-0").mkdir(parents=True)
    (folder / "queues/rx-0/rps_cpus").write_text("0\n")
    (folder / "device/msi_irqs").mkdir(parents=True)
    (folder / "device/msi_irqs/51").write_text("msix")
    (folder / "device/numa_node").write_text("1\n")
    (folder / "device/local_cpulist").write_text("4-7\n")
    (tmp_path / "proc/irq/51").mkdir(parents=True)
    (tmp_path / "proc/irq/51/smp_affinity_list").write_text("0-7\n")
    (tmp_path / "proc/interrupts").write_text(INTERRUPTS)
    found = affinity.gather("ens5", tmp_path)
    assert (found.numa_node, found.local_cpus, found.interrupts) == (1, (4, 5, 6, 7), {51: (0, "0-7")})
    steps = affinity.plan(found)
    assert affinity.apply(steps, tmp_path) == []
    assert affinity.plan(affinity.gather("ens5", tmp_path)) == []
    with pytest.raises(AffinityError, match="no interface ens9 on this host; there are: ens5"):
        affinity.gather("ens9", tmp_path)


def test_what_the_kernel_refuses_is_named(tmp_path: Path) -> None:
    step = affinity.Setting("ens5", "interrupt 51 (queue 0)", "/proc/irq/51/smp_affinity_list", "0-7", "4")
    (refused,) = affinity.apply([step], tmp_path)
    assert refused.startswith("ens5 interrupt 51 (queue 0): ")
