"""Each answer is trained with its end, whatever a template does once more turns follow."""

import hashlib

import pytest
from tests.data.examples.talks import (
    CALLING,
    ENDS_ONCE,
    NEXT_ENDS,
    PLAIN,
    THINKS,
    THREE_TURNS,
    Messages,
    assistant,
    call,
    end_tokens,
    make,
    result,
    system,
    trained,
    user,
)

from headway.data.examples.chatml import CHATML
from headway.data.examples.examples import Example
from headway.data.examples.notes import ExampleNote
from headway.data.formats.records import Rejected, RejectReason


def test_answers_end_in_their_own_token_where_the_last_one_has_another_behind_it() -> None:
    made = make(ENDS_ONCE, THREE_TURNS)
    assert trained(made) == ["1 one<|end|>", "2 two<|end|>", "3 three<|end|>\n</s>"]
    assert end_tokens(made) == {"<|end|>", "</s>"}
    assert isinstance(made, Example)
    assert made.notes == ()


def test_an_answer_ends_with_the_first_token_of_the_next_turn_where_it_has_no_end() -> None:
    made = make(NEXT_ENDS, THREE_TURNS)
    assert trained(made) == ["1 one<|user|>", "2 two<|user|>", "3 three"]
    assert end_tokens(made) == {"<|user|>"}
    assert isinstance(made, Example)
    assert made.notes == (ExampleNote.WITHOUT_END,)


def test_a_single_turn_without_an_end_is_noted() -> None:
    made = make(NEXT_ENDS, [user("hi"), assistant("hello")])
    assert trained(made) == ["hello"]
    assert isinstance(made, Example)
    assert (made.notes, made.ends) == ((ExampleNote.WITHOUT_END,), frozenset())


def test_a_tool_call_without_reasoning_is_trained_as_later_turns_show_it() -> None:
    made = make(THINKS, CALLING)
    assert trained(made) == [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|end|>',
        "<think>\n\n</think>\n\n21 degrees.<|end|>",
    ]
    assert isinstance(made, Example)
    assert made.notes == (ExampleNote.WITHOUT_BLOCK,)


def test_a_tool_call_with_reasoning_is_trained_with_it() -> None:
    messages = [user("?"), call(reasoning_content="since"), result("21"), assistant("21")]
    first, last = trained(make(THINKS, messages))
    assert first.startswith("<think>\nsince\n</think>\n\n<tool_call>")
    assert last == "<think>\n\n</think>\n\n21<|end|>"


def test_answers_without_reasoning_are_all_trained_in_a_template_for_reasoning() -> None:
    made = make(THINKS, THREE_TURNS)
    last = "<think>\n\n</think>\n\n3 three<|end|>"
    assert trained(made) == ["1 one<|end|>", "2 two<|end|>", last]


@pytest.mark.parametrize(
    ("source", "messages", "reasons"),
    [
        pytest.param(
            THINKS,
            [user("a"), assistant("b", reasoning_content="since"), user("c"), assistant("d")],
            [ExampleNote.REASONING_DROPPED],
            id="its reasoning is dropped",
        ),
        pytest.param(
            THINKS,
            [user("a"), assistant("b", reasoning_content="since"), assistant("c"),
             user("d"), assistant("e")],
            [ExampleNote.REASONING_DROPPED, ExampleNote.EARLIER_REWRITTEN],
            id="what it answers is rewritten",
        ),
        pytest.param(
            ENDS_ONCE.replace("+ '<|end|>\\n'", "+ (eos_token if loop.last else '<|end|>')")
            .replace("{% else %}{{ eos_token }}", ""),
            THREE_TURNS,
            [ExampleNote.OTHER_END] * 2,
            id="it ends in another token",
        ),
        pytest.param(
            ENDS_ONCE.replace("m.content +", "(m.content if loop.last else m.content[:2]) +"),
            [user("a"), *THREE_TURNS[1:2], user("b"), *THREE_TURNS[3:4], user("c"), assistant("d")],
            [ExampleNote.CONTEXT_ONLY] * 2,
            id="it is shortened",
        ),
        pytest.param(
            "{% if not messages %}{{ raise_exception('nothing') }}{% endif %}" + ENDS_ONCE,
            [assistant("Welcome."), user("a"), assistant("b")],
            [ExampleNote.NOT_ALONE],
            id="the template does not render what is before it",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_is_context_only_says_why(
    source: str, messages: Messages, reasons: list[ExampleNote]
) -> None:
    made = make(source, messages)
    assert isinstance(made, Example), made
    context_only = [note for note in made.notes if note in list(ExampleNote)[:5]]
    assert context_only == reasons
    assert len(trained(made)) == sum(m["role"] == "assistant" for m in messages) - len(reasons)


def test_a_conversation_without_an_answer_that_stays_is_rejected_with_the_reason() -> None:
    # The system's words are in the last question only, as in Mistral's templates.
    source = (
        "{% set first = messages[0].content %}{% for m in messages[1:] %}{% if m.role == 'user' %}"
        "<|user|>{{ (first if loop.last) ~ m.content }}{% else %}{{ m.content }}</s>{% endif %}"
        "{% endfor %}"
    )
    made = make(source, [system("Be brief."), user("a"), assistant("b")])
    assert made == Rejected(
        "f",
        1,
        RejectReason.TEMPLATE_CHANGES_EARLIER_TURNS,
        ExampleNote.EARLIER_REWRITTEN.value,
    )


@pytest.mark.parametrize("content", ["a [link](x) <b>", "<tool> is a tag", "[1] first", " \n x"])
def test_words_that_look_like_tags_are_trained_whole(content: str) -> None:
    messages = [user("a"), assistant(content), user("b"), assistant(content)]
    said = content.strip()
    assert trained(make(PLAIN, messages)) == [f"{said}<|eot|>"] * 2
    assert trained(make(ENDS_ONCE, messages)) == [f"{content}<|end|>", f"{content}<|end|>\n</s>"]
    first, last = trained(make(THINKS, messages))
    assert first == f"{content}<|end|>"
    assert last == f"<think>\n\n</think>\n\n{content}<|end|>"


def test_plain_conversations_have_the_tokens_and_flags_that_they_had() -> None:
    """Recorded before answers were located in other ways than by an equal beginning."""
    conversations = [
        [user("Hi there"), assistant("Hello you")],
        [system("Be brief."), user("a b"), assistant("c"), user("d"), assistant("e")],
        [user("caf\u00e9 \u65e5\u672c"), assistant("na\u0131\u0308ve <b>&amp;</b>")],
        [user("  a\n\n"), assistant("\n\n  b\t\n"), user("\n"), assistant(" c d \n\n")],
        [user("a"), assistant("b"), assistant("c"), user("d"), assistant("e")],
        [user("a"), assistant("b", train=False), user("c"), assistant("d"), user("e")],
    ]
    found = {}
    for name, source in {"ChatML": CHATML, "plain": PLAIN, "next": NEXT_ENDS}.items():
        digest = hashlib.sha256()
        for messages in conversations:
            for assistant_only in (True, False):
                made = make(source, messages, assistant_only=assistant_only)
                assert isinstance(made, Example), made
                digest.update(made.ids.tobytes() + made.trained.tobytes())
        found[name] = digest.hexdigest()[:16]
    assert found == {
        "ChatML": "2f530dea92409634",
        "plain": "661e68411bfd3b37",
        "next": "35fe4cc0b5c7d0a5",
    }
