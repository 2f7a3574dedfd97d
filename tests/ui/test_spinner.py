"""A line says what is being done while a person waits."""

import io
import itertools
import re
import time
from pathlib import Path

import pytest

from headway.base.pulse import Phase, Pulse, PulseReading
from headway.ui import spinner


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("screen", [io.StringIO(), Terminal()], ids=["a file", "a terminal"])
def test_long_work_is_shown_while_it_lasts(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_POLL_S", 0.001), ("_FIRST_S", 0.0), ("_LINE_S", 0.0)):
        monkeypatch.setattr(spinner, name, seconds)
    with spinner.show_progress(screen, quiet=False) as pulse:
        pulse.enter("copying", total=2_000_000, unit="bytes")
        pulse.progress(1_000_000)
        end_s = time.monotonic() + 30
        while "copying · 1.0 of 2.0 MB · " not in screen.getvalue():
            assert time.monotonic() < end_s, "nothing was said"
            time.sleep(0.001)
    assert screen.getvalue().endswith("\r\x1b[K" if screen.isatty() else "\n")


@pytest.mark.parametrize("screen", [io.StringIO(), Terminal()], ids=["a file", "a terminal"])
def test_a_spinner_says_what_the_live_view_says(
    screen: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_POLL_S", 0.001), ("_FIRST_S", 0.0), ("_LINE_S", 0.0)):
        monkeypatch.setattr(spinner, name, seconds)
    monkeypatch.setenv("COLUMNS", "40")
    pulse = Pulse(tmp_path / "other.pulse")
    pulse.enter(Phase.READING)
    polls = itertools.count()
    with pulse.waiting("s3://bucket/" + "x" * 40):
        spinner.show_wait(screen, tmp_path / "other.pulse", lambda _: next(polls) >= 2, quiet=False)
    whole = f"reading · waiting for s3://bucket/{'x' * 40} "
    said = "\r\x1b[Kwaiting for s3://bucket/xx… " if screen.isatty() else whole
    assert re.match(re.escape(said) + r"\d\.\d s", screen.getvalue())


def test_short_work_and_quiet_print_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spinner, "_POLL_S", 0.001)
    screen = io.StringIO()
    with spinner.show_progress(screen, quiet=False) as pulse:
        pulse.enter("reading the log")
    monkeypatch.setattr(spinner, "_FIRST_S", 0.0)
    with spinner.show_progress(screen, quiet=True) as pulse:
        pulse.enter("reading the log")
    assert screen.getvalue() == ""


def test_another_processs_work_is_shown_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_POLL_S", 0.001), ("_FIRST_S", 0.0)):
        monkeypatch.setattr(spinner, name, seconds)
    path, screen = tmp_path / "other.pulse", Terminal()
    Pulse(path).enter("loading the model")
    asked = list[PulseReading | None]()

    def is_over(reading: PulseReading | None) -> bool:
        asked.append(reading)
        return len(asked) > 3

    spinner.show_wait(screen, path, is_over, quiet=False)
    assert "loading the model · " in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    silent = Terminal()
    spinner.show_wait(silent, path, is_over, quiet=True)
    assert silent.getvalue() == ""
