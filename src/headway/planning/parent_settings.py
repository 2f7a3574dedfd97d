"""Parent settings: what a plan takes over from the run whose model it continues."""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.config.inherited import inherit
from headway.config.settings import Settings
from headway.runs.checkpoint_state import FILE
from headway.runs.folder import RunFolder, find_run, is_run
from headway.runs.plan import Choice, Plan


def with_parent_settings(settings: Settings, chosen_anew: Container[str] = ()) -> Settings:
    """The settings, with those of the run that they continue below them.

    A checkpoint folder outside its run has weights and moments, and no settings to take over.

    Args:
        settings: as given.
        chosen_anew: those that the planner chose there and is to choose again.

    Raises:
        UsageError: there is no such run, its plan cannot be read, or settings contradict each
            other.
    """
    run = parent_run(settings)
    if run is None:
        return settings
    plan = run.plan()
    if plan is None:
        raise UsageError(
            f"the settings of run {run.path.name} cannot be read",
            cause=Cause.RUN_UNREADABLE,
            have=f"{run.path / 'plan.json'} is damaged",
            need="the plan that this run was trained by",
            remedies=(
                Remedy(f"headway restore {run.path.name}", "if there is a backup of it"),
                Remedy(f"cp -rL {run.model} weights", "then --model weights: without its settings"),
            ),
        )
    return inherit(settings, run.path.resolve().name, _saved(plan), chosen_anew)


def parent_run(settings: Settings) -> RunFolder | None:
    """The run that is continued, by name or by folder; None for a model that is not of a run.

    Raises:
        UsageError: there is no run of the name given with --continue.
    """
    if settings.continue_run:
        return find_run(settings.continue_run, Path(settings.output_dir))
    if not settings.model:
        return None
    path = model_path(settings.model, settings.output_dir)
    if is_run(path):
        return RunFolder(path)
    folder = path.resolve().parent
    return RunFolder(folder) if (path / FILE).is_file() and is_run(folder) else None


def model_path(model: str, output_dir: str) -> Path:
    """The path of a model: as given, or a run of that name."""
    path, run = Path(model), Path(output_dir) / model
    return run if not path.exists() and run.is_dir() else path


def _saved(plan: Plan) -> Iterator[Choice]:
    """The settings of a run; its adapters as they are, which it may have taken over itself."""
    lora = plan.model.lora
    actual = {"lora": lora is not None}
    if lora:
        actual |= {"lora.r": lora.r, "lora.lora_alpha": lora.alpha}
        actual |= {"lora.lora_dropout": lora.dropout}
    for choice in plan.settings:
        value = actual.get(choice.name, choice.value)
        yield replace(choice, value=tuple(value) if isinstance(value, list) else value)
