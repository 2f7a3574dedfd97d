"""S04: the device is the one that was asked for, or the fastest here, and why is told."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers import HERE, in_memory, settings
from tests.ui.fixtures import texts, words_of

from headway.base.errors import Cause, MachineError, UsageError
from headway.base.host import packages
from headway.base.machine import TorchBuild
from headway.base.process import REPORT_VARIABLE
from headway.base.pulse import Pulse
from headway.data.survey import reading
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.runs.plan import Plan
from headway.supervise import planner
from headway.supervise.planner import PlanRequest, check_packages, choose_device
from headway.ui.show_plan import plan_lines

CPU_BUILD, CUDA_BUILD = TorchBuild("2.13.0+cpu", ""), TorchBuild("2.13.0", "13.0")
READ_A_FILE = """\
import sys
from headway.base.pulse import Pulse
from headway.config.settings import Settings
from headway.supervise import planner
planner._warm_up()
before = set(sys.modules)
plan = planner.make_plan(
    planner.PlanRequest(("chats.jsonl",), Settings(preset="tiny"), train=False), Pulse(None)
)
libraries = ("jinja2", "numpy", "safetensors", "tokenizers")
print(plan.data.records.accepted)
print(*(name for name in set(sys.modules) - before if name.startswith(libraries)))
"""
UNUSED = "torch is a CPU build and cannot use the NVIDIA device (headway doctor)"


@pytest.mark.parametrize(
    ("there", "asked", "build", "chosen", "why"),
    [
        ("", None, CPU_BUILD, "cpu", "no accelerator found"),
        ("", None, CUDA_BUILD, "cpu", "no accelerator found"),
        ("", "cpu", CPU_BUILD, "cpu", "asked for"),
        ("cuda", None, CUDA_BUILD, "cuda", "the fastest device on this machine"),
        ("cuda", "cuda", CUDA_BUILD, "cuda", "asked for"),
        ("cuda", "cpu", CUDA_BUILD, "cpu", "asked for"),
        ("cuda", None, CPU_BUILD, "cpu", UNUSED),
        ("cuda", None, None, "cpu", UNUSED),
        ("mps", None, CPU_BUILD, "mps", "the fastest device on this machine"),
        ("mps", "mps", CPU_BUILD, "mps", "asked for"),
    ],
)
def test_s04_the_device_is_chosen_and_why_is_told(
    there: str,
    asked: str | None,
    build: TorchBuild | None,
    chosen: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "accelerator", lambda: there)
    assert choose_device(asked, build) == (chosen, why)


@pytest.mark.parametrize(
    ("there", "asked", "build", "have"),
    [
        ("", "cuda", CUDA_BUILD, "no NVIDIA device"),
        ("mps", "cuda", CUDA_BUILD, "no NVIDIA device"),
        ("cuda", "cuda", CPU_BUILD, "torch 2.13.0+cpu, a CPU build"),
        ("cuda", "cuda", None, "torch -, a CPU build"),
        ("", "mps", CPU_BUILD, "no Apple GPU"),
        ("cuda", "mps", CUDA_BUILD, "no Apple GPU"),
    ],
)
def test_s04_a_device_that_cannot_be_had_is_no_reason_to_use_another(
    there: str, asked: str, build: TorchBuild | None, have: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "accelerator", lambda: there)
    with pytest.raises(MachineError, match=f"no {asked} device to train on") as refused:
        choose_device(asked, build)
    assert refused.value.have == have
    assert refused.value.remedies[0].do == "--device cpu"


def test_s04_the_plan_tells_the_device_and_why() -> None:
    here = replace(HERE, device="cpu", why=UNUSED)
    start = InitialModel("preset", "tiny", "")
    plan = decide(settings(), ("notes.txt",), in_memory(5000), start, here)
    assert f"cpu ({UNUSED})" in words_of(texts(plan_lines(plan, 80)))


def test_a_server_has_what_reading_a_file_imports(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "chats.jsonl").write_text(f"{json.dumps(chat)}\n" * 9)
    found = subprocess.run(
        [sys.executable, "-c", READ_A_FILE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["9"]  # rows, and nothing that was imported meanwhile


def test_a_file_that_was_read_ahead_is_not_read_again_where_it_was_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, place = tmp_path / "a.txt", tmp_path / "processing" / "a.txt"
    place.parent.mkdir()
    path.write_text("a few words, and then some more\n" * 20)
    asked = settings(preset="tiny", output_dir=str(tmp_path / "runs"))

    def plan(source: Path, name: str = "") -> Plan:
        request = PlanRequest((str(source),), asked, train=False, name=name)
        return planner.make_plan(request, Pulse(None))

    ahead = plan(path, str(place))
    path.rename(place)
    monkeypatch.setattr(reading, "read", lambda *_, **__: pytest.fail("it is read again"))
    assert plan(place).data.examples == ahead.data.examples


def test_what_has_read_a_file_ahead_plans_it_where_it_was_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(REPORT_VARIABLE, raising=False)
    path, place, read = (tmp_path / name for name in ("a.txt", "moved.txt", "read"))
    path.write_text("a few words, and then some more\n" * 20)
    asked = settings(preset="tiny", output_dir=str(tmp_path / "runs"))
    requests = [
        PlanRequest((str(path),), asked, train=False, name=str(place)),
        PlanRequest((str(place),), asked, train=True),
    ]
    for number, one in enumerate(requests):
        (tmp_path / str(number)).write_bytes(msgspec.json.encode(one))
    turn = planner.PlanTurn(str(tmp_path / "1"), str(tmp_path / "pulse"))
    command = [sys.executable, "-m", planner.__name__, str(tmp_path / "0"), "--ahead", str(read)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        while not read.exists() and process.poll() is None:
            time.sleep(0.01)
        path.rename(place)
        answer, _ = process.communicate(msgspec.json.encode(turn) + b"\n")
    assert msgspec.json.decode(answer, type=Plan).data.sources == (str(place),)
    assert (tmp_path / "pulse").exists()  # whoever follows it sees what it does
    assert not (tmp_path / "runs").exists()


def test_what_has_read_ahead_ends_without_its_turn(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a few words, and then some more\n" * 20)
    asked = settings(preset="tiny", output_dir=str(tmp_path / "runs"))
    request = PlanRequest((str(tmp_path / "a.txt"),), asked, train=False)
    (tmp_path / "0").write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-m", planner.__name__, str(tmp_path / "0"), "--ahead"]
    found = subprocess.run(
        [*command, str(tmp_path / "read")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "read").exists()
    assert found.stdout == b""


@pytest.mark.parametrize(
    ("given", "what", "instead"),
    [
        ({"load_in_4bit": True}, "--load-in-4bit", "--lora"),
        ({"optim": "adamw_8bit"}, "--optim adamw_8bit", "--optim adamw"),
    ],
)
def test_without_bitsandbytes_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], what: str, instead: str
) -> None:
    check_packages(settings(**given))
    monkeypatch.setattr(packages, "is_installed", lambda _: False)
    check_packages(settings())
    with pytest.raises(UsageError) as refused:
        check_packages(settings(**given))
    assert refused.value.what == f"{what} needs bitsandbytes, which is not installed"
    assert refused.value.cause is Cause.MISSING_PACKAGE
    tries = [remedy.do for remedy in refused.value.remedies]
    assert tries == ["pip install 'headway[cuda]'", instead, "headway doctor"]
