"""What a demo prints: to people, nothing in silence, within the screen."""

import pytest

from headway.commands.demos.show import DemoScreen
from headway.config.command_line import Arguments


def test_text_is_wrapped_and_silence_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for switches in ({}, {"json": ""}, {"quiet": ""}):
        screen = DemoScreen(Arguments(switches=dict(switches)))
        screen.text("word " * 20, "end")
        screen.lines(["a line"])
        said = capsys.readouterr().out.splitlines()
        assert screen.is_silent is bool(switches)
        assert bool(said) is not screen.is_silent
        assert all(len(line) <= 40 for line in said)
        assert said[-2:] == ([] if switches else ["end", "a line"])
