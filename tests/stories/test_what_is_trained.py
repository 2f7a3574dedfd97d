"""Of a conversation the answers are trained, exactly these, and it is said which."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from headway.data.examples.tokenizer import TURN_END, byte_level

from .conftest import Headway


def talk(*contents: str, **of_answers: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages: list[dict[str, Any]] = [
        {"role": roles[n % 2], "content": one} for n, one in enumerate(contents)
    ]
    for message in messages[1::2]:
        message.update(of_answers)
    return {"messages": messages}


def write(headway: Headway, *rows: dict[str, Any]) -> str:
    return headway.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows)).name


def untrained_answers(headway: Headway) -> list[object]:
    return [write(headway, *[talk("Hi", "Hello", train=False)] * 8), "--preset", "tiny"]


def masked_labels(headway: Headway) -> list[object]:
    row = {"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}
    return [write(headway, *[row] * 8), "--preset", "tiny"]


def marks_everything(headway: Headway) -> list[object]:
    template = "{% generation %}{{ messages[0].content + messages[1].content }}{% endgeneration %}"
    rows = write(headway, *[talk("Hi", "Hello")] * 8)
    return [rows, "--model", model(headway, template)]


def model(headway: Headway, template: str) -> str:
    """Somebody's small model, with a chat template of its own."""
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    words = byte_level().with_end_token(TURN_END)
    config = transformers.LlamaConfig(vocab_size=words.vocab_size, **shape, **heads)
    transformers.LlamaForCausalLM(config).save_pretrained(headway.here / "model")
    words.with_template(template).save(headway.here / "model")
    return "model"


@pytest.mark.parametrize("prepare", [untrained_answers, masked_labels, marks_everything])
def test_F27_T10_data_that_would_train_nothing_or_everything_is_refused_before_step_1(
    headway: Headway, prepare: Callable[[Headway], list[object]]
) -> None:
    told = headway("train", *prepare(headway))
    assert told.code == 3, told.err
    assert told.err.startswith("rows.jsonl:1: no ")
    assert "Traceback" not in told.err
    assert not (headway.here / "runs").exists()


# As many models have it: no marks, and only the last answer keeps its reasoning.
FORGETS = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}
{{- m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_T10_T12_a_template_without_marks_trains_the_answers_and_the_plan_shows_them(
    headway: Headway,
) -> None:
    rows = [talk("Hi", "Hello", "More?", "Much") for _ in range(8)]
    told = headway("plan", write(headway, *rows), "--model", model(headway, FORGETS), "--json")
    assert told.code == 0, told.err
    data = told.json["data"]
    assert "\u00abHello<|im_end|>\u00bb" in data["marked_example"]
    assert "\u00abMuch<|im_end|>\u00bb" in data["marked_example"]
    assert data["trained_tokens"] == 8 * (len("Hello") + 1 + len("Much") + 1)
    assert data["notes"] == {}


def test_T10_answers_that_the_template_rewrites_are_context_and_counted(headway: Headway) -> None:
    rows = [talk("Hi", "Hello", "More?", "Much", reasoning_content="So.") for _ in range(8)]
    words = [write(headway, *rows), "--model", model(headway, FORGETS)]
    told = headway("plan", *words)
    assert told.code == 0, told.err
    assert "8 answers used as context only" in told.out
    data = headway("plan", *words, "--json").json["data"]
    assert list(data["notes"].values()) == [8]
    assert "\u00ab<think>So.</think>Much<|im_end|>\u00bb" in data["marked_example"]
    assert "\u00abHello" not in data["marked_example"]
