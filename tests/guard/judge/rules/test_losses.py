"""Losses and gradients: what is certain refuses, what may be on purpose does not."""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import age, facts_of, falling, losses_of, state

from headway.base.errors import Cause, Finding
from headway.guard.facts import ProgressRecord
from headway.guard.judge.rules.losses import losses
from headway.guard.judge.traces.case import read_case

NAN, INF = math.nan, math.inf


def found(
    folder: Path, *values: float, command: str = "python train.py", **fields: Any
) -> list[tuple[str, Cause | None]]:
    return [(one.kind, one.cause) for one in findings(folder, *values, command=command, **fields)]


def findings(
    folder: Path, *values: float, command: str = "python train.py", **fields: Any
) -> list[Finding]:
    norms = fields.pop("norms", ())
    records = losses_of(*values)
    if norms:
        pairs = zip(values, norms, strict=True)
        records = tuple(
            ProgressRecord(float(at), step=at, loss=loss, grad_norm=norm)
            for at, (loss, norm) in enumerate(pairs, start=1)
        )
    facts = facts_of(folder, *command.split(), records=records, **fields)
    return list(losses(read_case(facts)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((NAN,), [("refused", Cause.NOT_FINITE)]),
        ((2.5, 2.4, NAN, NAN), [("refused", Cause.NOT_FINITE)]),
        ((2.5, INF), [("refused", Cause.NOT_FINITE)]),
        ((2.5, NAN, 2.4, 2.3), [("warning", Cause.NOT_FINITE)]),
        ((0.0, 0.0, 0.0), [("refused", Cause.NOT_LEARNED)]),
        ((0.0,), [("refused", Cause.NOT_LEARNED)]),
        ((2.5, 2.4, 0.0, 0.0, 0.0), [("refused", Cause.NOT_LEARNED)]),
        ((2.5, 2.4, 2.3, 0.0), []),  # once may be chance
        ((2.5, 1.0, 0.2, 0.01, 0.0, 0.0, 0.0), []),  # memorized
        (falling(), []),
        ((2.5, 2.4), []),
        ((), []),
    ],
)
def test_losses(tmp_path: Path, values: tuple[float, ...], expected: list[Any]) -> None:
    assert found(tmp_path, *values) == expected


@pytest.mark.parametrize(
    ("values", "norms", "expected"),
    [
        # as transformers logs a batch whose labels are all masked
        ((0.0, 0.0, 0.0), (NAN, NAN, NAN), [("refused", Cause.NOT_FINITE)]),
        ((2.5, 2.4, 2.3), (NAN, NAN, NAN), [("refused", Cause.NOT_FINITE)]),
        # fp16 looks for its scale
        ((2.5, 2.4, 2.3, 2.2), (INF, NAN, 1.0, 1.0), []),
        ((2.5, 2.4, 2.3, 2.2), (1.0, 1.0, 1.0, INF), []),
        ((2.5, 2.5, 2.5), (0.0, 0.0, 0.0), [("refused", Cause.NO_GRADIENT)]),
        ((2.5, 2.5, 2.5), (0.0, 0.0, 1.0), []),
        # the loss of a policy is zero, its gradient is not
        ((0.0, 0.0, 0.0), (0.5, 0.4, 0.5), []),
    ],
)
def test_gradients(
    tmp_path: Path, values: tuple[float, ...], norms: tuple[float, ...], expected: list[Any]
) -> None:
    assert found(tmp_path, *values, norms=norms) == expected


def test_a_policy_may_have_a_loss_of_zero(tmp_path: Path) -> None:
    assert found(tmp_path, 0.0, 0.0, 0.0, command="python train_grpo.py") == []
    assert found(tmp_path, 0.0, 0.0, 0.0, tail=("{'loss': 0.0, 'reward': 0.5}",)) == []


def test_a_spike_is_told_and_noise_is_not(tmp_path: Path) -> None:
    (spike,) = findings(tmp_path, *falling(20), 30.0, *falling(20))
    assert spike.kind == "warning"
    assert "30 at step 21" in spike.what
    assert findings(tmp_path, *falling(20), *(loss * 2 for loss in falling(20))) != [spike]
    memorized = [2.5, 1.0, 0.1, *[0.001] * 20, 0.02, *[0.001] * 20]
    assert findings(tmp_path, *memorized) == [], "20 times nearly nothing is nearly nothing"


def test_a_loss_that_never_falls_is_told(tmp_path: Path) -> None:
    (flat,) = findings(tmp_path, *(2.3 + 0.1 * (at % 3) for at in range(40)))
    assert flat.kind == "warning"
    assert "did not fall" in flat.what
    assert findings(tmp_path, *(2.3 + 0.1 * (at % 3) for at in range(10))) == [], "too few to say"


def test_a_resumed_run_may_have_learned_what_it_can(tmp_path: Path) -> None:
    flat = [{"step": at, "epoch": at / 80, "loss": 1.0 + 0.1 * (at % 3)} for at in range(1, 81)]
    state(tmp_path / "checkpoint-40/trainer_state.json", 40, 80, log_history=flat[:40])
    started = age(tmp_path)
    state(tmp_path / "checkpoint-80/trainer_state.json", 80, 80, log_history=flat)
    assert list(losses(read_case(facts_of(tmp_path, started_s=started)))) == []


def test_remedies_are_computed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (masked,) = findings(tmp_path, 0.0, 0.0, command="python train.py a.jsonl")
    assert masked.remedies[0].do == "headway plan a.jsonl --preset tiny"
    (spoiled,) = findings(tmp_path, 2.0, NAN, command="python train.py --learning_rate 3e-4")
    assert spoiled.remedies[0].do == "--learning_rate 1e-4"


def test_zeros_by_rounding_are_not_accused_if_weights_moved(tmp_path: Path) -> None:
    from tests.guard.judge.left import floats, safetensors

    lines = ("step 1 loss 0.0000",)
    assert found(tmp_path, 0.0, 0.0, 0.0, tail=lines) == [("refused", Cause.NOT_LEARNED)]
    for step in (5, 10):
        safetensors(tmp_path / f"checkpoint-{step}/model.safetensors", {"w": floats(step)})
    assert found(tmp_path, 0.0, 0.0, 0.0, tail=lines) == []
