"""The module `files`: what differs, what is written, what is said."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from modules import files

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


def entry(path: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "path": str(path), "state": "file", "content": None, "target": None, "mode": None,
        "owner": USER, "group": GROUP,
    }  # fmt: skip
    return given | changes


def bring(given: dict[str, Any]) -> list[str]:
    """What differed; the path is as wanted afterwards."""
    wanted = files.wanted_from(given, {})
    found = files.gather(wanted.path)
    differences = wanted.differs(found)
    if differences:
        files.apply(wanted, found, (given["owner"], given["group"]))
    assert wanted.differs(files.gather(wanted.path)) == []
    return differences


def test_a_file_is_made_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "node.yml"
    assert bring(entry(path, content="name: edge1\n", mode="0640")) == ["kind"]
    assert path.read_text() == "name: edge1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_second_call_finds_nothing_to_do(tmp_path: Path) -> None:
    given = entry(tmp_path / "x", content="x")
    bring(given)
    inode = (tmp_path / "x").stat().st_ino
    assert bring(given) == []
    assert (tmp_path / "x").stat().st_ino == inode


def test_content_and_mode_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x"
    bring(entry(path, content="one", mode="0644"))
    assert bring(entry(path, content="two", mode="0600")) == ["content", "mode"]


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "x"
    bring(entry(path, content="one"))
    with path.open() as reader:
        bring(entry(path, content="two"))
        assert reader.read() == "one"


def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    bring(entry(tmp_path / "x", content="one"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_link_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    bring(entry(path, state="link", target="agents/one"))
    assert bring(entry(path, state="link", target="agents/two")) == ["target"]
    assert str(path.readlink()) == "agents/two"


def test_a_directory_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir(mode=0o700)
    (tmp_path / "pki" / "host.key").write_text("key")
    assert bring(entry(tmp_path / "pki", state="directory", mode="0750")) == ["mode"]
    assert (tmp_path / "pki" / "host.key").read_text() == "key"


def test_absent(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    assert bring(entry(tmp_path / "x", state="absent")) == ["kind"]
    assert bring(entry(tmp_path / "x", state="absent")) == []


def test_a_directory_is_never_removed(tmp_path: Path) -> None:
    with pytest.raises(files.FilesError, match="is a directory"):
        bring(entry(tmp_path, state="absent"))


def test_a_file_in_the_way_of_a_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    with pytest.raises(files.FilesError, match="move it out of the way"):
        bring(entry(tmp_path / "x", state="directory"))
    assert (tmp_path / "x").read_text() == "precious"


def test_an_owner_who_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(files.FilesError, match="no user nobody-of-ours"):
        bring(entry(tmp_path / "x", content="x", owner="nobody-of-ours"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"content": None}, "needs 'content'"),
        ({"state": "link"}, "needs 'target'"),
        ({"content": "x", "mode": "rw-r--r--"}, "not octal digits"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(files.FilesError, match=words):
        files.wanted_from(entry(tmp_path / "x", **changes), {})


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(files.FilesError, match="absolute"):
        files.wanted_from(entry(Path("etc/x"), content="x"), {})


def test_a_secret_is_written_and_not_shown(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    wanted = files.wanted_from(entry(tmp_path / "x", mode="0400"), {path: "swordfish"})
    assert "swordfish" not in str(files.diff_of(wanted, files.Found("absent"), ["kind"]))
    files.apply(wanted, files.Found("absent"), (USER, GROUP))
    assert Path(path).read_text() == "swordfish"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o400


def test_one_place_for_a_secret(tmp_path: Path) -> None:
    with pytest.raises(files.FilesError, match="one of them is enough"):
        files.wanted_from(entry(tmp_path / "x", content="a"), {str(tmp_path / "x"): "b"})


def test_what_ansible_logs_and_returns_at_any_verbosity_holds_no_secret() -> None:
    """Ansible writes each module's arguments to the host's journal, but never an option that is no_log."""
    assert files.ARGUMENTS["secrets"]["no_log"] is True
