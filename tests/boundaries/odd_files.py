"""Odd and hostile data files, and files with changes by chance."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

TEXT = "A line of text.\nAnd another one, somewhat longer.\n"
ROWS: tuple[Any, ...] = (
    {"text": TEXT},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    {"prompt": "2 + 2", "completion": "4"},
    {"instruction": "Add.", "input": "2, 2", "output": "4"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
    {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
)
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e308, 10**30, "", "\x00", "\ud800", [], {}, [[]], [None], {"a": []}),
    *("x" * 5000, [1] * 50, {"role": "user"}, [{"role": "user"}], float("nan"), "tool", ["a", 1]),
)


def bracket(depth: int) -> bytes:
    return b'{"text": ' + b"[" * depth + b"]" * depth + b"}\n"


def packed_bomb(num_bytes: int) -> bytes:
    """A gzip of spaces."""
    held = io.BytesIO()
    with gzip.open(held, "wb") as file:
        for _ in range(num_bytes >> 20):
            file.write(b" word" * (1 << 18))
    return held.getvalue()


def odd_row(draws: Random) -> Any:
    """A row with some values replaced, removed or added."""
    row = json.loads(json.dumps(draws.choice(ROWS)))
    for _ in range(draws.choice((0, 1, 1, 2))):
        at: Any = row
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draws.choice(keys)
            if draws.random() < 0.5 or not isinstance(at[key], dict | list):
                if draws.random() < 0.2:
                    del at[key]
                else:
                    at[key] = deepcopy(draws.choice(ODD))
                break
            at = at[key]
    return row


def _line(row: Any) -> bytes:
    return json.dumps(row).encode(errors="surrogatepass")


def _jsonl(draws: Random) -> bytes:
    lines = [_line(odd_row(draws)) for _ in range(draws.randrange(1, 9))]
    return draws.choice((b"\n", b"\r\n", b"\n\n")).join(lines) + draws.choice((b"", b"\n"))


def _json(draws: Random) -> bytes:
    rows = [odd_row(draws) for _ in range(draws.randrange(1, 9))]
    return json.dumps(draws.choice((rows, {"data": rows}, rows[0]))).encode()


def _csv(draws: Random) -> bytes:
    header = draws.choice(
        ("text", "prompt,completion", "instruction,input,output", "a,b", "text,text")
    )
    cells = ("a", '"a, b"', '"', "", "\x00", '"a\nb"', "é", "1", "x" * 300)
    rows = [
        ",".join(draws.choice(cells) for _ in range(draws.randrange(1, 4)))
        for _ in range(draws.randrange(0, 6))
    ]
    return "\n".join([header, *rows]).encode()


def _text(draws: Random) -> bytes:
    words = ("word ", "\n", "\r\n", "é", "\x00", "\u2028", "{", "[", '"', "\ufeff", "日本")
    return "".join(draws.choice(words) for _ in range(draws.randrange(0, 200))).encode()


def _parquet(draws: Random) -> bytes:
    import pyarrow
    from pyarrow import parquet

    name = draws.choice(("text", "messages", "prompt", "other", "input_ids"))
    values: dict[str, Any] = {
        "text": ["a", None, "b" * 300],
        "messages": [ROWS[1]["messages"], [], None],
        "prompt": ["a", "b", "c"],
        "other": [1, 2, 3],
        "input_ids": [[1, 2], [], None],
    }
    held = io.BytesIO()
    parquet.write_table(pyarrow.table({name: values[name]}), held)
    return held.getvalue()


MAKERS: dict[str, Callable[[Random], bytes]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _text,
    ".md": _text,
    ".parquet": _parquet,
    "": _jsonl,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def _damaged(data: bytes, draws: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.choice((0, 0, 1, 3))):
        at = draws.randrange(len(changed) + 1)
        match draws.randrange(4):
            case 0:
                changed[at : at + 1] = draws.randbytes(1)
            case 1:
                del changed[at : at + draws.randrange(1, 40)]
            case 2:
                changed[at:at] = draws.randbytes(draws.randrange(1, 9))
            case _:
                del changed[at:]
    return bytes(changed)


def file_by_chance(folder: Path, draws: Random) -> tuple[Path, bytes]:
    """A file, damaged or not; its content as it was before it was packed."""
    suffix, packing = draws.choice(list(MAKERS)), draws.choice(["", "", "", *PACKERS])
    content = _damaged(MAKERS[suffix](draws), draws)
    packed = PACKERS[packing](content)
    path = folder / f"data{suffix}{packing}"
    path.write_bytes(_damaged(packed, draws) if packing and draws.random() < 0.5 else packed)
    return path, content
