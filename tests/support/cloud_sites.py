"""Site files of any size, for the cloud programs of pulumi/."""

from __future__ import annotations

import yaml

# A public key that nobody has the other half of.
NOBODY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO nobody@test"


def site_of(hosts: int, name: str = "big", interconnect: str = "none") -> str:
    """A site of ``hosts`` hosts: control, and edges in three clouds as evenly as it goes, one region each."""
    share, more = divmod(hosts - 1, 3)
    counts = [share + (number < more) for number in range(3)]
    regions = ("us-east-1", "us-central1", "eastus")
    clouds: dict[str, dict[str, object]] = {
        "aws": {"account": "000000000000"},
        "gcp": {"project": "edge-test"},
        "azure": {},
    }
    for number, (cloud, region, count) in enumerate(zip(clouds, regions, counts, strict=True), start=1):
        pools = {"edge": {"role": "ingress", "count": count}}
        if number == 1:
            pools["control"] = {"role": "control"}
        clouds[cloud]["regions"] = {
            region: {"network": f"10.{100 + number}.0.0/20", "zones": 1, "hosts": pools}
        }
    site = {"name": name, "ssh": {"authorized_keys": [NOBODY], "sources": ["10.0.0.0/8"]}, "clouds": clouds}
    site["interconnect"] = {"type": interconnect}
    return yaml.safe_dump(site, sort_keys=False)
