"""Conversations with transformers' Trainer: padded to max_length, to the longest, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timed_trainer import Row, arguments, load_tokenizer, train
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    PreTrainedTokenizerFast,
)


def main() -> None:
    """Tokenise, train, write what happened."""
    asked = arguments("max_length", "longest", "flat")
    plan = json.loads(asked.plan.read_text())
    tokenizer = load_tokenizer(asked.tokenizer)
    rows = _rows(asked.data, tokenizer)
    num_answers = sum(label != -100 for row in rows for label in row["labels"])
    assert num_answers == plan["data"]["trained_tokens"], "not the answers that Headway trains on"
    collate = _collator(asked.padding, tokenizer, plan["data"]["max_length"])
    train(plan, rows, collate, asked.steps or plan["steps"]["num"], asked.result)


def _rows(path: Path, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    chats = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    encoded = tokenizer.apply_chat_template(
        chats, return_dict=True, return_assistant_tokens_mask=True
    )
    rows: list[Row] = []
    for ids, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        # The line break behind the last answer teaches nothing: the row ends before it.
        end = len(mask) - mask[::-1].index(1)
        labels = [token if m else -100 for token, m in zip(ids[:end], mask[:end], strict=True)]
        rows.append({"input_ids": ids[:end], "labels": labels})
    return rows


def _collator(
    padding: str, tokenizer: PreTrainedTokenizerFast, max_length: int
) -> Callable[..., Any]:
    if padding == "flat":
        return DataCollatorWithFlattening()
    return DataCollatorForSeq2Seq(tokenizer, padding=padding, max_length=max_length)


if __name__ == "__main__":
    main()
