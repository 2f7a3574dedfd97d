"""A model, asked: the loss of data, text from a prompt, a conversation."""

import io
import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tests.helpers import byte_level, save_model

from headway.base.errors import DataRefused, Exit
from headway.base.process import REPORT_VARIABLE, Report
from headway.base.pulse import Pulse
from headway.data.examples.chatml import CHATML
from headway.data.examples.tokenizer import DOCUMENT_END, load
from headway.training.inference import answer as ask
from headway.training.inference.answer import evaluate
from headway.training.inference.request import (
    SCREEN_IS_FREE,
    Evaluation,
    InferenceRequest,
    InferenceResult,
)
from headway.training.weights.initial_weights import load_folder

TEXT = "So it goes on, and on, until the last page.\n" * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("ask") / "model")
    byte_level().with_end_token("<|im_end|>").with_template(CHATML).save(folder)
    return folder


def asked(model: Path, folder: Path, content: str, name: str = "a.txt", **given: Any) -> Evaluation:
    (folder / name).write_text(content)
    given = {"max_length": 16} | given
    question = InferenceRequest("eval", str(model), data=(str(folder / name),), **given)
    return evaluate(question, Pulse())


# ---- the loss ----------------------------------------------------------------------------------


def test_the_loss_of_a_text_is_that_of_every_token(model: Path, tmp_path: Path) -> None:
    found = asked(model, tmp_path, TEXT, max_length=200)
    ids = torch.tensor([[*byte_level().encode([TEXT])[0], byte_level().id_of("<|im_end|>")]])
    with torch.no_grad():
        logits = load_folder(model).eval()(input_ids=ids).logits[0, :-1]
    wanted = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    assert found.tokens == ids.shape[1] - 1
    assert found.loss == pytest.approx(float(wanted), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(float(wanted)), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(
        float(wanted) * found.tokens / math.log(2) / len(TEXT), rel=1e-5
    )
    assert found.rows == 1


def test_shorter_rows_see_less_and_count_the_same(model: Path, tmp_path: Path) -> None:
    whole, cut = (asked(model, tmp_path, TEXT, max_length=n) for n in (200, 16))
    assert (whole.tokens, whole.rows, cut.rows) == (cut.tokens, 1, 9)
    assert whole.loss != cut.loss


def chat(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


def test_of_conversations_only_the_answers_count(model: Path, tmp_path: Path) -> None:
    found = asked(model, tmp_path, chat("Hi", "Yes") * 3, "a.jsonl", max_length=64)
    assert found.tokens == 3 * (len("Yes") + 1)
    assert found.bits_per_byte is None
    assert found.rows == 3


def test_conversations_that_are_all_too_long_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no answer fits in max_length 16") as refused:
        asked(model, tmp_path, chat("A long question, " * 9, "Yes"), "a.jsonl")
    (remedy,) = refused.value.remedies
    name, length = remedy.do.split()
    assert name == "--max-length"
    again = asked(
        model, tmp_path, chat("A long question, " * 9, "Yes"), "a.jsonl", max_length=int(length)
    )
    assert again.rows == 1


# ---- the process -------------------------------------------------------------------------------


def spoken(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, said: str = "", **given: Any
) -> Report:
    """Ask in this process; what is written goes to standard output."""
    given = {"num_tokens": 8, "temperature": 0.0} | given
    question = InferenceRequest(checkpoint=str(model), **given)
    (folder / "question.json").write_bytes(msgspec.json.encode(question))
    ours, theirs = os.pipe()
    monkeypatch.setenv(REPORT_VARIABLE, str(theirs))
    monkeypatch.setattr(ask, "end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    code = ask.main([str(folder / "question.json")])
    os.close(theirs)
    with open(ours, "rb") as pipe:  # noqa: PTH123 - a descriptor
        report = msgspec.json.decode(pipe.read(), type=Report)
    assert code == (report.refused.code if report.refused else 0)
    return report


def test_text_goes_on_from_the_prompt(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outs: list[str] = []
    for _ in range(2):
        spoken(model, tmp_path, monkeypatch, kind="generate", prompt="Once upon")
        outs.append(capsys.readouterr().out)
    assert outs[0].startswith("Once upon")
    assert outs[0].endswith("\n")
    assert outs[0] == outs[1]


@pytest.mark.parametrize(
    ("prompt", "begin_id", "asked"),
    [
        ("", None, ["<|im_end|>"]),  # a tokenizer without BOS, and nothing is known of the data
        ("", DOCUMENT_END, [DOCUMENT_END]),
        ("", "a", ["a"]),
        ("b", "a", ["b"]),
    ],
)
def test_text_begins_as_training_began(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompt: str,
    begin_id: str | None,
    asked: list[str],
) -> None:
    words, prompts = load(model), list[list[int]]()
    monkeypatch.setattr(ask._Talk, "_write", lambda _, ids: prompts.append(ids))
    first = words.id_of(begin_id) if begin_id else None
    spoken(model, tmp_path, monkeypatch, kind="generate", prompt=prompt, begin_id=first)
    assert prompts == [[words.id_of(token) for token in asked]]


def test_answers_end_where_training_ended(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every id in the checkpoint's generation config, also beside adapters."""
    folder = shutil.copytree(model, tmp_path / "copy")
    config = json.loads((folder / "generation_config.json").read_text())
    config["eos_token_id"] = list(range(load(folder).vocab_size))  # whatever it says first
    (folder / "generation_config.json").write_text(json.dumps(config))
    spoken(folder, tmp_path, monkeypatch, kind="generate", prompt="Once upon")
    assert capsys.readouterr().out == "Once upon\n"


def test_a_conversation_goes_on_until_the_end_of_input(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[str] = []

    def write(self: Any, ids: list[int]) -> str:
        prompts.append(self.tokenizer.decode(ids, special=True))
        sys.stdout.write("Yes.")
        return "Yes."

    monkeypatch.setattr(ask._Talk, "_write", write)
    spoken(model, tmp_path, monkeypatch, "Hi\n\nBye\n", kind="chat")
    assert prompts[0] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert prompts[1].endswith(
        "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(prompts) == 2  # the empty line asks nothing
    assert "assistant\nYes.<|im_end|>" in prompts[1]
    assert capsys.readouterr().out == "Yes.\nYes.\n"


def test_each_question_stands_alone_where_nothing_is_remembered(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    def write(self: Any, ids: list[int]) -> str:
        prompts.append(self.tokenizer.decode(ids, special=True))
        return "Yes."

    monkeypatch.setattr(ask._Talk, "_write", write)
    spoken(model, tmp_path, monkeypatch, "Hi\nBye\n", kind="chat", remembers=False)
    assert prompts[1] == "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"


def test_the_loss_is_told_as_a_number(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    verdict = spoken(
        model, tmp_path, monkeypatch, kind="eval", data=(str(tmp_path / "a.txt"),), max_length=16
    )
    assert verdict.refused is None
    result = msgspec.json.decode(verdict.answer, type=InferenceResult)
    assert result.evaluation is not None
    assert result.evaluation.rows == 9


def test_each_question_begins_a_conversation_of_its_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(*questions: str) -> tuple[str, ...]:
        report = spoken(model, tmp_path, monkeypatch, kind="ask", questions=questions)
        return msgspec.json.decode(report.answer, type=InferenceResult).answers

    together = answers("Hi", "Where to?", "Hi")
    assert together == (*answers("Hi"), *answers("Where to?"), together[0])
    assert together[0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["ask", "eval"])
def test_ctrl_c_leaves_no_answer(
    kind: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sent: list[object] = []
    monkeypatch.setattr(ask, "end_with_parent", lambda: None)
    monkeypatch.setattr(ask, "send_answer", sent.append)
    monkeypatch.setattr(ask, "evaluate", interrupted)
    monkeypatch.setattr(ask._Talk, "answers", interrupted)
    question: Any = {"kind": kind, "checkpoint": str(model)}
    (tmp_path / "question.json").write_bytes(msgspec.json.encode(InferenceRequest(**question)))
    assert ask.main([str(tmp_path / "question.json")]) == Exit.INTERRUPTED
    assert sent == []


def test_a_refusal_is_told_in_four_parts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = spoken(tmp_path / "gone", tmp_path, monkeypatch, kind="generate", prompt="x")
    assert verdict.refused is not None
    assert verdict.refused.code == 2
    assert verdict.refused.findings[0].remedies


def test_commands_work_from_a_pipe(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[str] = []

    def write(self: Any, ids: list[int]) -> str:
        prompts.append(self.tokenizer.decode(ids, special=True))
        sys.stdout.write("Yes.")
        return "Yes."

    monkeypatch.setattr(ask._Talk, "_write", write)
    said = "/system Be brief.\nHi\n/clear\n/x\nBye\n/exit\nnever read\n"
    spoken(model, tmp_path, monkeypatch, said, kind="chat")
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert prompts == [
        f"{system}<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"
        for word in ("Hi", "Bye")
    ]
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if not line.startswith(" ")][:4] == [
        "instructions set; they come before the conversation so far",
        "Yes.",
        "the conversation is forgotten",
        "there is no /x",
    ]


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_nothing_is_said_before_the_screen_is_free(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that showed the wait is erased, and would take ours with it."""
    naps: list[str] = []

    def nap(_: float) -> None:
        naps.append(out.getvalue())
        if len(naps) == 3:
            (tmp_path / SCREEN_IS_FREE).touch()

    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(ask.time, "sleep", nap)
    spoken(model, tmp_path, monkeypatch, "", kind="generate", prompt="Once")
    assert naps == ["", "", ""]
    assert out.getvalue().startswith("Once")


def test_on_a_terminal_the_first_line_says_how_to_get_help(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(io, "StringIO", Terminal)
    spoken(model, tmp_path, monkeypatch, "", kind="chat")
    assert capsys.readouterr().out == f"{ask.HINT}\nyou: \n"
