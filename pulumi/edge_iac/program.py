"""The program itself: a site in, its hosts in the clouds, `edge_inventory` out."""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pulumi.runtime.config import get_config

import pulumi
from edge_iac import cloud_init, ssh_ca, startup
from edge_iac.base import CloudProgram, Made, Needs, Routes, Vip
from edge_iac.booted import booted
from edge_iac.catalogue import images
from edge_iac.credentials import lacking
from edge_iac.dns_window import window_s
from edge_iac.forgotten import INVENTORY, RELEASED, forgotten, released
from edge_iac.inventory import edge_inventory
from edge_iac.moved import moved, with_moves
from edge_iac.plan import Plan, Region, plan_site
from edge_iac.site import CloudName, Site, load_site, site_path
from edge_iac.site.front import past_the_front
from xds_agent.model.problems import ModelError

PROJECT = "edge"
CA_KEY = "hostCaKey"
# script/pulumi --lab: what its site file was made of, line by line, with the ranges of the checkout's lab.
MADE_OF = "EDGE_SITE_MADE_OF"
# New objects between two collections, far more than Python's own 700: hardly anything that a program makes is
# garbage before its end, and half of its time went into looking through all that the SDKs brought along.
_COLLECT_AFTER = 100_000
_HALF_WRITTEN, _AGAIN_S = "failed to load checkpoint", (0.1, 0.2, 0.4, 0.8, 1.6)
# Only the chosen clouds' SDKs are imported: each takes seconds and a hundred megabytes.
_PROGRAMS: dict[CloudName, tuple[str, str]] = {
    "aws": ("edge_iac.aws", "AwsProgram"),
    "gcp": ("edge_iac.gcp", "GcpProgram"),
    "azure": ("edge_iac.azure", "AzureProgram"),
}


def run() -> None:
    """Makes the site that the stack names. Raises pulumi.RunError before anything is made, if it cannot."""
    gc.set_threshold(_COLLECT_AFTER)
    config = pulumi.Config(PROJECT)
    site = _site(config.get("site"))
    missing = lacking(site, os.environ, Path.home())
    if missing:
        raise pulumi.RunError("no credentials:\n" + "\n".join(f"- {sentence}" for sentence in missing))
    authority = _authority(config)
    plan = plan_site(site)
    held = _held_after_refusing(plan)
    make(with_moves(plan, held), authority=authority, booted_from=booted(held))


def _held_after_refusing(plan: Plan) -> dict[str, Any]:
    """What the stack holds, as URN -> type and outputs; the first `up` has nothing to lose."""
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    outputs = _asked("readStackOutputs", name=stack)
    if INVENTORY not in outputs:
        return {}
    held = _asked("readStackResourceOutputs", stackName=stack)
    problems = [*forgotten(plan, held, outputs), *moved(plan, held)]
    if problems:
        raise pulumi.RunError("nothing was touched:\n" + "\n".join(f"- {sentence}" for sentence in problems))
    return held


def _asked(what: str, **arguments: str) -> dict[str, Any]:
    """Of the stack's checkpoint, which the engine may be writing at this moment: half a file is no answer."""
    for wait_s in _AGAIN_S:
        try:
            return _outputs(what, arguments)
        except Exception as error:
            if _HALF_WRITTEN not in str(error):
                raise
            time.sleep(wait_s)
    return _outputs(what, arguments)


def _outputs(what: str, arguments: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = pulumi.runtime.invoke(f"pulumi:pulumi:{what}", arguments).value
    found: dict[str, Any] = answer["outputs"]
    return found


def _site(said: str | None) -> Site:
    name = said or pulumi.get_stack()
    if said is None and not site_path(name).exists():
        raise pulumi.RunError(
            f"stack {name} has no site: there is no pulumi/sites/{name}.yaml, and no {PROJECT}:site names "
            f"another; write the file, or: pulumi config set {PROJECT}:site NAME"
        )
    made_of = os.environ.get(MADE_OF, "")
    if Path(name).name != Path(made_of).name:
        made_of = ""
    try:
        return load_site(name, shown=made_of or None)
    except ModelError as error:
        lines = "\n".join(f"- {problem.render()}" for problem in error.problems)
        ranges = f" (ranges are those of {name}, made of it)" if made_of else ""
        raise pulumi.RunError(f"the site file cannot be used{ranges}:\n{lines}") from None


def _authority(config: pulumi.Config) -> pulumi.Output[str]:
    key = config.get_secret(CA_KEY)
    if key is None:
        raise pulumi.RunError(
            f"the stack has no {PROJECT}:{CA_KEY}, the private key that signs SSH host keys: "
            f"ssh-keygen -t ed25519 -N '' -f host-ca; pulumi config set --secret {PROJECT}:{CA_KEY} < host-ca"
        )
    try:
        # Now, not in `apply`: by then networks might be there already.
        ssh_ca.authority_public(get_config(f"{PROJECT}:{CA_KEY}") or "")
    except ssh_ca.NotAnAuthority as error:
        raise pulumi.RunError(f"{PROJECT}:{CA_KEY} cannot be used: {error}") from None
    return key


def make(plan: Plan, *, authority: pulumi.Output[str], booted_from: Mapping[str, str] | None = None) -> None:
    """Makes everything in ``plan``, and exports the inventory.

    ``booted_from``: host -> the image it has, of hosts that are there.
    """
    hosts: list[tuple[str, str, Made]] = []
    vips: list[Vip] = []
    routes: list[Routes] = []
    programs: dict[CloudName, CloudProgram] = {}
    said = plan.site.clouds.named()
    for cloud, regions in plan.by_cloud.items():
        module, name = _PROGRAMS[cloud]
        program: CloudProgram = getattr(_imported(cloud, module), name)(said[cloud], regions)
        programs[cloud] = program
        for region in regions:
            identity = program.identity(region)
            network = program.network(region)
            reachability = program.reachability(region, network)
            addresses = program.addresses(region)
            front = program.front(region, network, reachability, addresses)
            transit = program.transit(region, network) if region.mesh else None
            needs = Needs(
                network=network,
                reachability=reachability,
                identity=identity,
                addresses=addresses,
                front=front,
                transit=transit,
                user_data=_user_data(plan.site, region, authority),
                ssh_user=plan.site.ssh.user,
                authorized_keys=plan.site.ssh.authorized_keys,
                booted_from=booted_from or {},
            )
            made = program.hosts(region, needs)
            hosts += [(cloud, region.name, one) for one in made]
            vips += program.attach(region, network, addresses, front, made)
            if region.mesh and (one := program.join(region, network, identity, made)):
                routes.append(one)
    dns = plan.site.dns
    if dns is not None:
        programs[dns.provider].dns(dns, tuple(vips), port=plan.site.ports.https)
        pulumi.log.info(f"the loss of a region is felt by DNS clients for at most {window_s(dns)} s")
    for sentence in past_the_front(plan.site):
        pulumi.log.warn(sentence)
    # The public half of a secret is no secret.
    ca = pulumi.Output.unsecret(authority.apply(ssh_ca.authority_public))
    pulumi.export(INVENTORY, edge_inventory(plan, ssh_ca=ca, hosts=hosts, vips=vips, routes=routes))
    if free := released(plan):
        pulumi.export(RELEASED, free)


def _imported(cloud: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pulumi_"):
            raise pulumi.RunError(
                f"the SDK of {cloud} is not installed ({error.name}): "
                f"script/pulumi makes pulumi/.venv with all, requirements/pulumi-{cloud}.txt has this one"
            ) from None
        raise


def _user_data(site: Site, region: Region, authority: pulumi.Output[str]) -> dict[str, pulumi.Output[str]]:
    def written(authority_key: str, host: str) -> str:
        key = ssh_ca.host_key(authority_key, site=site.name, host=host)
        if region.cloud in images.WITHOUT_CLOUD_INIT:
            return startup.startup_script(key)
        return cloud_init.user_data(host=host, ssh=site.ssh, key=key)

    def of(host: str) -> pulumi.Output[str]:
        return authority.apply(lambda key: written(key, host))

    return {host.name: of(host.name) for host in region.hosts}
