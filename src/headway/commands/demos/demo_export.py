"""Export at the end of a demo: the model in another program, asked there what it was asked here."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import BrokenContract, Cause, Remedy, UsageError
from headway.base.host import packages
from headway.base.units import count
from headway.commands.demos.show import DemoScreen
from headway.commands.exports.export import (
    default_output,
    export_options,
    export_request,
    needed_modules,
)
from headway.commands.exports.export import run as run_export
from headway.commands.verb import print_json, print_lines
from headway.config.command_line import Arguments

if TYPE_CHECKING:
    from headway.export.request import ExportRequest, ExportResult
    from headway.export.verify.llama_cpp import ChatReply

FLAG = "--export"
_SHOWN = 3  # answers that differ


@dataclass(frozen=True)
class Asked:
    """What the trained model was asked here.

    Attributes:
        questions: of the exam.
        answers: to them.
        num_tokens: of an answer, at most.
        num_right: how many of such answers are right.
    """

    questions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    num_tokens: int = 0
    num_right: Callable[[tuple[str, ...]], int] = len


@dataclass(frozen=True)
class ExportSteps:
    """What an export is made of; the tests have other ones.

    Attributes:
        export: writes and compares.
        ask: asks a GGUF file in llama.cpp, with at most so many tokens for an answer.
    """

    export: Callable[["ExportRequest"], "ExportResult"]
    ask: Callable[[Path, Sequence[str], int], "tuple[ChatReply, ...]"]


ExportRun = Callable[[Path, Asked], None]


def planned_export(arguments: Arguments, name: str) -> ExportRun | None:
    """The export of a demo's run, if one was asked for: what cannot be is refused before training.

    Args:
        arguments: as typed.
        name: of the demo's run, unless a person gave it another one.

    Raises:
        Refusal: it cannot be exported like this, or a setting is invalid.
    """
    from headway.config.resolve import resolve
    from headway.export.output import check_output

    switches = arguments.switches
    if "export" not in switches:
        if "quantize" not in switches:
            return None
        raise UsageError(
            "--quantize is the number format of an export",
            cause=Cause.CONTRADICTION,
            have="--quantize without --export",
            need="both, or neither",
            remedies=(Remedy(f"--export gguf --quantize {switches['quantize'] or 'q8_0'}"),),
        )
    settings = resolve(arguments.given)
    name = settings.run_name or name
    typed = {"to": switches["export"], "name": name}
    typed |= {"quantize": switches["quantize"]} if "quantize" in switches else {}
    options = export_options(typed, name, flag=FLAG)
    compared_in = () if options.to == "hf" else ("xllamacpp",)
    packages.require(f"demo {FLAG}", (*needed_modules(options), *compared_in))
    run = Path(settings.output_dir, name)
    check_output(default_output(options).absolute(), run.absolute(), options.to)
    return partial(export_run, arguments, typed, _real_steps(arguments))


def export_run(
    arguments: Arguments, typed: dict[str, str], steps: ExportSteps, run: Path, asked: Asked
) -> None:
    """Export a run, and ask it again in its program.

    Args:
        arguments: say whether somebody reads it.
        typed: options of `headway export`.
        steps: what it is made of.
        run: its folder.
        asked: what it was asked here; nothing, if it holds no conversations.

    Raises:
        Refusal: nothing was written, or llama.cpp does not answer.
    """
    from headway.export.show_export import export_lines

    screen = DemoScreen(arguments)
    result = steps.export(export_request(str(run), run.parent, typed))
    *told, closing = export_lines(result, screen.width)
    screen.lines(["", *told, closing])
    found: dict[str, object] = {"to": result.options.to, "folder": result.output}
    file = next((name for name in result.files if name.endswith(".gguf")), None)
    if file is not None and asked.questions:
        replies = steps.ask(Path(result.output, file), asked.questions, asked.num_tokens)
        compared = ComparedAnswers(asked, replies)
        closing = compared.sentence()
        screen.lines(["", *compared.differences(screen.width)])
        screen.text(closing)
        found |= compared.numbers()
    if screen.is_json:
        print_json({"export": found})
    elif screen.is_quiet:
        print_lines([closing])


@dataclass(frozen=True)
class ComparedAnswers:
    """Answers of llama.cpp beside those that the model gave here."""

    asked: Asked
    replies: "tuple[ChatReply, ...]"

    def is_same(self, number: int) -> bool:
        """Whether both answered a question alike, to the letter; spaces around do not count."""
        return self.replies[number].text.strip() == self.asked.answers[number].strip()

    def numbers(self) -> dict[str, object]:
        """How many questions were asked; same, right and ended answers."""
        num = len(self.replies)
        return {
            "questions": num,
            "same": sum(self.is_same(at) for at in range(num)),
            "right": self.asked.num_right(tuple(reply.text for reply in self.replies)),
            "right_here": self.asked.num_right(self.asked.answers),
            "ended": sum(reply.stopped for reply in self.replies),
        }

    def sentence(self) -> str:
        """What came of it."""
        found = self.numbers()
        num, same = found["questions"], found["same"]
        beginning = (
            f"same answers in llama.cpp: {num} of {num} to the letter"
            if same == num
            else f"{same} of {num} answers are the same in llama.cpp, to the letter"
        )
        return (
            f"{beginning} · {found['right']} right there, {found['right_here']} here · "
            f"{found['ended']} of {num} end by themselves"
        )

    def differences(self, width: int) -> list[str]:
        """The first answers that differ."""
        from headway.ui.text_layout import fold, one_line

        lines: list[str] = []
        differing = [at for at in range(len(self.replies)) if not self.is_same(at)]
        for at in differing[:_SHOWN]:
            both = (("here", self.asked.answers[at]), ("there", self.replies[at].text))
            lines += fold(one_line(self.asked.questions[at]), width)
            for label, text in both:
                first, *rest = fold(one_line(text.strip()) or "(nothing)", width - 8)
                lines += [f"  {label:<6}{first}", *(f"        {line}" for line in rest)]
        left = len(differing) - len(differing[:_SHOWN])
        return [*lines, *([f"and {count(left)} more"] if left else []), *([""] if lines else [])]


def _real_steps(arguments: Arguments) -> ExportSteps:
    """The export with the real programs."""
    quiet = arguments.on("quiet")
    return ExportSteps(
        export=partial(run_export, quiet=quiet), ask=partial(ask_llama_cpp, quiet=quiet)
    )


def ask_llama_cpp(
    file: Path, questions: Sequence[str], num_tokens: int, *, quiet: bool
) -> "tuple[ChatReply, ...]":
    """Ask a file in llama.cpp, shown meanwhile.

    Raises:
        BrokenContract: it does not answer.
    """
    from headway.base.pulse import Phase
    from headway.export.verify.llama_cpp import LlamaCppError, ask
    from headway.ui.spinner import show_progress

    with show_progress(sys.stderr, quiet=quiet) as pulse:
        pulse.enter(Phase.ANSWERING, total=len(questions), unit="questions")
        try:
            return ask(file, questions, num_tokens, pulse.progress)
        except LlamaCppError as error:
            raise BrokenContract(
                "llama.cpp does not answer",
                cause=Cause.EXPORT_DIFFERS,
                have=str(error),
                need=f"answers to {count(len(questions))} questions",
                remedies=(Remedy("headway doctor", "shows the installed versions"),),
            ) from error
