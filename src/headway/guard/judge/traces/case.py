"""A case: the facts about a command together with the traces that it left."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from headway.base.errors import Refusal
from headway.base.foreign import trainer_state
from headway.base.foreign.tensors import Tensors, read_tensors
from headway.base.foreign.trainer_state import TrainerState
from headway.guard.facts import GuardFacts
from headway.guard.judge.traces import curves, event_files
from headway.guard.judge.traces.curves import TrainingCurve
from headway.guard.judge.traces.folders import find_named, is_folder
from headway.guard.judge.traces.intent import Intent, read_intent
from headway.guard.judge.traces.movement import NO_MOVEMENT, Movement, find_movement
from headway.guard.judge.traces.saved_models import SavedModel, by_series, saved_models

OUTPUT_OPTIONS = (
    *("output_dir", "out_dir", "save_dir", "checkpoint_dir", "ckpt_dir", "default_root_dir"),
    *("project_dir", "logging_dir", "output", "out", "run_dir", "save_path", "save_folder"),
)
RESUME_OPTIONS = ("resume_from_checkpoint", "ckpt_path", "resume", "resume_from", "checkpoint")
MODEL_OPTIONS = ("model_name_or_path", "model", "base_model", "model_name", "model_path")
_MAX_SERIES = 8
_MAX_FILES = 64  # of one kind that are read
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class UnreadFile:
    """A file that should tell something and cannot be read."""

    path: Path
    why: str


@dataclass(frozen=True)
class Case:
    """A command, and what it left.

    Attributes:
        facts: as the guard saw them.
        intent: what the command asks for.
        written: states that it saved, the furthest last.
        earlier: states that lay there before it, the newest last.
        resumed_from: the one of those that it resumed from, if that is certain.
        curves: what it logged, the most exact first; only those with points.
        models: that it saved.
        tensors: of the first and last model of each series, by the model's path.
        movement: what comparing them showed.
        unread: files that cannot be read.
    """

    facts: GuardFacts
    intent: Intent
    written: tuple[TrainerState, ...] = ()
    earlier: tuple[TrainerState, ...] = ()
    resumed_from: TrainerState | None = None
    curves: tuple[TrainingCurve, ...] = ()
    models: tuple[SavedModel, ...] = ()
    tensors: Mapping[Path, Tensors] = field(default_factory=dict[Path, Tensors])
    movement: Movement = NO_MOVEMENT
    unread: tuple[UnreadFile, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of output that were kept."""
        return self.facts.head + self.facts.tail

    @property
    def ended_by_itself(self) -> bool:
        """Whether it ran to its end and reports success."""
        facts = self.facts
        return facts.exit_code == 0 and not facts.was_ended and not facts.was_asked_to_stop

    def shown(self, path: Path) -> str:
        """A path as a person at the command would type it."""
        folder = self.facts.folder
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def read_case(facts: GuardFacts) -> Case:
    """Look at what a command left. Files that cannot be read are counted, never an error."""
    intent = read_intent(facts.command, facts.folder)
    unread: list[UnreadFile] = []
    touched = {file.path for file in facts.files}
    states = _read(_state_files(facts, intent, touched), trainer_state.read_state, unread, facts)
    written = [one for one in states if one.path in touched or _is_younger(one.path, facts)]
    earlier = [one for one in states if one not in written]
    resumed_from = _resumed_from(written, earlier, intent, facts.folder)
    models = saved_models(facts.files, facts.folder)
    tensors = _tensors(models, unread, facts)
    resumed = resumed_from.path.parent if resumed_from else None
    return Case(
        facts=facts,
        intent=intent,
        written=tuple(sorted(written, key=lambda one: one.global_step)),
        earlier=tuple(sorted(earlier, key=lambda one: _changed(one.path))),
        resumed_from=resumed_from,
        curves=tuple(_curves(facts, written, resumed_from, unread)),
        models=models,
        tensors=tensors,
        movement=find_movement(
            models,
            lambda path: tensors.get(path) or _tensors_in(path),
            resumed,
            _base(intent, facts.folder),
        ),
        unread=tuple(unread),
    )


def _state_files(facts: GuardFacts, intent: Intent, touched: set[Path]) -> list[Path]:
    """The states that matter: what it wrote, what it resumed from, what lies where it wrote."""
    written = [path for path in touched if path.name == trainer_state.NAME]
    named = [
        facts.folder / intent.options[name] for name in RESUME_OPTIONS if name in intent.options
    ]
    folders = [facts.folder / intent.options[n] for n in OUTPUT_OPTIONS if intent.options.get(n)]
    around = find_named((*folders, *facts.output_folders, facts.folder), trainer_state.NAME)
    resumed = [folder / trainer_state.NAME for folder in named if is_folder(folder)]
    newest = sorted({*around, *resumed} - set(written), key=_changed)[-_MAX_FILES:]
    return sorted(written, key=_changed)[-_MAX_FILES:] + newest


def _read(
    paths: Iterable[Path],
    read: Callable[[Path], _Read],
    unread: list[UnreadFile],
    facts: GuardFacts,
) -> list[_Read]:
    """Read files; what cannot be read and was written by the command goes to `unread`."""
    done: list[_Read] = []
    for path in paths:
        try:
            done.append(read(path))
        except (OSError, ValueError, Refusal, MemoryError) as error:
            if _is_younger(path, facts):
                unread.append(UnreadFile(path, str(error)))
    return done


def _resumed_from(
    written: list[TrainerState], earlier: list[TrainerState], intent: Intent, folder: Path
) -> TrainerState | None:
    """The state that the command resumed from: an option names it, or its log begins with it."""
    if written:
        last = max(written, key=lambda one: one.global_step)
        begun = [one for one in earlier if last.goes_on_from(one)]
        if begun:
            return max(begun, key=lambda one: one.global_step)
    for name in RESUME_OPTIONS:
        if intent.options.get(name):
            path = folder / intent.options[name] / trainer_state.NAME
            for one in earlier:
                if one.path == path:
                    return one
    return None


def _curves(
    facts: GuardFacts,
    written: list[TrainerState],
    resumed_from: TrainerState | None,
    unread: list[UnreadFile],
) -> list[TrainingCurve]:
    """What was logged, wherever: exact numbers of steps before printed ones."""
    found: list[TrainingCurve] = []
    if written:
        last = max(written, key=lambda one: one.global_step)
        since = last.global_step if last.ended_without_steps else 0
        since = resumed_from.global_step if resumed_from else since
        found.append(curves.of_state(last, since, trainer_state.NAME))
    logs = [file.path for file in facts.files if event_files.NAME in file.path.name]
    for path in sorted(logs, key=_changed)[-_MAX_FILES:]:
        for scalars in _read([path], event_files.read_scalars, unread, facts):
            found.append(curves.of_events(scalars, path))  # noqa: PERF401 - two levels
    found.append(curves.of_output(facts.records, facts.head + facts.tail))
    return [curve for curve in found if curve.points]


def _tensors(
    models: tuple[SavedModel, ...], unread: list[UnreadFile], facts: GuardFacts
) -> dict[Path, Tensors]:
    """The tensors of the first and the last model of each series."""
    found: dict[Path, Tensors] = {}
    for group in by_series(models)[:_MAX_SERIES]:
        for model in {group[0], group[-1]}:
            merged: Tensors = {}
            for tensors in _read(model.files, read_tensors, unread, facts):
                merged |= tensors
            found[model.path] = merged
    return found


def _tensors_in(folder: Path) -> Tensors:
    """The tensors of a model that lay there before the command; none if they cannot be read."""
    merged: Tensors = {}
    try:
        for path in sorted(folder.glob("*.safetensors"))[:_MAX_FILES]:
            merged |= read_tensors(path)
    except (OSError, ValueError):
        return {}
    return merged


def _base(intent: Intent, folder: Path) -> Path | None:
    """The folder of the model that the command was given; None if there is no such folder here."""
    name = intent.first(*MODEL_OPTIONS)
    return folder / name if name and is_folder(folder / name) else None


def _is_younger(path: Path, facts: GuardFacts) -> bool:
    """Whether a file was changed while the command ran."""
    return _changed(path) >= facts.started_s


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
