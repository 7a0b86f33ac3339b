"""What stops the program before anything is made, and what only makes it ask again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac import program
from edge_iac.program import run

import pulumi
from tests.unit.pulumi.support.graph import AUTHORITY, run_program

ROOT = Path(__file__).parents[4]


def refused(monkeypatch: pytest.MonkeyPatch, *, skip: bool = True, stack: str = "lab", **config: str) -> str:
    """What `run` says when it refuses; nothing may have been registered by then."""
    if skip:
        monkeypatch.setenv("EDGE_SKIP_CREDENTIALS", "1")
    with pytest.raises(pulumi.RunError) as caught:
        run_program(run, stack=stack, config=config)
    return str(caught.value)


def test_a_stack_without_an_authority_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pulumi config set --secret edge:hostCaKey" in refused(monkeypatch)


def test_a_wrong_site_file_stops_the_program_with_every_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        (ROOT / "pulumi/sites/lab.yaml")
        .read_text()
        .replace("zones: 2", "zones: 6")
        .replace("owner:", "Owner:")
    )
    (tmp_path / "lab.yaml").write_text(text)
    said = refused(monkeypatch, site=str(tmp_path / "lab.yaml"), hostCaKey=AUTHORITY)
    assert "6 zones are wanted" in said
    assert "'Owner' is not a tag" in said
    assert "lab.yaml:" in said and "pulumi/sites/lab.yaml" not in said
    # As script/pulumi --lab runs it, whose file is made of the one that people edit.
    monkeypatch.setenv("EDGE_SITE_MADE_OF", "pulumi/sites/lab.yaml")
    line = text[: text.index("zones: 6")].count("\n") + 1
    said = refused(monkeypatch, site=str(tmp_path / "lab.yaml"), hostCaKey=AUTHORITY)
    assert f"pulumi/sites/lab.yaml:{line}" in said
    assert "made of it):\n- " in said and f"{tmp_path}/lab.yaml:" not in said


def test_no_credentials_stop_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "EDGE_SKIP_CREDENTIALS", "GOOGLE_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    said = refused(monkeypatch, skip=False, hostCaKey=AUTHORITY)
    assert "no AWS_ACCESS_KEY_ID" in said


@pytest.mark.parametrize(
    ("words", "passes"), [("failed to load checkpoint: EOF", True), ("no such stack", False)]
)
def test_a_checkpoint_that_is_being_written_is_read_again(
    monkeypatch: pytest.MonkeyPatch, words: str, passes: bool
) -> None:
    """A backend of files gives half a file to whoever reads while the engine writes."""
    asked = []

    def invoke(token: str, arguments: dict) -> SimpleNamespace:
        asked.append((token, arguments))
        if len(asked) < 3:
            raise Exception(f"invoke of {token} failed: {words}")
        return SimpleNamespace(value={"outputs": {"a": 1}})

    monkeypatch.setattr(pulumi.runtime, "invoke", invoke)
    monkeypatch.setattr(program, "_AGAIN_S", (0.0, 0.0))
    if passes:
        assert program._asked("readStackOutputs", name="x") == {"a": 1}
        assert asked == [("pulumi:pulumi:readStackOutputs", {"name": "x"})] * 3
    else:
        with pytest.raises(Exception, match=words):
            program._asked("readStackOutputs", name="x")
        assert len(asked) == 1


def test_a_key_that_signs_nothing_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_iac.program.make", lambda *_, **__: pytest.fail("something was made"))
    said = refused(monkeypatch, hostCaKey="hello")
    assert "edge:hostCaKey cannot be used: it is not a private SSH key" in said


def test_a_stack_that_is_called_as_no_site_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, stack="try", hostCaKey=AUTHORITY)
    assert "stack try has no site" in said and "pulumi config set edge:site NAME" in said
