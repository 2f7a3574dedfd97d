"""Incident D: 34-token chats padded to 1,024: 97% of the work was padding. Now there is none."""

import json
import random

from .conftest import Headway


def sums(num: int) -> str:
    """Chats of mean 34 tokens under the byte-level tokenizer, at most 67."""
    draw = random.Random(0)
    lines: list[str] = []
    for _ in range(num):
        a, b = draw.randrange(100), draw.randrange(100)
        aside = "x" * draw.choice([0, 0, 0, 3, 4, 5, 8, 11, 40])
        messages = [
            {"role": "user", "content": f"{a}+{b}{aside}"[:46]},
            {"role": "assistant", "content": str(a + b)},
        ]
        lines.append(json.dumps({"messages": messages}) + "\n")
    return "".join(lines)


def test_d_b01_f28_short_chats_at_max_length_1024_are_not_padded(headway: Headway) -> None:
    headway.write("chats.jsonl", sums(10_000))
    settings = ["--preset", "tiny", "--max-length", 1024, "--batch-size", 64, "--max-steps", 20]
    planned = headway("plan", "chats.jsonl", *settings)
    assert planned.code == 0, planned.err
    assert "97%" in planned.out
    plan = headway("plan", "chats.jsonl", *settings, "--json").json
    assert plan["data"]["records"]["accepted"] == 10_000
    assert 30 <= plan["data"]["lengths"]["mean"] <= 36
    assert plan["data"]["lengths"]["max"] <= 67
    assert 0.96 <= plan["data"]["padding_to_max"] <= 0.98
    assert plan["data"]["padding"] <= 0.10

    told = headway("train", "chats.jsonl", *settings)
    assert told.code == 0, told.err
    receipt = headway.receipt("chats")
    assert receipt["tokens"]["padding_share"] <= 0.10
    steps = [e for e in headway.events("chats") if e["event"] == "step_done"]
    assert all(e["computed_tokens"] <= 64 * 67 for e in steps)
    assert sum(e["computed_tokens"] for e in steps) == receipt["tokens"]["input"]
    assert receipt["rows"]["applications"] == 64 * 20
