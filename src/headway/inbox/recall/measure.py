"""Measurement of what is still known: a process reads the new checkpoint and tries kept rows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from headway.base.errors import Refusal
from headway.base.files import write_whole
from headway.base.process import ChildProcess, Stop
from headway.inbox.recall.still_known import (
    FILE,
    ROWS_SHARE,
    SCHEMA,
    KnownFile,
    LearnedFile,
    StillKnown,
    files_to_measure,
    known_before,
    load_still_known,
)
from headway.runs.plan import load_plan
from headway.supervise.inference import run_inference
from headway.training.inference.request import InferenceRequest, InferenceResult, Recalled

Run = Callable[[InferenceRequest, Callable[[ChildProcess, Path], None]], InferenceResult]


class _Stopped(Exception):  # noqa: N818 - somebody asked for it
    pass


def measure_still_known(
    run: Path,
    checkpoint: str,
    learned: Sequence[LearnedFile],
    stop: Stop,
    show: Callable[[ChildProcess, Path, Callable[[object], bool]], None],
    infer: Run = run_inference,
    *,
    all_files: bool = False,
) -> None:
    """Measure what the model after a run knows of all files, once; into the folder of the run.

    Where that would take longer than a share of the training, some of the files are measured.
    A request to stop ends it without a result; then it is done at the next start.

    Args:
        run: of the newest file, trained.
        checkpoint: the model after it, a folder in the run.
        learned: the files that went into the model, the newest, of this run, last.
        stop: a request to stop.
        show: shows a process by its pulse, until it is over.
        infer: starts the process.
        all_files: measure all files, however long it takes.

    Raises:
        MachineError: what was measured cannot be written.
    """
    if (run / FILE).exists():
        return

    def wait(process: ChildProcess, pulse: Path) -> None:
        show(process, pulse, lambda _: bool(stop.by) or not process.is_running)
        if stop.by:
            raise _Stopped

    plan = load_plan(run)
    most_rows = None if all_files else ROWS_SHARE * plan.data.rows.applications
    files = files_to_measure(learned, most_rows)
    request = InferenceRequest(
        kind="recall",
        checkpoint=str(run / checkpoint),
        runs=tuple(one.run for one in files),
        threads=plan.machine.threads,
        trust_remote_code=plan.model.trust_remote_code,
    )
    try:
        found = infer(request, wait).recalled
    except (_Stopped, KeyboardInterrupt):
        return
    except Refusal as refusal:
        if stop.by:  # which ended it, too
            return
        found = (Recalled(None, problem=refusal.what),) * len(files)
    parent = load_still_known(Path(learned[-2].run)) if len(learned) > 1 else None
    known = tuple(
        _measured(known_before(one, parent), recalled)
        for one, recalled in zip(files, found, strict=True)
    )
    result = StillKnown(SCHEMA, checkpoint, known, len(learned) - len(files))
    write_whole(run / FILE, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def _measured(before: KnownFile, found: Recalled) -> KnownFile:
    return replace(
        before,
        are_held_out=found.are_held_out,
        learned=before.learned or found.loss,
        now=found.loss,
        problem=found.problem,
    )
