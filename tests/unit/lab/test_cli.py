"""How script/lab ends when somebody ends it."""

from __future__ import annotations

import signal

import pytest

from lab import cli


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["up", "--from-pulumi"],
            "interrupted; `script/lab up --from-pulumi` completes it, `script/lab down` removes it\n",
        ),
        (["down"], "interrupted; `script/lab down` removes the rest\n"),
        (["traffic"], "interrupted\n"),
    ],
)
def test_ctrl_c_ends_with_one_sentence_and_130(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setattr(cli.place, "load", lambda _inventory: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(arguments) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == sentence
