"""The collection of this checkout, importable under its own name."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def collection():
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader import AnsibleCollectionConfig

    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader([str(ROOT / ".collections")])


@pytest.fixture(scope="session")
def utils(collection):
    """utils("fleet_text") is that module of plugins/module_utils."""
    return lambda name: importlib.import_module(
        f"ansible_collections.marchproxy.edge.plugins.module_utils.{name}"
    )
