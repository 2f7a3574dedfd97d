"""Plan identity: a hash that two plans share if they train the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from headway.data.replay_plan import ReplayPlan
from headway.runs.plan import (
    DataPlan,
    EvaluationPlan,
    LearningPlan,
    ModelPlan,
    Plan,
    SavesPlan,
    StepsPlan,
)


def identity(
    data: DataPlan,
    model: ModelPlan,
    steps: StepsPlan,
    learning: LearningPlan,
    saves: SavesPlan,
    evaluation: EvaluationPlan,
    *,
    seed: int,
    bf16: bool | None,
    assistant_only_loss: bool,
    reset_optimizer: bool,
    truncation: str,
    add_special_tokens: str = "auto",
    replay: ReplayPlan | None = None,
) -> str:
    """What makes two plans the same: everything that changes weights, saves or evaluations.

    What the machine decides (memory, threads, workers, micro-batches) is left out, so that a run
    can continue elsewhere; its plan.json keeps what was decided at its first start.
    """
    weights: Mapping[str, Any] = {
        "source": model.source,
        "config": model.config if model.source == "preset" else {},
        "sha256": model.weights_sha256,
        "lora": model.lora,
        **({"load_in_4bit": True} if model.load_in_4bit else {}),
        "parent": model.parent.manifest_sha256 if model.parent else "",
        "fresh_moments": reset_optimizer,
    }
    day = [data.template_day] if data.template_day else []
    special = [add_special_tokens] if add_special_tokens != "auto" else []
    same = {
        "data": [data.fingerprint, data.tokenizer, data.template, data.max_length, *day, *special],
        "rows": [data.rows, assistant_only_loss],
        **({"replay": _replay(replay)} if replay else {}),
        **({"flow": [data.stream.steps_per_window, truncation]} if data.stream else {}),
        "model": weights,
        "steps": [steps.num, steps.batch_size, steps.leaves_alone or steps.leaves],
        "learning": [learning, bf16],
        "saves": [saves.every_steps, saves.every_minutes, saves.keep, saves.keep_every],
        "looks": evaluation,
        "seed": seed,
    }
    return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()


def identity_of(plan: Plan) -> str:
    """The plan's identity, computed from its contents."""
    bf16 = plan.choice("bf16")
    return identity(
        plan.data,
        plan.model,
        plan.steps,
        plan.learning,
        plan.saves,
        plan.evaluation,
        seed=plan.seed,
        bf16=bf16.value if bf16.origin != "auto" else None,
        assistant_only_loss=plan.choice("assistant_only_loss").value,
        reset_optimizer=plan.choice("reset_optimizer").value,
        truncation=plan.choice("truncation").value,
        add_special_tokens=chosen(plan, "add_special_tokens", "auto"),
        replay=plan.replay,
    )


def _replay(plan: ReplayPlan) -> list[object]:
    """What decides which rows are replayed, wherever they lie."""
    return [plan.share, [(source.sha256, source.num_rows) for source in plan.sources]]


def chosen(plan: Plan, name: str, default: str) -> str:
    """A setting of a plan, which an older version may have made without it."""
    return next((choice.value for choice in plan.settings if choice.name == name), default)
