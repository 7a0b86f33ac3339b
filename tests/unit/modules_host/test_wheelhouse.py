"""The module `wheelhouse`: keys, checks, folders. Real wheels are fetched where the lab is made."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modules import wheelhouse


def given(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    requirements = tmp_path / "agent.txt"
    if not requirements.exists():
        requirements.write_text("grpcio==1.0 --hash=sha256:aa\n")
    return {
        "project": None, "name": "agent", "requirements": [str(requirements)], "platforms": ["x86_64-3.11"],
        "cache_dir": str(tmp_path / "cache"), "local_dir": None,
    } | changes  # fmt: skip


def ready_archive(folder: Path, name: str, content: bytes = b"wheels") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "made"
    made.write_bytes(content)
    wheelhouse.publish(made, folder / name)
    return folder / name


def test_the_key_follows_the_requirements(tmp_path: Path) -> None:
    first = wheelhouse.prepare(given(tmp_path), check=True)["key"]
    assert wheelhouse.prepare(given(tmp_path), check=True)["key"] == first
    (tmp_path / "agent.txt").write_text("grpcio==2.0 --hash=sha256:bb\n")
    assert wheelhouse.prepare(given(tmp_path), check=True)["key"] != first


def test_check_mode_says_what_is_missing_and_makes_nothing(tmp_path: Path) -> None:
    answer = wheelhouse.prepare(given(tmp_path), check=True)
    assert answer["changed"]
    assert answer["diff"]["after"] == f"agent-{answer['key']}-x86_64-3.11.tar\n"
    assert not (tmp_path / "cache").exists()


def test_a_ready_archive_is_used(tmp_path: Path) -> None:
    key = wheelhouse.prepare(given(tmp_path), check=True)["key"]
    path = ready_archive(tmp_path / "cache", f"agent-{key}-x86_64-3.11.tar")
    answer = wheelhouse.prepare(given(tmp_path), check=False)
    assert not answer["changed"]
    assert answer["archives"]["x86_64-3.11"] == {"path": str(path), "sha256": wheelhouse.digest(path)}


def test_of_two_playbooks_at_once_one_makes_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, both = [], threading.Barrier(2)

    def make_archive(path: Path, requirements: str, platform: str) -> None:
        made.append(path.name)
        # Where the other one were let in too, they would meet here.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        ready_archive(path.parent, path.name)

    monkeypatch.setattr(wheelhouse, "make_archive", make_archive)
    given(tmp_path)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: wheelhouse.prepare(given(tmp_path), check=False), range(2)))
    assert len(made) == 1
    assert sorted(answer["changed"] for answer in answers) == [False, True]


def test_a_damaged_archive_is_not_ready(tmp_path: Path) -> None:
    path = ready_archive(tmp_path, "x.tar")
    assert wheelhouse.ready(path)
    path.write_bytes(b"other")
    assert not wheelhouse.ready(path)


def test_a_site_without_a_network_takes_what_another_controller_made(tmp_path: Path) -> None:
    key = wheelhouse.prepare(given(tmp_path), check=True)["key"]
    source = ready_archive(tmp_path / "carried", f"agent-{key}-x86_64-3.11.tar")
    answer = wheelhouse.prepare(given(tmp_path, local_dir=str(tmp_path / "carried")), check=False)
    assert answer["changed"]
    assert answer["archives"]["x86_64-3.11"]["sha256"] == wheelhouse.digest(source)
    assert source.exists()


def test_what_was_not_carried_over_is_named(tmp_path: Path) -> None:
    (tmp_path / "carried").mkdir()
    with pytest.raises(wheelhouse.WheelhouseError, match=r"holds no whole agent-.*-x86_64-3\.11\.tar"):
        wheelhouse.prepare(given(tmp_path, local_dir=str(tmp_path / "carried")), check=False)


def project(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "xds_agent" / "__pycache__").mkdir(parents=True)
    (root / "xds_agent" / "__init__.py").write_text("")
    (root / "xds_agent" / "__pycache__" / "x.pyc").write_text("")
    (root / "pyproject.toml").write_text('[project]\nname = "marchproxy"\nversion = "0.1.0"\n')
    (root / "tests").mkdir()
    (root / "tests" / "test_x.py").write_text("")
    return root


def test_our_wheel_follows_its_sources_alone(tmp_path: Path) -> None:
    root = project(tmp_path)
    names = [str(path.relative_to(root)) for path in wheelhouse.sources(root)]
    assert names == ["pyproject.toml", "xds_agent/__init__.py"]
    key = wheelhouse.prepare(given(tmp_path, project=str(root)), check=True)["key"]
    (root / "tests" / "test_x.py").write_text("changed")
    assert wheelhouse.prepare(given(tmp_path, project=str(root)), check=True)["key"] == key
    (root / "xds_agent" / "__init__.py").write_text("changed")
    assert wheelhouse.prepare(given(tmp_path, project=str(root)), check=True)["key"] != key


def test_a_wheel_is_built_without_a_network_and_the_tree_stays_clean(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = sorted(root.rglob("*"))
    (tmp_path / "made").mkdir()
    path = tmp_path / "made" / "marchproxy-0.1.0-py3-none-any.whl"
    wheelhouse.make_wheel(path, root)
    assert wheelhouse.ready(path)
    assert sorted(root.rglob("*")) == before


def test_old_wheels_of_ours_go(tmp_path: Path) -> None:
    for number in range(wheelhouse.WHEELS_KEPT + 3):
        (tmp_path / f"marchproxy-{number}").mkdir()
    ready_archive(tmp_path, "agent-x.tar")
    wheelhouse.prune(tmp_path)
    assert len(list(tmp_path.glob("marchproxy-*"))) == wheelhouse.WHEELS_KEPT
    assert (tmp_path / "agent-x.tar").exists()


def test_wheels_of_another_machine() -> None:
    tags = wheelhouse.platform_tags("aarch64")
    assert "manylinux_2_36_aarch64" in tags
    assert "manylinux2014_aarch64" in tags
    assert not any("x86_64" in tag for tag in tags)
