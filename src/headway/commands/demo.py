"""Command demo: train a small model on the standard library's own source code."""

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Remedy, UsageError
from headway.commands.train import run_training
from headway.commands.verb import Verb
from headway.config.command_line import Arguments
from headway.config.resolve import raise_problems, resolve

if TYPE_CHECKING:
    from headway.config.settings import Given, Settings

ORIGIN = "the demo"
STEPS = 600
PROMPTS = ("def read(self, path):\n", "class ")


def demo(arguments: Arguments) -> int:
    """Train the demo's model; settings that a person types override the demo's."""
    brought = [*arguments.words, *([arguments.config] if arguments.config else [])]
    if brought:
        data = " ".join(brought)
        raise UsageError(
            "the demo brings its own data",
            cause=Cause.UNEXPECTED_ARGUMENT,
            have=data,
            need="no data",
            remedies=(Remedy(f"headway train {data}", "trains on it"),),
        )
    raise_problems(arguments.problems)
    return run_training(arguments, "demo", sources(), settings(tuple(arguments.given)))


def sources() -> tuple[str, ...]:
    """The pattern of the modules at the top of Python's standard library, about 5 MB."""
    return (str(Path(sysconfig.get_path("stdlib"), "*.py")),)


def settings(given: "tuple[Given, ...]") -> "Settings":
    """The demo's settings, overridden by what a person typed.

    Raises:
        Refusal: what was typed is invalid.
    """
    from headway.config.settings import Given

    ours = {
        "preset": "mini",
        "run_name": "demo",
        "batch_size": 4,
        "vocab_size": 1024,
        "max_steps": STEPS,
        "val_size": 64,
        "eval_steps": 200,
        "sample_prompts": PROMPTS,
        "sample_steps": 200,
        "sample_tokens": 48,
    }
    return resolve((*(Given(name, value, ORIGIN) for name, value in ours.items()), *given))


VERBS = {
    "demo": Verb(
        "demo [settings]",
        "train a small model on text this machine already has",
        demo,
        {},
        True,
        group="start",
        about="Trains a small model on the source code of Python's standard library, with the live "
        "view, samples and a receipt. It needs no data, no model and no download, and takes about "
        "two minutes on two cores. Settings that you type override the demo's.",
        examples=(
            ("headway demo", "two minutes of training, then the receipt"),
            ("headway demo --max-steps 50", "a shorter one"),
            ("headway demo --preset tiny -o /tmp/runs", "a smaller model, in another folder"),
        ),
    )
}
