"""A real Ansible inventory written for a test, gathered by the real plugin, read by the real model."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xds_agent.model import ModelError, Problem, Site, load_site

ROOT = Path(__file__).resolve().parents[2]

HOSTS = """
all:
  children:
    control: {hosts: {control1: {ansible_host: 10.0.0.10}}}
    ingress: {hosts: {edge1: {ansible_host: 10.0.1.11, cloud: aws, region: us-east-1, zone: us-east-1a}}}
    backends:
      hosts:
        backend-aws1: {ansible_host: 10.0.1.31, cloud: aws, region: us-east-1, zone: us-east-1a}
        backend-gcp1: {ansible_host: 10.0.2.31, cloud: gcp, region: us-central1, zone: us-central1-a}
"""

EDGE = "plugin: marchproxy.edge.edge\n"


def _site_document_module() -> Any:
    """The module by its collection name, found by Ansible's own loader (never around it)."""
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader import AnsibleCollectionConfig

    if AnsibleCollectionConfig.collection_finder is None:
        for name in [name for name in sys.modules if name.split(".")[0] == "ansible_collections"]:
            del sys.modules[name]
        init_plugin_loader([str(ROOT / ".collections")])
    from ansible_collections.marchproxy.edge.plugins.module_utils import site_document

    return site_document


class SiteInventory:
    """Files of one inventory below ``folder``; work in that folder to see short origins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write({"hosts.yml": HOSTS, "edge.yml": EDGE})

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Writes files by their path inside the inventory; texts lose their common indent."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(textwrap.dedent(content).lstrip("\n"))

    def document(self, **options: Any) -> dict[str, Any]:
        """The site document, as `xds-agent validate` gathers it."""
        document: dict[str, Any] = _site_document_module().build_from_inventory(str(self.folder), **options)
        return document

    def load(self, **options: Any) -> Site:
        """The site; raises ModelError."""
        return load_site(self.document(**options))

    def problems(self, **options: Any) -> list[Problem]:
        """Every problem; none when the site is right."""
        try:
            self.load(**options)
        except ModelError as error:
            return error.problems
        return []

    def report(self, **options: Any) -> list[str]:
        """Every problem as shown to people."""
        return [problem.render() for problem in self.problems(**options)]
