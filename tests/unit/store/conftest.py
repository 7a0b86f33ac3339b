from pathlib import Path

import pytest

from xds_agent.store import Store


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    yield opened
    opened.close()
