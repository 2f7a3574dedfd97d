"""The inbox demo: three files, one after the other, and measured scores, without a real model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, Exit, Refusal, UsageError
from headway.base.lock import RunLock
from headway.commands.demos import inbox_lesson
from headway.commands.demos.demo_export import Asked
from headway.commands.demos.inbox_lesson import InboxSteps, teach_inbox
from headway.commands.demos.syllogisms import Curriculum, make_curriculum, solve
from headway.config.command_line import Arguments
from headway.config.settings import Given
from headway.inbox.arriving.listing import look_at
from headway.inbox.folder import Disk, InboxFolder
from headway.inbox.jobs.inbox_job import Learned
from headway.inbox.jobs.queue import Queue

SMALL = make_curriculum(0, 6, 6)
LEVEL = {one.question: one.level for one in SMALL.questions}


class Pupil:
    """Answers exactly what it was taught, but for some; its inbox is real, its training is not."""

    def __init__(self, *, never_learns: Sequence[str] = (), code: int = Exit.KEPT) -> None:
        self.never_learns, self.code = never_learns, code
        self.known: list[str] = []
        self.asked: list[Path] = []
        self.served: list[tuple[tuple[str, ...], dict[str, object]]] = []
        self.made: list[tuple[Path, str, int]] = []
        self.talks: list[Path] = []

    def make_model(self, folder: Path, preset: str, vocab_size: int, texts: Path) -> None:
        assert "Whoever" in texts.read_text()
        folder.mkdir()
        self.made.append((folder, preset, vocab_size))

    def ask(self, who: Path, questions: Sequence[str]) -> tuple[str, ...]:
        self.asked.append(who)
        return tuple(solve(one) if LEVEL[one] in self.known else "?" for one in questions)

    def serve(self, inbox: InboxFolder, given: Sequence[Given]) -> int:
        names = tuple(sorted(path.name for path in inbox.path.glob("*.jsonl")))
        self.served.append((names, {one.name: one.value for one in given}))
        if self.code != Exit.KEPT:
            return self.code
        queue = Queue(inbox, Disk())
        for name in names:
            job = queue.claim(look_at(inbox.path / name))
            assert job is not None
            job = queue.begin_attempt(job, ())
            learned = Learned(0, 1, 6, "improved", 2.0, 1.0, "checkpoint-1", 1.0, "")
            queue.finish(job, learned)
            level = name.split("-")[1].split(".")[0]
            if level not in self.never_learns:
                self.known.append(level)
        queue.close()
        return Exit.KEPT

    @property
    def steps(self) -> InboxSteps:
        return InboxSteps(self.make_model, self.ask, self.serve, self.talks.append)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(inbox_lesson, "make_curriculum", lambda: SMALL)
    monkeypatch.setattr(inbox_lesson, "NUM_QUESTIONS", 6)
    return tmp_path


def arguments(*given: Given, **switches: str) -> Arguments:
    return Arguments(given=list(given), switches=switches)


def test_files_are_dropped_one_after_the_other_with_an_exam_around_each(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pupil = Pupil()
    assert teach_inbox(arguments(), pupil.steps) == Exit.KEPT
    files = [names for names, _ in pupil.served]
    assert files == [("1-easy.jsonl",), ("2-medium.jsonl",), ("3-hard.jsonl",)]
    new = here / "runs/demo-inbox-data/new-tiny-1024"
    runs = here / "runs/demo-inbox/.headway/runs"
    names = ("0001-1-easy", "0002-2-medium", "0003-3-hard")
    assert pupil.asked == [new, *(runs / name for name in names)]
    settings = pupil.served[0][1]
    assert settings["model"] == str(new)
    assert settings["batch_size"] == 16
    said = capsys.readouterr().out
    assert "answers 0 exactly" in " ".join(said.split())
    lines = [line.split("  ")[-1].strip() for line in said.splitlines() if " of 2  " in line]
    assert lines[-4:] == ["0 of 6", "2 of 6", "4 of 6", "6 of 6"]
    assert "It answers 6 of 6 questions exactly (100%)" in said
    assert max(map(len, said.splitlines())) <= 80
    assert pupil.talks == []  # no terminal


def test_an_export_is_asked_what_the_last_run_was_asked(here: Path) -> None:
    exported: list[tuple[Path, Asked]] = []
    pupil = Pupil(never_learns=["hard"])
    steps = replace(pupil.steps, export=lambda run, asked: exported.append((run, asked)))
    teach_inbox(arguments(), steps)
    ((run, asked),) = exported
    assert run == pupil.asked[-1]
    assert asked.questions == tuple(one.question for one in SMALL.questions)
    assert asked.num_right(asked.answers) == 4
    assert asked.num_right(tuple(solve(one) for one in asked.questions)) == 6


def test_every_answer_is_kept_with_its_marks() -> None:
    teach_inbox(arguments(), Pupil(never_learns=["hard"]).steps)
    lines = Path("runs/demo-inbox-data/answers.jsonl").read_text().splitlines()
    found: list[Any] = [json.loads(line) for line in lines]
    assert [one["question"] for one in found] == [one.question for one in SMALL.questions]
    marks = {one["level"]: [answer["exact"] for answer in one["answers"]] for one in found}
    assert marks == {
        "easy": [False, True, True, True],
        "medium": [False, False, True, True],
        "hard": [False] * 4,
    }


def test_a_score_that_was_not_reached_is_said_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert teach_inbox(arguments(), Pupil(never_learns=["hard"]).steps) == Exit.BROKEN
    said = " ".join(capsys.readouterr().out.split())
    assert "It answers 4 of 6 questions exactly (67%). That is not more than 90%" in said


def test_a_second_time_nothing_is_trained() -> None:
    pupil = Pupil()
    teach_inbox(arguments(), pupil.steps)
    assert teach_inbox(arguments(), pupil.steps) == Exit.KEPT
    assert len(pupil.served) == 3
    assert len(pupil.made) == 1
    assert len(pupil.asked) == 8


def test_interrupted_it_ends_with_that_code_and_goes_on_the_next_time() -> None:
    pupil = Pupil(code=Exit.INTERRUPTED)
    assert teach_inbox(arguments(), pupil.steps) == Exit.INTERRUPTED
    assert len(pupil.asked) == 1
    pupil.code = Exit.KEPT
    assert teach_inbox(arguments(), pupil.steps) == Exit.KEPT
    assert pupil.known == ["easy", "medium", "hard"]


def test_fresh_moves_the_old_inbox_aside_unless_it_is_served(here: Path) -> None:
    pupil = Pupil()
    teach_inbox(arguments(), pupil.steps)
    fresh = arguments(Given("fresh", "true", "--fresh"))
    lock = InboxFolder(here / "runs/demo-inbox").lock
    with RunLock(lock), pytest.raises(UsageError) as refused:
        teach_inbox(fresh, pupil.steps)
    assert refused.value.cause is Cause.RUN_ACTIVE
    assert teach_inbox(fresh, pupil.steps) == Exit.KEPT
    assert len(pupil.served) == 6
    assert len(list(here.glob("runs/demo-inbox.old-*"))) == 1


def test_settings_that_a_person_types_win() -> None:
    pupil = Pupil()
    typed = (Given("bs", "8", "--bs"), Given("preset", "mini", "--preset"))
    teach_inbox(arguments(*typed, Given("output_dir", "mine", "-o")), pupil.steps)
    given = pupil.served[0][1]
    assert list(given.items())[-2:] == [("bs", "8"), ("model", str(pupil.asked[0]))]
    assert "preset" not in given
    assert [(preset, size) for _, preset, size in pupil.made] == [("mini", 1024)]
    assert Path("mine/demo-inbox/.headway").is_dir()


def test_a_model_that_a_person_names_is_taught_instead() -> None:
    pupil = Pupil()
    teach_inbox(arguments(Given("model", "other", "--model")), pupil.steps)
    assert pupil.made == []
    assert pupil.asked[0] == Path("other")
    assert pupil.served[0][1]["model"] == "other"


def test_an_invalid_setting_leaves_nothing_behind(here: Path) -> None:
    for name, value in (("batch_size", "many"), ("run_name", "mine"), ("continue", "other")):
        with pytest.raises(Refusal):
            teach_inbox(arguments(Given(name, value, f"--{name}")), Pupil().steps)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("switches", "talks"), [({}, 1), ({"no_chat": ""}, 0), ({"quiet": ""}, 0), ({"json": ""}, 0)]
)
def test_a_person_is_asked_for_a_question_on_a_terminal_alone(
    switches: dict[str, str], talks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_lesson, "is_terminal", lambda: True)
    pupil = Pupil()
    teach_inbox(arguments(**switches), pupil.steps)
    assert pupil.talks == [pupil.asked[-1]] * talks


def test_programs_get_one_object_and_quiet_gets_the_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teach_inbox(arguments(json=""), Pupil().steps)
    found = json.loads(capsys.readouterr().out)["demo"]
    assert found["questions"] == {"easy": 2, "medium": 2, "hard": 2}
    assert [one["medium"] for one in found["exact"]] == [0, 0, 2, 2]
    assert found["passed"] is True
    teach_inbox(arguments(quiet=""), Pupil().steps)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_fewer_questions_are_still_of_every_level() -> None:
    pupil = Pupil()
    assert isinstance(SMALL, Curriculum)
    teach_inbox(arguments(questions="3"), pupil.steps)
    lines = Path("runs/demo-inbox-data/answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["easy", "medium", "hard"]
