"""Commands generate, chat and eval: use of a trained model."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    one_run,
    output_dir,
    print_json,
    print_lines,
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.base.process import ChildProcess
    from headway.base.pulse import PulseReading
    from headway.training.inference.request import Evaluation, InferenceRequest

_TRUST = {"trust_remote_code": Switch("run code that comes with the model")}
_SAMPLING = {
    **OUTPUT_DIR,
    **_TRUST,
    "max_tokens": Switch("maximum new tokens", "N", "256"),
    "temperature": Switch("0 always takes the most likely token", "T", "0.8"),
    "top_k": Switch("sample from the K most likely tokens", "K", "50"),
    "seed": Switch("of the random numbers", "N", "0"),
}


def generate(arguments: Arguments) -> int:
    """Text from a prompt."""
    prompt = arguments.switches.get("prompt", "")
    _ask(arguments, "generate", one_run(arguments), prompt=prompt)
    return Exit.KEPT


def chat(arguments: Arguments) -> int:
    """Take turns with a person."""
    _ask(arguments, "chat", one_run(arguments))
    return Exit.KEPT


def evaluate(arguments: Arguments) -> int:
    """The loss on data that the model was not trained on."""
    run, data = run_and_data(arguments.words, output_dir(arguments))
    found = _ask(arguments, "eval", run, data=data)
    assert found is not None, "an evaluation, or a refusal"
    if arguments.on("json"):
        print_json(found)
    else:
        print_lines(evaluation_lines(found))
    return Exit.KEPT


def _ask(arguments: Arguments, kind: str, run: str | None, **more: object) -> "Evaluation | None":
    from headway.supervise.inference import run_inference

    packages.require(kind, packages.TRAINING)
    request = inference_request(kind, run, output_dir(arguments), arguments.switches, **more)
    return run_inference(request, partial(_show_wait, quiet=arguments.on("quiet")))


def inference_request(
    kind: str, run: str | None, folder: Path, options: Mapping[str, str], **more: object
) -> "InferenceRequest":
    """What to ask of a run's newest verified checkpoint.

    Raises:
        UsageError: there is no such run, it has no checkpoint, or an option is invalid.
    """
    import msgspec

    from headway.runs.folder import find_run
    from headway.training.inference.request import InferenceRequest

    found = find_run(run, folder)
    checkpoint, problems = found.newest_verified()
    if checkpoint is None:
        raise UsageError(
            f"run {found.path.name} has no usable checkpoint",
            cause=Cause.NO_CHECKPOINT,
            have=str(problems[0]) if problems else "no checkpoint yet",
            need="one whose files match its manifest",
            remedies=(Remedy(f"headway status {found.path}", "shows what became of it"),),
        )
    plan = found.plan()
    values: dict[str, object] = {
        "kind": kind,
        "checkpoint": str(checkpoint.path.resolve()),
        "max_length": _number(options, "max_length", plan.data.max_length if plan else 256),
        "num_tokens": _number(options, "max_tokens", 256),
        "temperature": _number(options, "temperature", 0.8),
        "top_k": _number(options, "top_k", 50),
        "seed": _number(options, "seed", 0),
        "trust_remote_code": "trust_remote_code" in options,
        **more,
    }
    return msgspec.convert(values, InferenceRequest)


def _show_wait(process: "ChildProcess", pulse: Path, *, quiet: bool) -> None:
    """Show what the process does until its answer begins."""
    from headway.training.inference.request import READY
    from headway.ui.spinner import show_wait

    def is_over(reading: "PulseReading | None") -> bool:
        return not process.is_running or (reading is not None and reading.phase == READY)

    show_wait(sys.stderr, pulse, is_over, quiet=quiet)


def evaluation_lines(found: "Evaluation") -> list[str]:
    """What `headway eval` prints."""
    from headway.base.units import count

    lines = [
        f"loss            {found.loss:.4f} nats per token (± {found.error:.4f})",
        f"perplexity      {found.perplexity:,.2f}",
    ]
    if found.bits_per_byte is not None:
        lines.append(f"bits per byte   {found.bits_per_byte:.4f}")
    lines.append(f"over            {count(found.tokens)} tokens in {count(found.rows)} rows")
    return lines


def run_and_data(words: Sequence[str], folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """`eval [RUN] DATA...`: the first word is a run if it names one.

    Raises:
        UsageError: there is no data.
    """
    from headway.runs.folder import is_run

    first = words[0] if words else ""
    names_run = bool(first) and (is_run(folder / first) or is_run(Path(first)))
    run, data = (first, words[1:]) if names_run else (None, words)
    if data:
        return run, tuple(data)
    raise UsageError(
        "eval needs data",
        cause=Cause.MISSING_ARGUMENT,
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
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"{flag}: {options[name]} is not a valid number",
            cause=Cause.INVALID_VALUE,
            have=options[name],
            need="a whole number, 0 or more" if isinstance(default, int) else "a number, 0 or more",
            remedies=(Remedy(f"{flag} {default}"),),
        )
    return int(value) if isinstance(default, int) else value


VERBS = {
    "generate": Verb(
        "generate [RUN] --prompt TEXT",
        "text from a prompt",
        generate,
        {"prompt": Switch("the text to continue", "TEXT"), **_SAMPLING},
    ),
    "chat": Verb("chat [RUN]", "talk to it", chat, _SAMPLING),
    "eval": Verb(
        "eval [RUN] DATA...",
        "held-out loss, perplexity, bits per byte",
        evaluate,
        {**OUTPUT_DIR, **_TRUST, "max_length": Switch("tokens per row", "N", "as trained")},
    ),
}
