"""Whatever form the data has, the plan counts every row of it, or says what is wrong with it."""

import gzip
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from .conftest import Headway

TEXTS = [
    {"text": f"Row {n} says something of its own, and a little more than that."} for n in range(60)
]
CHATS: dict[str, list[dict[str, Any]]] = {
    "ShareGPT": [
        {"conversations": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": "so"}]}
        for n in range(20)
    ],
    "Alpaca": [{"instruction": "say", "input": f"{n}?", "output": "so"} for n in range(20)],
    "pairs": [{"prompt": f"{n}?", "completion": "so"} for n in range(20)],
}


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_the_same_rows_in_every_form_give_the_same_plan(headway: Headway) -> None:
    headway.write("rows.jsonl", jsonl(TEXTS))
    headway.write("rows.json.zst", zstandard.compress(json.dumps(TEXTS, indent=1).encode()))
    table = "".join(f'"{row["text"]}"\n' for row in TEXTS)
    headway.write("rows.csv.gz", gzip.compress(f"text\n{table}".encode("utf-8-sig")))
    pq.write_table(pa.Table.from_pylist(TEXTS), headway.here / "rows.parquet", row_group_size=7)
    told = [headway("plan", path, "--json").json["data"] for path in headway.here.iterdir()]
    facts = [(data["records"], data["tokens"], data["lengths"]) for data in told]
    assert facts == [facts[0]] * 4
    assert facts[0][0] == {"read": 60, "rejected": {}, "accepted": 60}


@pytest.mark.parametrize("form", CHATS)
def test_conversations_in_every_form_are_conversations(headway: Headway, form: str) -> None:
    headway.write("chats.jsonl", jsonl(CHATS[form]))
    told = headway("plan", "chats.jsonl", "--preset", "tiny", "--json")
    assert told.code == 0, told.err
    data = told.json["data"]
    assert (data["kind"], data["records"]["accepted"]) == ("conversations", 20)
    assert "\u00abso" in data["marked_example"]


def test_D09_a_truncated_shard_is_refused_by_name_before_anything_is_written(
    headway: Headway,
) -> None:
    whole = zstandard.compress(jsonl(TEXTS * 200))
    headway.write("shards/1.jsonl.zst", whole)
    headway.write("shards/2.jsonl.zst", whole[: len(whole) // 2])
    before = sorted(headway.here.rglob("*"))
    told = headway("train", "shards/*.jsonl.zst", "--max-steps", 2)
    assert told.code == 3, told.err
    assert told.err.startswith("shards/2.jsonl.zst is truncated at byte ")
    assert "try   --skip-corrupt" in told.err
    assert sorted(headway.here.rglob("*")) == before
    passed = headway("plan", "shards/*.jsonl.zst", "--skip-corrupt", "--json")
    assert passed.code == 0, passed.err
    assert 12_000 <= passed.json["data"]["records"]["read"] < 24_000


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("empty.jsonl.gz", gzip.compress(b""), 3, "empty.jsonl.gz is blank"),
        ("empty.csv", b"", 3, "empty.csv is empty"),
        ("blank.json", b"\n \n", 3, "blank.json is blank"),
        ("pairs.jsonl", jsonl([{"prompt": "p", "chosen": "c", "rejected": "r"}] * 9), 3,
         "pairs.jsonl is preference data"),
        ("odd.csv", b"title,body\na,b\n", 3, "odd.csv:2: no text or messages"),
    ],
    ids=["F23 packed", "F23 table", "F23 blank", "preference data", "D05 columns"],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused_by_name(
    headway: Headway, name: str, content: bytes, code: int, said: str
) -> None:
    headway.write(name, content)
    told = headway("train", name)
    assert (told.code, told.err.startswith(said)) == (code, True), told.err
    assert [p.name for p in headway.here.iterdir()] == [name]


def test_T04_an_endless_word_among_rows_is_planned(headway: Headway) -> None:
    rows = [*TEXTS, {"text": "w" + "e" * 900_000}]
    headway.write("words.jsonl", jsonl(rows))
    told = headway("plan", "words.jsonl", "--json")
    assert told.code == 0, told.err
    assert told.json["data"]["records"]["accepted"] == 61


def test_what_is_not_read_is_on_the_screen_and_in_the_json(headway: Headway) -> None:
    for name in ("README.md", "LICENSE", "runs/a/plan.json", "runs/a/run.yaml", ".cache/x.txt"):
        headway.write(f"data/{name}", '{"text": "not this"}')
    headway.write("data/photo.png", b"\x89PNG\0\0")
    headway.write("data/rows.jsonl", jsonl(TEXTS))
    headway.write("data/other.json", json.dumps({"train": TEXTS, "test": TEXTS}))
    told = headway("plan", "data")
    assert told.code == 0, told.err
    assert "120 documents" in told.out
    said = " ".join(told.out.split())
    assert "documentation beside data: data/LICENSE, data/README.md" in said
    assert "a run of Headway: data/runs/a" in said
    assert "another split: data/other.json: test" in said
    passed = headway("plan", "data", "--json").json["data"]["passed_over"]
    assert {(one["reason"], one["num"]) for one in passed} == {
        ("documentation beside data", 2),
        ("a run of Headway", 1),
        ("hidden", 1),
        ("binary", 1),
        ("another split", 1),
    }


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("{} plan /dev/stdin --json < rows.jsonl", "stdin"),
        ("gzip -c rows.jsonl | zcat | {} plan /dev/fd/0 --json", "stdin"),
        ("{} plan <(cat rows.jsonl) --json", "stdin"),
        ("{} plan <(head -n 20 rows.jsonl) <(tail -n 40 rows.jsonl) --json", "stdin"),
        ("{} plan /dev/fd/7 --json 7< rows.jsonl", "stdin"),
        ("mkfifo pipe; cat rows.jsonl > pipe & {} plan pipe --json", "pipe"),
    ],
)
def test_open_descriptors_and_pipes_are_read_as_standard_input_is(
    headway: Headway, command: str, name: str
) -> None:
    headway.write("rows.jsonl", jsonl(TEXTS))
    headway.before = ["bash", "-c", command.format('"$@"'), "bash"]
    told = headway()
    assert told.code == 0, told.err
    assert told.json["name"] == name
    assert told.json["data"]["records"] == {"read": 60, "rejected": {}, "accepted": 60}


def test_what_a_command_writes_is_trained_and_evaluated(headway: Headway) -> None:
    headway.write("rows.jsonl", jsonl(TEXTS))
    line = '"$@" train <(cat rows.jsonl) --preset tiny --max-steps 2 --run-name a'
    headway.before = ["bash", "-c", f'{line} && "$@" eval a <(cat rows.jsonl) --json', "bash"]
    told = headway()
    assert told.code == 0, told.err
    assert '"rows":' in told.out
