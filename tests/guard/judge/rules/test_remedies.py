"""Remedies can be typed as they stand: commands run, lines of Python compile."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import facts_of

from headway import cli
from headway.guard.facts import ProgressRecord
from headway.guard.judge.rules import remedies
from headway.guard.judge.traces.case import Case, read_case


def case(folder: Path, *command: str, **fields: Any) -> Case:
    return read_case(facts_of(folder, *command, **fields))


def test_a_plan_of_the_data_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some rows.jsonl").write_text('{"text": "%s"}\n' % ("one two three " * 60))
    monkeypatch.chdir(tmp_path)
    first, _ = remedies.count_labels(case(tmp_path, "train.py", "some rows.jsonl"))
    program, *arguments = shlex.split(first.do)
    assert program == "headway"
    assert cli.run(arguments) == 0
    assert "tokens" in capsys.readouterr().out


def test_lines_of_python_compile(tmp_path: Path) -> None:
    for one in (
        remedies.COUNT_TRAINABLE,
        remedies.COUNT_OPTIMIZED,
        remedies.SHOW_RATE,
        remedies.CLIP,
        *remedies.count_labels(case(tmp_path)),
        *remedies.count_batches(case(tmp_path)),
    ):
        compile(one.do, one.do, "exec")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("train.py --lr 3e-4", "--lr 1e-4"),
        ("train.py --learning_rate=3e-5", "--learning_rate 1e-5"),
        ("train.py", "learning_rate=2e-4"),
    ],
)
def test_a_lower_rate_is_a_third_of_what_was_asked_for_or_seen(
    tmp_path: Path, command: str, line: str
) -> None:
    records = (ProgressRecord(1.0, loss=2.0, learning_rate=6e-4),)
    one = case(tmp_path, *command.split(), records=records)
    assert remedies.lower_rate(one, "").do == line


def test_training_from_a_checkpoint_is_offered_where_it_works(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").touch()
    (tmp_path / "out").mkdir()
    one = case(tmp_path, "train.py", "b.jsonl")
    assert len(remedies.train_from(one, tmp_path / "out", 5)) == 1, "it has no tokenizer"
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "out" / name).touch()
    assert (
        remedies.train_from(one, tmp_path / "out", 5)[0].do == "headway train b.jsonl --model out"
    )
