"""Inherited settings: what a run that continues another takes over from it.

How the model is trained is kept: its rows, batch, optimizer, adapters, number format. What belongs
to the data, to the length of one run or to one machine is not.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal, Protocol

from headway.config.resolve import resolve
from headway.config.settings import ChosenBy, Given, Settings, normalize, spellings

Keep = Literal["always", "if given"]

# "always": as it was trained, no matter who chose it. "if given": if a person chose it; the
# planner's choice was made for that run's data, length or machine.
INHERITED: dict[str, Keep] = {
    "max_length": "always",
    "batch_size": "always",
    "batch_tokens": "if given",
    "micro_batch_tokens": "if given",
    "assistant_only_loss": "always",
    "truncation": "always",
    "learning_rate": "always",
    "lr_scheduler_type": "always",
    "warmup_steps": "if given",  # as a fraction: a number of steps fits one length of run
    "weight_decay": "always",
    "max_grad_norm": "always",
    "optim": "always",
    "adam_beta1": "always",
    "adam_beta2": "always",
    "adam_epsilon": "always",
    "lora": "always",
    "load_in_4bit": "always",
    "lora_r": "always",
    "lora_alpha": "always",
    "lora_dropout": "always",
    "lora_target_modules": "always",
    "seed": "always",
    "bf16": "if given",
    "gradient_checkpointing": "if given",
    "deterministic": "if given",
}
_BATCH = (
    "batch_size",
    "batch_tokens",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)


class SavedSetting(Protocol):
    """A setting as a run's plan kept it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> Any: ...  # noqa: D102
    @property
    def origin(self) -> str: ...  # noqa: D102
    @property
    def asked(self) -> Any: ...  # noqa: D102
    @property
    def inherited(self) -> ChosenBy | None: ...  # noqa: D102


def inherit(
    settings: Settings, run: str, saved: Iterable[SavedSetting], chosen_anew: Container[str] = ()
) -> Settings:
    """The settings, with those of the continued run below them: what was given now wins.

    Args:
        settings: as given now.
        run: name of the run that is continued.
        saved: its settings, as its plan decided them.
        chosen_anew: those that are only kept if a person chose them there.

    Raises:
        UsageError: what is given now contradicts what is kept.
    """
    given = [
        Given(name, getattr(settings, name), origin) for name, origin in settings.origins.items()
    ]
    layer = _kept(settings, run, {_field(one.name): one for one in saved}, chosen_anew)
    return resolve([*layer, *given])


def _field(name: str) -> str:
    row = spellings().get(normalize(name))
    return row.name if row else ""


def _kept(
    settings: Settings, run: str, saved: dict[str, SavedSetting], chosen_anew: Container[str]
) -> Iterator[Given]:
    """The layer of the continued run."""
    replaced = _replaced(settings, saved)
    defaults = Settings()
    for name, keep in INHERITED.items():
        one = saved.get(name)
        if one is None or one.value is None or name in replaced:
            continue
        if one.origin == "default" and one.value == getattr(defaults, name):
            continue  # the same today
        by = one.inherited or _chosen_by(one)
        always = keep == "always" and name not in chosen_anew
        if always or by == "person":
            value = one.value if one.asked is None else one.asked
            yield Given(name, value, f"run {run}", by)


def _chosen_by(saved: SavedSetting) -> ChosenBy:
    return "planner" if saved.origin == "auto" else "person"


def _replaced(settings: Settings, saved: dict[str, SavedSetting]) -> set[str]:
    """Names that are not kept because of what is given now, or of another name that is kept."""
    replaced: set[str] = set()
    if any(settings.given(name) for name in _BATCH):
        replaced |= set(_BATCH)
    tokens = saved.get("batch_tokens")
    if tokens and tokens.value is not None:
        replaced.add("batch_size")  # the number of rows that made so many tokens there
    adapters = saved.get("lora")
    if settings.lora and not (adapters and adapters.value):
        replaced.add("learning_rate")  # of all weights, which is none for adapters
    warmup = saved.get("warmup_steps")
    if warmup and warmup.value is not None and warmup.value >= 1:
        replaced.add("warmup_steps")
    return replaced
