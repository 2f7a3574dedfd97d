"""Command check: what is wrong with a finished model folder, whoever trained it."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Refusal, Remedy, UsageError
from headway.base.host import packages
from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    print_json,
    print_lines,
    terminal_width,
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.base.process import ChildProcess
    from headway.base.pulse import Pulse
    from headway.export.check.request import CheckResult, QuestionRequest, QuestionResult

_ADAPTERS = "adapter_config.json"
_POLL_S = 0.1


def check(arguments: Arguments) -> int:
    """Check a folder; 4 if something speaks against using it."""
    from headway.export.check.show_check import check_lines

    if len(arguments.words) != 1:
        raise _one_folder(arguments.words)
    runs = Path(arguments.switches.get("output_dir", "runs"))
    folder = find_folder(arguments.words[0], runs)
    given = arguments.switches.get("base")
    base = find_folder(given, runs) if given else known_base(folder)
    trusts = arguments.on("trust_remote_code")
    result = check_folder(folder, base, quiet=arguments.on("quiet"), trust_remote_code=trusts)
    if arguments.on("json"):
        print_json(result)
    else:
        lines = check_lines(result, terminal_width())
        print_lines(lines[-1:] if arguments.on("quiet") and result.is_good else lines)
    return Exit.KEPT if result.is_good else Exit.BROKEN


def check_folder(
    folder: Path, base: Path | None, *, quiet: bool, trust_remote_code: bool = False
) -> "CheckResult":
    """Check a folder, shown meanwhile.

    Args:
        folder: of a model or of adapters.
        base: folder of its base model, if anybody knows it.
        quiet: show nothing.
        trust_remote_code: run code that comes with the model.
    """
    from headway.export.check.check import check as checked
    from headway.ui.spinner import show_progress

    can_ask = all(packages.is_installed(name) for name in packages.TRAINING)
    with show_progress(sys.stderr, quiet=quiet) as pulse:

        def ask(request: "QuestionRequest") -> "QuestionResult":
            return _ask(request, pulse)

        return checked(
            folder, base, pulse, ask if can_ask else None, trust_remote_code=trust_remote_code
        )


def _ask(request: "QuestionRequest", pulse: "Pulse") -> "QuestionResult":
    """Open the model in another process and ask it."""
    from headway.base.pulse import Phase, read_pulse
    from headway.export.check.check import refused
    from headway.export.check.request import QuestionResult
    from headway.supervise.request_process import ask_child

    def wait(process: "ChildProcess", theirs: Path) -> None:
        shown = Phase.LOADING_MODEL
        pulse.enter(shown)
        while process.is_running:
            reading = read_pulse(theirs)
            phase = Phase.parse(reading.phase) if reading else None
            if phase and phase is not shown:
                shown = phase
                pulse.enter(shown)
            pulse.beat()
            time.sleep(_POLL_S)

    try:
        return ask_child(
            "headway.export.check.ask_model", request, QuestionResult, wait, doing="headway check"
        )
    except Refusal as refusal:
        return refused(refusal)


def find_folder(word: str, runs: Path) -> Path:
    """The folder of a model: a path, or the newest checkpoint of a run.

    Raises:
        UsageError: there is none.
    """
    from headway.runs.folder import find_run, is_run

    path = Path(word)
    if path.is_dir() and not is_run(path) and not is_run(runs / path):
        return path.resolve()
    if is_run(path) or is_run(runs / path):
        run = find_run(word, runs)
        if run.model.is_dir():
            return run.model.resolve()
        checkpoints = run.checkpoints()
        if checkpoints:
            return checkpoints[-1].path.resolve()
    raise UsageError(
        f"no folder {word} to check",
        cause=Cause.MODEL_NOT_FOUND,
        have="a file" if path.is_file() else "no such folder, and no run with a checkpoint",
        need="a folder with a model or adapters",
        remedies=(Remedy("headway runs", "lists the runs of this folder"),),
    )


def known_base(folder: Path) -> Path | None:
    """The base model that a folder names itself, if it is on this machine."""
    import msgspec

    from headway.base.errors import UsageError as Newer
    from headway.base.files import regular_file
    from headway.runs.folder import RunFolder

    try:
        if (folder / _ADAPTERS).is_file():
            config = msgspec.json.decode(regular_file(folder / _ADAPTERS).read_bytes())
            name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        else:
            plan = RunFolder(folder.parent).plan()
            name = plan.model.path if plan and plan.model.source == "folder" else None
    except (OSError, msgspec.DecodeError, Newer):
        return None
    base = Path(name) if isinstance(name, str) and name else None
    return base.resolve() if base and base.is_dir() else None


def _one_folder(words: list[str]) -> UsageError:
    return UsageError(
        "check needs one folder" if not words else "one folder at a time",
        cause=Cause.UNEXPECTED_ARGUMENT if words else Cause.MISSING_ARGUMENT,
        have=" ".join(words) or "nothing",
        need="the folder of a model or of adapters",
        remedies=tuple(Remedy(f"headway check {word}") for word in words[:2])
        or (Remedy("headway check runs/NAME/model", "the newest checkpoint of a run"),),
    )


VERBS = {
    "check": Verb(
        "check FOLDER",
        "find what is wrong with a finished model",
        check,
        {
            "base": Switch("the model that it was made of", "MODEL", "where the folder says"),
            **OUTPUT_DIR,
            "trust_remote_code": Switch("run code that comes with the model"),
        },
        group="keep",
        about="Looks at a finished folder of a model or of adapters, whoever trained it: weights "
        "that are not finite, adapters that do nothing, a model that is its base, a missing chat "
        "template, end tokens that nothing stops at, a tokenizer that does not fit, answers that "
        "never end, a Trainer that took no step. Each finding comes with the fix.",
        examples=(
            ("headway check out", "a folder of any trainer"),
            ("headway check adapter --base models/small", "beside the model that it was made of"),
            ("headway check runs/notes/model --json", "for programs"),
        ),
    ),
}
