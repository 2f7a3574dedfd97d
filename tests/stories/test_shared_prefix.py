"""A system prompt that every chat begins with runs once a step, and the receipt counts it."""

import json

from .conftest import Headway

SYSTEM = "You answer sums with a number and nothing else, whatever is said besides. " * 8
SETTINGS = ["--preset", "tiny", "--batch-size", 8, "--max-steps", 4]


def sums(system: str, num: int = 40) -> str:
    lines: list[str] = []
    for n in range(num):
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": f"{n}+{n * n}"},
            {"role": "assistant", "content": str(n + n * n)},
        ]
        lines.append(json.dumps({"messages": messages}) + "\n")
    return "".join(lines)


def test_a_system_prompt_runs_once_a_step(headway: Headway) -> None:
    headway.write("chats.jsonl", sums(SYSTEM))
    planned = headway("plan", "chats.jsonl", *SETTINGS)
    assert planned.code == 0, planned.err
    said = " ".join(planned.out.split())
    plan = headway("plan", "chats.jsonl", *SETTINGS, "--json").json
    assert plan["steps"]["share_prefixes"]
    assert 0.7 <= plan["data"]["shared"] <= 7 / 8
    assert plan["data"]["not_shared"] == ""
    assert 0.5 <= plan["time"]["saved"]["shared"] <= plan["data"]["shared"] + 0.01
    assert f"shared prefixes {100 * plan['data']['shared']:.0f}%: saves " in said

    told = headway("train", "chats.jsonl", *SETTINGS)
    assert told.code == 0, told.err
    receipt = headway.receipt("chats")
    assert receipt["contract"]["verdict"] == "kept"
    tokens, steps = receipt["tokens"], headway.events("chats")
    computed = [e["computed_tokens"] for e in steps if e["event"] == "step_done"]
    assert tokens["shared"] == tokens["input"] - sum(computed)
    assert tokens["shared"] >= 4 * 7 * len(SYSTEM)
    assert (tokens["padding"], receipt["rows"]["applications"]) == (0, 4 * 8)
    assert f"{tokens['shared']:,} in shared prefixes" in " ".join(told.out.split())
    verified = headway("verify", "runs/chats")
    assert verified.code == 0, verified.out + verified.err
