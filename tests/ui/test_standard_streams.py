"""Standard streams as programs are started with: closed, in ASCII, in the POSIX locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.ui import standard_streams
from headway.ui.output import substitute
from headway.ui.standard_streams import prepare_streams

POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SAY = (
    "import sys; from headway.ui.standard_streams import prepare_streams; prepare_streams([]);"
    r"print('a \u00b7 b \u00b1 c \u20ac'); print('\udcff', file=sys.stderr)"
)


def typed(words: str, here: Path, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = f"{sys.executable} -m headway {words}"
    return subprocess.run(
        ["bash", "-c", command], cwd=here, env=os.environ | environment, capture_output=True
    )


def test_closed_standard_output_is_refused_with_what_to_type(tmp_path: Path) -> None:
    done = typed("runs --output-dir 'my runs' >&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "standard output is closed",
        "  have  no standard output, as after >&-",
        "  need  a terminal, a file or a pipe",
        "  try   headway runs --output-dir 'my runs' > /dev/null   shows nothing",
    ]


def test_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "_take_number", lambda number: number == 1)
    with pytest.raises(UsageError) as refused:
        prepare_streams(["runs"])
    assert refused.value.cause is Cause.OUTPUT_CLOSED


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_other_closed_streams_are_no_obstacle(tmp_path: Path, closed: str) -> None:
    done = typed(f"runs {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"no runs in runs yet")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, POSIX])
def test_symbols_that_an_encoding_lacks_are_substituted(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAY], env=os.environ | environment, capture_output=True, check=True
    )
    assert done.stdout == b"a - b +- c ?\n"
    assert done.stderr == b"?\n"


def test_utf_8_keeps_its_symbols_and_survives_a_name_that_is_none() -> None:
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": ""}
    done = subprocess.run(
        [sys.executable, "-c", SAY], env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode() == "a \u00b7 b \u00b1 c \u20ac\n"
    assert done.stderr == b"?\n"


def test_substitutes_are_ascii() -> None:
    assert substitute("·…±\u20ac\udcff") == "-...+-??"
