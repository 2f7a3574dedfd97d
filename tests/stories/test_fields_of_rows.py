"""What the fields of a row say is done, refused or counted: from the command to the receipt."""

import json
from pathlib import Path
from typing import Any

from .conftest import Headway
from .test_what_is_trained import model

TEMPLATES = Path(__file__).parents[1] / "data" / "examples" / "templates"
ASKED = {"role": "user", "content": "Is it warm in Rome?"}
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {}}}


def write(headway: Headway, name: str, rows: list[Any]) -> str:
    return headway.write(name, "".join(json.dumps(row) + "\n" for row in rows)).name


def openai_row(number: int) -> dict[str, Any]:
    """A row as OpenAI's fine-tuning takes it: today's spelling, or the former one."""
    call = {"name": "weather", "arguments": '{"city": "Rome"}'}
    is_former = number % 2
    called = {"function_call": call} if is_former else {
        "tool_calls": [{"id": "c1", "type": "function", "function": call}]
    }  # fmt: skip
    result = {"role": "function", "name": "weather"} if is_former else {
        "role": "tool", "tool_call_id": "c1"
    }  # fmt: skip
    tools = {"functions": [TOOL]} if is_former else {
        "tools": [{"type": "function", "function": TOOL}], "parallel_tool_calls": False
    }  # fmt: skip
    messages = [
        ASKED,
        {"role": "assistant", "content": "WRONG", "weight": 0},
        ASKED,
        {"role": "assistant", "content": None, **called, "weight": 1},
        {**result, "content": "21"},
        {"role": "assistant", "content": f"It has 21 degrees, {number}."},
    ]
    return {"messages": messages, **tools}


def test_openais_file_trains_end_to_end(headway: Headway) -> None:
    rows = write(headway, "openai.jsonl", [openai_row(n) for n in range(8)])
    folder = model(headway, (TEMPLATES / "tools.jinja").read_text())
    planned = headway("plan", rows, "--model", folder, "--json")
    assert planned.code == 0, planned.err
    data = planned.json["data"]
    assert data["records"] == {"read": 8, "rejected": {}, "accepted": 8}
    assert data["notes"] == {"rows have fields that are not read: parallel_tool_calls": 4}
    trained = headway("train", rows, "--model", folder, "--max-steps", 2, "--batch-size", 4)
    assert trained.code in (0, 4), (
        trained.err
    )  # 4: two steps may not show that anything was learned
    receipt = headway.receipt("openai")
    assert receipt["contract"]["verdict"] == "kept"
    everything = [json.loads(json.dumps(openai_row(n)).replace('"weight": 0', '"weight": 1'))
                  for n in range(8)]  # fmt: skip
    more = headway("plan", write(headway, "all.jsonl", everything), "--model", folder, "--json")
    wrong = len("WRONG") + 1  # bytes, and the token that ends the turn
    assert more.json["data"]["trained_tokens"] - data["trained_tokens"] == 8 * wrong


def test_preferences_are_refused_and_the_remedy_trains_the_preferred_answers(
    headway: Headway,
) -> None:
    pairs = [{"prompt": f"{n}?", "chosen": "GOOD", "rejected": "BAD"} for n in range(6)]
    told = [{"prompt": f"{n}?", "completion": c, "label": n % 2} for n, c in
            enumerate(("BAD", "GOOD") * 3)]  # fmt: skip
    rows = write(headway, "pairs.jsonl", [*pairs, *told])
    refused = headway("train", rows, "--preset", "tiny")
    assert refused.code == 3
    assert refused.err.startswith("pairs.jsonl is preference data")
    assert "try   --preferred-only" in refused.err
    assert not (headway.here / "runs").exists()
    trained = headway("train", rows, "--preset", "tiny", "--preferred-only")
    assert trained.code == 0, trained.err
    receipt = headway.receipt("pairs")
    assert receipt["rows"]["rejected"] == {"not a preferred answer": 3}
    assert receipt["rows"]["trained"] == 9
    assert "6 answers left out: another one is preferred" in " ".join(trained.out.split())
    assert headway("eval", "pairs", rows).code == 3
    evaluated = headway("eval", "pairs", rows, "--preferred-only", "--json")
    assert evaluated.json["rows"] == 9
    rejected = (headway.here / "runs" / "pairs" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in rejected] == [7, 9, 11]


def test_padding_is_not_trained_and_fields_that_are_not_read_are_named(headway: Headway) -> None:
    padded = {"input_ids": [0, 0, 5, 6, 7, 8, 0], "attention_mask": [0, 0, 1, 1, 1, 1, 0]}
    lines = [json.dumps({**padded, "id": n})[:-1] + ', "score": NaN}\n' for n in range(4)]
    headway.write("ids.jsonl", "".join(lines))
    told = headway("plan", "ids.jsonl", "--preset", "tiny")
    assert told.code == 0, told.err
    said = " ".join(told.out.split())
    assert "12 of 16 trained" in said
    assert "12 padding tokens cut" in said
    assert "4 rows have fields that are not read: id, score" in said
