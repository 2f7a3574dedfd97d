"""Compiled where it pays: decided from the run's length, tried, and kept for the whole run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, run, settings
from tests.training.jobs import planned

from headway.base.errors import Exit
from headway.base.events import Noted, PhaseEntered
from headway.model.kernels import fused_ops
from headway.planning.decide import decide
from headway.runs.measurements import peak_key
from headway.runs.plan import Plan
from headway.training.trials import compile_trial

TEXTS = in_memory(40_000, 9_000)
FAST = replace(HERE, compiler="g++")
SLOW_PEAK = {peak_key("cpu", "torch.float32", 1, "2"): 1e6}  # FLOP/s


def decided(here: Any = FAST, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXTS, TINY, here)


@pytest.mark.parametrize(
    ("here", "given", "why"),
    [
        (replace(FAST, measured=SLOW_PEAK.get), {}, "pays off in about"),
        (FAST, {}, "too short"),
        (replace(FAST, measured=SLOW_PEAK.get), {"max_time": 60}, "too short"),
        (replace(FAST, measured=SLOW_PEAK.get), {"test": True}, "too short"),
        (replace(HERE, measured=SLOW_PEAK.get), {}, "no C++ compiler"),
        (replace(FAST, device="cuda"), {}, "GPU"),
    ],
)
def test_it_is_planned_where_it_pays(here: Any, given: dict[str, Any], why: str) -> None:
    plan = decided(here, **given)
    choice = plan.choice("torch_compile")
    assert choice.origin == "auto"
    assert why in choice.reason
    assert plan.machine.compiled == choice.value == (why == "pays off in about")


def test_who_asks_for_it_or_against_it_is_heard() -> None:
    slow = replace(FAST, measured=SLOW_PEAK.get)
    assert decided(HERE, torch_compile=True).machine.compiled
    assert not decided(slow, torch_compile=False).machine.compiled


# ---- tried on the very model -----------------------------------------------------------------


@pytest.fixture
def to_be_tried(here: Path) -> Plan:
    """As if it had been decided, not asked for."""
    plan = planned(here, max_steps=2, bf16=False)
    choices = tuple(
        replace(c, value=True, origin="auto") if c.name == "torch_compile" else c
        for c in plan.settings
    )
    return replace(plan, machine=replace(plan.machine, compiled=True), settings=choices)


def takes(monkeypatch: pytest.MonkeyPatch, plain_s: float, compiled_s: float) -> None:
    """A clock by which a turn takes so long."""

    def readings() -> Iterator[float]:
        now_s = 0.0
        while True:
            for turn_s in (compiled_s, plain_s):
                yield now_s
                now_s += turn_s
                yield now_s

    at = readings()
    real = compile_trial.try_compile

    def settled(*given: Any, **more: Any) -> Any:
        return real(*given, **more, clock=lambda: next(at))

    monkeypatch.setattr("headway.training.trials.settle.try_compile", settled)


@pytest.mark.parametrize("gain", [1.05, 0.9])
def test_it_is_kept_where_it_is_faster(
    to_be_tried: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    takes(monkeypatch, gain, 1.0)
    ran = run(tmp_path / "run", to_be_tried)
    assert (
        ran.job.trainer.settled.compiled == ran.job.trainer.setup.forward.is_compiled == (gain > 1)
    )
    assert PhaseEntered("compiling") in ran.of(PhaseEntered)
    noted = [event.finding.what for event in ran.of(Noted)]
    assert noted == (
        [] if gain > 1 else ["training without compile: compiled steps are 0.90 times as fast"]
    )
    assert ran.receipt.contract.verdict == "kept"


def test_other_gradients_are_not_trained_with(
    to_be_tried: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fused_ops.compiled_rms_norm
    monkeypatch.setattr(fused_ops, "compiled_rms_norm", lambda x, w, e: real(x, w, e) * 1.01)
    ran = run(tmp_path / "run", to_be_tried)
    (noted,) = ran.of(Noted)
    assert (
        noted.finding.what == "training without compile: gradients differ from the uncompiled ones"
    )
    assert "differ by" in noted.finding.have
    assert not ran.job.trainer.setup.forward.is_compiled
    assert ran.code == Exit.KEPT


def test_a_compiler_that_fails_is_no_reason_not_to_train(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("\nC++ compile error\nmore of it")

    twin = run(tmp_path / "twin", planned(here, max_steps=2))
    monkeypatch.setattr(fused_ops, "compiled_rms_norm", fails)
    ran = run(tmp_path / "run", planned(here, max_steps=2, torch_compile=True))
    (noted,) = ran.of(Noted)
    assert noted.finding.kind == "adjusted"
    assert noted.finding.have == "C++ compile error"
    assert ran.hashes() == twin.hashes()


def test_who_asks_for_it_gets_it_where_no_time_is_won(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0.5, 1.0)
    ran = run(tmp_path / "run", planned(here, max_steps=2, torch_compile=True))
    assert ran.job.trainer.setup.forward.is_compiled
