"""Finished steps: a loss that jumps is told in its step; healthy ones raise no alarm."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import in_memory, plan_of, run
from tests.training.jobs import planned

from headway.base.errors import Cause, Exit, Finding
from headway.base.events import Noted, StepDone
from headway.base.pulse import Phase
from headway.data.batching.batches import Batch
from headway.runs.receipt import StepReport
from headway.training.step import Stepper
from headway.training.step_watch import LossSpikes, StepWatch

LEARNING = plan_of(in_memory(1601), max_length=16).learning
REPORT = StepReport(
    step=1,
    global_step=1,
    epoch=0,
    loss=3.0,
    grad_norm=0.5,
    learning_rate=1e-3,
    rows=4,
    row_sum=0,
    trained_tokens=64,
    input_tokens=64,
    computed_tokens=64,
    seconds=0.1,
)


def told(*losses: float, grad_norm: float = 0.5) -> list[tuple[int, Finding]]:
    """What is told of steps with these losses, and of which step."""
    spikes, found = LossSpikes(LEARNING), list[tuple[int, Finding]]()
    for step, loss in enumerate(losses, 1):
        finding = spikes.add(replace(REPORT, step=step, loss=loss, grad_norm=grad_norm))
        found += [(step, finding)] if finding else []
    return found


def test_f32_a_loss_ten_times_as_large_is_told_in_its_step() -> None:
    ((step, finding),) = told(*[3.0] * 20, 30.0, *[3.0] * 100, grad_norm=7.0)
    assert step == 21
    assert finding.what == "the loss of step 21 is 10.0 times the highest before it"
    assert finding.have.startswith("30, and at most 3 in the 20 steps before; gradient norm 7")
    assert finding.cause is Cause.LOSS_SPIKE
    assert float(finding.remedies[0].do.split()[1]) == pytest.approx(LEARNING.peak / 3, rel=1e-2)


def test_f32_a_loss_that_stays_high_is_told_once_and_a_higher_one_again() -> None:
    assert [step for step, _ in told(*[3.0] * 20, *[30.0] * 20)] == [21]
    assert [step for step, _ in told(*[3.0] * 20, *[30.0] * 5, 300.0)] == [21, 26]


def test_f32_no_alarm_in_a_thousand_healthy_steps() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        falling = [0.3 + 10 * 0.99**n for n in range(1000)]
        assert told(*(loss * draw.uniform(0.6, 1.4) for loss in falling)) == []
    memorized = [0.002] * 40 + [0.3, 0.02, 0.4]  # large as a ratio, and nothing that matters
    assert told(*memorized) == []
    assert told(9.0, 90.0, 8.0, 70.0) == []  # the first steps may do anything


def test_f32_a_spike_after_losses_of_zero_is_told() -> None:
    assert [step for step, _ in told(*[0.0] * 20, 5.0)] == [21]


def test_f32_a_run_that_meets_a_spike_warns_and_goes_on(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper.take_step

    def take_step(self: Stepper, batch: Batch, *given: Any, **options: Any) -> StepReport:
        report = real(self, batch, *given, **options)
        return replace(report, loss=report.loss * 10) if batch.step == 12 else report

    monkeypatch.setattr(Stepper, "take_step", take_step)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code == Exit.KEPT
    (noted,) = ran.of(Noted)
    assert noted.finding.cause is Cause.LOSS_SPIKE
    events = [event for event in ran.events if isinstance(event, Noted | StepDone)]
    assert isinstance(events[events.index(noted) + 1], StepDone)
    assert events[events.index(noted) + 1].step == 12


def test_slower_steps_and_more_time_between_them_are_told() -> None:
    def causes(step_s: float, between_s: float) -> list[str]:
        watch, now_s, found = StepWatch(LEARNING), 0.0, list[Finding]()
        for n in range(90):
            late = n > 45
            seconds = step_s if late else 0.1
            now_s += seconds + (between_s if late else 0.0)
            phases = {Phase.TRAINING: now_s, Phase.SAVING: 0.0}
            found += watch.add(now_s, replace(REPORT, seconds=seconds), phases)
        return [finding.what.partition(" takes")[0] for finding in found]

    assert causes(0.1, 0.0) == []
    assert causes(0.3, 0.0) == ["a step"]
    assert causes(0.1, 0.3) == ["what lies between two steps"]


def test_the_losses_watched_are_those_before_the_update(here: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert run(tmp_path / "run", planned(here)).of(Noted) == []
