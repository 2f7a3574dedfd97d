"""O03: a trainer that is asked to stop hears it in every phase, within the grace.

A mutant makes one phase last for minutes, and asks to stop in the middle of it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.failures.forks import Forks, Told
from tests.helpers import weight_hashes
from tests.training.jobs import adapted

from headway.base.errors import Exit
from headway.base.events import Ended, Noted, StepDone, read_events
from headway.base.files import verify_folder
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import load_receipt

GRACE_S = 10
LATER = """
EVALUATE = "headway.training.evaluation.evaluate"
SAMPLE = "headway.training.evaluation.sample"
import os, signal, time
def asked(module, name, when=lambda: True, owner=None):
    import importlib
    place = owner or importlib.import_module(module)
    real = getattr(place, name)
    def slow(*given, **options):
        if when():
            os.kill(os.getpid(), signal.{number})
            for _ in range(3000):
                time.sleep(0.1)
        return real(*given, **options)
    setattr(place, name, slow)
def times(number):
    left = [number]
    def due():
        left[0] -= 1
        return left[0] == 0
    return due
"""
# What is slow, and how many steps are done by then.
PHASES = {
    "loading the model": ('asked("headway.training.weights.holding", "starting_model")', 0),
    "making the optimizer": ('asked("headway.training.setup", "make_optimizer")', 0),
    "checking the packing": ('asked("headway.training.trainer", "settle")', 0),
    "probing before": (
        'asked(EVALUATE, "sum_losses", times(1))',
        0,
    ),
    "evaluating before": (
        'asked(EVALUATE, "sum_losses", times(2))',
        0,
    ),
    "evaluating between steps": (
        'asked(EVALUATE, "sum_losses", times(3))',
        4,
    ),
    "sampling between steps": (
        'asked(SAMPLE, "generate", times(1))',
        6,
    ),
    "probing after": (
        'asked(EVALUATE, "sum_losses", times(6))',
        13,
    ),
    "auditing": ('asked("headway.training.trainer", "starting_model")', 13),
}


@pytest.fixture(scope="module")
def plan(data: Path) -> Plan:
    looks = {"eval_steps": 4, "sample_steps": 6, "sample_tokens": 3, "val_size": 3}
    return adapted(data, save_steps=500, **looks)


@pytest.fixture(scope="module")
def twin(forks: Forks, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = made(tmp_path_factory.mktemp("twin"), plan)
    assert forks.train(run.path).code == Exit.KEPT
    return bits(run)


def made(folder: Path, plan: Plan) -> RunFolder:
    (folder / "run").mkdir()
    plan.save(folder / "run")
    return RunFolder(folder / "run")


def bits(run: RunFolder) -> dict[str, str]:
    newest, problems = run.newest_verified()
    assert newest is not None
    assert problems == []
    return weight_hashes(newest.path)


def of(run: RunFolder, kind: type[Any]) -> list[Any]:
    return [e.event for e in read_events(run.events) if isinstance(e.event, kind)]


def assert_stopped(run: RunFolder, told: Told, code: Exit, steps: int) -> None:
    """In time, with its code, and every finished step saved."""
    assert told.code == code
    assert told.seconds < GRACE_S
    assert of(run, Ended)[-1].outcome == "interrupted"
    assert len(of(run, StepDone)) == steps
    newest, problems = run.newest_verified()
    assert problems == []
    assert (newest.global_step if newest else 0) == steps
    if steps:
        receipt = load_receipt(run.path)
        assert receipt.outcome == "interrupted"
        assert receipt.contract.verdict == "kept"
        assert receipt.steps.applied == steps
    else:
        assert not (run.path / "receipt.json").exists()


@pytest.mark.parametrize("phase", PHASES)
def test_o03_asked_in_any_phase_it_stops_in_time_and_goes_on_later(
    forks: Forks, plan: Plan, tmp_path: Path, twin: dict[str, str], phase: str
) -> None:
    code, steps = PHASES[phase]
    number, expected = ("SIGTERM", Exit.COME_BACK) if steps else ("SIGINT", Exit.INTERRUPTED)
    run = made(tmp_path, plan)
    told = forks.train(run.path, mutant=LATER.replace("{number}", number) + code)
    assert_stopped(run, told, expected, steps)
    assert forks.train(run.path).code == Exit.KEPT
    assert bits(run) == twin


def test_o03_asked_while_it_loads_the_checkpoint_it_leaves_it_as_it_is(
    forks: Forks, plan: Plan, tmp_path: Path, twin: dict[str, str]
) -> None:
    run = made(tmp_path, plan)
    stop = STEP.format(step=5, then="os.kill(os.getpid(), signal.SIGTERM)")
    assert forks.train(run.path, mutant=stop).code == Exit.COME_BACK
    slow = LATER.replace("{number}", "SIGUSR1") + 'asked("headway.runs.folder", "verify_folder")'
    told = forks.train(run.path, mutant=slow)
    assert (told.code, told.seconds < GRACE_S) == (Exit.COME_BACK, True)
    assert verify_folder(run.path / "checkpoint-5") == []
    assert forks.train(run.path).code == Exit.KEPT
    assert bits(run) == twin


def test_o03_asked_while_it_saves_it_saves_the_later_step_too(
    forks: Forks, plan: Plan, tmp_path: Path, twin: dict[str, str]
) -> None:
    """The thread that writes is at step 4 when step 5 is the last one."""
    run = made(tmp_path, replace(plan, saves=replace(plan.saves, every_steps=4)))
    stop = STEP.format(step=5, then="os.kill(os.getpid(), signal.SIGTERM)")
    slow = """
from headway.training.weights.checkpoint import Snapshot
write = Snapshot.write
def late(self, *given):
    time.sleep(0.3)
    return write(self, *given)
Snapshot.write = late
"""
    told = forks.train(run.path, mutant=stop + slow)
    assert_stopped(run, told, Exit.COME_BACK, 5)
    assert forks.train(run.path).code == Exit.KEPT
    assert bits(run) == twin


def test_o03_a_step_that_would_outlast_the_grace_is_dropped(
    forks: Forks, data: Path, tmp_path: Path
) -> None:
    plan = replace(adapted(data, save_steps=500, micro_batch_tokens=16), grace_s=1.0)
    run = made(tmp_path, plan)
    slow = (
        STEP.format(step=3, then="asked_and_slow()")
        + """
from headway.model.forward import Forward
loss = Forward.loss
def asked_and_slow():
    def slow(self, micro, num_trained):
        time.sleep(0.4)
        return loss(self, micro, num_trained)
    Forward.loss = slow
    os.kill(os.getpid(), signal.SIGTERM)
"""
    )
    told = forks.train(run.path, mutant=slow)
    assert told.code == Exit.COME_BACK
    assert len(of(run, StepDone)) == 3


def test_o03_a_micro_batch_that_would_outlast_the_grace_is_dropped_in_the_middle(
    forks: Forks, data: Path, tmp_path: Path
) -> None:
    """Backward too: half of the time is spent there."""
    run = made(tmp_path, replace(adapted(data, save_steps=500), grace_s=3.0))
    slow = (
        STEP.format(step=3, then="asked_and_slow()")
        + """
import torch
from headway.model.forward import Forward
loss = Forward.loss
class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, grad):
        time.sleep(40)
        return grad
def asked_and_slow():
    Forward.loss = lambda *given: Slow.apply(loss(*given))
    os.kill(os.getpid(), signal.SIGTERM)
"""
    )
    told = forks.train(run.path, mutant=slow)
    assert told.code == Exit.COME_BACK
    assert told.after_s < 10
    assert of(run, Ended)[-1].outcome == "interrupted"
    newest, _ = run.newest_verified()
    assert newest is not None
    assert newest.global_step == len(of(run, StepDone)) == 3
    receipt = load_receipt(run.path)
    assert receipt.contract.verdict == "kept"
    assert receipt.line.endswith("the same command resumes from step 3")


def test_a_hung_up_terminal_asks_nothing(
    forks: Forks, plan: Plan, tmp_path: Path, twin: dict[str, str]
) -> None:
    run = made(tmp_path, plan)
    hang_up = STEP.format(step=3, then="os.kill(os.getpid(), signal.SIGHUP)")
    assert forks.train(run.path, mutant=hang_up).code == Exit.KEPT
    assert bits(run) == twin


def test_a_second_signal_leaves_a_slow_save_and_what_was_saved_before_stands(
    forks: Forks, plan: Plan, tmp_path: Path, twin: dict[str, str]
) -> None:
    run = made(tmp_path, replace(plan, saves=replace(plan.saves, every_steps=4)))
    leave = (
        STEP.format(step=6, then="os.kill(os.getpid(), signal.SIGINT)")
        + """
from headway.training.weights import checkpoint
write = checkpoint.write_model_files
def twice(model, folder, weights):
    write(model, folder, weights)
    if "checkpoint-6" in folder.name:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(300)
checkpoint.write_model_files = twice
"""
    )
    told = forks.train(run.path, mutant=leave)
    assert (told.code, told.seconds < GRACE_S) == (Exit.INTERRUPTED, True)
    assert [c.global_step for c in run.checkpoints()] == [4]
    assert forks.train(run.path).code == Exit.KEPT
    assert not list(run.path.glob(".checkpoint-*"))
    assert bits(run) == twin


def test_o03_a_phase_that_does_not_listen_is_noticed(
    forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    deaf = """
import contextlib
from headway.base.process import Stop
Stop.may_leave = lambda self: contextlib.nullcontext()
"""
    slow = LATER.replace("{number}", "SIGTERM").replace("3000", "20") + PHASES["auditing"][0]
    run = made(tmp_path, plan)
    told = forks.train(run.path, mutant=deaf + slow)
    with pytest.raises(AssertionError):
        assert_stopped(run, told, Exit.COME_BACK, 13)
    assert not of(run, Noted)


STEP = """
import os, signal, time
from headway.base.events import EventLog, StepDone
tell = EventLog.write
def telling(self, event):
    tell(self, event)
    if isinstance(event, StepDone) and event.step == {step}:
        {then}
EventLog.write = telling
"""
