# Copyright: MarchProxy contributors
# Apache License 2.0 (see LICENSE)
"""What a Pulumi stack says of its hosts: from the CLI, the engine's state or a saved file, and checked."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

OUTPUT, SCHEMA = "edge_inventory", "edge.inventory/v1"
_SCHEMA = re.compile(r"edge\.inventory/v(\d+)")
# How the engine marks a secret inside its state, and what the CLI prints in the place of one.
_SECRET_KEY, _SECRET_VALUE = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_MASKED = "[secret]"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_GROUP = re.compile(r"[a-z_][a-z0-9_]*")
_NEEDED = ("name", "id", "cloud", "region", "groups", "address", "private_address", "user")
_OWN_ADDRESS = "private_address"
CLI_TIMEOUT_S = 120


class StackUnreadable(Exception):
    """The stack does not give its hosts; the text says why and what to do. It never means: none."""


def from_cli(stack, project, *, command=("pulumi",), environment=None):
    """The output as the Pulumi CLI prints it.

    ``environment`` is added to that of this process (a backend, a passphrase file). Raises StackUnreadable.
    """
    executable = shutil.which(command[0], path=os.environ.get("PATH", "") + ":" + _users_own())
    if executable is None:
        raise StackUnreadable(
            f"there is no command {command[0]}: install Pulumi (script/pulumi --prepare builds it), "
            "or read the stack by 'source: state' or 'source: file'"
        )
    words = [
        executable,
        *command[1:],
        "stack",
        "output",
        OUTPUT,
        "--json",
        "--stack",
        stack,
        "--non-interactive",
    ]
    try:
        done = subprocess.run(
            words, cwd=project, env=os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"} | (environment or {}),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLI_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StackUnreadable(f"pulumi gave no answer within {CLI_TIMEOUT_S} s for stack {stack}") from None
    except OSError as problem:
        raise StackUnreadable(f"cannot run {executable} in {project}: {problem.strerror}") from None
    if done.returncode:
        raise StackUnreadable(_cli_words(stack, done.stderr or done.stdout))
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise StackUnreadable(f"pulumi printed no JSON for stack {stack}: {done.stdout[:200]!r}") from None


def _users_own():
    return str(Path.home() / ".pulumi" / "bin")


def _cli_words(stack, said):
    said = said.strip()[-1000:]
    if "no stack named" in said:
        return f"there is no stack {stack} in this backend ({said}); pulumi stack ls shows those there are"
    if "does not have output property" in said:
        return f"stack {stack} has no output {OUTPUT}: it has not been made yet (pulumi up -s {stack})"
    if "passphrase" in said:
        return f"stack {stack} needs PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE: {said}"
    return f"pulumi cannot read stack {stack}: {said}"


def from_state(stack, backend, project="edge"):
    """The output from the files of a local backend, without a CLI. Raises StackUnreadable."""
    root = Path(backend.removeprefix("file://")) / ".pulumi"
    file = root / "stacks" / project / f"{stack}.json"
    locks = root / "locks" / "organization" / project / stack
    if locks.is_dir() and any(locks.iterdir()):
        raise StackUnreadable(
            f"stack {stack} is locked: an update is running, or was killed; wait for it, "
            f"or 'pulumi cancel -s {stack}' and 'pulumi up -s {stack}'"
        )
    deployment = _json(
        file, f"stack {stack} has no state; pulumi up -s {stack} makes it", "a killed run: .bak beside it"
    )
    deployment = (
        (deployment.get("checkpoint") or deployment).get("latest") or deployment.get("deployment") or {}
    )
    stacks = [each for each in deployment.get("resources") or [] if each.get("type") == "pulumi:pulumi:Stack"]
    outputs = stacks[0].get("outputs") if stacks else None
    if not outputs or OUTPUT not in outputs:
        raise StackUnreadable(
            f"stack {stack} has no output {OUTPUT}: it has not been made yet, or was destroyed"
        )
    return outputs[OUTPUT]


def from_file(path):
    """The output as it was saved: ``pulumi stack output edge_inventory --json > FILE``, or all outputs."""
    found = _json(Path(path), "save it with: pulumi stack output edge_inventory --json > FILE")
    return found[OUTPUT] if isinstance(found, dict) and OUTPUT in found else found


def _json(file, remedy, hint="is it whole?"):
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise StackUnreadable(f"there is no {file}: {remedy}") from None
    except (OSError, ValueError) as problem:
        raise StackUnreadable(f"cannot read {file}: {problem} ({hint})") from None


def check(document):
    """``document``, if it is an inventory this collection understands; StackUnreadable names the mistakes."""
    _refuse_secrets(document, OUTPUT)
    if not isinstance(document, dict):
        raise StackUnreadable(f"{OUTPUT} is not an object but {type(document).__name__}")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise StackUnreadable(_schema_words(schema))
    hosts = document.get("hosts")
    if not isinstance(hosts, list) or not hosts:
        raise StackUnreadable(f"{OUTPUT} holds no hosts; an empty site is not provisioned")
    problems = [words for number, host in enumerate(hosts) for words in _mistakes(host, f"hosts[{number}]")]
    names = [host.get("name") for host in hosts if isinstance(host, dict)]
    problems += [
        f"hosts: {name} is there more than once"
        for name in sorted({n for n in names if names.count(n) > 1 and n})
    ]
    problems += [
        f"hosts: {host['name']} is logged in to through {host['jump']}, which is not there"
        for host in hosts
        if isinstance(host, dict) and host.get("jump") and host["jump"] not in names
    ]
    if problems:
        raise StackUnreadable(f"{OUTPUT} is not of the schema {SCHEMA}: " + "; ".join(problems[:20]))
    return document


def _schema_words(schema):
    known = _SCHEMA.fullmatch(str(schema))
    if known and int(known[1]) < 1:
        return (
            f"{OUTPUT} is of the older schema {schema}: 'pulumi up' with the present program writes {SCHEMA}"
        )
    if known:
        return (
            f"{OUTPUT} is of the schema {schema}, and this collection knows {SCHEMA}: update the collection"
        )
    return f"{OUTPUT} has the schema {schema!r}, not {SCHEMA}: is this the stack of another program?"


def _refuse_secrets(value, place):
    if value == _MASKED:
        raise StackUnreadable(
            f"{place} is a secret; an inventory holds none: export a reference for Ansible to look up"
        )
    if isinstance(value, dict):
        if value.get(_SECRET_KEY) == _SECRET_VALUE:
            raise StackUnreadable(
                f"{place} is a secret; an inventory holds none: one secret inside makes all of it secret "
                "(pulumi.Output.unsecret, or export a reference)"
            )
        for key, inner in value.items():
            _refuse_secrets(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_secrets(inner, f"{place}[{number}]")


def _mistakes(host, place):
    if not isinstance(host, dict):
        yield f"{place} is not an object"
        return
    missing = [key for key in _NEEDED if not host.get(key)]
    if missing:
        yield f"{place} has no {', '.join(missing)}"
    # A region of Azure may have no zones: its hosts say so by an empty one.
    if not isinstance(host.get("zone"), str):
        yield f"{place} has no zone ('' in a region without any)"
    if host.get("name") and not _NAME.fullmatch(str(host["name"])):
        yield f"{place}.name {host['name']!r} is not a host's name"
    groups = host.get("groups") or []
    if not isinstance(groups, list) or not all(_GROUP.fullmatch(str(group)) for group in groups):
        yield f"{place}.groups {groups!r} are not names of groups"
    for key in ("address", "address6", "private_address"):
        if host.get(key) and not _is_address(host[key]):
            yield f"{place}.{key} {host[key]!r} is not an IP address"


def _is_address(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def known_hosts(document):
    """Lines for ssh: whoever shows a key signed by the site's authority is who he says he is."""
    authority = document.get("ssh_ca")
    return f"@cert-authority * {authority}\n" if authority else ""


def ssh_arguments(document, host, known, connect_by="address"):
    """Arguments of ssh to a host; ``known`` is the file that names the authority, if there is one.

    A host's certificate is for its name, while ssh is given an address. Where the host is reached through
    another one, that one's certificate is checked the same way.
    """
    found = _trusting(host["name"], known)
    if host.get("jump"):
        through = next(one for one in document["hosts"] if one["name"] == host["jump"])
        address = through["private_address" if connect_by == "private_address" else "address"]
        words = ["ssh", "-W", "%h:%p", *_trusting(through["name"], known), f"{through['user']}@{address}"]
        found += ["-o", f"ProxyCommand={shlex.join(words)}"]
    return shlex.join(found)


def _trusting(name, known):
    if not known:
        return []
    options = (f"UserKnownHostsFile={known}", f"HostKeyAlias={name}", "StrictHostKeyChecking=yes")
    return [word for option in options for word in ("-o", option)]


def variables(document, host):
    """What the inventory says of one host of the stack."""
    places = ("cloud", "region", "zone", "address", "private_address")
    found = {key: host[key] for key in places if host[key]}
    found |= {f"edge_{key}": host[key] for key in ("id", "nic", "labels") if host.get(key)}
    if document.get("ports") and host.get("opened") is not None:
        rules = {"site": document["site"], "ports": document["ports"], "opened": host["opened"]}
        found["edge_cloud_rules"] = rules
    if host.get("address6"):
        found["address6"] = host["address6"]
    if vip := _vip(document, host):
        found["vip"] = vip
    return found


def _vip(document, host):
    """Where clients' packets arrive, if that is no address of the host: not every balancer rewrites it."""
    if "ingress" not in host["groups"]:
        return None
    here = (
        vip.get("seen_as")
        for vip in document.get("vips") or []
        if (vip.get("cloud"), vip.get("region")) == (host["cloud"], host["region"])
    )
    return next((seen for seen in here if seen and seen != _OWN_ADDRESS), None)
