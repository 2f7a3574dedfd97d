"""Command demo: teach a real model a handbook, or a new small model three files."""

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.commands.demos.demo_export import Asked, planned_export
from headway.commands.demos.inbox_lesson import real_inbox_steps, teach_inbox
from headway.commands.demos.lesson import ORIGIN, real_steps, teach
from headway.commands.exports.export import SWITCHES as EXPORT_SWITCHES
from headway.commands.train import run_training
from headway.commands.verb import Verb
from headway.config.command_line import Arguments, Switch
from headway.config.resolve import raise_problems, resolve

if TYPE_CHECKING:
    from headway.config.settings import Given, Settings

STEPS, FROM_SCRATCH = 600, "demo-from-scratch"
PROMPTS = ("def read(self, path):\n", "class ")


def demo(arguments: Arguments) -> int:
    """Teach a model, or train one; settings that a person types override the demo's."""
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
    if arguments.on("inbox") and arguments.on("from_scratch"):
        raise UsageError(
            "two demos at once",
            cause=Cause.CONTRADICTION,
            have="--inbox --from-scratch",
            need="one of them",
            remedies=(Remedy("headway demo --inbox"), Remedy("headway demo --from-scratch")),
        )
    if arguments.on("inbox"):
        packages.require("demo", packages.TRAINING)
        return teach_inbox(arguments, real_inbox_steps(arguments))
    if arguments.on("from_scratch"):
        return _train_from_scratch(arguments)
    packages.require("demo", (*packages.TRAINING, "gguf"))
    return teach(arguments, real_steps(arguments))


def _train_from_scratch(arguments: Arguments) -> int:
    """A new model, and its export; it holds no conversations, so it is not asked anything."""
    export = planned_export(arguments, FROM_SCRATCH)
    chosen = settings(tuple(arguments.given))
    code = run_training(arguments, "demo", sources(), chosen)
    if export and code == Exit.KEPT:
        export(Path(chosen.output_dir, str(chosen.run_name)), Asked())
    return code


def sources() -> tuple[str, ...]:
    """The pattern of the modules at the top of Python's standard library, about 5 MB."""
    return (str(Path(sysconfig.get_path("stdlib"), "*.py")),)


def settings(given: "tuple[Given, ...]") -> "Settings":
    """The settings for a new model, overridden by what a person typed.

    Raises:
        Refusal: what was typed is invalid.
    """
    from headway.config.settings import Given

    ours = {
        "preset": "mini",
        "run_name": FROM_SCRATCH,
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
        "teach a real model a handbook, then quiz it",
        demo,
        {
            "from_scratch": Switch("train a new model on Python's own source code instead"),
            "inbox": Switch("drop three files into an inbox instead, with an exam after each"),
            "questions": Switch("ask only the first N questions", "N", "all"),
            "no_chat": Switch("end without a chat"),
            "export": Switch("export the model afterwards, and ask it there", "hf|gguf|ollama"),
            "quantize": EXPORT_SWITCHES["quantize"],
        },
        True,
        group="start",
        about="Asks a real model about a town that does not exist, trains it on questions and "
        "answers, and asks again with questions that it has not seen, with the live view and a "
        "receipt. It takes a few minutes on two cores. Settings that you type override the demo's.",
        examples=(
            ("headway demo", "ask, train, ask again, then talk to it"),
            ("headway demo --export gguf", "then ask it the same in llama.cpp"),
            ("headway demo --inbox", "a new model learns logic from files in an inbox"),
        ),
    )
}
