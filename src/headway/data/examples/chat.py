"""Chat templates: rendering as transformers does it, with the position of each answer.

A template that marks its answers with `{% generation %}` states which characters are trained. For
any other template, an answer is the text that its message adds to the conversation so far:

    messages[:1] plus generation prompt   <|user|>Hi<|end|><|assistant|>
    messages[:2]                          <|user|>Hi<|end|><|assistant|>Hello!<|end|>
    trained                                                             ^^^^^^^^^^^^^

A row is one rendering of the whole conversation, so an answer is trained only where the row, up to
the end of that answer, equals what the model reads and writes at that turn. `answer_spans.py` says
what counts as equal where a template writes earlier turns otherwise. Any other answer is context
only and gets a note with the reason. A row ends with its last trained answer: later turns teach
nothing and cannot change what came before.

What a template does not write of a conversation is noted too (`lost_parts.py`). A conversation with
an answer that is nothing but its end, because it was empty or because the template lost it, is
rejected: it would teach the model to say nothing.
"""

import contextlib
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.budget import Budget, LimitReachedError, limited
from headway.data.examples.answer_spans import SpanLocator, Turn
from headway.data.examples.jinja import RENDER_BUDGET, Jinja, RenderError, Span
from headway.data.examples.lost_parts import LostParts, PartFinder, calls_of, reasoning_of
from headway.data.examples.notes import ExampleNote
from headway.data.examples.tokenizer import Tokenizer
from headway.data.formats.records import Record, Rejected, RejectReason

_MANY_MESSAGES = 100  # of a conversation
_THOUGHT_TAG = re.compile(r"</?[\w:]*think[\w:]*>|\[/?THINK\]")

Message = dict[str, Any]
Messages = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, ready to be tokenized.

    Attributes:
        answers: character spans [begin, end) of answers.
        inverted: False: train only the spans. True: train everything except the spans.
        notes: one note for each part that needs one.
    """

    text: str
    answers: tuple[Span, ...]
    inverted: bool = False
    notes: tuple[ExampleNote, ...] = ()


class Template:
    """A tokenizer's chat template.

    Args:
        tokenizer: supplies the special tokens that templates call `eos_token` and so on.
        source: Jinja source, as in chat_template.jinja. None: the tokenizer's own template, and
            its separate template for conversations with tools if it has one.
        now: the clock behind `strftime_now`.
        budget: of compiling it, and of each record; a long conversation has more time.

    Attributes:
        uses_date: whether it asks for the date.

    Raises:
        UsageError: the tokenizer has no template, or the template is not valid Jinja.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str | None = None,
        now: Callable[[], datetime] = datetime.now,
        budget: Budget = RENDER_BUDGET,
    ) -> None:
        with_tools = None if source else tokenizer.tool_template
        source = source or tokenizer.chat_template
        if source is None:
            raise UsageError(
                f"{tokenizer.origin} has no chat template",
                cause=Cause.TEMPLATE_INVALID,
                have="the tokenizer of a base model, not of a chat model",
                need="chat_template.jinja next to the tokenizer",
                remedies=(Remedy("headway generate", "continues a text instead"),),
            )
        self._variables, self._budget = tokenizer.special, budget
        name = f"{tokenizer.origin}: the chat template in {tokenizer.templates.file}"
        compiled = partial(Jinja, now=now, name=name, budget=budget)
        self._plain = compiled(source)
        self._with_tools = compiled(with_tools) if with_tools else self._plain
        self._spans = SpanLocator(tokenizer.special_tokens)
        self._parts = PartFinder(lambda messages, tools: self._render(messages, tools).text)
        self.uses_date = self._plain.uses_date or self._with_tools.uses_date

    def render(
        self,
        messages: Messages,
        tools: Messages | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """Render messages as text.

        Args:
            messages: in OpenAI's format.
            tools: JSON schemas of functions, passed to the template.
            add_generation_prompt: end with the start of an assistant turn.

        Raises:
            RenderError: the template fails on these messages.
            UsageError: it takes more memory or time than it may.
        """
        normalized = [_normalize(message) for message in messages]
        with self._within_budget("these messages", len(normalized)):
            return self._render(normalized, tools, add_generation_prompt).text

    def render_record(
        self, record: Record, *, assistant_only: bool, keep_empty_answers: bool = False
    ) -> Rendered | Rejected:
        """Render a conversation and locate the trained characters.

        Args:
            record: a conversation.
            assistant_only: train only the answers instead of everything. Either way, an answer
                whose message says `train: false` or `weight: 0` is not trained.
            keep_empty_answers: train answers without a word, if that is how they were written.

        Raises:
            UsageError: the template takes more memory or time than it may.
        """
        messages = [_normalize(message) for message in record.messages or ()]
        try:
            with self._within_budget(f"{record.file}:{record.line}", len(messages)):
                trained = [n for n in _answer_numbers(messages) if not _is_untrained(messages[n])]
                if assistant_only:
                    messages = _until_last(trained, messages)
                render = self._render_answers if assistant_only else self._render_everything
                rendered = render(messages, record.tools, trained)
                lost = self._parts.find(messages, record.tools)
                empty = self._check_answers(messages, trained, lost, keep_empty_answers)
                return replace(rendered, notes=(*rendered.notes, *lost.notes, *empty))
        except RenderError as error:
            return Rejected(record.file, record.line, error.reason, error.detail)

    @contextlib.contextmanager
    def _within_budget(self, what: str, num_messages: int) -> Generator[None]:
        """Refuse a template that exceeds its budget while it renders `what`."""
        budget = self._budget
        if num_messages > _MANY_MESSAGES:  # each answer is located by renderings of all before it
            longer = budget.cpu_s * (num_messages / _MANY_MESSAGES) ** 2
            budget = replace(budget, cpu_s=longer)
        try:
            with limited(budget):
                yield
        except LimitReachedError as error:
            raise self._plain.too_costly(error, f"to render {what}") from error

    def _render_answers(
        self, messages: Messages, tools: Messages | None, trained: Sequence[int]
    ) -> Rendered:
        rendered = self._render_with_answers(messages, tools, trained)
        said = [rendered.text[begin:end] for begin, end in rendered.answers]
        num_wordless = sum(map(self._spans.is_wordless, said))
        if any(said) and num_wordless > sum(self._is_blank(messages[n]) for n in trained):
            raise RenderError(RejectReason.ANSWER_NOT_WRITTEN, "it writes nothing but its end")
        return rendered

    def _render_everything(
        self, messages: Messages, tools: Messages | None, trained: Sequence[int]
    ) -> Rendered:
        untrained = [n for n in _answer_numbers(messages) if n not in trained]
        others = [_is_untrained(message) for message in messages if message["role"] != "assistant"]
        if others and all(others):
            return self._render_answers(_until_last(trained, messages), tools, trained)
        if any(others):
            raise RenderError(RejectReason.QUESTION_UNTRAINED, "some turns say train: false")
        if not untrained:
            return Rendered(self._render(messages, tools).text, (), inverted=True)
        rendered = self._render_with_answers(messages, tools, untrained)
        if len(rendered.answers) < len(untrained):
            raise _rewrites_earlier_turns(rendered.notes)
        return replace(rendered, inverted=True, notes=())

    def _render_with_answers(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int]
    ) -> Rendered:
        """Render all messages; locate the answers with these message numbers."""
        whole = self._render(messages, tools)
        if not self._jinja(tools).marks_answers:
            return self._answers_by_prefix(messages, tools, numbers, whole.text)
        if len(numbers) == len(_answer_numbers(messages)):
            return whole
        return self._select_marked(messages, tools, numbers, whole)

    def _select_marked(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int], whole: Rendered
    ) -> Rendered:
        """Keep the marks of some answers: a message owns the marks that it adds."""
        all_numbers = _answer_numbers(messages)
        ends = [0, *(len(self._render(messages[: n + 1], tools).answers) for n in all_numbers)]
        marks_of = dict(zip(all_numbers, pairwise(ends), strict=True))
        if ends[-1] != len(whole.answers) or any(a >= b for a, b in marks_of.values()):
            raise RenderError(RejectReason.TEMPLATE_MARK_AMBIGUOUS)
        kept = [mark for n in numbers for mark in whole.answers[slice(*marks_of[n])]]
        return replace(whole, answers=tuple(kept))

    def _answers_by_prefix(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int], row: str
    ) -> Rendered:
        found: list[Span] = []
        notes: list[ExampleNote] = []
        for number in numbers:
            try:
                located = self._spans.locate(self._turn(number, messages, tools, row))
            except RenderError:  # it accepts the whole conversation, but not this part of it
                located = ExampleNote.NOT_ALONE
            if isinstance(located, ExampleNote):
                notes.append(located)
                continue
            found.append((located.begin, located.end))
            notes += located.notes
        if not found:
            raise _rewrites_earlier_turns(notes)
        return Rendered(row, tuple(found), notes=tuple(notes))

    def _turn(self, number: int, messages: Messages, tools: Messages | None, row: str) -> Turn:
        earlier, until = messages[:number], messages[: number + 1]
        return Turn(
            row=row,
            asked=self._render(earlier, tools, prompt=True).text,
            answered=row if len(until) == len(messages) else self._render(until, tools).text,
            earlier=lambda: self._render(earlier, tools).text if earlier else "",
            reasoning=reasoning_of(messages[number]),
        )

    def _check_answers(
        self, messages: Messages, trained: Sequence[int], lost: LostParts, keep_empty: bool
    ) -> list[ExampleNote]:
        """Refuse a conversation with a trained answer that is nothing but its end."""
        empty: list[ExampleNote] = []
        for number in trained:
            message, where = messages[number], f"message {number + 1}"
            if not self._is_blank(message):
                continue
            if number in lost.calls:
                raise RenderError(RejectReason.CALLS_NOT_WRITTEN, f"{where} has nothing else")
            if number in lost.reasoning:
                raise RenderError(RejectReason.REASONING_NOT_WRITTEN, f"{where} has nothing else")
            if calls_of(message) or reasoning_of(message):
                continue
            if not keep_empty:
                raise RenderError(RejectReason.EMPTY_ANSWER, where)
            empty.append(ExampleNote.EMPTY)
        return empty

    def _is_blank(self, message: Message) -> bool:
        """Whether a message says nothing: no content, or an empty reasoning block."""
        return self._spans.is_wordless(_THOUGHT_TAG.sub("", message.get("content") or ""))

    def _render(self, messages: Messages, tools: Messages | None, prompt: bool = False) -> Rendered:
        """Render messages that are already normalized."""
        variables = {
            "messages": [_without_flag(message) for message in messages],
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": prompt,
            **self._variables,
        }
        return Rendered(*self._jinja(tools).render(variables))

    def _jinja(self, tools: Messages | None) -> Jinja:
        return self._with_tools if tools else self._plain


def _answer_numbers(messages: Messages) -> list[int]:
    return [number for number, one in enumerate(messages) if one["role"] == "assistant"]


def _is_untrained(message: Message) -> bool:
    return message.get("train") is False or message.get("weight") == 0


def _without_flag(message: Message) -> Message:
    if "train" not in message:
        return message
    return {name: value for name, value in message.items() if name != "train"}


def _until_last(trained: Sequence[int], messages: Messages) -> Messages:
    """The messages up to the last trained answer.

    Raises:
        RenderError: there is none.
    """
    if not trained:
        has_answers = bool(_answer_numbers(messages))
        why = "every answer says train: false" if has_answers else "no assistant message"
        raise RenderError(RejectReason.NO_TRAINED_TOKEN, why)
    return messages[: trained[-1] + 1]


def _rewrites_earlier_turns(notes: Sequence[ExampleNote]) -> RenderError:
    return RenderError(RejectReason.TEMPLATE_CHANGES_EARLIER_TURNS, notes[0])


def _normalize(message: Message) -> Message:
    """A message as transformers passes it to a template.

    Keys whose value is None are dropped. Data calls reasoning by three names; templates read
    `reasoning_content` or `thinking`, so both are set.
    """
    if None in message.values():
        message = {name: value for name, value in message.items() if value is not None}
    for name in ("reasoning_content", "thinking", "reasoning"):
        if name in message:
            reasoning = message[name]
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message
