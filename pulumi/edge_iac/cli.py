"""`script/site-plan`: what a site is, costs and changes, before anything is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml

from edge_iac.catalogue import prices
from edge_iac.catalogue.sizes import Nic
from edge_iac.credentials import lacking
from edge_iac.dns_window import window_s
from edge_iac.plan import Plan, plan_site
from edge_iac.plan.changes import changes
from edge_iac.plan.cost import Cost, costs_of, total_usd
from edge_iac.plan.prices import clouds_section
from edge_iac.site import Site, load_site, parse_site, site_path
from edge_iac.site.front import past_the_front
from edge_iac.site.schema import json_schema
from xds_agent.cli.output import show_table
from xds_agent.model.problems import ModelError

_T = TypeVar("_T")
ENVIRONMENT = Path(__file__).parents[1] / ".venv"
"""As Pulumi.yaml names it."""
FAILED = 1
_USAGE = 2

app = typer.Typer(
    name="site-plan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 invalid, not ready, or wrongly called.",
    help="Sites of pulumi/sites: what `pulumi up` would make of them, what that costs, what an edit changes.",
)
Name = Annotated[
    str, typer.Argument(help="Name of a site (pulumi/sites/NAME.yaml), or a path to such a file.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def show(
    name: Name,
    against: Annotated[
        str,
        typer.Option(help="What to compare with: a revision of git, or another site file."),
    ] = "HEAD",
    as_json: Json = False,
) -> None:
    """Hosts, cost per month, and what changes since the last commit. Makes nothing, asks no cloud.

    [dim]Examples:[/dim]
      script/site-plan show example
      script/site-plan show example --against main
      script/site-plan show prod --json
    """
    plan = _planned(name)
    before, what = _before(name, against)
    costs = costs_of(plan)
    differences = changes(before, plan) if before is not None else ()
    if as_json:
        compared = what if before is not None else None
        typer.echo(json.dumps(_document(plan, costs, differences, compared_with=compared), indent=2))
        return
    _show(plan, costs)
    typer.echo()
    if before is None:
        typer.echo(f"{what}: nothing to compare with")
    for sentence in differences:
        typer.echo(sentence)
    if before is not None and not differences:
        typer.echo(f"nothing changes against {what}")


@app.command()
def ready(name: Name) -> None:
    """Whether this machine can run `pulumi up` for the site: CLI, environment, credentials of each cloud."""
    site = _loaded(name)
    missing = [*lacking(site, os.environ, Path.home()), *_lacking_here(Path.home())]
    for sentence in missing:
        typer.secho(sentence, err=True, fg=typer.colors.RED)
    if missing:
        raise typer.Exit(FAILED)
    typer.echo(f"ready: script/pulumi up -s {site.name} --policy-pack policy")


@app.command(name="prices")
def show_prices(name: Name) -> None:
    """The `clouds` section of an inventory: prices of traffic where the site stands, for steering."""
    section = clouds_section(_planned(name))
    typer.echo(f"# List prices as of {prices.AS_OF}; by script/site-plan prices {name}.")
    typer.echo(yaml.safe_dump(section, sort_keys=False).rstrip())


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout.")] = None,
) -> None:
    """JSON Schema of site files, for editors."""
    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@app.command(name="host-ca")
def host_ca() -> None:
    """A new private key that signs the SSH host keys of a site. Give it to Pulumi, and keep no other copy.

    [dim]Example:[/dim]
      script/site-plan host-ca | pulumi config set --secret edge:hostCaKey
    """
    from edge_iac.ssh_ca import new_authority

    typer.echo(new_authority(), nl=False)


@app.command()
def seal() -> None:
    """State of a stack, stdin to stdout: user data secret that `pulumi import` left in plain text.

    [dim]Example:[/dim]
      pulumi stack export | script/site-plan seal | pulumi stack import
    """
    from edge_iac.sealed import NotAState, sealed

    try:
        text, hosts = sealed(sys.stdin.read())
    except NotAState as error:
        typer.secho(f"{error}: pulumi stack export | script/site-plan seal", err=True, fg=typer.colors.RED)
        raise typer.Exit(FAILED) from error
    typer.echo(text, nl=False)
    typer.echo(f"user data made secret of: {', '.join(hosts) or 'no host, all of them were'}", err=True)


def _lacking_here(home: Path) -> Iterator[str]:
    """What script/pulumi wants of this machine, where it looks for it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(home / ".pulumi/bin")))
    if shutil.which("pulumi", path=path) is None:
        yield (
            "pulumi: there is no `pulumi` on PATH or in ~/.pulumi/bin; install it as "
            "www.pulumi.com/docs/install says (the one that script/pulumi builds knows simulated clouds only)"
        )
    if not (ENVIRONMENT / "bin/python").exists():
        yield "pulumi: there is no pulumi/.venv, which the programs run in; script/pulumi --prepare makes it"


def _loaded(name: str) -> Site:
    return _said(lambda: load_site(name))


def _planned(name: str) -> Plan:
    return _said(lambda: plan_site(load_site(name)))


def _said(make: Callable[[], _T]) -> _T:
    """What ``make`` gives. Says every problem and ends where it raises ModelError."""
    try:
        return make()
    except ModelError as error:
        for problem in error.problems:
            typer.secho(problem.render(), err=True, fg=typer.colors.RED)
        raise typer.Exit(FAILED) from error


def _before(name: str, against: str) -> tuple[Plan | None, str]:
    """(the plan to compare with, what it is). None where there is none, or none that can be read.

    Raises typer.Exit for a revision that does not exist: it was mistyped.
    """
    if against.endswith((".yaml", ".yml")):
        return _planned(against), against
    path = site_path(name).resolve()
    git = ["git", "-C", str(path.parent), "show", f"{against}:./{path.name}"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None, "git is not installed"
    if done.returncode != 0:
        _refuse_unknown(against, path.parent)
        return None, f"git knows no {path.name} at {against}"
    try:
        site = parse_site(done.stdout, shown=f"{against}:{path.name}", stem=path.stem)
        return plan_site(site), against
    except ModelError as error:
        return None, f"{path.name} at {against} is not valid ({len(error.problems)} problems)"


def _refuse_unknown(revision: str, folder: Path) -> None:
    """Says so where ``folder`` is in a repository with commits, and none of them is ``revision``."""
    git = ["git", "-C", str(folder), "rev-parse", "--quiet", "--verify"]
    known = [
        subprocess.run([*git, f"{one}^{{commit}}"], capture_output=True, check=False).returncode == 0
        for one in ("HEAD", revision)
    ]
    if known == [True, False]:
        words = f"git knows no revision '{revision}'; name a branch, tag or commit, or a .yaml file"
        typer.secho(words, err=True, fg=typer.colors.RED)
        raise typer.Exit(FAILED)


def _show(plan: Plan, costs: tuple[Cost, ...]) -> None:
    rows = [
        (
            host.name,
            host.role,
            host.instance.name,
            host.zone,
            "yes" if host.public else "",
            _nic(host.instance.nic),
        )
        for region in plan.regions
        for host in region.hosts
    ]
    show_table(("HOST", "ROLE", "TYPE", "ZONE", "PUBLIC", "NIC"), rows)
    nics = {host.instance.nic for region in plan.regions for host in region.hosts}
    for driver, condition in sorted({(nic.driver, nic.condition) for nic in nics}):
        typer.echo(f"XDP in the driver {driver} wants: {condition}")
    typer.echo()
    lines = [(one.cloud, one.region, one.what, one.count, f"{one.usd_per_month:.2f}") for one in costs]
    show_table(("CLOUD", "REGION", "WHAT", "COUNT", "USD/MONTH"), lines)
    typer.secho(f"total: {total_usd(costs):.2f} USD per month, without traffic", bold=True)
    typer.echo(f"list prices as of {prices.AS_OF}; traffic out, USD per GB: {_traffic(plan)}")
    if plan.site.dns is not None:
        typer.echo(f"the loss of a region is felt by DNS clients for at most {window_s(plan.site.dns)} s")
    for sentence in past_the_front(plan.site):
        typer.echo(sentence)


def _nic(nic: Nic) -> str:
    return f"{nic.driver} x{nic.queues}, MTU {nic.mtu}, XDP {nic.xdp}"


def _traffic(plan: Plan) -> str:
    return ", ".join(
        f"{one.cloud} {one.name} {prices.egress_usd_per_gb(one.cloud, one.name)}" for one in plan.regions
    )


def _document(
    plan: Plan, costs: tuple[Cost, ...], differences: tuple[str, ...], *, compared_with: str | None
) -> dict[str, Any]:
    return {
        "site": plan.site.name,
        "hosts": [
            {
                "name": host.name,
                "cloud": region.cloud,
                "region": region.name,
                "zone": host.zone,
                "role": host.role,
                "groups": list(host.groups),
                "type": host.instance.name,
                "public": host.public,
            }
            for region in plan.regions
            for host in region.hosts
        ],
        "costs": [
            {
                "cloud": one.cloud,
                "region": one.region,
                "what": one.what,
                "count": one.count,
                "usd_per_month": one.usd_per_month,
            }
            for one in costs
        ],
        "total_usd_per_month": total_usd(costs),
        "prices_as_of": prices.AS_OF,
        "notes": list(past_the_front(plan.site)),
        # None: there was nothing to compare with, so that no change is not said either.
        "compared_with": compared_with,
        "changes": list(differences) if compared_with is not None else None,
    }


def main() -> None:
    """Entry point. A wrongly called command ends with 1, as an invalid site does."""
    try:
        app(prog_name="script/site-plan")
    except SystemExit as end:
        if end.code == _USAGE:
            sys.exit(FAILED)
        raise
