"""What a template does not write is counted, and an answer of which nothing is left is rejected."""

from collections import Counter

import pytest
from tests.data.examples.talks import (
    CALLING,
    ENDS_ONCE,
    PLAIN,
    THINKS,
    TOOL,
    Messages,
    assistant,
    call,
    make,
    result,
    system,
    trained,
    user,
)

from headway.data.examples.chatml import CHATML
from headway.data.examples.examples import Example
from headway.data.examples.lost_parts import LostParts, PartFinder, reasoning_of
from headway.data.examples.notes import LOST, ExampleNote
from headway.data.formats.records import Rejected, RejectReason

REASONED = [user("17*3?"), assistant("51", reasoning_content="10*3+7*3")]
INLINE = [user("17*3?"), assistant("<think>\n10*3+7*3\n</think>\n51")]
WITHOUT_SYSTEM = PLAIN.replace("in messages", "in messages if m.role not in ['system', 'tool']")
DROPS_TEXT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.tool_calls | tojson if m.tool_calls else "
    "m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FIRST_CALL_ONLY = DROPS_TEXT.replace("m.tool_calls | tojson", "m.tool_calls[0] | tojson")
TWO_CALLS = call()["tool_calls"] * 2


@pytest.mark.parametrize(
    ("source", "messages", "lost"),
    [
        (PLAIN, [user("a"), assistant("b")], []),
        (PLAIN, [system("s"), user("a"), assistant("b")], []),
        (PLAIN, REASONED, [ExampleNote.REASONING_LOST]),
        (PLAIN, [user("a"), call("Let me look."), result("21"), assistant("21")],
         [ExampleNote.CALLS_LOST]),
        (WITHOUT_SYSTEM, [system("s"), user("a"), assistant("b")], [ExampleNote.SYSTEM_LOST]),
        (WITHOUT_SYSTEM, [user("a"), call("x"), result("1"), result("2"), assistant("3")],
         [ExampleNote.CALLS_LOST, ExampleNote.RESULTS_LOST, ExampleNote.RESULTS_LOST]),
        (DROPS_TEXT, CALLING, []),
        (DROPS_TEXT, INLINE, [ExampleNote.REASONING_LOST]),
        (DROPS_TEXT, [user("a"), call("Let me look."), result("1"), assistant("2")],
         [ExampleNote.CONTENT_LOST]),
        (FIRST_CALL_ONLY, [user("a"), assistant(None, tool_calls=TWO_CALLS), assistant("b")],
         [ExampleNote.CALLS_LOST]),
        (THINKS, REASONED, []),
        (THINKS, [*REASONED, user("+1?"), assistant("52")], []),  # context only, with its reason
        (THINKS, CALLING, []),
        (CHATML, CALLING, []),
        (CHATML, REASONED, []),
        (CHATML, INLINE, []),
    ],
)  # fmt: skip
def test_parts_that_leave_no_trace_are_counted(
    source: str, messages: Messages, lost: list[ExampleNote]
) -> None:
    made = make(source, messages)
    assert isinstance(made, Example), made
    assert Counter(note for note in made.notes if note in LOST) == Counter(lost)


@pytest.mark.parametrize(("source", "is_lost"), [(PLAIN, True), (CHATML, False)])
def test_tools_that_leave_no_trace_are_counted(source: str, is_lost: bool) -> None:
    made = make(source, [user("a"), assistant("b")], tools=(TOOL,))
    assert isinstance(made, Example), made
    assert (ExampleNote.TOOLS_LOST in made.notes) is is_lost


@pytest.mark.parametrize("assistant_only", [True, False])
@pytest.mark.parametrize("keep_empty_answers", [True, False])
@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (CALLING, RejectReason.CALLS_NOT_WRITTEN),
        ([user("weather in Rome?"), call(None), result("21")], RejectReason.CALLS_NOT_WRITTEN),
        ([user("17*3?"), assistant("", reasoning_content="51")],
         RejectReason.REASONING_NOT_WRITTEN),
    ],
)  # fmt: skip
def test_an_answer_of_which_the_template_writes_nothing_is_rejected_in_any_case(
    messages: Messages, reason: RejectReason, keep_empty_answers: bool, assistant_only: bool
) -> None:
    made = make(
        PLAIN, messages, assistant_only=assistant_only, keep_empty_answers=keep_empty_answers
    )
    assert made == Rejected("f", 1, reason, "message 2 has nothing else")


def test_an_answer_that_is_only_reasoning_between_tags_is_rejected_where_these_are_cut_off() -> (
    None
):
    made = make(DROPS_TEXT, [user("a"), assistant("<think>since</think>")])
    assert isinstance(made, Rejected)
    assert made.reason is RejectReason.ANSWER_NOT_WRITTEN


@pytest.mark.parametrize("content", ["", " \n", "<think>\n\n</think>\n", "<|end|>"])
@pytest.mark.parametrize(
    "source", [PLAIN, ENDS_ONCE, THINKS, CHATML], ids=["plain", "once", "thinks", "own"]
)
def test_an_empty_answer_is_rejected_unless_it_is_asked_for(source: str, content: str) -> None:
    messages = [user("a"), assistant("b"), user("c"), assistant(content)]
    assert make(source, messages) == Rejected("f", 1, RejectReason.EMPTY_ANSWER, "message 4")
    for asked in (True, False):
        made = make(source, messages, keep_empty_answers=True, assistant_only=asked)
        assert isinstance(made, Example)
        assert made.notes.count(ExampleNote.EMPTY) == 1
    assert isinstance(make(source, [*messages[:3], assistant(content, train=False)]), Example)


@pytest.mark.parametrize("content", ["<br>", "[DONE]", "0", "..."])
def test_short_answers_are_answers(content: str) -> None:
    assert trained(make(PLAIN, [user("a"), assistant(content)])) == [f"{content}<|eot|>"]


def test_a_conversation_is_looked_at_once_for_each_shape() -> None:
    rendered: list[object] = []

    def render(messages: object, tools: object) -> str:
        rendered.append(messages)
        return ""

    finder = PartFinder(render)
    for question in ("a", "b", "c"):
        found = finder.find([system(question), user(question), assistant("x")], None)
        assert found == LostParts((ExampleNote.SYSTEM_LOST,))
    assert len(rendered) == 1
    finder.find([user("a"), assistant("x")], None)  # nothing that could be lost
    assert len(rendered) == 1
    finder.find([system("a"), user("a"), assistant("x", reasoning_content="y")], None)
    assert len(rendered) == 3  # reasoning once more, in its own turn


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        (assistant("a"), ""),
        (assistant("a", reasoning_content="b"), "b"),
        (assistant("a", reasoning=" b\n"), "b"),
        (assistant("a", reasoning_content=None, thinking="b"), "b"),
        (assistant("<think>\n\n</think>\n\na"), ""),
        (assistant("b</think>a"), "b"),
        (assistant(None), ""),
    ],
)
def test_reasoning_is_found_by_all_its_names(message: dict[str, object], reasoning: str) -> None:
    assert reasoning_of(message) == reasoning
