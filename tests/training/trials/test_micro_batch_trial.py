"""Micro-batch sizes: the fastest of three on a GPU, the planned one wherever nobody may choose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import causal, chat_store, order_of, plan_of

from headway.base.pulse import Pulse
from headway.data.batching.rows import rows_of
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.trials import micro_batch_trial as module
from headway.training.trials.micro_batch_trial import find_fastest, try_sizes


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({2048: [9, 1, 1, 1], 1024: [9, 1.0, 1.0, 1.0], 512: [9, 1, 1, 1]}, 2048),
        ({2048: [9, 1, 1, 1], 1024: [9, 0.98, 0.98, 0.98], 512: [9, 2, 2, 2]}, 2048),  # noise
        ({2048: [9, 1, 1, 1], 1024: [9, 0.9, 0.9, 0.9], 512: [9, 0.8, 0.8, 0.8]}, 512),
        ({2048: [9, 1, 1, 1], 1024: [9, 0.1, 1, 1], 512: [9, 2, 2, 2]}, 2048),  # one lucky round
        ({2048: [0.1, 1, 1, 1], 1024: [9, 0.8, 0.8, 0.8]}, 1024),  # the first run does not count
        ({2048: [1, 1, 1, 1]}, 2048),
    ],
)
def test_the_fastest_size_wins_by_a_margin(seconds: dict[int, list[float]], expected: int) -> None:
    left = {size: iter(values) for size, values in seconds.items()}

    def once(size: int) -> Callable[[], float]:
        return lambda: next(left[size])

    assert find_fastest({size: once(size) for size in seconds}) == expected
    assert not any(list(one) for one in left.values())  # each ran once, and in every round


class Bench:
    """A job on a device whose speed depends on the size of a micro-batch."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, fastest: int) -> None:
        store = chat_store(path / "chats", *["." * 60 + "x" * 60 for _ in range(64)])
        self.plan = plan_of(store, batch_size=64, micro_batch_tokens=2048)
        choice = replace(self.plan.choice("micro_batch_tokens"), origin="auto")
        self.plan = replace(self.plan, settings=self._with(choice))
        self.rows = rows_of(store, self.plan.data.max_length)
        self.order = order_of(self.plan, store)
        self.forward = Forward(causal("llama"))
        self.sizes = list[int]()
        self.now_s = 0.0
        real = module.compute_gradients

        def compute(forward: Forward, micro: Any) -> None:
            real(forward, micro)
            size = len(micro.ids_N)
            self.sizes.append(size)
            self.now_s += size * (1.0 if size > fastest else 0.5)

        monkeypatch.setattr(module, "compute_gradients", compute)

    def _with(self, choice: Any) -> Any:
        return tuple(choice if one.name == choice.name else one for one in self.plan.settings)

    def on(self, device: str) -> Plan:
        return replace(self.plan, machine=replace(self.plan.machine, device=device))

    def tried(self, plan: Plan) -> Any:
        settled, phase = Settled.from_plan(plan), Phases(Pulse(), None)
        args = (plan, settled, self.rows, self.order, self.forward, phase)
        return (*try_sizes(*args, now_s=lambda: self.now_s), settled)


@pytest.mark.parametrize("fastest", [1024, 512])
def test_a_smaller_size_that_is_faster_on_a_gpu_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: int
) -> None:
    bench = Bench(tmp_path, monkeypatch, fastest)
    before = {name: p.clone() for name, p in bench.forward.model.named_parameters()}
    draws = torch.get_rng_state()
    now, findings, planned = bench.tried(bench.on("cuda"))
    assert now == replace(planned, micro_batch_tokens=fastest)
    (finding,) = findings
    assert f"{fastest:,} tokens" in finding.what
    assert "2,048" in finding.what
    assert max(bench.sizes) > 1024  # all three were tried, on the rows of the step
    assert min(bench.sizes) <= 512
    parameters = dict(bench.forward.model.named_parameters())
    assert all(torch.equal(parameters[name], p) for name, p in before.items())
    assert all(p.grad is None for p in parameters.values())
    assert torch.equal(torch.get_rng_state(), draws)


def test_the_planned_size_stays_where_no_other_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, 1 << 20)
    now, findings, planned = bench.tried(bench.on("cuda"))
    assert (now, findings) == (planned, ())
    assert bench.sizes


def test_nothing_is_tried_on_a_processor_or_for_a_size_that_somebody_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, 512)
    chosen = replace(bench.plan.choice("micro_batch_tokens"), origin="--micro-batch-tokens")
    for plan in (bench.on("cpu"), replace(bench.on("cuda"), settings=bench._with(chosen))):
        now, findings, planned = bench.tried(plan)
        assert (now, findings) == (planned, ())
    assert not bench.sizes
