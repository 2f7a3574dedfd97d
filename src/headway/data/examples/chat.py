"""Chat templates: rendering as transformers does it, with the position of each answer.

A template that marks its answers with `{% generation %}` states which characters are trained. For
any other template, an answer is the text that its message adds to the conversation so far:

    messages[:1] plus generation prompt   <|user|>Hi<|end|><|assistant|>
    messages[:2]                          <|user|>Hi<|end|><|assistant|>Hello!<|end|>
    trained                                                             ^^^^^^^^^^^^^

Some templates rewrite an answer once more turns follow: they drop its reasoning or its end token.
A row is one rendering of the whole conversation, so an answer is trained only where the row, up to
the end of that answer, equals what the model reads and writes at that turn. Any other answer is
context only and gets a note. A row ends with its last trained answer: later turns teach nothing
and cannot change what came before.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import Any

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.budget import Budget, LimitReachedError, limited
from headway.data.examples.jinja import RENDER_BUDGET, Jinja, RenderError, Span
from headway.data.examples.tokenizer import TURN_END, Tokenizer
from headway.data.formats.records import Record, Rejected, RejectReason

_MANY_MESSAGES = 100  # of a conversation

# ChatML with its answers marked.
CHATML = """\
{%- if tools %}
    {{- raise_exception('this chat template has no place for tools') }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['tool_calls'] %}
        {{- raise_exception('this chat template has no place for tool calls') }}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}
            {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def chatml_for(tokenizer: Tokenizer) -> str:
    """ChatML for a tokenizer that has no template.

    Turns end in ChatML's own end token if the vocabulary has it, otherwise in the tokenizer's. The
    text starts with the BOS token if the tokenizer adds one.
    """
    template = CHATML
    if tokenizer.id_of(TURN_END) is None:
        template = template.replace(f"'{TURN_END}'", "eos_token")
    return template if tokenizer.bos_id is None else "{{- bos_token }}\n" + template


class AnswerNote(StrEnum):
    """Something worth counting about an answer; the value is shown to people after the count."""

    CONTEXT_ONLY = "answers used as context only: the template rewrites them in later turns"
    UNPROMPTED = "answers that do not start with the template's generation prompt"


Message = dict[str, Any]
Messages = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, ready to be tokenized.

    Attributes:
        answers: character spans [begin, end) of answers.
        inverted: False: train only the spans. True: train everything except the spans.
        notes: one note per answer that needs one.
    """

    text: str
    answers: tuple[Span, ...]
    inverted: bool = False
    notes: tuple[AnswerNote, ...] = ()


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

    def render_record(self, record: Record, *, assistant_only: bool) -> Rendered | Rejected:
        """Render a conversation and locate the trained characters.

        Args:
            record: a conversation.
            assistant_only: train only the answers instead of everything. Either way, an answer
                whose message says `train: false` or `weight: 0` is not trained.

        Raises:
            UsageError: the template takes more memory or time than it may.
        """
        messages = [_normalize(message) for message in record.messages or ()]
        try:
            with self._within_budget(f"{record.file}:{record.line}", len(messages)):
                if assistant_only:
                    return self._render_training_answers(messages, record.tools)
                return self._render_training_all(messages, record.tools)
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

    def _render_training_answers(self, messages: Messages, tools: Messages | None) -> Rendered:
        trained = [n for n in _answer_numbers(messages) if not _is_untrained(messages[n])]
        if not trained:
            has_answers = bool(_answer_numbers(messages))
            why = "every answer says train: false" if has_answers else "no assistant message"
            raise RenderError(RejectReason.NO_TRAINED_TOKEN, why)
        row = messages[: trained[-1] + 1]
        return self._render_with_answers(row, tools, trained)

    def _render_training_all(self, messages: Messages, tools: Messages | None) -> Rendered:
        untrained = [n for n in _answer_numbers(messages) if _is_untrained(messages[n])]
        others = [_is_untrained(message) for message in messages if message["role"] != "assistant"]
        if others and all(others):
            return self._render_training_answers(messages, tools)
        if any(others):
            raise RenderError(RejectReason.QUESTION_UNTRAINED, "some turns say train: false")
        if not untrained:
            return Rendered(self._render(messages, tools).text, (), inverted=True)
        rendered = self._render_with_answers(messages, tools, untrained)
        if AnswerNote.CONTEXT_ONLY in rendered.notes:
            raise _rewrites_earlier_turns()
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
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int], whole: str
    ) -> Rendered:
        found: list[Span] = []
        notes: list[AnswerNote] = []
        for number in numbers:
            located = self._locate_answer(number, messages, tools, whole)
            if located is None:
                notes.append(AnswerNote.CONTEXT_ONLY)
                continue
            begin, end, is_prompted = located
            found.append((begin, end))
            if not is_prompted:
                notes.append(AnswerNote.UNPROMPTED)
        if not found:
            raise _rewrites_earlier_turns()
        return Rendered(whole, tuple(found), notes=tuple(notes))

    def _locate_answer(
        self, number: int, messages: Messages, tools: Messages | None, whole: str
    ) -> tuple[int, int, bool] | None:
        """The span of an answer in `whole`, and whether it follows the generation prompt.

        None if `whole` does not start with the rendering that has this answer as its last message.
        """
        earlier, until = messages[:number], messages[: number + 1]
        try:
            after = whole if len(until) == len(messages) else self._render(until, tools).text
            if not whole.startswith(after):
                return None
            before = self._render(earlier, tools, prompt=True).text
            if after.startswith(before):
                return len(before), len(after), True
            begin = _common_prefix_length(before, after)
            unprompted = len(self._render(earlier, tools).text) if earlier else 0
            return (begin, len(after), False) if begin >= unprompted else None
        except RenderError:  # the template accepts the whole conversation, but not this part of it
            return None

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


def _common_prefix_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _rewrites_earlier_turns() -> RenderError:
    return RenderError(
        RejectReason.TEMPLATE_CHANGES_EARLIER_TURNS,
        "it rewrites or drops an answer once more turns follow",
    )


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
