"""Bad input gets four parts on standard error, the right exit code, and loses nothing."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Headway

GOOD = "A line of honest text, long enough to be trained on. " * 30


def missing(headway: Headway) -> list[object]:
    headway.write("notes.txt", GOOD)
    return ["note.txt"]


def empty(headway: Headway) -> list[object]:
    return [headway.write("empty.txt", "").name]


def blank(headway: Headway) -> list[object]:
    return [headway.write("blank.txt", "\n \n\t\n").name]


def nothing_usable(headway: Headway) -> list[object]:
    headway.write("folder/image.bin", bytes(range(256)) * 8)
    headway.write("folder/empty.txt", "")
    return ["folder"]


def not_utf8(headway: Headway) -> list[object]:
    return [
        headway.write("latin.txt", ("Stra\u00dfe und \u00c4rger. " * 50).encode("latin-1")).name
    ]


def no_model(headway: Headway) -> list[object]:
    headway.write("model/readme.md", "nothing")
    return [headway.write("notes.txt", GOOD).name, "--model", "model"]


def missing_model(headway: Headway) -> list[object]:
    return [headway.write("notes.txt", GOOD).name, "--model", "owner/name"]


def broken_weights(headway: Headway) -> list[object]:
    headway.write("model/config.json", '{"model_type": "llama", "hidden_size": 8}')
    headway.write("model/model.safetensors", struct.pack("<Q", 1 << 62) + b"{}")
    return [headway.write("notes.txt", GOOD).name, "--model", "model"]


def unknown_flag(headway: Headway) -> list[object]:
    return [headway.write("notes.txt", GOOD).name, "--max-lenght", 64]


def bad_value(headway: Headway) -> list[object]:
    return [headway.write("notes.txt", GOOD).name, "--epochs", "many"]


def contradiction(headway: Headway) -> list[object]:
    return [headway.write("notes.txt", GOOD).name, "--preset", "tiny", "--model", "m"]


def typo_in_file(headway: Headway) -> list[object]:
    headway.write("notes.txt", GOOD)
    return ["notes.txt", headway.write("run.yaml", "max_length: 64\ncutoff_len: 512\n").name]


def not_json(headway: Headway) -> list[object]:
    return [headway.write("rows.jsonl", '{"text": "one"}\n{"text": \n' * 20).name]


def no_data(_: Headway) -> list[object]:
    return []


def no_cuda(headway: Headway) -> list[object]:
    return [headway.write("notes.txt", GOOD).name, "--device", "cuda"]


def hub(_: Headway) -> list[object]:
    return ["hf://owner/data"]


CASES: dict[str, tuple[Callable[[Headway], list[object]], int, str]] = {
    "a missing file": (missing, 2, "notes.txt"),
    "an empty file": (empty, 3, "empty"),
    "only blank lines": (blank, 3, "blank.txt"),
    "a folder with nothing usable": (nothing_usable, 3, "folder"),
    "not UTF-8": (not_utf8, 3, "iconv"),
    "a model folder that is not one": (no_model, 2, "no config.json"),
    "a model that is not here": (missing_model, 75, "owner/name"),
    "weights whose header lies": (broken_weights, 2, "header"),
    "an unknown flag": (unknown_flag, 2, "--max-length 64"),
    "a value that does not fit": (bad_value, 2, "a number"),
    "two starts": (contradiction, 2, "remove --preset"),
    "another tool's key": (typo_in_file, 2, "run.yaml:2:1"),
    "too many broken lines": (not_json, 3, "rows.jsonl:2"),
    "no data": (no_data, 2, "headway demo"),
    "a device that is not there": (no_cuda, 5, "--device cpu"),
    "a hub": (hub, 75, "the Hub is offline"),
}


@pytest.mark.parametrize("case", CASES)
def test_four_parts_the_right_code_and_nothing_left_behind(headway: Headway, case: str) -> None:
    prepare, code, said = CASES[case]
    words = prepare(headway)
    before = sorted(p for p in headway.here.rglob("*"))
    told = headway("train", *words)
    assert told.code == code, told.err
    assert said in told.err
    assert "Traceback" not in told.err
    lines = told.err.strip().splitlines()
    assert len(lines[0]) <= 100
    assert re.search(r"^  have  \S", told.err, re.MULTILINE)
    assert re.search(r"^  need  \S", told.err, re.MULTILINE)
    assert re.search(r"^  try   \S", told.err, re.MULTILINE)
    assert sorted(p for p in headway.here.rglob("*")) == before
    plan = headway("plan", *words)
    assert plan.code == code


def test_verbose_shows_the_traceback(headway: Headway) -> None:
    told = headway("train", "nowhere.txt", "--verbose")
    assert told.code == 2
    assert "Traceback" in told.err


def test_a_folder_without_write_permission_is_found_in_the_plan(headway: Headway) -> None:
    headway.write("notes.txt", GOOD)
    locked = headway.here / "runs"
    if os.getuid() == 0:  # permissions do not hold root back; a file in the way does
        locked.write_text("in the way")
    else:
        locked.mkdir(mode=0o555)
    told = headway("train", "notes.txt")
    assert told.code == 5
    assert "--output-dir" in told.err
    assert headway("train", "notes.txt", "--output-dir", "elsewhere", "--max-steps", 1).code == 0


def test_ids_beyond_the_embedding_are_refused_with_token_and_place(headway: Headway) -> None:
    headway.write("notes.txt", GOOD)
    assert headway("train", "notes.txt", "--max-steps", 1).code == 0
    model = headway.here / "runs/notes/model"
    theirs = headway.here / "theirs"
    theirs.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        (theirs / name).write_bytes((model / name).read_bytes())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    size = json.loads((model / "config.json").read_text())["vocab_size"]
    vocab = tokenizer["model"]["vocab"]
    vocab["e"], vocab["unused"] = size + 40, vocab["e"]
    (theirs / "tokenizer.json").write_text(json.dumps(tokenizer))
    told = headway("train", "notes.txt", "--model", "theirs", "--run-name", "beyond")
    assert told.code in (2, 3)
    assert "notes.txt:1" in told.err
    assert str(size) in told.err.replace(",", "")
    assert not (headway.here / "runs/beyond").exists()


def test_all_problems_of_a_configuration_are_told_at_once(headway: Headway) -> None:
    headway.write("notes.txt", GOOD)
    told = headway("train", "notes.txt", "--bogus", 1, "--epochs", "x", "--lr", "-1")
    assert told.code == 2
    assert len(re.findall(r"^  try   ", told.err, re.MULTILINE)) >= 1
    assert "bogus" in told.err
    values = headway("train", "notes.txt", "--epochs", "x", "--lr", "-1")
    assert "--epochs" in values.err
    assert "--lr" in values.err


def test_a_symbolic_link_to_nowhere_and_a_folder_of_runs(headway: Headway) -> None:
    (headway.here / "link.txt").symlink_to("nowhere.txt")
    told = headway("plan", "link.txt")
    assert told.code in (2, 3)
    assert "Traceback" not in told.err
    assert Path(headway.here / "link.txt").is_symlink()
