"""The rows of a work for the peers, made once, by transformers: ids and labels, a line a row.

Usage:
    python bench/peers/tokenise.py FOLDER {chats,text} DATA
"""

import array
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from timed_trainer import load_tokenizer
from transformers import PreTrainedTokenizerFast

Row = dict[str, list[int]]


def chats(path: Path, tokenizer: PreTrainedTokenizerFast, plan: dict[str, Any]) -> list[Row]:
    """Conversations, of which the answers are trained."""
    records = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    encoded = tokenizer.apply_chat_template(
        records, return_dict=True, return_assistant_tokens_mask=True
    )
    rows: list[Row] = []
    for ids, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        # The line break behind the last answer teaches nothing: the row ends before it.
        end = len(mask) - mask[::-1].index(1)
        labels = [token if m else -100 for token, m in zip(ids[:end], mask[:end], strict=True)]
        rows.append({"input_ids": ids[:end], "labels": labels})
    trained = sum(label != -100 for row in rows for label in row["labels"])
    assert trained == plan["data"]["trained_tokens"], "not the answers that Headway trains on"
    return rows


def text(path: Path, tokenizer: PreTrainedTokenizerFast, plan: dict[str, Any]) -> list[Row]:
    """Documents in one line, cut into blocks."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(path.glob("*.py"))]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    line = list(itertools.chain.from_iterable([*ids, tokenizer.eos_token_id] for ids in encoded))
    block = plan["data"]["max_length"]
    blocks = [line[at : at + block] for at in range(0, len(line) - block + 1, block)]
    return [{"input_ids": ids, "labels": ids} for ids in blocks]


def main(folder: Path, kind: str, data: Path) -> None:
    """Write rows.jsonl, and tokens.bin: the same ids in one line, 16 bits each."""
    plan = json.loads((folder / "plan.json").read_text())
    make = {"chats": chats, "text": text}[kind]
    rows = make(data, load_tokenizer(folder / "tokenizer"), plan)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ids = array.array("H", itertools.chain.from_iterable(row["input_ids"] for row in rows))
    (folder / "tokens.bin").write_bytes(ids.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
