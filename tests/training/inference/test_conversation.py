"""Conversation: what is a command, what is a message, and what the model is given."""

from collections.abc import Callable

import pytest

from headway.data.examples.jinja import RenderError
from headway.data.formats.records import RejectReason
from headway.training.inference.conversation import COMMANDS, Conversation, Message, Next


def written(messages: list[Message]) -> str:
    return "".join(f"{one['role']}: {one['content']}\n" for one in messages)


def contents(conversation: Conversation) -> list[str]:
    return [f"{one['role']}: {one['content']}" for one in conversation.messages]


def test_turns_are_remembered_until_they_are_cleared() -> None:
    talk = Conversation(written)
    assert talk.take("Hi").next is Next.ANSWER
    talk.answered("Hello.")
    assert talk.take("And?").next is Next.ANSWER
    assert contents(talk) == ["user: Hi", "assistant: Hello.", "user: And?"]
    assert talk.take("/clear").next is Next.LINE
    assert contents(talk) == []


def test_what_was_said_is_forgotten_and_instructions_stay() -> None:
    talk = Conversation(written)
    talk.take("/system Be brief.")
    talk.take("Hi")
    talk.answered("Hello.")
    talk.forget()
    assert contents(talk) == ["system: Be brief."]


def test_instructions_come_first_and_outlive_the_conversation() -> None:
    talk = Conversation(written)
    talk.take("Hi")
    talk.answered("Hello.")
    talk.take("/system  Be brief. ")
    assert contents(talk) == ["system: Be brief.", "user: Hi", "assistant: Hello."]
    talk.take("/clear")
    talk.take("/system Be kind.")
    assert contents(talk) == ["system: Be kind."]
    assert talk.take("/system").lines == ("no instructions",)
    assert contents(talk) == []


@pytest.mark.parametrize("line", ["/help", "/help ", "/HELP"])
def test_help_lists_every_command(line: str) -> None:
    reply = Conversation(written).take(line)
    assert reply.next is Next.LINE
    for typed, what in COMMANDS.values():
        assert any(typed in shown and what in shown for shown in reply.lines)
    assert max(map(len, reply.lines)) <= 60


@pytest.mark.parametrize("line", ["/x", "/quit now", "/Exit now", "/help me"])
def test_what_is_no_command_is_told_with_those_that_are(line: str) -> None:
    talk = Conversation(written)
    reply = talk.take(line)
    assert reply.next is Next.LINE
    assert line.split()[0].lower() in reply.lines[0]
    assert reply.lines[1:] == talk.take("/help").lines
    assert talk.messages == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/etc/hosts is empty", "/etc/hosts is empty"),
        ("/", "/"),
        ("/1", "/1"),
        (" /x is what?", "/x is what?"),
        ("and/or", "and/or"),
        ("  two spaces", "  two spaces"),
    ],
)
def test_what_only_begins_like_a_command_is_a_message(line: str, message: str) -> None:
    talk = Conversation(written)
    assert talk.take(line).next is Next.ANSWER
    assert talk.messages == [{"role": "user", "content": message}]


def test_an_exit_ends_and_an_empty_line_asks_nothing() -> None:
    talk = Conversation(written)
    assert talk.take("/exit").next is Next.END
    assert talk.take("  ").next is Next.LINE
    assert talk.messages == []


def refuses(messages: list[Message]) -> str:
    raise RenderError(RejectReason.TEMPLATE_FAILS, "System role not supported")


def leaves_out(messages: list[Message]) -> str:
    return written([one for one in messages if one["role"] != "system"])


@pytest.mark.parametrize(("template", "why"), [(refuses, "not supported"), (leaves_out, "out")])
def test_instructions_that_a_template_does_not_write_are_not_set(
    template: Callable[[list[Message]], str], why: str
) -> None:
    talk = Conversation(template)
    (said,) = talk.take("/system Be brief.").lines
    assert said.startswith("not set: ")
    assert why in said
    assert talk.messages == []
