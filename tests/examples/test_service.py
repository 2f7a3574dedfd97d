"""The systemd unit: systemd accepts it, and it means what the program does."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.examples.commands import EXAMPLES, seconds, words_of

from headway.base.errors import Exit
from headway.commands import train
from headway.config.command_line import parse
from headway.config.settings import Settings

UNIT = EXAMPLES / "headway.service"


class Unit(configparser.ConfigParser):
    """Keys as they are spelled, each once."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(scope="module")
def service() -> "configparser.SectionProxy":
    unit = Unit(interpolation=None, strict=True)
    unit.read(UNIT)
    assert unit.sections() == ["Unit", "Service", "Install"]
    return unit["Service"]


def settings(service: "configparser.SectionProxy") -> Settings:
    program, verb, *words = words_of(service["ExecStart"])
    assert (Path(program).name, verb) == ("headway", "train")
    return parse(words, train.VERBS["train"].options, settings=True).settings()[1]


def codes(service: "configparser.SectionProxy", key: str) -> set[int]:
    return set(map(int, service[key].split()))


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("", "", ""),
        ("KillMode=mixed", "KillMode=polite", "kill mode"),  # it does look
        ("RestartForceExitStatus=75", "RestartForcedExitStatus=75", "Unknown key"),
    ],
)
def test_systemd_accepts_it(tmp_path: Path, line: str, instead: str, said: str) -> None:
    assert shutil.which("systemd-analyze"), "install the Debian package systemd"
    program = Path(sys.executable).parent / "headway"
    text = UNIT.read_text().replace("/opt/headway/bin/headway", str(program))
    assert text != UNIT.read_text()
    (tmp_path / UNIT.name).write_text(text.replace(line, instead))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name],
        capture_output=True,
        text=True,
    )
    assert said.lower() in done.stderr.lower()
    assert bool(done.stderr.strip()) == bool(said), done.stderr


def test_what_was_saved_is_started_again_and_what_cannot_work_is_not(
    service: "configparser.SectionProxy",
) -> None:
    assert codes(service, "RestartForceExitStatus") == {Exit.COME_BACK}
    assert codes(service, "SuccessExitStatus") == {Exit.COME_BACK}
    prevented = codes(service, "RestartPreventExitStatus")
    assert prevented == {Exit.USAGE, Exit.DATA, Exit.BROKEN}
    assert service["Restart"] == "on-failure"


def test_it_waits_longer_than_the_run_may_take_to_save(
    service: "configparser.SectionProxy",
) -> None:
    assert seconds(service["TimeoutStopSec"]) > settings(service).grace_s
    assert service["KillMode"] == "mixed"  # workers are told by the supervisor, once
    assert service["KillSignal"] == "SIGTERM"
