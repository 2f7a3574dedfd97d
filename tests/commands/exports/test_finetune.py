"""finetune: what export would refuse is refused first, and only good runs are exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_request import RESULT

from headway.base.errors import Cause, Exit, UsageError
from headway.base.host import packages
from headway.cli import VERBS
from headway.commands.exports import finetune
from headway.config.command_line import parse
from headway.export.check.request import SCHEMA, CheckResult
from headway.supervise.supervisor import Result


class Steps:
    """Stand-ins for training, exporting and checking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.done: list[Any] = []
        (folder.parent / "out").mkdir(parents=True)
        (folder.parent / "out" / RESULT.files[0]).touch()
        self.exported = replace(RESULT, output=str(folder.parent / "out"))
        self.trained = Result(Exit.KEPT, folder=folder)
        self.checked = CheckResult(SCHEMA, "out", "", (), (), ())
        monkeypatch.setattr(finetune, "supervised", self._train)
        monkeypatch.setattr(finetune, "export_request", self._request)
        monkeypatch.setattr(finetune, "run", self._export)
        monkeypatch.setattr(finetune, "check_folder", self._check)
        monkeypatch.setattr(packages, "is_installed", lambda _: True)

    def _train(self, arguments: Any, verb: str, sources: Any, settings: Any) -> Result:
        self.done.append(("train", verb, sources, settings))
        return self.trained

    def _request(self, word: str, runs: Path, switches: Any) -> Any:
        self.done.append(("export", word, dict(switches)))

    def _export(self, *_: object, **__: object) -> Any:
        return self.exported

    def _check(self, folder: Path, *_: object, **__: object) -> CheckResult:
        self.done.append(("check", folder))
        return self.checked


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch, tmp_path / "runs" / "chats")


def typed(*words: str) -> int:
    verb = VERBS["finetune"]
    return verb(parse(words, verb.options, settings=True))


def test_it_trains_exports_and_checks(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["chats.jsonl", "--model", "m", "--lora", "--to", "hf", "--out", "out", "--lr", "1e-3"]
    assert typed(*words) == Exit.KEPT
    (_, verb, sources, settings), (_, word, switches), (_, folder) = steps.done
    assert (verb, sources, settings.model, settings.learning_rate) == (
        *("finetune", ("chats.jsonl",), "m"),
        1e-3,
    )
    assert word == str(steps.trained.folder)
    assert switches == {"to": "hf", "out": "out"}
    assert folder == Path(steps.exported.output)


@pytest.mark.parametrize("code", [Exit.BROKEN, Exit.INTERRUPTED, Exit.COME_BACK])
def test_a_run_that_is_not_good_is_not_exported(
    steps: Steps, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.trained = Result(code, folder=steps.trained.folder)
    assert typed("chats.jsonl", "--model", "m", "--to", "gguf", "--quantize", "q8_0") == code
    assert [step[0] for step in steps.done] == ["train"]
    told = capsys.readouterr().out
    (line,) = [one for one in told.splitlines() if one.startswith("  headway export")]
    assert line.endswith("--to gguf --quantize q8_0")


def test_a_folder_that_is_not_good_ends_with_its_code(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.export.check.test_show_check import BAD

    steps.checked = CheckResult(SCHEMA, "out", "", (BAD,), (), ())
    assert typed("chats.jsonl", "--model", "m", "--to", "hf") == Exit.BROKEN
    assert "it is broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("chats.jsonl",), Cause.MISSING_ARGUMENT),
        (("--to", "hf"), Cause.MISSING_ARGUMENT),
        (("chats.jsonl", "--to", "hf", "--quantize", "q8_0"), Cause.INVALID_VALUE),
        (("chats.jsonl", "--to", "gguf", "--name", "../x"), Cause.INVALID_VALUE),
        (("chats.jsonl", "--to", "gguf", "--batch-size", "x"), Cause.INVALID_VALUE),
    ],
)
def test_what_cannot_be_exported_is_not_trained(
    steps: Steps, words: tuple[str, ...], cause: Cause
) -> None:
    with pytest.raises(UsageError) as refused:
        typed(*words)
    assert refused.value.cause is cause
    assert steps.done == []


@pytest.mark.parametrize("words", [("--run-name", "notes"), ("--out", "exports/notes-gguf")])
def test_what_lies_in_the_way_is_refused_first(
    steps: Steps, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exports/notes-gguf").mkdir(parents=True)
    Path("exports/notes-gguf/letters.txt").touch()
    with pytest.raises(UsageError) as refused:
        typed("chats.jsonl", "--model", "m", "--to", "gguf", *words)
    assert refused.value.cause is Cause.NOT_WRITABLE
    assert steps.done == []


def test_adapters_alone_are_trained_as_adapters(steps: Steps) -> None:
    typed("chats.jsonl", "--model", "m", "--to", "hf", "--adapter-only")
    assert steps.done[0][3].lora is True


def test_what_writes_gguf_is_asked_for_first(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "is_installed", lambda name: name != "gguf")
    with pytest.raises(UsageError) as refused:
        typed("chats.jsonl", "--model", "m", "--to", "ollama")
    assert refused.value.cause is Cause.MISSING_PACKAGE
    assert "headway[export]" in refused.value.remedies[0].do
    assert steps.done == []
