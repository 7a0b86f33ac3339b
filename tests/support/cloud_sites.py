"""Site files of any size, for the cloud programs of pulumi/."""

from __future__ import annotations

import yaml

# A public key that nobody has the other half of.
NOBODY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO nobody@test"
REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
_ACCOUNTS: dict[str, dict[str, object]] = {
    "aws": {"account": "000000000000"},
    "gcp": {"project": "edge-test"},
    "azure": {},
}


def one_cloud(cloud: str, name: str) -> str:
    """The smallest site of one cloud: a control host, and an edge host behind a load balancer."""
    pools = {"edge": {"role": "ingress"}, "control": {"role": "control"}}
    region = {"network": "10.101.0.0/20", "hosts": pools}
    site = {"name": name, "ssh": {"authorized_keys": [NOBODY], "sources": ["10.0.0.0/8"]}}
    site["clouds"] = {cloud: {**_ACCOUNTS[cloud], "regions": {REGIONS[cloud]: region}}}
    return yaml.safe_dump(site, sort_keys=False)


def site_of(
    hosts: int,
    name: str = "big",
    interconnect: str = "none",
    dns: dict[str, str] | None = None,
    without: str = "",
    leaving: str = "",
) -> str:
    """A site of ``hosts`` hosts: control, and edges in three clouds as evenly as it goes, one region each.

    ``without`` names a cloud that is left out with its hosts, ``leaving`` one whose region may go.
    """
    share, more = divmod(hosts - 1, 3)
    counts = [share + (number < more) for number in range(3)]
    clouds = {cloud: dict(said) for cloud, said in _ACCOUNTS.items()}
    for number, (cloud, count) in enumerate(zip(clouds, counts, strict=True), start=1):
        pools = {"edge": {"role": "ingress", "count": count}}
        if number == 1:
            pools["control"] = {"role": "control"}
        clouds[cloud]["regions"] = {
            REGIONS[cloud]: {"network": f"10.{100 + number}.0.0/20", "zones": 1, "hosts": pools}
        }
    if leaving:
        clouds[leaving]["regions"][REGIONS[leaving]]["leaving"] = True
    clouds.pop(without, None)
    site = {"name": name, "ssh": {"authorized_keys": [NOBODY], "sources": ["10.0.0.0/8"]}, "clouds": clouds}
    site["interconnect"] = {"type": interconnect}
    if dns:
        site["dns"] = dns
    return yaml.safe_dump(site, sort_keys=False)
