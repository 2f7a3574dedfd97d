"""Commands plan and train: planning and supervised training of one run."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.base.units import read_size
from headway.base.version import __version__
from headway.commands.verb import Verb, print_json, print_lines, print_text, terminal_width
from headway.config.command_line import Arguments, Switch
from headway.config.run_name import check_run_name, make_run_name
from headway.ui.output import PATIENCE_S

if TYPE_CHECKING:
    from headway.base.process import Stop
    from headway.config.settings import Settings
    from headway.runs.plan import Plan
    from headway.supervise.supervisor import Result
    from headway.ui.screens import Screen


def plan(arguments: Arguments) -> int:
    """Decide everything, train nothing."""
    sources, settings = arguments.settings()
    saves = "save" in arguments.switches
    if "gpu" in arguments.switches:
        return plan_for_gpu(arguments, sources, settings)
    if saves:
        settings = saved_as(arguments.switches["save"], settings)
    packages.require("plan", packages.READING)
    check_sources(sources, "plan")
    screen = _screen(arguments, settings.logging_steps, single=True)
    if not arguments.on("json"):
        screen.say(first_line("plan", sources))
    patience_s = PATIENCE_S
    try:
        # After the first line: these imports take time.
        from headway.base.process import Stop

        with Stop().listening() as stop:
            from headway.supervise.supervisor import Request, Supervisor

            argv = tuple(map(hide_credentials, sys.argv))
            request = Request(sources, settings, argv, arguments.on("verbose"))
            supervisor = Supervisor(request, screen, stop)
            result = supervisor.save() if saves else supervisor.plan()
            patience_s = end_patience_s(stop, settings.grace_s)
        if result.plan and arguments.on("json"):
            print_text(result.plan.to_json().decode())
        elif result.plan and not result.receipt:
            screen.plan(result.plan)
        if result.plan and result.folder and not result.receipt:
            screen.say(how_to_start(result.plan, result.folder))
        return result.code
    finally:
        screen.close(patience_s)


def plan_for_gpu(arguments: Arguments, sources: tuple[str, ...], settings: "Settings") -> int:
    """Say what fits on a GPU, by the model's config.json alone.

    Raises:
        UsageError: the size is none, or the model's sizes cannot be read.
        MachineError: nothing fits.
    """
    given = arguments.switches["gpu"]
    try:
        num_bytes = read_size(given)
    except ValueError:
        num_bytes = 0
    if num_bytes < 10**8:
        raise UsageError(
            f"--gpu: invalid value {given or 'no value'}",
            cause=Cause.INVALID_VALUE,
            have=given or "no value",
            need="the memory of a GPU, such as 12GB or 80GB",
            remedies=(Remedy("--gpu 12GB", "the memory of the GPU"),),
        )
    if "save" in arguments.switches:
        raise UsageError(
            "--gpu and --save cannot be combined",
            cause=Cause.CONTRADICTION,
            have="--gpu and --save",
            need="a look at what fits, or a plan to save",
            remedies=(Remedy("remove --save"), Remedy("remove --gpu")),
        )
    packages.require("plan", packages.READING)
    from headway.base.pulse import Pulse
    from headway.planning.gpu.model_facts import read_model_facts
    from headway.planning.gpu.ways import plan_gpu
    from headway.ui.show_gpu import gpu_lines

    found = plan_gpu(read_model_facts(settings, Pulse(None)), settings, num_bytes, sources)
    if arguments.on("json"):
        print_json(found)
    else:
        print_lines(gpu_lines(found, terminal_width()))
    return Exit.KEPT


def saved_as(run: str, settings: "Settings") -> "Settings":
    """The settings with the name and the folder of a run to be saved.

    Args:
        run: the run's name, or its folder.
        settings: as given.

    Raises:
        UsageError: it is no name of a run, or another one is given, too.
    """
    path = Path(run)
    try:
        name = check_run_name(path.name)
        if not name:
            raise ValueError("the run's name, or its folder")
    except ValueError as error:
        better = make_run_name(path.name or "run")
        raise UsageError(
            f"--save: invalid value {run or 'no value'}",
            cause=Cause.INVALID_VALUE,
            have=run or "no value",
            need=str(error),
            remedies=(Remedy(f"--save {better}", "writes the plan into this run's folder"),),
        ) from None
    folder = str(path.parent) if "/" in run else settings.output_dir
    meant = {"run_name": name} | ({"output_dir": folder} if "/" in run else {})
    for key, value in meant.items():
        option, other = f"--{key.replace('_', '-')}", getattr(settings, key)
        if key in settings.origins and Path(other) != Path(value):
            raise UsageError(
                f"--save {run} and {option} {other} cannot be combined",
                cause=Cause.CONTRADICTION,
                have=f"--save {run} {option} {other}",
                need="one name and one folder for the run",
                remedies=(Remedy(f"remove {option}"), Remedy("remove --save", "saves nothing")),
            )
    origins = settings.origins | dict.fromkeys(meant, "--save")
    return replace(settings, run_name=name, output_dir=folder, origins=origins)


def how_to_start(plan: "Plan", folder: Path) -> str:
    """What to type once a plan is saved."""
    run = shlex.quote(str(folder))
    workers = f"--nproc-per-node {plan.machine.workers}"
    return f"saved {run} · torchrun {workers} -m headway.training.worker {run} starts it"


def train(arguments: Arguments) -> int:
    """Plan and train."""
    sources, settings = arguments.settings()
    check_sources(sources, "train")
    return run_training(arguments, "train", sources, settings)


def run_training(
    arguments: Arguments, verb: str, sources: tuple[str, ...], settings: "Settings"
) -> int:
    """Train under a supervisor, shown on the terminal.

    Returns:
        The exit code.
    """
    return supervised(arguments, verb, sources, settings).code


def supervised(
    arguments: Arguments, verb: str, sources: tuple[str, ...], settings: "Settings"
) -> "Result":
    """Train under a supervisor, shown on the terminal; says how it ended."""
    packages.require(verb, packages.TRAINING)
    screen = _screen(arguments, settings.logging_steps)
    screen.say(first_line(verb, sources))
    patience_s = PATIENCE_S
    try:
        # After the first line: these imports take time.
        from headway.base.process import Stop

        with Stop().listening() as stop:
            from headway.supervise.supervisor import Request, Supervisor

            argv = tuple(map(hide_credentials, sys.argv))
            request = Request(sources, settings, argv, arguments.on("verbose"))
            result = Supervisor(request, screen, stop).train()
            patience_s = end_patience_s(stop, settings.grace_s)
        return result
    finally:
        screen.close(patience_s)


def end_patience_s(stop: "Stop", grace_s: float) -> float:
    """How long the last lines may wait for the terminal: after a stop, what is left of its time."""
    return max(grace_s - stop.since_s(), 1.0) if stop.by else PATIENCE_S


def first_line(verb: str, sources: Sequence[str]) -> str:
    """The line that is on the screen at once."""
    named = " ".join(map(hide_credentials, sources[:3]))
    named += f" and {len(sources) - 3} more" if len(sources) > 3 else ""
    return f"headway {__version__} · {verb} {named}"


def check_sources(sources: tuple[str, ...], verb: str) -> None:
    """Check that there is data.

    Raises:
        UsageError: there is none.
    """
    if not sources:
        raise UsageError(
            f"{verb} needs data",
            cause=Cause.MISSING_ARGUMENT,
            have="no file, folder or pattern",
            need="something to train on",
            remedies=(
                Remedy(f"headway {verb} notes.txt", "a file; a folder, a pattern or - works too"),
                Remedy("headway demo", "brings its own data"),
            ),
        )


def _screen(arguments: Arguments, logging_steps: int | None, *, single: bool = False) -> "Screen":
    from headway.ui.screens import make_screen

    return make_screen(
        sys.stdout,
        sys.stderr,
        quiet=arguments.on("quiet"),
        json=arguments.on("json"),
        single=single,
        verbose=arguments.on("verbose"),
        logging_steps=logging_steps,
    )


VERBS = {
    "plan": Verb(
        "plan DATA... [settings]",
        "decide everything, train nothing",
        plan,
        {
            "save": Switch("write the plan into this run's folder, for a launcher", "RUN"),
            "gpu": Switch("what of a model fits in this much memory; reads no data", "SIZE"),
        },
        True,
        group="start",
        about="Reads the data and decides everything that training would do: rows, steps, batch, "
        "memory, time, and what is refused, each with the reason. It trains nothing. With --save, "
        "it writes the run's folder, which torchrun, Slurm or Kubernetes can then start.",
        examples=(
            ("headway plan notes.txt", "plan training on a text"),
            ("headway plan notes.txt --json", "the whole plan, for programs"),
            ("headway plan --gpu 12GB --model DIR", "what fits on a GPU, before any download"),
        ),
    ),
    "train": Verb(
        "train DATA... [settings]",
        "plan and train; ends with a receipt",
        train,
        {},
        True,
        group="start",
        about="Plans a run, trains it, and ends with a receipt that says whether every planned row "
        "was trained and whether the model learned. The same command resumes a run that was "
        "stopped or killed.",
        examples=(
            ("headway train notes.txt", "a new model from a text"),
            ("headway train chats.jsonl -m models/small --lora", "adapters on a model"),
            ("headway train more.txt --continue notes", "continue from the model of run notes"),
        ),
    ),
}
