"""What this host is and can do: versions, kernel, network cards, and how XDP would attach to each."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from xds_agent.proto import marchproxy_pb2 as pb

# Drivers with an ndo_bpf of their own (native XDP) in kernels from 6.1 on.
NATIVE_XDP_DRIVERS = frozenset(
    {
        "bnxt_en", "cpsw", "dpaa2-eth", "dpaa_eth", "ena", "enetc", "fec", "fsl_dpaa2_eth", "funeth", "gve",
        "hv_netvsc", "i40e", "iavf", "ice", "igb", "igc", "ixgbe", "ixgbevf", "lan966x-switch", "mana",
        "mlx4_en", "mlx5_core", "mvneta", "mvpp2", "netsec", "nfp", "octeontx2", "qede", "sfc", "stmmac",
        "thunderx-nicvf", "tun", "tsnep", "veth", "virtio_net", "vmxnet3",
    }
)  # fmt: skip
# A frame must fit a page with head room: above this, native XDP needs multi-buffer programs.
NATIVE_XDP_MTU = 3_498
_OS_RELEASE = Path("/etc/os-release")
_BTF = Path("/sys/kernel/btf/vmlinux")


def hello(agent_version: str, envoy_version: str) -> pb.Hello:
    """The first message of a Report stream; touches netlink and /sys (some ms, call it off the loop)."""
    return pb.Hello(
        agent_version=agent_version,
        envoy_version=envoy_version,
        kernel=platform.release(),
        distribution=_distribution(),
        nics=nics(),
        btf=_BTF.exists(),
        machine=platform.machine(),
    )


def nics() -> list[pb.Nic]:
    """Every network interface but loopback, in the kernel's order."""
    # Imported here: pyroute2 takes a fifth of a second, which no boot should wait for.
    from pyroute2 import IPRoute

    found = []
    with IPRoute() as netlink:
        for link in netlink.get_links():
            name = link.get_attr("IFLA_IFNAME")
            info = link.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info else None
            if name == "lo":
                continue
            driver = driver_of(name) or kind or ""
            mtu = link.get_attr("IFLA_MTU") or 0
            queues = link.get_attr("IFLA_NUM_RX_QUEUES") or 0
            found.append(pb.Nic(name=name, driver=driver, mtu=mtu, rx_queues=queues, xdp=xdp_of(driver, mtu)))
    return found


def driver_of(name: str, sys: Path = Path("/sys/class/net")) -> str:
    """Driver bound to an interface's device, "" for a virtual one."""
    try:
        return (sys / name / "device" / "driver").resolve(strict=True).name
    except OSError:
        return ""


def xdp_of(driver: str, mtu: int) -> str:
    """ "native", "generic" or "none" for a driver at an MTU."""
    if driver == "":
        return "none"
    if driver in NATIVE_XDP_DRIVERS and mtu <= NATIVE_XDP_MTU:
        return "native"
    return "generic"


def _distribution() -> str:
    try:
        lines = _OS_RELEASE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return os.uname().sysname
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("PRETTY_NAME", "").strip('"')
