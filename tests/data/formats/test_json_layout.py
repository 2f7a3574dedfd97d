"""Rows are found however a JSON file lays them out, each with its line, and nothing twice."""

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, DataRefused
from headway.base.pulse import Pulse
from headway.data.formats import json_layout
from headway.data.formats.detect import line_format, read
from headway.data.formats.json_layout import Head, find_layout
from headway.data.formats.records import Item, Record, Rejected, RejectReason, Skipped
from headway.data.sources.find import find_sources

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho, }] {["}]
CHAT = {"messages": TURNS}
TEXTS = [{"text": "one [}"}, {"text": "two"}, {"text": "three"}]


def items(path: Path) -> list[Item]:
    sources = find_sources([str(path)])
    return [item for source in sources for item in read(source, lambda _: None, Pulse())]


def texts(path: Path) -> list[str | None]:
    return [item.text if isinstance(item, Record) else str(item.reason) for item in items(path)]


def lines(path: Path) -> list[int]:
    return [item.line for item in items(path) if isinstance(item, Record | Rejected)]


# ---- objects that hold the rows --------------------------------------------------------------

WRAPPED: dict[str, Any] = {
    **{key: {key: TEXTS} for key in ("data", "rows", "examples", "train", "instances", "items")},
    "records": {"version": "1.1", "name": "x", "records": TEXTS, "license": {"id": 4}},
    "any key": {"what nobody foresaw": TEXTS},
    "after": {"data": TEXTS, "version": [1, 2], "tags": ["a"], "info": {"by": [{"name": "x"}]}},
    "two deep": {"result": {"status": "ok", "data": TEXTS}, "next": None},
    "server": {
        "features": [{"feature_idx": 0, "name": "text", "type": {"dtype": "string"}}],
        "rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(TEXTS)],
        "num_rows_total": 3,
    },
    "splits": {"train": TEXTS},
    "odd keys": {'a "quoted\\" {key': 1, "data": TEXTS, "é": "]}"},
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", WRAPPED)
def test_rows_inside_an_object_are_rows(
    form: str, indent: int | None, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(WRAPPED[form], indent=indent))
    assert texts(tmp_path / name) == [row["text"] for row in TEXTS]
    assert texts(tmp_path) == [row["text"] for row in TEXTS]  # found in a folder, too


def test_each_row_inside_an_object_has_its_line(tmp_path: Path) -> None:
    content = '\n{"version": 1,\n "data": [\n {"text": "a"},\n {"text": 3},\n\n {"text": "b"}\n]}'
    (tmp_path / "a.json").write_text(content, encoding="utf-8-sig")
    assert lines(tmp_path / "a.json") == [4, 5, 7]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("form", WRAPPED)
def test_rows_inside_an_object_are_found_however_it_arrives(form: str, piece: int) -> None:
    content = json.dumps(WRAPPED[form]).encode()
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    layout = find_layout("a", Head(pieces, []))
    assert layout is not None
    assert layout.kind == "inside"
    assert layout.rows is not None
    assert content[layout.rows.begin :].startswith(b'[{"')


def test_conversations_inside_an_object_that_is_named_like_one(tmp_path: Path) -> None:
    for rows in ([CHAT] * 2, [{"conversations": TURNS}] * 2):
        (tmp_path / "a.json").write_text(json.dumps({"conversations": rows}))
        assert [getattr(one, "messages", one) for one in items(tmp_path / "a.json")] == [
            tuple(TURNS)
        ] * 2
    # One conversation that is alone in its file stays one.
    shared = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    for row in (CHAT, shared, CHAT | {"examples": TEXTS}):
        for indent in (None, 2):
            (tmp_path / "a.json").write_text(json.dumps(row, indent=indent))
            (one,) = items(tmp_path / "a.json")
            assert isinstance(one, Record)
            assert one.messages is not None
            assert len(one.messages) == 2


def test_rows_with_other_fields_inside_an_object_are_told_with_their_fields(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"frage": "a", "antwort": "b"}] * 2}))
    assert [getattr(one, "keys", one) for one in items(tmp_path / "a.json")] == [
        ("frage", "antwort")
    ] * 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]},
         RejectReason.FLAG_UNCLEAR),
        ({"messages": [{"role": "alien", "content": "a"}], "id": 1}, RejectReason.UNKNOWN_ROLE),
        ({"text": "a", "messages": [{"a": 1}]}, RejectReason.UNKNOWN_ROLE),
        ({"prompt": [{"role": "user"}], "completion": 7}, RejectReason.ANSWER_NOT_TEXT),
    ],
)  # fmt: skip
def test_a_single_row_with_something_wrong_in_it_is_no_list_of_rows(
    row: dict[str, Any], reason: RejectReason, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(row))
    (found,) = items(tmp_path / name)
    assert isinstance(found, Rejected)
    assert found.reason is reason


def test_a_line_with_rows_inside_is_no_file_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{json.dumps({'data': TEXTS})}\n" * 2)
    assert texts(tmp_path / "a.jsonl") == ["no text or messages"] * 2


def test_a_row_that_the_server_cut_is_rejected(tmp_path: Path) -> None:
    rows = [{"row": row, "truncated_cells": ["text"][: row is TEXTS[0]]} for row in TEXTS]
    (tmp_path / "a.json").write_text(json.dumps({"rows": rows}))
    assert texts(tmp_path / "a.json") == ["cells cut by the server", "two", "three"]


@pytest.mark.parametrize("cut", [1, 2, 15, 30])
def test_an_object_that_is_truncated_is_refused(cut: int, tmp_path: Path) -> None:
    content = json.dumps({"data": TEXTS * 9, "version": "1"})
    (tmp_path / "a.json").write_text(content[:-cut])
    with pytest.raises(DataRefused, match="is truncated") as caught:
        items(tmp_path / "a.json")
    assert caught.value.cause is Cause.SOURCE_DAMAGED


def test_rows_inside_a_large_object_are_read_as_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_layout, "_OUTLINE_BYTES", 1 << 20)
    monkeypatch.setattr(json_layout, "_DECODED_BYTES", 1 << 20)
    row = json.dumps({"text": "x" * 999})
    (tmp_path / "a.json").write_text(f'{{"data": [{", ".join([row] * 9000)}], "version": 1}}')
    (source,) = find_sources([str(tmp_path / "a.json")])
    seen = 0

    def count(chunk: bytes) -> None:
        nonlocal seen
        seen += len(chunk)

    rows = read(source, count, Pulse())
    assert isinstance(next(rows), Record)
    assert seen < 3 << 20 < source.size
    assert sum(1 for _ in rows) == 8999
    assert seen == source.size


# ---- several lists ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("train", "test"), ("validation", "test", "train")])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_list_named_train_is_read_and_the_others_are_told(
    order: tuple[str, ...], indent: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({name: [{"text": name}] * 2 for name in order}, indent=indent))
    made = items(path)
    assert [one.text for one in made if isinstance(one, Record)] == ["train"] * 2
    beside = [one.detail for one in made if isinstance(one, Skipped)]
    assert beside == [name for name in order if name != "train"]
    assert {one.reason for one in made if isinstance(one, Skipped)} == {RejectReason.OTHER_SPLIT}


def typed(line: str) -> None:
    words = line.replace("python -c", f"{shlex.quote(sys.executable)} -c")
    subprocess.run(words, shell=True, check=True)


@pytest.mark.parametrize("name", ["a.json", "with 'space.json", "a.json.gz"])
def test_lists_that_nothing_tells_apart_are_refused_with_a_line_for_each(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    content = json.dumps({"a": {"poems": TEXTS}, "letters": [{"text": "x"}]}).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataRefused, match="several lists of rows") as caught:
        items(path)
    assert caught.value.have == "a.poems, letters"
    made: list[list[str | None]] = []
    for remedy in caught.value.remedies:
        before = set(tmp_path.iterdir())
        typed(remedy.do)
        (new,) = set(tmp_path.iterdir()) - before
        made.append(texts(new))
    assert made == [["one [}", "two", "three"], ["x"]]
    (found,) = [one for one in find_sources([str(tmp_path)]) if one.name == str(path)]
    (skipped,) = read(found, lambda _: None, Pulse())
    assert isinstance(skipped, Skipped)
    assert skipped.reason is RejectReason.SEVERAL_LISTS


# ---- other layouts ---------------------------------------------------------------------------

PRETTY = "\n".join(json.dumps(row, indent=2) for row in TEXTS)
LAYOUTS = {
    "lines": "".join(json.dumps(row) + "\n" for row in TEXTS),
    "lines with commas": "".join(json.dumps(row) + ",\n" for row in TEXTS),
    "array": json.dumps(TEXTS),
    "pretty array": json.dumps(TEXTS, indent=1),
    "array with a last comma": json.dumps(TEXTS, indent=1)[:-2] + ",\n]",
    "array of lines": "[\n" + ",\n".join(map(json.dumps, TEXTS)) + "\n]\n",
    "array that begins on a line": "[" + ",\n".join(map(json.dumps, TEXTS)) + "]",
    "pretty objects": PRETTY,
    "pretty objects with commas": PRETTY.replace("}\n{", "},\n{"),
    "objects together": "".join(map(json.dumps, TEXTS)),
    "objects with spaces": " ".join(map(json.dumps, TEXTS)),
    "objects with commas": ", ".join(map(json.dumps, TEXTS)) + ",",
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.txt", "a.jsonl.gz"])
@pytest.mark.parametrize("form", LAYOUTS)
def test_every_layout_is_read_as_what_it_is(form: str, name: str, tmp_path: Path) -> None:
    content = LAYOUTS[form].encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert texts(tmp_path / name) == [row["text"] for row in TEXTS]


@pytest.mark.parametrize("form", LAYOUTS)
def test_only_a_row_per_line_is_split(form: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LAYOUTS[form])
    (source,) = find_sources([str(tmp_path / "a.jsonl")])
    on_lines = ("lines", "lines with commas", "objects")
    assert (line_format(source) == "jsonl") == form.startswith(on_lines)


@pytest.mark.parametrize("content", ["utf-16", "utf-32"])
def test_a_row_per_line_in_wide_characters_is_not_split(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LAYOUTS["lines"].encode(content))
    (source,) = find_sources([str(tmp_path / "a.jsonl")])
    assert line_format(source) is None


def test_objects_together_on_a_long_line_are_read_as_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_layout, "_DECODED_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 99}) * 20)
    assert len(texts(tmp_path / "a.jsonl")) == 20
    (source,) = find_sources([str(tmp_path / "a.jsonl")])
    assert line_format(source) is None
    (tmp_path / "b.jsonl").write_text((json.dumps({"text": "x" * 1999}) + "\n") * 20)
    (source,) = find_sources([str(tmp_path / "b.jsonl")])
    assert line_format(source) == "jsonl"


BAD_LINES = (
    *('{"text": "cut', '{"text": ', "{", "}", "[", "]", '["', "[[", "{half}", '{"a": [', '"', ","),
    *('{"text": "a"} and more', '{"text": "a"', '{"messages": [{"role": "user"', "words", "null"),
)


def test_lines_that_are_all_broken_are_counted_one_by_one(tmp_path: Path) -> None:
    lines = ['{"input": "2,"", "output": 1}', '{"text": 10,, "a"}', '{"text": "b", "c}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    made = items(tmp_path / "a.jsonl")
    assert [one.line for one in made if isinstance(one, Rejected)] == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("bad", BAD_LINES)
def test_one_bad_line_costs_that_line_alone(bad: str, at: int, name: str, tmp_path: Path) -> None:
    if name == "a.json" and at == 0 and bad == "{half}":
        return
    good = [json.dumps({"text": f"row {n}"}) for n in range(3)]
    (tmp_path / name).write_text("\n".join([*good[:at], bad, *good[at:]]) + "\n")
    made = items(tmp_path / name)
    assert [one.text for one in made if isinstance(one, Record)] == ["row 0", "row 1", "row 2"]
    assert [one.line for one in made if isinstance(one, Rejected)] == [at + 1]
