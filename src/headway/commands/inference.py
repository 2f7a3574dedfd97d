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
    number,
    one_run,
    output_dir,
    print_json,
    print_lines,
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.base.process import ChildProcess
    from headway.base.pulse import PulseReading
    from headway.runs.folder import RunFolder
    from headway.training.inference.request import Evaluation, InferenceRequest

_TRUST = {
    "trust_remote_code": Switch("run code that comes with the model"),
    "model": Switch("of a run of adapters: where their base model is now", "DIR"),
}
_SAMPLING = {
    **OUTPUT_DIR,
    **_TRUST,
    "max_tokens": Switch("maximum new tokens", "N", "256", "n", "sampling"),
    "temperature": Switch(
        "0 always takes the most likely token", "T", "0.8", "t", subject="sampling"
    ),
    "top_k": Switch("sample from the K most likely tokens", "K", "50", subject="sampling"),
    "seed": Switch("random seed", "N", "0", subject="sampling"),
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
    return run_inference(request, partial(wait_for_text, quiet=arguments.on("quiet"))).evaluation


def inference_request(
    kind: str, run: str | None, folder: Path, options: Mapping[str, str], **more: object
) -> "InferenceRequest":
    """What to ask of a run's newest verified checkpoint.

    Raises:
        UsageError: there is no such run, it has no checkpoint, or an option is invalid.
    """
    import msgspec

    from headway.runs.folder import find_run
    from headway.runs.identity import chosen
    from headway.training.inference.request import InferenceRequest

    found = find_run(run, folder)
    checkpoint = usable_checkpoint(found)
    plan = found.plan()
    values: dict[str, object] = {
        "kind": kind,
        "checkpoint": str(checkpoint.resolve()),
        "max_length": number(options, "max_length", plan.data.max_length if plan else 256),
        "num_tokens": number(options, "max_tokens", 256),
        "temperature": number(options, "temperature", 0.8),
        "top_k": number(options, "top_k", 50),
        "seed": number(options, "seed", 0),
        "trust_remote_code": "trust_remote_code" in options,
        "base": _base_model(options, found, checkpoint),
        "preferred_only": "preferred_only" in options,
        "keep_empty_answers": "keep_empty_answers" in options,
        "max_rejected": number(options, "max_rejected", 0.05),
        "begin_id": plan.data.begin_id if plan else None,
        "add_special_tokens": chosen(plan, "add_special_tokens", "auto") if plan else "auto",
        **more,
    }
    return msgspec.convert(values, InferenceRequest)


def usable_checkpoint(run: "RunFolder") -> Path:
    """The folder of a run's newest checkpoint that verifies.

    Raises:
        UsageError: there is none.
    """
    checkpoint, problems = run.newest_verified()
    if checkpoint is not None:
        return checkpoint.path
    raise UsageError(
        f"run {run.path.name} has no usable checkpoint",
        cause=Cause.NO_CHECKPOINT,
        have=str(problems[0]) if problems else "no checkpoint yet",
        need="one whose files match its manifest",
        remedies=(Remedy(f"headway status {run.path}", "shows what happened to it"),),
    )


def _base_model(options: Mapping[str, str], run: "RunFolder", checkpoint: Path) -> str:
    """Where the base model of a run's adapters is, if a person says so.

    Raises:
        UsageError: the run has all its weights.
    """
    from headway.runs.base_model import ADAPTERS

    base = options.get("model", "")
    if base and not (checkpoint / ADAPTERS).is_file():
        raise UsageError(
            f"run {run.path.name} has all its weights and needs no other model",
            cause=Cause.CONTRADICTION,
            have=f"--model {base}",
            need="--model only for a run of adapters whose base model was moved",
            remedies=(Remedy("remove --model"),),
        )
    return str(Path(base).absolute()) if base else ""


def wait_for_text(process: "ChildProcess", pulse: Path, *, quiet: bool = False) -> None:
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


VERBS = {
    "generate": Verb(
        "generate [RUN] --prompt TEXT",
        "continue a text with a trained model",
        generate,
        {"prompt": Switch("the text to continue", "TEXT", short="p"), **_SAMPLING},
        group="use",
        about="Continues a text with the newest checkpoint of a run. Without a prompt, it begins "
        "a text of its own.",
        examples=(
            ("headway generate -p 'Once upon a time'", "with the newest run"),
            ("headway generate notes -p 'Once' -t 0 -n 40", "the likeliest 40 tokens"),
            ("headway generate notes -p 'Once' --seed 7", "another draw"),
        ),
    ),
    "chat": Verb(
        "chat [RUN]",
        "talk with a trained model",
        chat,
        _SAMPLING,
        group="use",
        about="Talks with the newest checkpoint of a run, through its own chat template. Each line "
        "is a turn; /help lists what else can be typed, and Ctrl+D ends.",
        examples=(
            ("headway chat", "with the newest run"),
            ("headway chat notes --temperature 0.5", "with less random answers"),
            ("echo 'Who are you?' | headway chat notes", "one turn, from a pipe"),
        ),
    ),
    "eval": Verb(
        "eval [RUN] DATA...",
        "measure the loss on other data",
        evaluate,
        {
            **OUTPUT_DIR,
            **_TRUST,
            "max_length": Switch("tokens per row", "N", "as trained"),
            "preferred_only": Switch("preference data: only the preferred answers"),
            "keep_empty_answers": Switch("measure empty answers too"),
            "max_rejected": Switch("largest fraction of rows that may be unusable", "F", "0.05"),
        },
        group="use",
        about="Measures the loss of a run's newest checkpoint on data that it was not trained on: "
        "nats per token, perplexity, and bits per byte of text.",
        examples=(
            ("headway eval other.txt", "the newest run, on a text"),
            ("headway eval notes other.txt", "the run notes"),
            ("headway eval notes 'held-out/*.jsonl' --json", "for programs"),
        ),
    ),
}
