"""Real conversations for a comparison: who speaks, what fits, and when a trial counts."""

import importlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "peers")
    return importlib.import_module


def dialogue(*messages: str) -> dict[str, Any]:
    """Each as "sender: a | b", which is one message that was sent in two parts."""
    split = [message.split(": ", 1) for message in messages]
    return {
        "messages": [
            [{"sender": sender, "text": text} for text in texts.split("|")]
            for sender, texts in split
        ]
    }


@pytest.mark.parametrize(
    ("said", "contents"),
    [
        (("a: Hi", "b: Hello"), ["Hi", "Hello"]),
        (("a: Hi | How are you?", "b: Well"), ["Hi\nHow are you?", "Well"]),
        (("a: Hi", "a: You there?", "b: Yes"), ["Hi\nYou there?", "Yes"]),
        (("a: Hi", "b:  ", "a: You there?", "b: Yes"), ["Hi\nYou there?", "Yes"]),
        (("a: Hi", "b: Hello", "a: So?"), ["Hi", "Hello"]),
        (("a: Hi", "b: Hello", "a: So?", "b: So!"), ["Hi", "Hello", "So?", "So!"]),
        (("a: Hi",), []),
        ((), []),
    ],
)
def test_a_dialogue_is_a_conversation_that_ends_with_an_answer(
    load: Load, said: tuple[str, ...], contents: list[str]
) -> None:
    messages = load("real").conversation(dialogue(*said))
    assert [one["content"] for one in messages] == contents
    assert [one["role"] for one in messages] == ["user", "assistant"] * (len(contents) // 2)


def test_the_first_that_are_answered_and_fit_are_taken(load: Load) -> None:
    real = load("real")
    said = [dialogue("a: 1", "b: 1"), dialogue("a: 2"), dialogue("a: 1025", "b: 3")]
    said += [dialogue("a: 1024", "b: 4"), dialogue("a: 5", "b: 5")]

    def tokens(messages: list[dict[str, str]]) -> int:
        return int(messages[0]["content"])

    chosen = list(real.conversations(said, tokens, 2))
    assert [one[1]["content"] for one in chosen] == ["1", "4"]
    with pytest.raises(ValueError, match="1 conversations too few"):
        list(real.conversations(said, tokens, 4))


def test_a_trial_counts_only_if_it_trained_the_plan_and_learned(load: Load) -> None:
    real, trials = load("real"), load("trials")
    plan = {"data": {"trained_tokens": 30}}

    def told(losses: list[float], trained: list[int]) -> Any:
        steps = trials.Steps([1.0, 3.0, 5.0], trained, trained, losses, 2_000_000)
        return real.figures(lambda: (0.0, steps), plan)

    found = told([4.0, 3.5, 3.0], [10, 12, 8])
    assert found[real.RATE] == 5.0, "the first step is not timed"
    assert (found[real.MEMORY], found["steps"]) == (2.0, 3)
    assert found["seconds"] >= 0
    with pytest.raises(trials.TrialError, match="trained 31 tokens, not the 30 of the plan"):
        told([4.0, 3.5, 3.0], [10, 12, 9])
    with pytest.raises(trials.TrialError, match=r"learned nothing: 3.000 -> 3.250"):
        told([3.0, 3.5, 3.0], [10, 12, 8])
