"""The export of a demo: refused before training, and asked in its program what was asked here."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.export.folders import model_folder
from tests.export.test_request import RESULT

from headway.base.errors import BrokenContract, Cause, Refusal, UsageError
from headway.base.host import packages
from headway.commands.demos import demo_export
from headway.commands.demos.demo_export import Asked, ExportSteps, export_run, planned_export
from headway.config.command_line import Arguments
from headway.config.settings import Given
from headway.export.request import ExportOptions, ExportRequest, ExportResult
from headway.export.verify import llama_cpp
from headway.export.verify.llama_cpp import ChatReply, LlamaCppError

HERE = ("Pier 7.", "Odile Brask.", "At noon.")
EXAM = Asked(
    ("Which pier?", "Who is the mayor?", "When?"),
    HERE,
    32,
    lambda answers: sum(one.strip() != "At noon." for one in answers),
)


class Program:
    """Writes an empty file, and answers what it is told to."""

    def __init__(self, *texts: str, ended: bool = True) -> None:
        self.replies = tuple(ChatReply(text, ended, 9) for text in texts)
        self.requests: list[ExportRequest] = []
        self.asked: list[tuple[Path, Sequence[str], int]] = []

    def export(self, request: ExportRequest) -> ExportResult:
        self.requests.append(request)
        files = ("config.json",) if request.options.to == "hf" else ("demo-f16.gguf",)
        output = Path(request.output)
        output.mkdir(parents=True, exist_ok=True)
        for name in files:
            (output / name).touch()
        return replace(
            RESULT, options=request.options, files=files, output=request.output, findings=()
        )

    def ask(self, file: Path, questions: Sequence[str], num: int) -> tuple[ChatReply, ...]:
        self.asked.append((file, questions, num))
        return self.replies

    def run(self, asked: Asked = EXAM, **switches: str) -> None:
        typed = {"to": switches.pop("to", "gguf"), "name": "demo"}
        steps = ExportSteps(self.export, self.ask)
        run = model_folder(Path("runs/demo"))
        export_run(Arguments(switches=switches), typed, steps, run, asked)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def last_line(said: str) -> str:
    """The last sentence, unwrapped."""
    return " ".join(said.rstrip().split("\n\n")[-1].split())


def test_it_ends_with_the_same_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = Program(*HERE)
    program.run()
    (request,) = program.requests
    assert request.options == ExportOptions("gguf", "f16", name="demo")
    assert request.output == str(here / "exports" / "demo-gguf")
    assert program.asked == [(here / "exports/demo-gguf/demo-f16.gguf", EXAM.questions, 32)]
    said = capsys.readouterr().out
    assert "written " in said
    assert last_line(said).endswith(
        "same answers in llama.cpp: 3 of 3 to the letter · 2 right there, 2 here · 3 of 3 end by "
        "themselves"
    )
    assert max(map(len, said.splitlines())) <= 80


def test_other_answers_are_not_called_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Program("Pier 7.", "Odile\nBraskova.", " At noon. ", ended=False).run()
    said = capsys.readouterr().out
    assert last_line(said).endswith(
        "2 of 3 answers are the same in llama.cpp, to the letter · 2 right there, 2 here · 0 of 3 "
        "end by themselves"
    )
    shown = said[said.index("Who is the mayor?") :].splitlines()[:3]
    assert [line.split() for line in shown[1:]] == [
        ["here", "Odile", "Brask."],
        ["there", *shown[2].split()[1:]],
    ]
    assert "Braskova." in shown[2]
    assert "Which pier?" not in said


@pytest.mark.parametrize(
    ("program", "asked", "to"),
    [(Program(), EXAM, "hf"), (Program(), Asked(), "gguf")],
    ids=["transformers", "no conversations"],
)
def test_without_a_chat_in_llama_cpp_its_checks_are_the_end(
    program: Program, asked: Asked, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program.run(asked, to=to)
    assert program.asked == []
    said = capsys.readouterr().out
    names = {"hf": "transformers", "gguf": "llama.cpp"}
    assert f"same answers in {names[to]}: logits 1e-07" in said


def test_programs_get_an_object_and_quiet_gets_a_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Program(*HERE[:2], "At one.").run(to="gguf", json="")
    numbers = {"questions": 3, "same": 2, "right": 3, "right_here": 2, "ended": 3}
    where = {"to": "gguf", "folder": str(here / "exports/demo-gguf")}
    assert json.loads(capsys.readouterr().out) == {"export": where | numbers}


def test_quiet_gets_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    Program(*HERE).run(to="gguf", quiet="")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("same answers in llama.cpp: 3 of 3")


def planned(*given: Given, **switches: str) -> Any:
    return planned_export(Arguments(given=list(given), switches=switches), "demo")


def test_nothing_is_exported_unless_asked_for() -> None:
    assert planned() is None
    assert planned(export="gguf", quantize="q8_0") is not None


@pytest.mark.parametrize(
    ("switches", "cause", "remedy"),
    [
        ({"export": "onnx"}, Cause.INVALID_VALUE, "--export hf"),
        ({"export": ""}, Cause.MISSING_ARGUMENT, "--export hf"),
        ({"export": "gguf", "quantize": "q2"}, Cause.INVALID_VALUE, "--quantize f16"),
        (
            {"export": "hf", "quantize": "q8_0"},
            Cause.INVALID_VALUE,
            "--export gguf --quantize q8_0",
        ),
        ({"quantize": "q8_0"}, Cause.CONTRADICTION, "--export gguf --quantize q8_0"),
    ],
)
def test_what_cannot_be_exported_is_refused_first(
    switches: dict[str, str], cause: Cause, remedy: str
) -> None:
    with pytest.raises(Refusal) as refused:
        planned(**switches)
    assert refused.value.cause is cause
    assert refused.value.remedies[0].do == remedy
    assert "--to" not in refused.value.what


@pytest.mark.parametrize(
    ("to", "missing", "extra"),
    [
        ("gguf", "gguf", "export"),
        ("gguf", "xllamacpp", "verify"),
        ("ollama", "xllamacpp", "verify"),
    ],
)
def test_what_compares_is_asked_for_first(
    to: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "is_installed", lambda name: name != missing)
    with pytest.raises(UsageError) as refused:
        planned(export=to)
    assert refused.value.cause is Cause.MISSING_PACKAGE
    assert f"headway[{extra}]" in refused.value.remedies[0].do
    assert planned(export="hf") is not None


def test_what_lies_in_the_way_is_refused_first(here: Path) -> None:
    mine = here / "exports" / "mine-gguf-q8_0"
    mine.mkdir(parents=True)
    (mine / "letters.txt").touch()
    assert planned(export="gguf", quantize="q8_0") is not None
    with pytest.raises(UsageError) as refused:
        planned(Given("run_name", "mine", "--run-name"), export="gguf", quantize="q8_0")
    assert refused.value.cause is Cause.NOT_WRITABLE


def test_a_llama_cpp_that_does_not_answer_breaks_the_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise LlamaCppError("no memory")

    monkeypatch.setattr(llama_cpp, "ask", fails)
    with pytest.raises(BrokenContract) as refused:
        demo_export.ask_llama_cpp(Path("a.gguf"), ["Why?"], 3, quiet=True)
    assert refused.value.have == "no memory"
