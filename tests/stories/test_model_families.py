"""Families of models: trained, with all weights and with adapters, as transformers computes them.

docs/models.md is made from what these tests saw: `python docs/make_models.py --run`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import (
    DOCS,
    Ran,
    byte_level,
    chat_store,
    folder_start,
    plan_of,
    run,
    stop_after,
)
from tests.stories.plain_models import (
    Document,
    gradients,
    load_adapted,
    load_plain,
    mean_loss,
)
from torch import Tensor

from headway.base.documents import DocumentGroup
from headway.base.errors import Exit
from headway.base.events import Noted, Probed, StepDone
from headway.data.batching.batches import Batch
from headway.data.survey.store import Store
from headway.model import forward
from headway.model.attention_layout import AttentionLayout
from headway.training import setup
from headway.training.optimizer import restore_moments
from headway.training.step import Stepper
from headway.training.trials import settle
from headway.training.trials.probes import PackingTrial
from headway.training.weights.checkpoint import Snapshot

PACKED, ALONE = "packed", "one at a time"
# Whether several documents share a row. Alone: an attention of its own, or state along the row.
FAMILIES: Mapping[str, str] = {
    "llama": PACKED,
    "mistral": PACKED,
    "mixtral": PACKED,
    "qwen2": PACKED,
    "qwen3": PACKED,
    "qwen3_moe": PACKED,
    "qwen3_next": ALONE,
    "gemma2": PACKED,
    "gemma3_text": PACKED,
    "phi3": PACKED,
    "olmo2": PACKED,
    "smollm3": PACKED,
    "granite": PACKED,
    "granitemoehybrid": ALONE,
    "gpt2": PACKED,
    "gpt_neox": PACKED,
    "starcoder2": PACKED,
    "falcon": ALONE,
    "gpt_oss": PACKED,
    "mamba2": ALONE,
    "lfm2": ALONE,
}
SCALE = 3.0  # of the random weights: where a mistake in the attention shows
FLAGS = [
    "..xx" + "." * n + "x" * (2 + n % 3) for n in (0, 3, 5, 5, 9, 14, 20)
]  # conversations of several lengths, the longest longer than a window of attention
SETTINGS: Mapping[str, Any] = {
    "batch_size": len(FLAGS),
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "gradient_checkpointing": False,
}
LORA: Mapping[str, Any] = {"lora": True, "lora_r": 2, "lora_alpha": 6.0, "lora_dropout": 0.0}


@dataclass(frozen=True)
class FirstStep:
    """What reached the optimizer first, and the adapters before it."""

    gradients: dict[str, Tensor]
    adapters: dict[str, Tensor]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return chat_store(tmp_path_factory.mktemp("store"), *FLAGS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a small random model of a kind."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS.parent / "bench")
        kinds = importlib.import_module("model_kinds")
    made: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in made:
            config = kinds.tiny_config(kind, kinds.KINDS[kind])
            for name, value in config.to_dict().items():
                if "drop" in name and isinstance(value, float):
                    setattr(config, name, 0.0)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                model: Any = transformers.AutoModelForCausalLM.from_config(config).float()
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(SCALE if p.ndim >= 2 else 1)
            made[kind] = tmp_path_factory.mktemp(kind)
            model.save_pretrained(made[kind])
            byte_level().save(made[kind])
        return made[kind]

    return save


@pytest.fixture
def first_step(monkeypatch: pytest.MonkeyPatch) -> dict[str, FirstStep]:
    """Filled by the first step of the next run."""
    found: dict[str, FirstStep] = {}
    real: Any = vars(Stepper)["_apply"]

    def apply(self: Stepper, batch: Batch, all_gradients: Any, norm: float) -> None:
        if not found:
            named = zip(self.parameters.items(), all_gradients, strict=True)
            found["1"] = FirstStep(
                {n: torch.zeros_like(p) if g is None else g.clone() for (n, p), g in named},
                {n: p.detach().clone() for n, p in self.parameters.items() if "lora_" in n},
            )
        real(self, batch, all_gradients, norm)

    monkeypatch.setattr(Stepper, "_apply", apply)
    return found


@pytest.mark.parametrize("given", [{}, LORA], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_trained_as_transformers_computes_it(
    tmp_path: Path,
    store: Store,
    saved: Callable[[str], Path],
    first_step: dict[str, FirstStep],
    request: pytest.FixtureRequest,
    kind: str,
    given: dict[str, Any],
) -> None:
    said = check_family(tmp_path, store, saved(kind), first_step, given, FAMILIES[kind])
    request.node.user_properties.append(("kind", kind))
    request.node.user_properties.append(("runs", said))
    request.node.user_properties.append(
        ("adapters", " ".join(modules_of(first_step["1"].adapters)))
    )


def check_family(
    tmp_path: Path,
    store: Store,
    folder: Path,
    first_step: Mapping[str, FirstStep],
    given: Mapping[str, Any],
    expected: str,
) -> str:
    """First loss and gradient, packing, the saved model, and a stop in between.

    Returns:
        How its documents ran, as the log says it.
    """
    rows = documents(store)
    plan = plan_of(store, folder_start(folder), **SETTINGS, **given)
    ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.KEPT, ran.receipt.line
    said = check_said(ran, expected)

    final = ran.folder.model
    model = load_adapted(folder, final) if given else load_plain(final)
    after = [one.train_probe for one in ran.of(Probed) if one.when == "after"][-1]
    assert after == pytest.approx(float(mean_loss(model, rows).detach()), rel=1e-5)

    before = set_adapters(model, first_step["1"].adapters) if given else load_plain(folder)
    loss = mean_loss(before, rows)
    assert ran.of(StepDone)[0].loss == pytest.approx(float(loss.detach()), rel=1e-5)
    check_gradients(first_step["1"].gradients, gradients(before, loss))

    assert run(tmp_path / "again", plan, on=stop_after(1)).code == Exit.COME_BACK
    resumed = run(tmp_path / "again", plan, attempt=2)
    assert resumed.code == Exit.KEPT
    assert resumed.hashes() == ran.hashes()
    return said


# ---- what would be noticed ---------------------------------------------------------------------


def documents_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(groups: Any, device: Any) -> AttentionLayout:
        return AttentionLayout((DocumentGroup(sum(g.num_tokens for g in groups)),), device)

    monkeypatch.setattr(forward, "AttentionLayout", whole)


def positions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hidden_states", "logits"):
        monkeypatch.setattr(forward.Forward, name, with_positions(getattr(forward.Forward, name)))


def with_positions(real: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda self, micro: real(
        self, replace(micro, positions_N=torch.arange(len(micro.ids_N)))
    )


def nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "try_packing", lambda *_: PackingTrial(False, False))


def one_token_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    real = forward.Forward.loss
    monkeypatch.setattr(
        forward.Forward, "loss", lambda self, micro, num: real(self, micro, num + 1)
    )


def the_last_update_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snapshot, "take", lambda self: None)


def moments_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def anew(optimizer: Any, parameters: Any, saved: Any, num: int) -> int:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
        return restore_moments(optimizer, parameters, zeros, num)

    monkeypatch.setattr(setup, "restore_moments", anew)


MUTANTS: list[tuple[str, list[Callable[[pytest.MonkeyPatch], None]]]] = [
    ("llama", [documents_see_each_other]),
    ("llama", [documents_see_each_other, nothing_is_tried]),
    ("gpt2", [positions_go_on]),  # of its own; a rotation is the same wherever a document begins
    ("gpt2", [positions_go_on, nothing_is_tried]),
    ("mamba2", [nothing_is_tried]),
    ("llama", [one_token_too_many]),
    ("llama", [the_last_update_is_not_saved]),
    ("llama", [moments_start_anew]),
]


@pytest.mark.parametrize(
    ("kind", "changes"), MUTANTS, ids=[" ".join(c.__name__ for c in each) for _, each in MUTANTS]
)
def test_a_mistake_is_noticed(
    tmp_path: Path,
    store: Store,
    saved: Callable[[str], Path],
    first_step: dict[str, FirstStep],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    changes: list[Callable[[pytest.MonkeyPatch], None]],
) -> None:
    folder = saved(kind)
    for change in changes:
        change(monkeypatch)
    with pytest.raises(AssertionError):
        check_family(tmp_path, store, folder, first_step, {}, FAMILIES[kind])


# ---- parts -------------------------------------------------------------------------------------


def documents(store: Store) -> list[Document]:
    """The conversations of a store, straight from its arrays."""
    assert store.trained is not None
    ids, trained = torch.tensor(store.ids.astype("int64")), torch.tensor(store.trained)
    spans = [slice(*span) for span in zip(store.starts[:-1], store.starts[1:], strict=True)]
    return [Document(ids[span], trained[span]) for span in spans]


def check_said(ran: Ran, expected: str) -> str:
    """How documents ran; if one at a time, the run's log says so, and why."""
    alone = ran.job.trainer.setup.forward.runs_separately
    said = [one.finding for one in ran.of(Noted) if one.finding.what.startswith("documents run")]
    assert len(said) == int(alone)
    assert (ALONE if alone else PACKED) == expected, said
    return f"{said[0].what}: {said[0].have}".rstrip(": ") if alone else PACKED


def modules_of(adapters: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers that have adapters."""
    paths = (name.split(".lora_")[0].removesuffix(".base_layer") for name in adapters)
    return list(dict.fromkeys(path.rpartition(".")[2] for path in paths))


def check_gradients(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Equal within rounding, tensor by tensor."""
    assert ours.keys() == wanted.keys()
    largest = max(float(g.norm()) for g in wanted.values())
    assert largest > 0
    for name, gradient in wanted.items():
        apart = float((ours[name] - gradient).norm())
        assert apart <= 1e-4 * float(gradient.norm()) + 1e-6 * largest, (name, apart)


def set_adapters(model: Any, adapters: Mapping[str, Tensor]) -> Any:
    """A plain model with the adapters that a run began with."""
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in adapters.items():
            named[name].copy_(values)
    return model
