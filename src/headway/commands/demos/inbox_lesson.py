"""Lesson of the inbox demo: three files dropped into an inbox, with exams before and after."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError, refusal_from
from headway.base.units import count, seconds
from headway.base.version import __version__
from headway.commands.demos.demo_export import Asked, ExportRun, planned_export
from headway.commands.demos.lesson import ORIGIN, ask, chat, is_terminal, number_of_questions
from headway.commands.demos.level_exam import LevelExam, table, verdict
from headway.commands.demos.show import DemoScreen
from headway.commands.demos.syllogisms import (
    LEVELS,
    NUM_QUESTIONS,
    Curriculum,
    Lesson,
    Syllogism,
    make_curriculum,
)
from headway.commands.verb import print_json, print_lines
from headway.config.command_line import Arguments
from headway.config.settings import normalize, spellings

if TYPE_CHECKING:
    from headway.config.settings import Given
    from headway.inbox.folder import InboxFolder
    from headway.inbox.jobs.inbox_job import InboxJob

INBOX, DATA = "demo-inbox", "demo-inbox-data"
_PRESET, _VOCABULARY, _SEED = "tiny", 1024, 0
_OURS: dict[str, object] = {"batch_size": 16, "learning_rate": 2e-3, "bf16": False}
_OF_DEMO, _OF_NEW_MODEL = ("output_dir", "fresh"), ("preset", "vocab_size")
_ANSWER_TOKENS = 64
_WORDS_FROM = 1000  # rows of each file, for the tokenizer


@dataclass(frozen=True)
class InboxSteps:
    """What the lesson is made of; the tests have other ones.

    Attributes:
        make_model: writes a model folder that has learned nothing: folder, preset, size of the
            vocabulary, file of texts.
        ask: asks a model folder or a run. Returns the answers.
        serve: trains what is in an inbox with these settings. Returns the exit code.
        chat: takes single turns between a person and a run.
        clock: monotonic.
        export: exports a run, and asks it again; None if nobody asked for that.
    """

    make_model: Callable[[Path, str, int, Path], None]
    ask: Callable[[Path, Sequence[str]], tuple[str, ...]]
    serve: Callable[["InboxFolder", "Sequence[Given]"], int]
    chat: Callable[[Path], None]
    clock: Callable[[], float] = time.monotonic
    export: ExportRun | None = None


def teach_inbox(arguments: Arguments, steps: InboxSteps) -> int:
    """The whole lesson; returns the exit code.

    Raises:
        UsageError: a setting is invalid, or the demo's inbox is being served.
    """
    from headway.config.resolve import resolve
    from headway.inbox.folder import InboxFolder

    began_s = steps.clock()
    settings = resolve(arguments.given)  # before anything is changed
    home = Path(settings.output_dir)
    folder, data = InboxFolder((home / INBOX).absolute()), home / DATA
    num = number_of_questions(arguments, NUM_QUESTIONS)
    _check_settings(folder, arguments)
    show = _Show(arguments)
    if settings.fresh:
        _move_aside(folder)
    show.text(
        f"headway {__version__} · demo · a new model learns from three files, dropped into the "
        f"inbox {home / INBOX} one after the other",
        "",
    )
    curriculum = make_curriculum()
    questions = curriculum.questions[:num]
    given = _given(arguments, data, curriculum, steps)
    model = next(str(one.value) for one in given if normalize(one.name) == "model")
    exams = [LevelExam("", questions, _answers(Path(model), questions, steps), ())]
    show.example(exams[0])
    runs: list[Path] = []
    for at, lesson in enumerate(curriculum.lessons):
        show.text("", f"{lesson.name}, {count(len(lesson.rows))} rows, is in the inbox.")
        job, code = _learn(folder, lesson, given, steps)
        if job is None:
            return code
        runs.append(folder.runs / job.run)
        taught = tuple(level.name for level in LEVELS[: at + 1])
        exams.append(
            LevelExam(lesson.name, questions, _answers(runs[-1], questions, steps), taught)
        )
        show.lines(["", *table(exams)])
    saved = _save(data, exams)
    took_s = steps.clock() - began_s
    show.end(exams, saved, took_s, home / INBOX)
    if steps.export:
        steps.export(runs[-1], _asked(exams[-1]))
    if not arguments.on("no_chat") and not show.is_silent and is_terminal():
        example = "Ask it a question of this kind; it answers each one on its own. For example:"
        show.text("", example, "", questions[-1].question, "")
        steps.chat(runs[-1])
    return Exit.KEPT if exams[-1].is_passed else Exit.BROKEN


def _given(
    arguments: Arguments, data: Path, curriculum: Curriculum, steps: InboxSteps
) -> "list[Given]":
    """The settings that the inbox is served with; the new model is made if it is missing."""
    from headway.base.files import make_folder, write_whole
    from headway.config.settings import Given

    typed = {spellings()[normalize(one.name)].name: one for one in arguments.given}
    make_folder(data)
    _write_questions(data, curriculum.questions)
    ours = [Given(name, value, ORIGIN) for name, value in _OURS.items()]
    if "model" in typed:
        return [*ours, *(one for name, one in typed.items() if name not in _OF_DEMO)]
    preset = str(typed["preset"].value) if "preset" in typed else _PRESET
    size = int(str(typed["vocab_size"].value)) if "vocab_size" in typed else _VOCABULARY
    model = data / f"new-{preset}-{size}"
    if not model.is_dir():
        rows = [row for lesson in curriculum.lessons for row in lesson.rows[:_WORDS_FROM]]
        texts = data / "words.txt"
        write_whole(texts, "".join(f"{row.question}\n{row.answer}\n" for row in rows))
        steps.make_model(model, preset, size, texts)
    mine = [one for name, one in typed.items() if name not in (*_OF_DEMO, *_OF_NEW_MODEL)]
    return [*ours, *mine, Given("model", str(model.absolute()), ORIGIN)]


def _check_settings(folder: "InboxFolder", arguments: Arguments) -> None:
    """Refuse what the inbox would refuse, before the exam.

    Raises:
        Refusal: a setting is one that the inbox sets for each file.
    """
    from headway.config.settings import Given
    from headway.inbox.options import read_inbox_settings

    names = {spellings()[normalize(one.name)].name: one for one in arguments.given}
    typed = [one for name, one in names.items() if name not in _OF_DEMO]
    start = [] if {"model", "preset"} & set(names) else [Given("preset", _PRESET, ORIGIN)]
    read_inbox_settings(folder, [*start, *typed], {}, has_trained=False)


def _learn(
    folder: "InboxFolder", lesson: Lesson, given: "Sequence[Given]", steps: InboxSteps
) -> "tuple[InboxJob | None, int]":
    """Drop a file, unless it was learned or begun before; returns its job, or why there is none."""
    from headway.base.files import write_whole
    from headway.inbox.jobs.inbox_job import JobState

    job = _job(folder, lesson.name)
    if job is None or job.state not in (JobState.DONE, JobState.CLAIMED):
        folder.make()
        write_whole(folder.path / lesson.name, lesson.to_jsonl())
    code = Exit.KEPT
    if job is None or job.state is not JobState.DONE:
        code = steps.serve(folder, given)
        job = _job(folder, lesson.name)
    if job is None or job.state is not JobState.DONE:
        return None, code or Exit.BROKEN
    return job, Exit.KEPT


def _job(folder: "InboxFolder", name: str) -> "InboxJob | None":
    """The last job of a file of this name."""
    from headway.inbox.jobs.inbox_job import load_jobs

    return next((job for job in reversed(load_jobs(folder.jobs)) if job.name == name), None)


def _answers(model: Path, questions: Sequence[Syllogism], steps: InboxSteps) -> tuple[str, ...]:
    return steps.ask(model, [one.question for one in questions])


def _asked(exam: LevelExam) -> Asked:
    levels = [level.name for level in LEVELS]
    return Asked(
        questions=tuple(one.question for one in exam.questions),
        answers=exam.answers,
        num_tokens=_ANSWER_TOKENS,
        num_right=lambda answers: replace(exam, answers=answers).score(levels)[0],
    )


def _write_questions(data: Path, questions: Sequence[Syllogism]) -> None:
    from headway.base.files import write_whole

    lines = (
        {"level": one.level, "question": one.question, "answer": one.answer} for one in questions
    )
    write_whole(data / "questions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def _save(data: Path, exams: Sequence[LevelExam]) -> Path:
    """Write each question with every answer to it and its mark, as JSONL."""
    from headway.base.files import write_whole

    lines = [
        {
            "level": asked.level,
            "question": asked.question,
            "right": asked.answer,
            "answers": [
                {"after": exam.after, "answer": exam.answers[at], "exact": exam.marks[at]}
                for exam in exams
            ],
        }
        for at, asked in enumerate(exams[0].questions)
    ]
    path = data / "answers.jsonl"
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
    return path


def _move_aside(folder: "InboxFolder") -> None:
    """Move the inbox of an earlier demo out of the way.

    Raises:
        UsageError: a daemon serves it.
    """
    from headway.base.lock import is_held
    from headway.runs.folder import RunFolder
    from headway.runs.placement import move_aside

    if folder.lock.exists() and is_held(folder.lock):
        raise UsageError(
            f"{folder.path} is being served",
            cause=Cause.RUN_ACTIVE,
            have="a running daemon",
            need="an inbox that nobody serves",
            remedies=(Remedy(f"headway inbox stop {folder.path}", "then --fresh again"),),
        )
    move_aside(RunFolder(folder.path))


class _Show(DemoScreen):
    """What is printed around the training: all of it, the score alone, or one JSON object."""

    def example(self, exam: LevelExam) -> None:
        """The first question with its answer, and the score before training."""
        from headway.ui.text_layout import printable

        right, num = exam.score([level.name for level in LEVELS])
        first = exam.questions[0]
        self.text(
            f"Before that, it is asked {count(num)} questions that are in none of them, and "
            f"answers {count(right)} exactly. The first one:",
            "",
            first.question,
            f"- {printable(exam.answers[0].strip()) or '(nothing)'}",
            "",
            f"Right is: {first.answer}",
        )

    def end(self, exams: Sequence[LevelExam], saved: Path, took_s: float, inbox: Path) -> None:
        """The verdict, which is shown in any case."""
        last = exams[-1]
        if self.is_json:
            levels = [level.name for level in LEVELS]
            scores = [
                {"after": one.after} | {level: one.score([level])[0] for level in levels}
                for one in exams
            ]
            asked = {level: last.score([level])[1] for level in levels}
            result = {"questions": asked, "exact": scores, "passed": last.is_passed}
            print_json({"demo": result | {"answers": str(saved), "seconds": round(took_s, 1)}})
            return
        if self.is_quiet:
            print_lines([verdict(last)])
            return
        self.text("", verdict(last), f"It took {seconds(took_s)}. All answers: {saved}", "")
        self.lines(
            [
                f"headway inbox list {shlex.quote(str(inbox))}",
                "    the files, and the steps that each was trained for",
                f"headway inbox start {shlex.quote(str(inbox))}",
                "    then drop files of your own into it",
            ]
        )


# ---- the real thing --------------------------------------------------------------------------


def real_inbox_steps(arguments: Arguments) -> InboxSteps:
    """The lesson with a real model and a real inbox.

    Raises:
        Refusal: an export that was asked for cannot be made.
    """
    return InboxSteps(
        make_model=_make_model,
        ask=partial(ask, arguments, num_tokens=_ANSWER_TOKENS),
        serve=partial(_serve, arguments),
        chat=partial(chat, remembers=False),
        export=planned_export(arguments, INBOX),
    )


def _make_model(folder: Path, preset: str, vocab_size: int, texts: Path) -> None:
    """Make the new model in a process of its own.

    Raises:
        Refusal: it cannot be written.
    """
    from headway.base.process import ChildProcess
    from headway.supervise.child import death_refusal, torch_environment

    words = [str(folder), preset, str(vocab_size), str(_SEED), str(texts)]
    child = ChildProcess(
        "headway.training.weights.new_model",
        words,
        environment=torch_environment(),
        log=folder.with_suffix(".err"),
        own_session=False,
    )
    try:
        if child.wait() != Exit.KEPT:
            message = child.last_refusal()
            raise refusal_from(message) if message else death_refusal(child, "making a new model")
    finally:
        child.end()


def _serve(arguments: Arguments, folder: "InboxFolder", given: "Sequence[Given]") -> int:
    """Train what is in the inbox, as `headway inbox start --once` does."""
    from headway.commands.services.inbox import speaker
    from headway.inbox.jobs.inbox_job import load_jobs, stands_on_first_model
    from headway.inbox.options import read_inbox_settings
    from headway.inbox.service import serve
    from headway.inbox.training_process import Output

    trained = stands_on_first_model(folder.runs, load_jobs(folder.jobs))
    settings = read_inbox_settings(folder, given, {}, has_trained=trained)
    output = Output(arguments.on("quiet"), arguments.on("json"), arguments.on("verbose"))
    return serve(folder, settings, output, speaker(output.quiet, output.json), once=True)
