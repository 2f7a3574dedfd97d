"""Our ChatML writes tools, calls, results and reasoning in the form that other programs parse."""

import json

import pytest
from tests.data.examples.talks import (
    CALLING,
    TOOL,
    WORDS,
    Messages,
    assistant,
    call,
    make,
    result,
    system,
    trained,
    user,
)

from headway.data.examples.chat import Template
from headway.data.examples.chatml import CHATML, chatml_for
from headway.data.examples.tokenizer import TURN_END, byte_level

BYTES = byte_level()
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (
            [system("s"), user("a"), assistant("b")],
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>assistant\nb<|im_end|>\n",
        ),
        (
            [user("a"), assistant("b", reasoning_content="\nsince\n")],
            "<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nsince\n</think>\n\nb<|im_end|>\n",
        ),
        (
            [user("a"), call("Let me look."), result("1"), result("2"), assistant("3")],
            "<|im_start|>user\na<|im_end|>\n"
            f"<|im_start|>assistant\nLet me look.\n{CALL}<|im_end|>\n"
            "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n"
            "<tool_response>\n2\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n3<|im_end|>\n",
        ),
        (
            [user("a"), assistant(None, tool_calls=call()["tool_calls"] * 2)],
            f"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{CALL}\n{CALL}<|im_end|>\n",
        ),
        (
            [user("a"), assistant("", tool_calls=[{"name": "f", "arguments": '{"é": 1}'}])],
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
            '<tool_call>\n{"name": "f", "arguments": {"é": 1}}\n</tool_call><|im_end|>\n',
        ),
    ],
    ids=["plain", "reasoning", "results", "two calls", "arguments as text"],
)
def test_what_is_written(messages: Messages, text: str) -> None:
    assert Template(BYTES, CHATML).render(messages) == text


@pytest.mark.parametrize("first", [[], [system("Be brief.")]], ids=["alone", "system"])
def test_tools_are_in_the_system_turn_one_a_line(first: Messages) -> None:
    text = Template(BYTES, CHATML).render([*first, user("a"), assistant("b")], [TOOL, TOOL])
    turn = text.split(TURN_END)[0]
    begin = "<|im_start|>system\n" + ("Be brief.\n\n" if first else "") + "# Tools\n\n"
    assert turn.startswith(begin)
    listed = turn.split("<tools>\n")[1].split("\n</tools>")[0].splitlines()
    assert [json.loads(line) for line in listed] == [TOOL, TOOL]
    assert text.count("<|im_start|>") == 3
    assert text.endswith("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n")


def test_calls_and_reasoning_are_trained() -> None:
    assert trained(make(CHATML, CALLING, tools=(TOOL,))) == [
        f"{CALL}<|im_end|>",
        "21 degrees.<|im_end|>",
    ]
    messages = [user("a"), assistant("b", reasoning_content="c"), user("d"), assistant("e")]
    assert trained(make(CHATML, messages)) == [
        "<think>\nc\n</think>\n\nb<|im_end|>",
        "e<|im_end|>",
    ]


def test_a_model_with_another_end_ends_every_turn_in_it() -> None:
    class Unaware(type(BYTES)):
        def id_of(self, token: str) -> int | None:
            return None if token == TURN_END else super().id_of(token)

    source = chatml_for(Unaware(WORDS.files, "a model"))
    text = Template(WORDS, source).render(CALLING, [TOOL])
    assert TURN_END not in text
    assert text.count("</s>") == 5
