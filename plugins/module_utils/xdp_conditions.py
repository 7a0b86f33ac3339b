"""Under which conditions the clouds' network cards run an XDP program themselves, from their manuals. Pure.

That a driver can at all is the agent's to know (xds_agent/node/abilities.py), and whether it does, a
probe's. This says beforehand, with the remedy, what would stand against it.
"""

from __future__ import annotations

# A frame must fit a page together with its head room.
MTU_MAX = 3498
# Accelerated networking puts these below netvsc; the virtual function comes and goes with the machine's
# maintenance.
_AZURE_VF = frozenset({"mlx4_core", "mlx4_en", "mlx5_core", "mana"})


# gve's receive buffers of 2 KiB less the Ethernet header and its padding (gve_verify_xdp_configuration).
_MTU_MAX_OF = {"gve": 2032}
_HALVES_CHANNELS = ("ena", "gve")


def obstacles(
    driver: str, *, mtu: int, channels: int, channels_max: int, below_netvsc: bool = False
) -> list[str]:
    """What stands against native XDP, each with the remedy; empty where nothing is known against it."""
    if below_netvsc and driver in _AZURE_VF:
        return ["it is the virtual function below netvsc: attach to the netvsc interface instead"]
    found = []
    if mtu > (most := _MTU_MAX_OF.get(driver, MTU_MAX)):
        found.append(f"MTU {mtu} is too large for XDP: set it to {most} or less (nic_interfaces)")
    if driver in _HALVES_CHANNELS and channels_max and channels > max(channels_max // 2, 1):
        found.append(
            f"{channels} of {channels_max} channels are in use, and {driver} needs as many again for XDP: "
            f"set channels.combined to {max(channels_max // 2, 1)} (nic_interfaces)"
        )
    return found
