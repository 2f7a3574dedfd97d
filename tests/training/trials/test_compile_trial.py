"""Compiled where it pays: decided from the run's length, tried, and kept for the whole run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import HERE, TINY, in_memory, run, settings, stop_after
from tests.training.jobs import planned
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend

from headway.base.errors import Exit
from headway.base.events import Noted, PhaseEntered
from headway.base.pulse import Phase
from headway.model.kernels import fused_ops
from headway.model.kernels.compile_level import CompileLevel
from headway.model.kernels.opaque_attention import opaque_attention
from headway.planning.decide import decide
from headway.runs.identity import identity_of
from headway.runs.measurements import peak_key
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.trials import compile_trial

TEXTS = in_memory(40_000, 9_000)
FAST = replace(HERE, compiler="g++")
SLOW_PEAK = {peak_key("cpu", "torch.float32", 1, "2"): 1e6}  # FLOP/s

SLOW_GPU = {peak_key("cuda", "torch.bfloat16", 1, "2"): 1e6}


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
        (replace(FAST, measured=SLOW_PEAK.get, device="mps"), {}, "not measured on this device"),
        (replace(FAST, device="cuda"), {}, "too short"),
    ],
)
def test_it_is_planned_where_it_pays(here: Any, given: dict[str, Any], why: str) -> None:
    plan = decided(here, **given)
    choice = plan.choice("torch_compile")
    assert choice.origin == "auto"
    assert why in choice.reason
    assert plan.machine.compiled == choice.value == (why == "pays off in about")


def test_on_a_gpu_it_is_planned_by_a_guess_and_says_so() -> None:
    plan = decided(replace(FAST, device="cuda", measured=SLOW_GPU.get))
    assert "by a guess for GPUs; tried before step 1" in plan.choice("torch_compile").reason
    assert Settled.from_plan(plan).compiled is CompileLevel.LAYERS


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


def takes(monkeypatch: pytest.MonkeyPatch, *turns_s: float) -> None:
    """A clock by which a turn of each level takes so long, the most compiled first."""

    def readings() -> Iterator[float]:
        now_s = 0.0
        while True:
            for turn_s in turns_s:
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
    takes(monkeypatch, 1.0, gain)
    ran = run(tmp_path / "run", to_be_tried)
    assert (
        ran.job.trainer.settled.compiled
        == ran.job.trainer.setup.forward.compiled
        == (CompileLevel.OPERATIONS if gain > 1 else CompileLevel.NOTHING)
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
    assert not ran.job.trainer.setup.forward.compiled.compiles
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


def test_what_cannot_be_tried_is_trained_without_compile(
    to_be_tried: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise torch.OutOfMemoryError("no memory for two documents")

    monkeypatch.setattr(compile_trial, "_draws_at_random", fails)
    ran = run(tmp_path / "run", to_be_tried)
    (noted,) = ran.of(Noted)
    assert noted.finding.what == "training without compile: it could not be tried"
    assert noted.finding.have == "no memory for two documents"
    assert ran.job.trainer.settled.compiled is CompileLevel.NOTHING


def test_who_asks_for_it_gets_it_where_no_time_is_won(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 1.0, 0.5)
    ran = run(tmp_path / "run", planned(here, max_steps=2, torch_compile=True))
    assert ran.job.trainer.setup.forward.compiled is CompileLevel.OPERATIONS


# ---- whole layers ------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The phase in which each graph of a layer was made; made by Python, which is faster."""
    compiler, made = torch.compile, list[str]()

    def counted(graph: Any, inputs: Any) -> Any:
        made.append(phases[-1])
        return lookup_backend("aot_eager")(graph, inputs)

    def compile_layer(function: Any, **options: Any) -> Any:
        if function.__name__ != "forward":
            return compiler(function, **options)
        return compiler(function, **options | {"backend": counted})

    phases = [""]
    enter = Phases.__call__

    def entered(self: Phases, phase: Phase, *given: Any, **more: Any) -> Any:
        phases.append(phase)
        return enter(self, phase, *given, **more)

    monkeypatch.setattr(Phases, "__call__", entered)
    monkeypatch.setattr(torch, "compile", compile_layer)
    monkeypatch.setattr("headway.runs.settled.planned_level", lambda _: CompileLevel.LAYERS)
    return made


layers = pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it by a hook


@layers
@pytest.mark.parametrize(
    ("turns_s", "level", "noted"),
    [
        ((1.0, 1.1, 1.2), CompileLevel.LAYERS, []),
        (
            (1.25, 1.0, 1.2),
            CompileLevel.OPERATIONS,
            ["training without compiled layers: 0.80 times as fast as norms and loss alone"],
        ),
        (
            (2.0, 1.25, 1.0),
            CompileLevel.NOTHING,
            [
                "training without compiled layers: 0.50 times as fast as uncompiled steps",
                "training without compile: compiled steps are 0.80 times as fast",
            ],
        ),
    ],
    ids=["layers", "operations", "nothing"],
)
def test_the_fastest_level_is_kept(
    to_be_tried: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    graphs: list[str],
    turns_s: tuple[float, ...],
    level: CompileLevel,
    noted: list[str],
) -> None:
    takes(monkeypatch, *turns_s)
    ran = run(tmp_path / "run", to_be_tried)
    assert ran.job.trainer.settled.compiled is level
    assert ran.job.trainer.setup.forward.compiled is level
    assert graphs == [Phase.COMPILING]
    found = [event.finding for event in ran.of(Noted)]
    assert [finding.what for finding in found] == noted
    assert all(f.have and f.need and f.remedies for f in found)
    assert ran.receipt.contract.verdict == "kept"


def branching(self: Any, hidden: Tensor) -> Tensor:
    """A layer's part that looks at its data, as experts do."""
    out = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
    return out * 2 if bool(out.sum() > 1e9) else out


def other_product(*given: Any) -> Tensor:
    return opaque_attention(*given) * 1.01


@layers
@pytest.mark.parametrize(
    ("where", "mistake", "why"),
    [
        (
            "transformers.models.llama.modeling_llama.LlamaMLP.forward",
            branching,
            "training without compiled layers: the compiler failed",
        ),
        (
            "headway.model.attention.opaque_attention",
            other_product,
            "training without compiled layers: gradients differ from the uncompiled ones",
        ),
    ],
    ids=["branches", "differs"],
)
def test_layers_that_cannot_be_compiled_are_trained_without_and_it_says_so(
    to_be_tried: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    graphs: list[str],
    where: str,
    mistake: Any,
    why: str,
) -> None:
    monkeypatch.setattr(where, mistake)
    takes(monkeypatch, 1.0, 1.1)
    ran = run(tmp_path / "run", to_be_tried)
    (noted,) = ran.of(Noted)
    assert noted.finding.what == why
    assert noted.finding.have
    assert noted.finding.need
    assert "--no-torch-compile" in [remedy.do for remedy in noted.finding.remedies]
    assert ran.job.trainer.settled.compiled is CompileLevel.OPERATIONS


@layers
def test_stopped_and_gone_on_with_compiled_layers_it_has_the_bits_of_one_that_never_stopped(
    to_be_tried: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: list[str]
) -> None:
    takes(monkeypatch, 1.0, 1.1, 1.2)
    whole = run(tmp_path / "whole", to_be_tried)
    run(tmp_path / "again", to_be_tried, on=stop_after(1))
    again = run(tmp_path / "again", to_be_tried, attempt=2)
    assert again.job.trainer.setup.forward.compiled is CompileLevel.LAYERS
    assert graphs == [Phase.COMPILING] * 3  # none in a step
    assert again.hashes() == whole.hashes()


@layers
def test_what_drops_at_random_is_compiled_for_training_before_step_1(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: list[str]
) -> None:
    plan = planned(here, max_steps=2, bf16=False, torch_compile=True)
    config = {**plan.model.config, "attention_dropout": 0.5}
    plan = replace(plan, model=replace(plan.model, config=config))
    plan = replace(plan, identity=identity_of(plan))
    takes(monkeypatch, 1.0, 1.1)
    ran = run(tmp_path / "run", plan)
    assert ran.job.trainer.settled.compiled is CompileLevel.LAYERS
    assert graphs == [Phase.COMPILING] * 2  # compared in eval mode, and ready for training
