"""Golden sites: an inventory in, resources out as YAML. `python -m tests.support.golden` writes them anew.

Each folder of tests/golden/compile holds `site.yml` (the `edge` and `hosts` of a document, optionally `now`
and `challenges`) and one file for each different snapshot, named after the first host that has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pool, json_format, message_factory

from xds_agent.compile import Compiled, Compiler, KeyPair, Material, Trust
from xds_agent.model import SITE_CA, Site, load_site
from xds_agent.snapshot.resource import SHORT, TYPES, Snapshot

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "compile"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/site.yml"))


@dataclass(frozen=True)
class Case:
    """One golden site."""

    site: Site
    material: Material
    now: datetime | None

    def compile(self, compiler: Compiler | None = None) -> Compiled:
        return (compiler or Compiler()).compile(self.site, self.material, now=self.now)


def case(name: str) -> Case:
    """Load a golden site; keys and certificates are words that stand for them."""
    document = yaml.safe_load((FOLDER / name / "site.yml").read_text())
    now = document.get("now")
    site = load_site({"schema": 1, "edge": document["edge"], "hosts": document["hosts"], "origins": {}})
    return Case(
        site=site,
        material=words_for_keys(site, document.get("challenges", {})),
        now=datetime.fromisoformat(now) if now else None,
    )


def words_for_keys(site: Site, challenges: Mapping[str, str] | None = None) -> Material:
    """Material whose bytes say what they are; Envoy would not take it."""
    pairs = {
        one.name: KeyPair(f"chain of {one.name}".encode(), f"key of {one.name}".encode())
        for one in site.edge.certificates
    }
    trusts = {SITE_CA: Trust(b"site-ca", b"crl of site-ca")}
    for one in site.edge.authorities:
        trusts[one.name] = Trust(
            f"ca of {one.name}".encode(), f"crl of {one.name}".encode() if one.crl else None
        )
    return Material(pairs, trusts, {token: answer.encode() for token, answer in (challenges or {}).items()})


def outputs(compiled: Compiled) -> dict[str, str]:
    """File name -> content of every different snapshot."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for host, snapshot in sorted(compiled.snapshots().items()):
        if snapshot.revision not in seen:
            seen.add(snapshot.revision)
            found[f"{host}.yml"] = rendered(snapshot)
    return found


def rendered(snapshot: Snapshot) -> str:
    """A snapshot as sorted YAML: kind -> name -> resource."""
    tree = {
        SHORT[type_url]: {name: decoded(one.body) for name, one in snapshot.of_type(type_url).items()}
        for type_url in TYPES
        if snapshot.of_type(type_url)
    }
    return yaml.safe_dump(tree, sort_keys=True, allow_unicode=True, width=110)


def decoded(body: Any) -> dict[str, Any]:
    """A google.protobuf.Any as plain data, field names as in the protocol files."""
    kind = descriptor_pool.Default().FindMessageTypeByName(body.type_url.rpartition("/")[2])
    message = message_factory.GetMessageClass(kind).FromString(body.value)
    # Through JSON, because an Any comes as an OrderedDict, which YAML does not know.
    tree: dict[str, Any] = json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))
    return tree


def write() -> None:
    """Write every golden file anew, and take away those nothing makes any more."""
    for name in CASES:
        made = outputs(case(name).compile())
        for old in (FOLDER / name).glob("*.yml"):
            if old.name != "site.yml" and old.name not in made:
                old.unlink()
        for file, text in made.items():
            (FOLDER / name / file).write_text(text)
            print(f"{name}/{file}")


if __name__ == "__main__":
    write()
