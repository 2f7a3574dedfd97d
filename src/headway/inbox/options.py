"""Options of an inbox: how files are taken and trained, from headway.yaml and the command line."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.files import write_whole
from headway.base.versioned_json import read
from headway.config.resolve import check, raise_problems
from headway.config.settings import Given, Settings, normalize, printed_name, spellings
from headway.config.typos import nearest
from headway.config.yaml_file import SettingsFile, scan_settings
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.neighbor.gpu_room import RoomRules
from headway.inbox.neighbor.hours import Hours
from headway.inbox.option_values import READERS
from headway.inbox.recall.gate import Gate, GateTerm

SECTION = "inbox"  # of headway.yaml
SCHEMA = "headway.first_model/1"
FIRST_MODEL = ("model", "preset", "tokenizer", "vocab_size")
_OWN = ("run_name", "output_dir", "continue_run", "fresh")  # set for each file
# A rate that falls to its floor with every file would make later files count for less.
# And what a file taught can be measured later only by rows of it that were kept.
_DEFAULTS = (
    GivenSetting("lr_scheduler_type", "constant", "the inbox"),
    GivenSetting("val_size", "few", "the inbox"),
)
# What the planner chose for a file is chosen again for the next one.
CHOSEN_ANEW = ("batch_size",)

OnDuplicate = Literal["skip", "train", "fail"]
BeforeFile = Literal["nothing", "backup"]


@dataclass(frozen=True)
class InboxOptions:
    """How files are taken.

    Attributes:
        on_duplicate: what to do with content that was trained under another name.
        priority: patterns of names that come first, in this order.
        train_between: hours of the day outside of which nothing is trained; None: at any time.
        keep_models: how many models to keep, the current one among them; None: all.
        before_file: whether the model is backed up before a file is trained on top of it.
        after_file: a line of the shell that is run after each file; "" for none.
        promote_if: what a file needs for current_model to move on to the model after it.
        notify: a webhook that gets a notice of each file that ended; "" for none.
        disk_budget: bytes that all checkpoints may take; None: any number.
        nice: how much other programs come first, from 0 (not at all) to 19.
        gpu_memory: bytes that have to be free on a GPU before a file is begun; 0: any number.
        give_way: whether a file is saved and waits while other programs compute on the GPU.
        idle_minutes: how long what the next file needs stays in memory when none comes; 0: it is
            loaded for each file.
    """

    on_duplicate: OnDuplicate = "skip"
    priority: tuple[str, ...] = ()
    train_between: Hours | None = None
    keep_models: int | None = None
    before_file: BeforeFile = "nothing"
    after_file: str = ""
    promote_if: Gate = (GateTerm.KEPT,)
    notify: str = ""
    disk_budget: int | None = None
    nice: int = 0
    gpu_memory: int = 0
    give_way: bool = False
    idle_minutes: float = 10.0

    @property
    def room(self) -> RoomRules:
        """What has to be so on the GPUs."""
        return RoomRules(self.gpu_memory, self.give_way)


@dataclass(frozen=True)
class FirstModel:
    """The model that an inbox began with."""

    schema: str
    settings: tuple[GivenSetting, ...]


@dataclass(frozen=True)
class InboxSettings:
    """Everything that a daemon goes by."""

    options: InboxOptions
    settings: tuple[GivenSetting, ...]  # of the next file
    first_model: FirstModel


def read_inbox_settings(
    inbox: InboxFolder,
    typed: Sequence[Given],
    switches: Mapping[str, str],
    *,
    has_trained: bool,
) -> InboxSettings:
    """Read and check all settings of an inbox, before anything is changed in it.

    Args:
        inbox: may not exist yet.
        typed: settings of the command line, which win.
        switches: options of the command line.
        has_trained: whether a file was trained already; then the model cannot be another.

    Raises:
        UsageError: one is unknown, invalid, or set by the inbox itself; or there is no model.
        Problems: several are.
    """
    file = scan_settings(inbox.settings, SECTION) if inbox.settings.exists() else SettingsFile()
    problems: list[Refusal] = list(file.problems)
    if file.data:
        problems.append(_data_given(inbox))
    given = [*(one.given() for one in _DEFAULTS), *file.given, *typed]
    problems += [_set_by_the_inbox(one) for one in given if _field(one) in _OWN]
    options = InboxOptions()
    own = [Given(name, text, f"--{name.replace('_', '-')}") for name, text in switches.items()]
    for one in (*file.apart, *own):
        try:
            options = _with_option(options, one)
        except UsageError as problem:
            problems.append(problem)
    _, invalid = check(one for one in given if _field(one) not in _OWN)
    raise_problems([*problems, *invalid])
    settings = tuple(map(_as_given_setting, given))
    first = _first_model(inbox, settings, has_trained=has_trained)
    rest = tuple(one for one in settings if _field(one.given()) not in FIRST_MODEL)
    return InboxSettings(options, rest, first)


def settings_of_file(
    settings: Iterable[GivenSetting],
    first_model: FirstModel | None,
    *,
    run_name: str,
    output_dir: str,
    parent: str,
) -> Settings:
    """The settings that a file is trained with.

    Args:
        settings: as they were written.
        first_model: where training starts if there is no parent.
        run_name: of its run.
        output_dir: with the runs of the inbox.
        parent: folder of the run that it continues, "" for none.

    Raises:
        UsageError: they are not valid.
    """
    own = [Given("run_name", run_name, "the inbox"), Given("output_dir", output_dir, "the inbox")]
    if parent:
        own.append(Given("continue", parent, "the inbox"))
    else:
        own += [one.given() for one in (first_model.settings if first_model else ())]
    resolved, problems = check([*(one.given() for one in settings), *own])
    raise_problems(problems)
    return resolved


def _first_model(
    inbox: InboxFolder, settings: Sequence[GivenSetting], *, has_trained: bool
) -> FirstModel:
    """The model to begin with: as given now, or as it was.

    Raises:
        UsageError: there is none, or it is another one than the inbox has trained.
    """
    given = tuple(_at_home(one) for one in settings if _field(one.given()) in FIRST_MODEL)
    before = load_first_model(inbox)
    if before and not given:
        return before
    starts = {"model", "preset"} & {_field(one.given()) for one in given}
    if before and has_trained:
        old, new = (_values(one) for one in (before.settings, given))
        if any(new[name] != old.get(name) for name in new):
            raise _other_model(inbox, old, new)
        return before
    if not starts:
        raise _no_model(inbox)
    return FirstModel(SCHEMA, given)


def load_first_model(inbox: InboxFolder) -> FirstModel | None:
    """The model that an inbox began with; None if it has not begun."""
    try:
        return read(inbox.first_model, FirstModel, SCHEMA)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"{inbox.first_model} cannot be read",
            cause=Cause.RUN_UNREADABLE,
            have=str(error),
            need="the model that this inbox began with",
            remedies=(
                Remedy(f"rm {shlex.quote(str(inbox.first_model))}", "then start with --model"),
            ),
        ) from None


def save_first_model(inbox: InboxFolder, first: FirstModel) -> None:
    """Keep the model that an inbox begins with.

    Raises:
        MachineError: it was not written.
    """
    if load_first_model(inbox) != first:
        write_whole(inbox.first_model, msgspec.json.format(msgspec.json.encode(first), indent=2))


def _with_option(options: InboxOptions, one: Given) -> InboxOptions:
    name = normalize(one.name).removeprefix(f"{SECTION}.")
    if name not in READERS:
        raise _unknown_option(one, name)
    read_option, example = READERS[name]
    try:
        changes: dict[str, Any] = {name: read_option(one.value)}
    except ValueError as error:
        raise _invalid_option(one, str(error), example) from None
    return replace(options, **changes)


OPTIONS = tuple(READERS)


def settings_as_words(given: Iterable[Given]) -> list[str]:
    """Settings of a command line as words of another one, paths as absolute ones."""
    words: list[str] = []
    for one in map(_at_home, map(_as_given_setting, given)):
        name = printed_name(spellings()[normalize(one.name)]).replace("_", "-")
        values = one.value if isinstance(one.value, list) else [one.value]
        words += [f"--{name}={value}" for value in values if value is not None]
    return words


def _field(one: Given) -> str:
    """The setting's own name, under whichever it was written."""
    row = spellings().get(normalize(one.name))
    return row.name if row else ""


def _as_given_setting(one: Given) -> GivenSetting:
    value: Any = one.value
    if isinstance(value, list | tuple):
        value = [str(part) for part in cast("list[object]", value)]
    elif value is not None:
        value = str(value)
    return GivenSetting(one.name, value, one.origin)


def _at_home(one: GivenSetting) -> GivenSetting:
    """A path of this machine as an absolute one: the next daemon may start somewhere else."""
    if not isinstance(one.value, str) or _field(one.given()) not in ("model", "tokenizer"):
        return one
    path = Path(one.value)
    return replace(one, value=str(path.resolve())) if path.exists() else one


def _values(settings: Iterable[GivenSetting]) -> dict[str, object]:
    return {_field(one.given()): one.value for one in settings}


def _set_by_the_inbox(one: Given) -> UsageError:
    name = printed_name(spellings()[normalize(one.name)])
    return UsageError(
        f"{one.origin}: {name} is set by the inbox, for each file",
        cause=Cause.CONTRADICTION,
        have=f"{name} {one.value}",
        need="a run of its own for each file, on top of the one before",
        remedies=(Remedy(f"without {one.name}"),),
    )


def _data_given(inbox: InboxFolder) -> UsageError:
    return UsageError(
        f"{inbox.settings} names data",
        cause=Cause.CONTRADICTION,
        have="data: ...",
        need="files dropped into the inbox",
        remedies=(Remedy("remove data:"), Remedy(f"cp FILE {inbox.path}", "is how data comes in")),
    )


def _no_model(inbox: InboxFolder) -> UsageError:
    start = f"headway inbox start {shlex.quote(str(inbox.path))}"
    return UsageError(
        f"{inbox.path} has no model to start from",
        cause=Cause.MODEL_REQUIRED,
        have="neither --model nor --preset",
        need="weights to start from, or a preset to start from scratch",
        remedies=(
            Remedy(f"{start} --preset mini", "a small model from scratch"),
            Remedy(f"{start} --model DIR", "a transformers folder or a run"),
        ),
    )


def _other_model(
    inbox: InboxFolder, old: Mapping[str, object], new: Mapping[str, object]
) -> UsageError:
    def shown(values: Mapping[str, object]) -> str:
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())

    start = f"headway inbox start {shlex.quote(str(inbox.path))}"
    return UsageError(
        f"{inbox.path} already trains another model",
        cause=Cause.CONTRADICTION,
        have=f"{shown(new)}; it began with {shown(old)}",
        need="one model for an inbox",
        remedies=(
            Remedy(start, "continues with its model"),
            Remedy(f"{start}-2 {shown(new)}", "a separate inbox for the other model"),
        ),
    )


def _unknown_option(one: Given, name: str) -> UsageError:
    near = nearest(name, OPTIONS) or OPTIONS[0]
    return UsageError(
        f"{one.origin}: unknown option {one.name}",
        cause=Cause.UNKNOWN_SETTING,
        have=f"{one.name}: {one.value}",
        need=f"an option of the inbox: {', '.join(OPTIONS)}",
        remedies=(Remedy(f"{near}: {READERS[near][1]}", "in the section inbox:"),),
    )


def _invalid_option(one: Given, need: str, example: str) -> UsageError:
    return UsageError(
        f"{one.origin}: {one.name}: invalid value {one.value or 'no value'}",
        cause=Cause.INVALID_VALUE,
        have=str(one.value or "no value"),
        need=need,
        remedies=(Remedy(f"{one.name}: {example}"),),
    )
