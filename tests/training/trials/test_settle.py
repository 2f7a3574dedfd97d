"""Settle: number format, packing and shared prefixes are tried once, and never again."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import causal, folder_of, in_memory, micro_of, order_of, plan_of, text_store
from tests.training.prompted import OWNS, prompted
from tests.training.trial_models import DOCUMENTS, Drawing, leaky

from headway.base.errors import Finding
from headway.base.events import EventLog
from headway.base.pulse import Pulse
from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.model import attention
from headway.model.attention_layout import AttentionLayout
from headway.model.forward import Forward
from headway.model.load import with_lora
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.trials import settle as module
from headway.training.trials.rows_to_try import first_rows
from headway.training.trials.settle import settle_forward

# ---- what is tried once ------------------------------------------------------------------------


def planned(**given: Any) -> Plan:
    return plan_of(in_memory(300, 300), **given)


def settled_from(plan: Plan, forward: Forward, *micros: Any) -> tuple[Settled, tuple[Finding, ...]]:
    return settle_forward(plan, Settled.from_plan(plan), forward, *micros)


def base_and_adapters() -> Any:
    model: Any = with_lora(
        causal("llama", scale=1.0), r=2, alpha=4, dropout=0.0, target_modules=("q_proj",), seed=1
    )
    return model


@pytest.mark.parametrize("faster", [True, False])
def test_the_number_format_is_the_one_that_is_faster_here(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bf16_is_faster", lambda _: faster)
    forward, dtype = Forward(causal("llama", scale=1.0)), ("float32", "bfloat16")[faster]
    settled, findings = settled_from(planned(bf16=None), forward, micro_of(*DOCUMENTS))
    assert settled.compute_dtype == dtype
    assert (forward.model is forward.weights) == (not faster)
    assert (settled.run_separately, settled.custom_logits) == (False, False)
    adjusted = planned(bf16=None).machine.compute_dtype != dtype
    assert [f.what for f in findings] == (
        [f"computes in {dtype}, which is faster here"] if adjusted else []
    )


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_number_format_that_was_asked_for_is_not_measured(
    bf16: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bf16_is_faster", None)
    forward = Forward(causal("llama", scale=1.0))
    settled, findings = settled_from(planned(bf16=bf16), forward, micro_of(*DOCUMENTS))
    assert (settled.compute_dtype, findings) == (dtype, ())


@pytest.mark.parametrize("make", [base_and_adapters, lambda: causal("llama", scale=1.0)])
def test_rounding_that_shows_is_not_computed_with(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, micro = make(), micro_of(*DOCUMENTS)
    before = copy.deepcopy(model.state_dict())
    forward = Forward(model)
    losses = forward.losses(micro)
    monkeypatch.setattr(module, "ROUNDING", 1e-9)
    settled, findings = settled_from(planned(bf16=True), forward, micro)
    assert settled.compute_dtype == "float32"
    assert [f.what for f in findings] == ["computes in float32: bfloat16 changes the loss"]
    assert torch.equal(forward.losses(micro), losses)
    after = forward.weights.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_rounding_to_no_number_is_not_computed_with() -> None:
    model = causal("llama", scale=1.0)
    forward = Forward(model)
    compute_in = forward.compute_in

    def spoilt(dtype: torch.dtype) -> None:
        compute_in(dtype)
        if dtype != torch.float32:
            next(iter(forward.model.get_output_embeddings().parameters())).data.fill_(float("nan"))

    forward.compute_in = spoilt  # type: ignore[method-assign]
    settled, _ = settled_from(planned(bf16=True), forward, micro_of(*DOCUMENTS))
    assert settled.compute_dtype == "float32"
    assert bool(forward.losses(micro_of(*DOCUMENTS)).isfinite().all())


@pytest.mark.parametrize("separately", [True, False])
@pytest.mark.parametrize("custom_logits", [True, False])
def test_what_is_settled_is_never_tried_again(
    separately: bool, custom_logits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(bf16=True)
    once, _ = settled_from(plan, Forward(causal("llama", scale=1.0)), micro_of(*DOCUMENTS))
    settled = replace(once, has_tried=True, run_separately=separately, custom_logits=custom_logits)
    for name in ("settle_forward", "try_compile", "first_rows"):
        monkeypatch.setattr(module, name, None)
    forward = Forward(causal("llama", scale=1.0))
    phase = Phases(Pulse(), EventLog(tmp_path / "events.jsonl"))
    rows: Any = None
    assert module.settle(plan, settled, rows, rows, forward, phase) == (settled, ())
    assert (forward.runs_separately, forward.has_custom_logits) == (separately, custom_logits)
    assert forward.model is not forward.weights
    name = "sdpa" if separately else attention.NAME
    assert attention.current_implementation(forward.model) == name


def test_a_model_that_leaks_is_told() -> None:
    forward = Forward(leaky())
    settled, findings = settled_from(planned(bf16=False), forward, micro_of(*DOCUMENTS))
    assert settled.run_separately
    assert not settled.custom_logits
    assert [f.what for f in findings] == [
        "documents run one at a time: this model's layers leak state between them"
    ]


@pytest.mark.parametrize("prefix", [0, 800])
@pytest.mark.parametrize("bf16", [True, False])
def test_all_trials_together_cost_less_than_a_step(tmp_path: Path, prefix: int, bf16: bool) -> None:
    """Forward and in fp32 they run at most half of a step's tokens, which run thrice as long."""
    store = (
        prompted(tmp_path, prefix, [1000 - prefix] * 32)
        if prefix
        else text_store(tmp_path, *[1001] * 8)
    )
    plan = plan_of(store, batch_size=2, max_length=1000, bf16=bf16)
    ran: list[int] = []
    model = causal("llama", scale=1.0, max_position_embeddings=4096)
    model.model.embed_tokens.register_forward_hook(lambda _m, ids, _o: ran.append(ids[0].numel()))
    rows = first_rows(rows_of(store, plan.data.max_length), order_of(plan, store), plan)
    settled, said = settled_from(plan, Forward(model), *rows)
    assert said == ()
    assert settled.share_prefixes == bool(prefix)
    assert len(ran) >= 4
    assert sum(ran) <= 1.5 * plan.steps.tokens


# ---- rows that begin alike ---------------------------------------------------------------------

NOT_SHARED = "prefixes are not shared: this model computes them differently"
FAMILIES = {  # tokens that all begin with, and what each of 32 rows has of its own
    "usual": (200, OWNS),
    "short beginnings": (40, [40] * 32),
    "some long": (500, [1001] * 4 + [8] * 28),
    "some longer": (200, [1900] * 4 + [8] * 28),
}


def tried_on(model: Any, store: Store) -> tuple[Settled, list[str]]:
    """What is settled of a plan to share, and what is said of it."""
    plan = plan_of(store, batch_size=32)
    rows = first_rows(rows_of(store, plan.data.max_length), order_of(plan, store), plan)
    settled, findings = settled_from(plan, Forward(model), *rows)
    assert plan.steps.share_prefixes
    assert all(finding.kind == "adjusted" for finding in findings)
    return settled, [finding.what for finding in findings]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sound_model_shares(kind: str, tmp_path: Path) -> None:
    model = causal("llama", scale=1.0, max_position_embeddings=4096)
    settled, said = tried_on(model, prompted(tmp_path, *FAMILIES[kind]))
    assert said == []
    assert not settled.run_separately
    assert settled.share_prefixes
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_draws_by_chance_shares_nothing(training: bool, tmp_path: Path) -> None:
    model = causal("llama", scale=1.0).train(training)
    model.model.layers[0].mlp = Drawing(model.model.layers[0].mlp).train(training)
    before = torch.get_rng_state()
    settled, said = tried_on(model, prompted(tmp_path))
    assert said == [NOT_SHARED]
    assert not settled.run_separately
    assert not settled.share_prefixes
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_attention_that_forgets_the_beginning_is_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(*tensors: Any, documents: AttentionLayout, **rest: Any) -> Any:
        alone = AttentionLayout([replace(group, prefix=None) for group in documents.documents])
        return attend(*tensors, documents=alone, **rest)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", forgets)
    model = causal("llama", max_position_embeddings=4096)
    settled, said = tried_on(model, prompted(tmp_path, *FAMILIES[kind]))
    assert said == [NOT_SHARED]
    assert not settled.share_prefixes


def test_a_model_that_leaks_is_not_tried_on_sharing(tmp_path: Path) -> None:
    model = leaky()
    model.model.layers[1].mlp = Drawing(model.model.layers[1].mlp)
    settled, said = tried_on(model, prompted(tmp_path))
    assert len(said) == 1
    assert said[0].startswith("documents run one at a time")
    assert settled.run_separately
    assert not settled.share_prefixes


@pytest.mark.parametrize(
    ("device", "kind", "takes", "said"),
    [
        ("cuda", "mistral", False, True),
        ("cuda", "mistral", True, False),
        ("cuda", "llama", False, False),
        ("cpu", "mistral", False, False),
    ],
)
def test_layers_that_a_gpus_kernel_does_not_take_are_told(
    device: str, kind: str, takes: bool, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "takes_windows", lambda: takes)
    plan = planned()
    plan = replace(plan, machine=replace(plan.machine, device=device))
    window = {"sliding_window": 4} if kind == "mistral" else {}
    forward = Forward(causal(kind, **window))
    assert bool(module._without_kernel(plan, forward)) is said


# ---- adapters ----------------------------------------------------------------------------------

STATE_SPACE = {
    "num_heads": 4,
    "head_dim": 8,
    "expand": 2,
    "n_groups": 1,
    "state_size": 8,
    "hidden_size": 16,
    "chunk_size": 8,
}


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("mamba2", ("all-linear",), ["no adapters on 2 layers named out_proj"]),
        ("mamba2", ("in_proj",), []),  # nobody asked for all
        ("llama", ("all-linear",), []),
    ],
)
def test_layers_that_adapters_leave_out_are_named(
    kind: str, targets: tuple[str, ...], said: list[str]
) -> None:
    model = causal(kind, **(STATE_SPACE if kind == "mamba2" else {}))
    adapted = with_lora(model, r=2, alpha=4, dropout=0.0, target_modules=targets, seed=1)
    plan = plan_of(in_memory(300), folder_of(), lora=True, lora_target_modules=targets)
    findings = module._without_adapters(plan, Forward(adapted))
    assert [one.what for one in findings] == said
    assert not module._without_adapters(planned(), Forward(model))
