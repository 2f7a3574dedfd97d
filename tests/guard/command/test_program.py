"""The program of a command: found as a shell would, or refused with what was meant."""

import os
from pathlib import Path

import pytest

from headway.base.errors import Exit, UsageError
from headway.guard.command.program import find_program


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python", "torchrun", "accelerate"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "run").write_text("echo 1\n")
    (tmp_path / "run").chmod(0o755)
    return tmp_path


def find(here: Path, *command: str) -> str:
    return find_program(command, {b"PATH": os.fsencode(here / "bin")})


def test_found_in_the_path_of_the_person(here: Path) -> None:
    assert find(here, "torchrun", "x.py") == str(here / "bin" / "torchrun")
    assert find(here, "./run") == "run"


@pytest.mark.parametrize(
    ("command", "tried"),
    [
        (("pyton", "train.py"), "headway guard -- python train.py"),
        (("torchrn", "a b.py"), "headway guard -- torchrun 'a b.py'"),
        (("train.py", "--lr", "1"), "headway guard -- python train.py --lr 1"),
        (("./train.py",), "headway guard -- python ./train.py"),
        (("./trian.py",), "headway guard -- train.py"),
        (("python train.py",), "headway guard -- python train.py"),
        (("run",), "headway guard -- ./run"),
        (("bin/torchrn", "x"), "headway guard -- bin/torchrun x"),
    ],
)
def test_what_was_meant(here: Path, command: tuple[str, ...], tried: str) -> None:
    with pytest.raises(UsageError) as refused:
        find(here, *command)
    assert refused.value.code is Exit.USAGE
    assert refused.value.remedies[0].do == tried
    assert refused.value.have
    assert refused.value.need


@pytest.mark.parametrize("command", [("nothing-like-it",), ("bin",), ("./bin",), ("/nope/x",)])
def test_there_is_always_something_to_try(here: Path, command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        find(here, *command)
    assert refused.value.remedies
