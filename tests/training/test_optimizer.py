"""The optimizer: decay where it belongs, and moments that come back under their own names."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import causal

from headway.base.errors import UsageError
from headway.model.load import trainable, with_lora
from headway.runs.plan import LearningPlan
from headway.training.optimizer import (
    hidden_matrices,
    learning_rate,
    make_optimizer,
    moments,
    restore_moments,
    set_learning_rate,
    without_common_counts,
)

PLAN = LearningPlan("adamw", 1e-3, "cosine", 0, 0.25, 0.8, 0.9, 1e-6, 1.0)
MUON = replace(PLAN, optim="muon")


def stepped(model: Any, optimizer: torch.optim.Optimizer, times: int = 2) -> None:
    draws = torch.Generator().manual_seed(0)
    for _ in range(times):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=draws)
        optimizer.step()


def made(model: Any, plan: LearningPlan) -> torch.optim.Optimizer:
    return make_optimizer(trainable(model), plan, hidden_matrices(model))


def test_matrices_decay_and_vectors_do_not() -> None:
    parameters = trainable(causal("gpt2"))
    optimizer = make_optimizer(parameters, PLAN)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.25, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim < 2 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(parameters)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (1e-3, (0.8, 0.9), 1e-6)


def test_matrices_alone_make_one_group() -> None:
    parameters = {n: p for n, p in trainable(causal("llama")).items() if p.ndim == 2}
    assert len(make_optimizer(parameters, PLAN).param_groups) == 1


def test_the_rate_is_set_everywhere() -> None:
    optimizer = make_optimizer(trainable(causal("llama")), PLAN)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_before_the_first_step_there_are_no_moments() -> None:
    parameters = trainable(causal("llama"))
    assert moments(make_optimizer(parameters, PLAN), parameters) == {}


@pytest.mark.parametrize("plan", [PLAN, MUON], ids=lambda plan: plan.optim)
def test_r05_restored_moments_go_on_as_if_nothing_had_happened(plan: LearningPlan) -> None:
    going, stopped = causal("llama"), causal("llama")
    first, second = (made(model, plan) for model in (going, stopped))
    stepped(going, first)
    stepped(stopped, second)
    saved = {n: t.clone() for n, t in moments(second, trainable(stopped)).items()}
    saved = without_common_counts(saved, 2)
    assert not any(name.startswith("step/") for name in saved)
    fresh = made(stopped, plan)
    assert restore_moments(fresh, trainable(stopped), saved, 2) == len(trainable(stopped))
    stepped(going, first)
    stepped(stopped, fresh)
    for name, p in going.named_parameters():
        assert torch.equal(p, dict(stopped.named_parameters())[name]), name


@pytest.mark.parametrize("num_updates", [0, 1])
def test_another_count_of_updates_would_be_noticed(num_updates: int) -> None:
    """The bias correction belongs to the moments."""
    going, stopped = causal("llama"), causal("llama")
    first, second = (make_optimizer(trainable(model), PLAN) for model in (going, stopped))
    stepped(going, first)
    stepped(stopped, second)
    saved = {n: t.clone() for n, t in moments(second, trainable(stopped)).items()}
    fresh = make_optimizer(trainable(stopped), PLAN)
    restore_moments(fresh, trainable(stopped), without_common_counts(saved, 2), num_updates)
    stepped(going, first)
    stepped(stopped, fresh)
    assert not torch.equal(going.lm_head.weight, stopped.lm_head.weight)


def test_moments_that_are_missing_are_not_counted() -> None:
    parameters = trainable(causal("llama"))
    optimizer = make_optimizer(parameters, PLAN)
    one = next(iter(parameters))
    saved = {
        f"{kind}/{one}": torch.zeros_like(parameters[one]) for kind in ("exp_avg", "exp_avg_sq")
    }
    assert restore_moments(optimizer, parameters, saved, 1) == 1


# ---- Muon --------------------------------------------------------------------------------------

IN_LAYERS = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},  # stored the other way round, and not in nn.Linear
    "mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},  # experts are stacked: not matrices
    "mamba": {"in_proj", "x_proj", "dt_proj", "out_proj"},  # A_log has two dimensions, too
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", IN_LAYERS)
def test_hidden_matrices_are_those_of_linear_layers_but_the_head(kind: str, tied: bool) -> None:
    model = causal(kind, tie_word_embeddings=tied)
    hidden = hidden_matrices(model)
    assert {name.split(".")[-2] for name in hidden} == IN_LAYERS[kind]
    assert hidden <= trainable(model).keys()
    model.requires_grad_(requires_grad=False)
    assert not hidden_matrices(model)


def test_adapters_are_hidden_matrices() -> None:
    adapted = with_lora(
        causal("llama"), r=2, alpha=4.0, dropout=0.0, target_modules=("all-linear",), seed=1
    )
    assert hidden_matrices(adapted) == trainable(adapted).keys()


def test_muon_is_torchs_own_and_everything_else_is_adamws() -> None:
    """Each part alone, with the conventions of its paper, gives the same bits."""
    ours, theirs = causal("llama"), causal("llama")
    together, hidden = made(ours, MUON), hidden_matrices(theirs)
    named = trainable(theirs)
    muon = torch.optim.Muon(
        [p for name, p in named.items() if name in hidden],
        lr=1e-3,
        weight_decay=0.25,
        momentum=0.95,
        nesterov=True,
        ns_steps=5,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = make_optimizer({name: p for name, p in named.items() if name not in hidden}, PLAN)
    for optimizer in (together, muon, adamw):
        set_learning_rate(optimizer, 5e-4)
    stepped(ours, together)
    draws = torch.Generator().manual_seed(0)
    for _ in range(2):
        for p in theirs.parameters():
            p.grad = torch.randn(p.shape, generator=draws)
        muon.step()
        adamw.step()
    for name, p in ours.named_parameters():
        assert torch.equal(p, dict(theirs.named_parameters())[name]), name
    together.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in ours.parameters())


def test_an_update_of_muon_is_as_large_as_adamws() -> None:
    """Root mean square 0.2 of the rate, whatever the shape (arXiv:2502.16982, section 2.2)."""
    model = causal("llama", intermediate_size=64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stepped(model, made(model, replace(MUON, weight_decay=0.0)), times=1)
    for name in hidden_matrices(model):
        change = dict(model.named_parameters())[name].detach() - before[name]
        assert 0.1e-3 < float(change.pow(2).mean().sqrt()) < 0.3e-3, name


def test_a_model_without_a_hidden_matrix_is_refused() -> None:
    model = causal("llama")
    parameters = {name: p for name, p in trainable(model).items() if p.ndim < 2}
    with pytest.raises(UsageError, match="Muon has nothing to train") as refused:
        make_optimizer(parameters, MUON, hidden_matrices(model))
    assert refused.value.remedies[0].do == "--optim adamw"


def test_moments_of_another_optimizer_are_not_taken_and_not_counted() -> None:
    model = causal("llama")
    parameters, hidden = trainable(model), hidden_matrices(model)
    first = made(model, PLAN)
    stepped(model, first)
    saved = moments(first, parameters)
    muon = made(model, MUON)
    assert restore_moments(muon, parameters, saved, 2) == len(parameters) - len(hidden)
    assert not any(parameters[name] in muon.state for name in hidden)


# ---- L07: the learning rate is greater than 0 on every planned step ----------------------------

KINDS = ("cosine", "linear", "constant", "wsd")
JOBS = st.integers(1, 300).flatmap(lambda num: st.tuples(st.just(num), st.integers(0, num - 1)))


def schedule(kind: Any, warmup: int = 0, peak: float = 1e-3) -> LearningPlan:
    return LearningPlan("adamw", peak, kind, warmup, 0.1, 0.9, 0.95, 1e-8, 1.0)


def rates(kind: str, warmup: int, num: int) -> list[float]:
    return [learning_rate(schedule(kind, warmup), step, num) for step in range(1, num + 1)]


@given(JOBS, st.sampled_from(KINDS))
def test_l07_every_planned_step_can_move_weights(job: tuple[int, int], kind: str) -> None:
    num, warmup = job
    found = rates(kind, warmup, num)
    assert all(0 < rate <= 1e-3 for rate in found)
    assert max(found) == found[warmup] == 1e-3  # the peak, right after the warm-up
    assert found[: warmup + 1] == sorted(found[: warmup + 1])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)


@given(st.integers(1, 10**12), st.floats(0, 0.999), st.sampled_from(KINDS), st.floats(1e-8, 1.0))
def test_l07_the_last_step_of_a_job_of_any_length_can_move_weights(
    num: int, share: float, kind: str, peak: float
) -> None:
    assert learning_rate(schedule(kind, int(share * num), peak), num, num) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_one_step_runs_at_the_peak(kind: str) -> None:
    assert rates(kind, 0, 1) == [1e-3]


def test_warm_up_begins_above_0_and_the_peak_is_after_it() -> None:
    assert rates("constant", 3, 6) == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_the_floor_comes_after_the_last_step_not_on_it() -> None:
    assert rates("linear", 0, 4) == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert rates("cosine", 0, 4)[2] == pytest.approx(0.5e-3)
    for kind in ("linear", "cosine", "wsd"):
        assert learning_rate(schedule(kind), 5, 4) == pytest.approx(0, abs=1e-12)


def test_wsd_is_constant_until_the_last_fifth() -> None:
    assert rates("wsd", 2, 12) == pytest.approx(
        [1e-3 / 3, 2e-3 / 3, *[1e-3] * 8, 2e-3 / 3, 1e-3 / 3]
    )
    assert rates("wsd", 0, 4) == [1e-3] * 4  # nothing of it is left for a fifth


@pytest.mark.parametrize(
    ("num", "warmup", "stable", "decay"),
    [(1, 0, 1, 0), (4, 0, 4, 0), (5, 0, 4, 1), (9, 0, 8, 1), (10, 0, 8, 2), (6, 5, 1, 0),
     (7, 2, 4, 1), (100, 0, 80, 20), (100, 50, 40, 10), (101, 99, 2, 0)],
)  # fmt: skip
def test_wsd_has_its_phases_at_every_length(num: int, warmup: int, stable: int, decay: int) -> None:
    found = rates("wsd", warmup, num)
    assert [rate < 1e-3 for rate in found] == [True] * warmup + [False] * stable + [True] * decay
    assert schedule("wsd", warmup).decay_steps(num) == decay
    steps = [b - a for a, b in itertools.pairwise([*found[warmup + stable - 1 :], 0.0])]
    assert steps == pytest.approx([-1e-3 / (decay + 1)] * (decay + 1))  # even, to 0 past the end


def test_no_warm_up_but_one_step_of_it_halves_the_first_rate() -> None:
    assert rates("constant", 1, 3)[0] == pytest.approx(0.5e-3)
