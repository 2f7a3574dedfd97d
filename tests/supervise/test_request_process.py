"""A process for one request: the answer is of the type that was asked for, its death is told."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, OurBug
from headway.base.process import ChildProcess
from headway.supervise.request_process import ask_child

CHILD = """
import os, sys
from pathlib import Path
import msgspec
from headway.base.process import send_answer

request = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
if request["text"] == "fail":
    raise ValueError("broken")
more, threads = os.environ["MORE"], os.environ["OMP_NUM_THREADS"]
send_answer({
    "text": request["text"] + more,
    "threads": threads,
    "is_apart": os.getsid(0) == os.getpid() and not sys.stdin.read(),
})
"""


@dataclass(frozen=True)
class Asked:
    text: str


@dataclass(frozen=True)
class Answered:
    text: str
    threads: str
    is_apart: bool


@pytest.fixture(autouse=True)
def child(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "child_of_test.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), *_path())))


def _path() -> list[str]:
    return [one for one in (os.environ.get("PYTHONPATH"),) if one]


def ask(text: str, pulses: list[Path], **options: Any) -> Answered:
    def wait(process: ChildProcess, pulse: Path) -> None:
        pulses.append(pulse)

    asked = Asked(text)
    environment = {"MORE": "!"}
    return ask_child(
        "child_of_test",
        asked,
        Answered,
        wait,
        doing="the test",
        environment=environment,
        **options,
    )


def test_the_answer_has_its_type_and_nothing_is_left(tmp_path: Path) -> None:
    pulses: list[Path] = []
    found = ask("hello", pulses)
    assert (found.text, found.threads) == ("hello!", os.environ["OMP_NUM_THREADS"])
    assert not pulses[0].parent.exists()


def test_it_shares_a_terminal_unless_it_is_apart() -> None:
    started: list[Any] = []

    def spawn(*words: Any, **options: Any) -> Any:
        started.append(subprocess.Popen(*words, **options))
        return started[-1]

    assert not ask("hello", []).is_apart
    assert ask("hello", [], is_apart=True, spawn=spawn).is_apart
    assert len(started) == 1


def test_a_death_names_what_it_was_doing() -> None:
    with pytest.raises(OurBug, match="the test failed: ValueError: broken") as refused:
        ask("fail", [])
    assert refused.value.cause is Cause.BUG
