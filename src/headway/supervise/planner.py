"""Planner process: survey and planning outside the supervisor.

No regular expression or template can block the supervisor this way.

    python -m headway.supervise.planner FILE         a JSON file with a `PlanRequest`
    python -m headway.supervise.planner FILE --ahead READ
                                                     plans for the cache alone, makes the file READ,
                                                     and waits for a `PlanTurn` on standard input
    python -m headway.supervise.planner --serve FD   a fork server of such processes

Standard input is the user's: the source `-` reads it.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headway.base.addresses import hide_credentials
from headway.base.disk import check_writable
from headway.base.errors import (
    Cause,
    Exit,
    MachineError,
    Refusal,
    Remedy,
    UsageError,
    exit_code,
)
from headway.base.files import cache_folder
from headway.base.foreign.budget import READER_BYTES, limit_process, out_of_memory
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.host.fork_server import is_server, leave, serve
from headway.base.host.nvidia_smi import free_gpu_bytes
from headway.base.host.packages import require_for
from headway.base.machine import (
    TorchBuild,
    accelerator,
    compiler,
    measured,
    this_machine,
    torch_build,
)
from headway.base.process import (
    PULSE_VARIABLE,
    report_refusal,
    send_answer,
)
from headway.base.pulse import Phase, Pulse
from headway.config.optimizers import OPTIMIZERS
from headway.config.settings import Settings
from headway.runs.measurements import process_key
from headway.runs.placement import plans_of
from headway.runs.plan import Plan
from headway.supervise.allocator import choose_allocator
from headway.supervise.thread_waiting import choose_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from headway.data.examples.maker import ExampleOptions
    from headway.data.sources.folders import Found
    from headway.planning.compute import KnownMachine
    from headway.planning.model_source import ModelSource

_IMPORTED = (
    "headway.data.sources.find",
    "headway.data.survey.survey",
    "headway.planning.decide",
    "headway.planning.model_source",
    "headway.planning.streaming",
)
# What reading most files imports on its way: a server has it before there is a file.
_USED_BY_MOST = (
    "jinja2.ext",
    "jinja2.meta",
    "jinja2.sandbox",
    "numpy.ma",
    "safetensors",
    "tokenizers",
)
_BYTES_PER_BYTE = 4  # of memory for each of data that is read whole
_PROCESS_BYTES = 430_000_000  # an interpreter with torch and transformers, until measured


@dataclass(frozen=True)
class PlanRequest:
    """What to plan.

    Attributes:
        sources: the data.
        settings: as given, with those of a run that is continued.
        train: a run follows: its folder must be writable.
        name: the name under which a file will be trained that is read ahead; "" for its own.
    """

    sources: tuple[str, ...]
    settings: Settings
    train: bool
    name: str = ""


@dataclass(frozen=True)
class PlanTurn:
    """That it is the turn of what was read ahead.

    Attributes:
        request: path of a JSON file with its `PlanRequest`.
        pulse: path of the pulse from now on.
    """

    request: str
    pulse: str


def main(arguments: list[str]) -> int:
    """The process; the plan, or why there is none, goes to the process that started it."""
    end_with_parent()
    path = os.environ.get(PULSE_VARIABLE)
    pulse = Pulse(Path(path) if path else None)
    pulse.enter(Phase.READING)
    request = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=PlanRequest)
    limit_process(
        this_machine().cores, READER_BYTES + _BYTES_PER_BYTE * request.settings.survey_exact
    )
    try:
        with _memory_errors(request):
            if arguments[1:2] == ["--ahead"]:
                make_plan(request, pulse)
                Path(arguments[2]).touch()
                line = sys.stdin.buffer.readline()
                if not line:
                    return Exit.KEPT  # its turn never came
                turn = msgspec.json.decode(line, type=PlanTurn)
                pulse = Pulse(Path(turn.pulse))
                request = msgspec.json.decode(Path(turn.request).read_bytes(), type=PlanRequest)
            send_answer(make_plan(request, pulse))
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    return Exit.KEPT


@contextlib.contextmanager
def _memory_errors(request: PlanRequest) -> Generator[None]:
    try:
        yield
    except MemoryError as error:
        raise out_of_memory(" ".join(map(hide_credentials, request.sources[:3]))) from error


def make_plan(request: PlanRequest, pulse: Pulse) -> Plan:
    """Read the data, the model's configuration and the machine, and decide.

    A chat template that asks for the date gets the day on which its run was first planned: on any
    day, the same command makes the same rows.

    Raises:
        Refusal: it cannot be done; only the cache was written.
    """
    _import_libraries(pulse)
    from headway.data.sources.find import find_sources
    from headway.planning.model_source import find_model_source
    from headway.planning.streaming import write_stream_spec

    settings = request.settings
    check_packages(settings)
    if request.train:
        check_writable(Path(settings.output_dir))
    pulse.enter(Phase.FINDING_DATA, unit="files")
    found = find_sources(request.sources, endpoint_url=settings.endpoint_url, pulse=pulse)
    found = found.renamed(request.name) if request.name else found
    source = find_model_source(settings, sum(one.size for one in found), pulse)
    machine = read_machine_facts(settings.device)
    today = date.today().isoformat()

    def plan_for(day: str) -> Plan:
        options = _example_options(settings, source, day)
        return _plan_rows(request, found, source, options, machine, pulse)

    plan = plan_for(today)
    can_read_again = not any(one.is_stream for one in found)
    if plan.data.template_day and can_read_again and not settings.fresh:
        plan = _as_first_planned(plan, plan_for, Path(settings.output_dir))
    if request.train:
        options = _example_options(settings, source, plan.data.template_day or today)
        plan = write_stream_spec(plan, settings, found, options, cache_folder("stores"))
        evaluated = bool(plan.evaluation.eval_steps and plan.data.rows.held_out)
        saves = plan.saves.most(plan.steps.num, evaluated=evaluated)
        check_writable(Path(settings.output_dir), saves * plan.saves.bytes_each)
    return plan


def check_packages(settings: Settings) -> None:
    """Check that what the settings ask for is installed.

    Raises:
        UsageError: it is not.
    """
    if settings.load_in_4bit:
        plain = Remedy("--lora", "instead: adapters on the weights as they are")
        require_for("--load-in-4bit", "bitsandbytes", plain)
    if package := OPTIMIZERS[settings.optim].package:
        plain = Remedy("--optim adamw", "moments in fp32, on the device")
        require_for(f"--optim {settings.optim}", package, plain)


def _import_libraries(pulse: Pulse) -> None:
    """Import what planning needs."""
    with pulse.importing(Phase.STARTING):
        for name in _IMPORTED:
            importlib.import_module(name)


def _warm_up() -> None:
    """Import what the forks of a server use."""
    _import_libraries(Pulse(None))
    for name in _USED_BY_MOST:
        importlib.import_module(name)


def _as_first_planned(plan: Plan, plan_for: "Callable[[str], Plan]", output_dir: Path) -> Plan:
    """The plan of an existing run that differs in nothing but the day; else `plan`."""
    for before in plans_of(plan.name, output_dir):
        day = before.data.template_day
        if day not in ("", plan.data.template_day):
            again = plan_for(day)
            if again.identity == before.identity:
                return again
    return plan


def _example_options(settings: Settings, source: "ModelSource", day: str) -> "ExampleOptions":
    from headway.data.examples.maker import ExampleOptions

    return ExampleOptions(
        tokenizer=source.tokenizer,
        vocab_size=source.vocab_size,
        template=None,
        assistant_only=settings.assistant_only_loss,
        drop_duplicates=settings.drop_duplicates,
        skip_corrupt=settings.skip_corrupt,
        preferred_only=settings.preferred_only,
        keep_empty_answers=settings.keep_empty_answers,
        add_special_tokens=settings.add_special_tokens,
        day=day,
    )


def _plan_rows(
    request: PlanRequest,
    found: "Found",
    source: "ModelSource",
    options: "ExampleOptions",
    machine: "KnownMachine",
    pulse: Pulse,
) -> Plan:
    """Survey the data and decide."""
    from headway.data.survey.result import by_reason
    from headway.data.survey.survey import survey
    from headway.planning.data_ledger import with_replay
    from headway.planning.decide import decide

    settings, sources = request.settings, tuple(map(hide_credentials, request.sources))
    chosen = bool(settings.model or settings.preset or settings.continue_run)
    store = survey(
        found,
        options,
        exact_bytes=settings.survey_exact,
        max_rejected=settings.max_rejected,
        embedding_rows=source.embedding_rows,
        conversations=None if chosen else conversations_need_a_model(sources),
        cache=cache_folder("stores"),
        pulse=pulse,
    )
    pulse.enter(Phase.PLANNING)
    plan = with_replay(decide(settings, sources, store, source.initial, machine), settings)
    passed = by_reason((one.name, one.reason.value) for one in found.passed)
    return replace(plan, data=replace(plan.data, passed_over=passed + plan.data.passed_over))


def read_machine_facts(asked: str | None) -> "KnownMachine":
    """What the plan needs to know about this machine.

    Args:
        asked: the device a person asked for, or None.

    Raises:
        MachineError: that device cannot be used.
    """
    from headway.planning.compute import KnownMachine

    build = torch_build()
    device, why = choose_device(asked, build)
    process = measured(process_key(build.version)) if build else None
    return KnownMachine(
        machine=this_machine(),
        device=device,
        why=why,
        process_bytes=round(process or _PROCESS_BYTES),
        measured=measured,
        torch=build.version if build else "none",
        allocator=choose_allocator().value,
        waiting=choose_waiting().value,
        compiler=compiler(),
        device_free_bytes=free_gpu_bytes() if device == "cuda" else 0,
    )


def choose_device(asked: str | None, build: TorchBuild | None) -> tuple[str, str]:
    """Choose the device to train on.

    Args:
        asked: the device a person asked for, or None.
        build: the installed torch.

    Returns:
        The device, and why.

    Raises:
        MachineError: the device asked for is missing, or this torch cannot use it.
    """
    there = accelerator()
    cuda = bool(build and build.cuda)
    if asked == "cuda" and not (there == "cuda" and cuda):
        raise MachineError(
            "no cuda device to train on",
            cause=Cause.NO_DEVICE,
            have="no NVIDIA device"
            if there != "cuda"
            else f"torch {build.version if build else '-'}, a CPU build",
            need="an NVIDIA device and a CUDA build of torch",
            remedies=(
                Remedy("--device cpu", "train on the processor"),
                Remedy("headway doctor", "shows which build is installed and how to get the other"),
            ),
        )
    if asked == "mps" and there != "mps":
        raise MachineError(
            "no mps device to train on",
            cause=Cause.NO_DEVICE,
            have="no Apple GPU",
            need="a Mac with Apple silicon",
            remedies=(Remedy("--device cpu", "train on the processor"),),
        )
    if asked:
        return asked, "asked for"
    if there == "cuda" and not cuda:
        return "cpu", "torch is a CPU build and cannot use the NVIDIA device (headway doctor)"
    if there:
        return there, "the fastest device on this machine"
    return "cpu", "no accelerator found"


def conversations_need_a_model(sources: tuple[str, ...]) -> UsageError:
    """The refusal of conversations without a model: a forgotten flag should not give gibberish."""
    data = " ".join(sources)
    return UsageError(
        "conversations need a pretrained model",
        cause=Cause.MODEL_REQUIRED,
        have="conversations, and neither --model nor --preset",
        need="weights to start from, or a preset to start from scratch",
        remedies=(
            Remedy(f"headway train {data} --model DIR", "fine-tune a transformers folder or a run"),
            Remedy(
                f"headway train {data} --preset mini",
                "a small model from scratch: its answers will be gibberish",
            ),
        ),
    )


if __name__ == "__main__":
    if is_server():
        serve(_warm_up)
    leave(run_child(main))
