"""Ask a model something: generate, chat and eval, with the wait shown."""

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from headway.base.errors import Exit, Remedy, UsageError, refusal_from
from headway.base.process import ChildProcess
from headway.base.pulse import PulseReading, live_folder, read_pulse
from headway.base.units import count, seconds
from headway.runs.folder import find_run, is_run
from headway.supervise.child import death_refusal, torch_environment
from headway.training.inference.request import READY, Evaluation, InferenceRequest, InferenceResult

_LOOK_S = 0.1
_LINE_S = 5.0  # off a terminal, a line this often


def question(
    kind: str, run: str | None, output_dir: Path, options: Mapping[str, str], **more: object
) -> InferenceRequest:
    """What to ask of a run's newest verified checkpoint.

    Raises:
        UsageError: there is no such run, it has no checkpoint, or an option does not fit.
    """
    folder = find_run(run, output_dir)
    checkpoint, problems = folder.newest_verified()
    if checkpoint is None:
        raise UsageError(
            f"run {folder.path.name} has no checkpoint to ask",
            have=str(problems[0]) if problems else "no checkpoint yet",
            need="one that reads back as it was written",
            remedies=(Remedy(f"headway status {folder.path}", "what became of it"),),
        )
    plan = folder.plan()
    values: dict[str, object] = {
        "kind": kind,
        "checkpoint": str(checkpoint.path.resolve()),
        "answer": "",
        "max_length": _number(options, "max_length", plan.data.max_length if plan else 256),
        "num_tokens": _number(options, "max_tokens", 256),
        "temperature": _number(options, "temperature", 0.8),
        "top_k": _number(options, "top_k", 50),
        "seed": _number(options, "seed", 0),
        "trust_remote_code": "trust_remote_code" in options,
        **more,
    }
    return msgspec.convert(values, InferenceRequest)


def ask(asked: InferenceRequest, *, quiet: bool = False) -> Evaluation | None:
    """Start the process that knows the model; show what it waits for until it answers.

    Text of the answer goes to standard output as it is written.

    Raises:
        Refusal: it could not answer.
    """
    live = Path(tempfile.mkdtemp(prefix="ask-", dir=_folder()))
    try:
        return _ask(asked, live, quiet=quiet)
    finally:
        shutil.rmtree(live, ignore_errors=True)


def _ask(asked: InferenceRequest, live: Path, *, quiet: bool) -> Evaluation | None:
    answer, pulse = live / "answer.json", live / "ask.pulse"
    plain = msgspec.to_builtins(asked) | {"answer": str(answer)}
    (live / "question.json").write_bytes(msgspec.json.encode(plain))
    process = ChildProcess(
        "headway.training.inference.answer",
        [str(live / "question.json")],
        environment=torch_environment(),
        pulse=pulse,
        log=live / "answer.err",
        own_session=False,  # Ctrl+C ends the answer, and it reads from the terminal
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _wait(process, pulse, quiet=quiet)
        code = process.wait()
        if not answer.exists():
            if code in (Exit.INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            raise death_refusal(process, asked.kind)
    finally:
        process.end()
    verdict = msgspec.json.decode(answer.read_bytes(), type=InferenceResult)
    if verdict.refused:
        raise refusal_from(verdict.refused)
    return verdict.evaluation


def _wait(process: ChildProcess, pulse: Path, *, quiet: bool) -> None:
    """A line that moves until the answer is on its way; then out of its way."""
    screen = sys.stderr
    moving = screen.isatty() and not quiet
    told_s = time.monotonic()
    while process.is_running:
        reading = read_pulse(pulse)
        if reading and reading.phase == READY:
            break
        if moving:
            screen.write(f"\r\x1b[K{_phase_line(reading)}")
            screen.flush()
        elif not quiet and time.monotonic() - told_s > _LINE_S:
            told_s = time.monotonic()
            screen.write(f"{_phase_line(reading)}\n")
        time.sleep(_LOOK_S)
    if moving:
        screen.write("\r\x1b[K")
        screen.flush()
    process.wait()


def _phase_line(reading: PulseReading | None) -> str:
    if reading is None:
        return "starting"
    line = f"{reading.phase} · {seconds(time.monotonic() - reading.phase_since)}"
    return line + (f" · {reading.done} of {reading.total} {reading.unit}" if reading.total else "")


def evaluation_lines(found: Evaluation) -> list[str]:
    """What `headway eval` prints."""
    lines = [
        f"loss            {found.loss:.4f} nats per token (± {found.error:.4f})",
        f"perplexity      {found.perplexity:,.2f}",
    ]
    if found.bits_per_byte is not None:
        lines.append(f"bits per byte   {found.bits_per_byte:.4f}")
    lines.append(f"over            {count(found.tokens)} tokens in {count(found.rows)} rows")
    return lines


def run_and_data(words: Sequence[str], output_dir: Path) -> tuple[str | None, tuple[str, ...]]:
    """`eval [RUN] DATA...`: the first word is a run if it names one.

    Raises:
        UsageError: there is no data.
    """
    first = words[0] if words else ""
    names_run = bool(first) and (is_run(output_dir / first) or is_run(Path(first)))
    run, data = (first, words[1:]) if names_run else (None, words)
    if data:
        return run, tuple(data)
    raise UsageError(
        "eval needs data",
        have=f"run {run}" if run else "no file, folder or pattern",
        need="text or conversations to measure the loss on",
        remedies=(Remedy(f"headway eval {run + ' ' if run else ''}other.txt"),),
    )


def _number(options: Mapping[str, str], name: str, default: float) -> float:
    if name not in options:
        return default
    try:
        value = float(options[name])
    except ValueError:
        value = -1.0
    if value < 0 or (isinstance(default, int) and value != int(value)):
        raise UsageError(
            f"--{name.replace('_', '-')}: {options[name]} does not fit",
            have=options[name],
            need="a number, 0 or more",
            remedies=(Remedy(f"--{name.replace('_', '-')} {default}"),),
        )
    return int(value) if isinstance(default, int) else value


def _folder() -> Path:
    folder = live_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
