"""Every line that is told about bad data works when it is typed."""

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record, Rejected, RejectReason
from headway.data.sources.find import find_sources
from headway.data.survey.refusals import no_usable_records, remedy_for

ROWS = [{"id": n, "body": f"text {n}"} for n in range(3)]
PAIRS = [{"promt": f"q {n}", "completon": f"a {n}"} for n in range(3)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".arrow", ".feather"):
        table_of_rows = pa.Table.from_pylist(rows)
        new = ipc.new_stream if path.suffix == ".arrow" else ipc.new_file
        with new(path, table_of_rows.schema) as writer:
            writer.write_table(table_of_rows)
    elif path.suffix == ".csv":
        mark = ";" if "semicolon" in path.name else ","
        path.write_text("".join(mark.join(row) + "\n" for row in table))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"data": rows} if "inside" in path.name else rows))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines)
    return path


def records(path: Path | str) -> list[Record | Rejected]:
    (source,) = find_sources([str(path)])
    found = read(source, lambda _: None, Pulse())
    return [item for item in found if isinstance(item, Record | Rejected)]


def typed(line: str) -> str:
    # `python` is the one that runs these tests, with its packages.
    words = line.replace("python -c", f"{shlex.quote(sys.executable)} -c")
    return subprocess.run(words, shell=True, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "name",
    [
        *("a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz", "with 'space.jsonl"),
        *("semicolon.csv", "array.json", "inside.json", "a.arrow", "a.feather"),
    ],
)
@pytest.mark.parametrize(
    ("rows", "shape"), [(ROWS, "text"), (PAIRS, "prompt and completion")], ids=["text", "pairs"]
)
def test_D05_fields_with_other_names_come_with_a_line_that_renames_them(
    name: str, rows: list[dict[str, Any]], shape: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, rows)
    bad = records(path)[0]
    assert isinstance(bad, Rejected)
    before = set(tmp_path.iterdir())
    typed(remedy_for(bad).do)
    (made,) = set(tmp_path.iterdir()) - before
    renamed = records(made)
    assert [getattr(one, "shape", one) for one in renamed] == [shape] * 3


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz", "a.arrow", "a.feather"]
)
def test_D06_a_bad_row_comes_with_a_line_that_shows_it(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [{"text": "good"}, {"text": "  "}, {"text": "fine"}])
    (bad,) = [one for one in records(path) if isinstance(one, Rejected)]
    shown = typed(remedy_for(bad).do)
    assert "  " in shown
    assert "good" not in shown
    assert "fine" not in shown


@pytest.mark.parametrize(
    ("file", "do"),
    [
        ("https://h/a.jsonl", "curl -sL https://h/a.jsonl | sed -n 7p"),
        ("https://h/a.jsonl.zst", "curl -sL https://h/a.jsonl.zst | zstdcat | sed -n 7p"),
        ("s3://b/a.jsonl.gz", "aws s3 cp s3://b/a.jsonl.gz - | zcat | sed -n 7p"),
        ("hf://o/n", "look at row 7"),
    ],
)
def test_rows_that_are_elsewhere_are_fetched_first(file: str, do: str) -> None:
    assert remedy_for(Rejected(file, 7, RejectReason.NOT_JSON)).do == do


def test_a_compressed_text_in_another_encoding_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("caf\u00e9".encode("latin-1")))
    (bad,) = records(path)
    assert isinstance(bad, Rejected)
    typed(remedy_for(bad).do)
    (good,) = records(f"{path}.utf8")
    assert isinstance(good, Record)
    assert good.text == "caf\u00e9"


def test_preference_data_is_refused_in_one_clear_line(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "c", "rejected": "r"}] * 3
    path = write(tmp_path / "a.jsonl", rows)
    rejected = [one for one in records(path) if isinstance(one, Rejected)]
    refusal = no_usable_records(find_sources([str(path)]), rejected, [])
    assert refusal.what == f"{path} is preference data, and Headway does not compare answers"
    assert refusal.need == "a single answer per prompt, or --preferred-only"
    assert refusal.remedies[0].do == "--preferred-only"


@pytest.mark.parametrize(
    ("row", "need"),
    [
        ({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]},
         "true or false: a turn is trained or not"),
        ({"input_ids": [1, 2, 3], "position_ids": [0, 1, 0]},
         "one sequence per row; Headway packs rows itself"),
        ({"question": "a", "answer": "b", "response": "c"}, "one question and one answer per row"),
        ({"messages": [{"role": "alien"}]}, "text, or rows with text, messages, conversations, "
         "prompt and completion or another question and its answer, or input_ids"),
    ],
)  # fmt: skip
def test_what_is_needed_depends_on_what_is_wrong(
    row: dict[str, Any], need: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    rejected = [one for one in records(path) if isinstance(one, Rejected)]
    assert no_usable_records(find_sources([str(path)]), rejected, []).need == need
