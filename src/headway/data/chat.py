"""Chat templates with jinja2, as transformers renders them, and which tokens are the answer.

A template that marks its answers (`{% generation %}`) says itself which characters are learned.
For any other one they are what an answer adds to the conversation before it:

    messages[:1] and the prompt for an answer   <|user|>Hi<|end|><|assistant|>
    messages[:2]                                <|user|>Hi<|end|><|assistant|>Hello!<|end|>
    learned                                                                   ^^^^^^^^^^^^^
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headway.base.errors import Remedy, UsageError
from headway.data.records import Record, Rejected
from headway.data.tokenizer import TURN_END, Tokenizer

if TYPE_CHECKING:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

# ChatML, with the answers marked.
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
    """ChatML for a model that has no template.

    With the model's end token, unless its tokenizer knows ChatML's own; after the first token
    that the tokenizer puts before a text, if it puts one.
    """
    template = CHATML
    if tokenizer.id_of(TURN_END) is None:
        template = template.replace(f"'{TURN_END}'", "eos_token")
    return template if tokenizer.bos_id is None else "{{- bos_token }}\n" + template


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the text that is tokenised."""

    text: str
    answers: tuple[tuple[int, int], ...]  # characters [begin, end) that are learned


class UnusableError(Exception):
    """Why the template makes no example of a conversation: a reason that groups, and details."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]


class Template:
    """A compiled chat template.

    Args:
        tokenizer: its special tokens are what the template calls `eos_token` and the like.
        source: Jinja, as in chat_template.jinja; left out, the tokenizer's own.
        now: the clock of `strftime_now`.

    Attributes:
        marks_answers: whether the template itself says which characters are the answers.

    Raises:
        UsageError: the tokenizer has no template, or it is no Jinja.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        source = source or tokenizer.chat_template
        if source is None:
            raise UsageError(
                f"{tokenizer.origin} has no chat template",
                have="a tokenizer of a model that was not made to converse",
                need="chat_template.jinja beside the tokenizer",
                remedies=(Remedy("headway generate", "continues a text instead"),),
            )
        self._marked = _Marked()
        self._variables = tokenizer.special
        self._template = _compiled(source, self._marked, now)
        self.marks_answers = self._marked.is_used

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The messages as text.

        Args:
            messages: OpenAI's shape.
            tools: JSON schemas of functions, handed to the template.
            add_generation_prompt: whether to end in what an answer is written after.

        Raises:
            UnusableError: the template fails on these messages.
        """
        return self._render(messages, tools, add_generation_prompt).text

    def _render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None,
        add_generation_prompt: bool = False,
    ) -> Rendered:
        marked = self._marked
        marked.begin()
        parts: list[str] = []
        try:
            for part in self._template.generate(
                messages=[_with_reasoning(message) for message in messages],
                tools=list(tools) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            ):
                parts.append(part)
                marked.num_characters += len(part)
        except Exception as error:  # a template is a program of somebody else's
            raise UnusableError("the template fails", f"{type(error).__name__}: {error}") from error
        text = "".join(parts)
        if any(not text.startswith(said, begin) for begin, said in marked.answers):
            raise UnusableError("the template marks answers inside a macro")
        return Rendered(text, tuple((at, at + len(said)) for at, said in marked.answers))

    def render_record(self, record: Record, *, assistant_only: bool) -> Rendered | Rejected:
        """A conversation as text and the characters that are learned: its answers, or all."""
        assert record.messages is not None
        try:
            whole = self._render(record.messages, record.tools)
            if not assistant_only:
                return Rendered(whole.text, ((0, len(whole.text)),))
            if self.marks_answers:
                return whole
            return Rendered(whole.text, self._answers_by_prefix(record, whole.text))
        except UnusableError as unusable:
            return Rejected(record.file, record.line, unusable.reason, unusable.detail)

    def _answers_by_prefix(self, record: Record, whole: str) -> tuple[tuple[int, int], ...]:
        messages = record.messages or ()
        answers: list[tuple[int, int]] = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:number], record.tools, add_generation_prompt=True)
            after = self.render(messages[: number + 1], record.tools)
            if not (after.startswith(before) and whole.startswith(after)):
                raise UnusableError(
                    "the template changes earlier turns",
                    f"message {number + 1} is written otherwise once there is more after it",
                )
            answers.append((len(before), len(after)))
        return tuple(answers)


class _Marked:
    """What stood inside `generation` in the rendering under way, and where."""

    def __init__(self) -> None:
        self.is_used = False
        self.begin()

    def begin(self) -> None:
        self.num_characters = 0
        self.answers: list[tuple[int, str]] = []

    def note(self, said: str) -> str:
        self.answers.append((self.num_characters, said))
        return said


def _compiled(source: str, marked: _Marked, now: Callable[[], datetime]) -> "jinja2.Template":
    import jinja2

    environment = _environment(marked)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(form: str) -> str:
        return now().strftime(form)

    environment.filters["tojson"] = _tojson
    known = {"raise_exception": raise_exception, "strftime_now": strftime_now}
    try:
        return environment.from_string(source, globals=known)
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(
            f"the chat template is no Jinja: {error.message}",
            have=f"line {error.lineno}: {source.splitlines()[error.lineno - 1].strip()[:80]}",
            need="a template that transformers can render",
            remedies=(Remedy("mend that line of chat_template.jinja"),),
        ) from error


def _environment(marked: _Marked) -> "ImmutableSandboxedEnvironment":
    """Jinja as chat templates expect it, with the `generation` block.

    Its body is rendered by a call, and whoever gathers the pieces has counted all before it.
    """
    from jinja2 import ext, nodes, parser, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: parser.Parser) -> nodes.Node:
            marked.is_used = True
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Callable[[], str]) -> str:
            return marked.note(caller())

    return sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Reasoning goes by three names in data; templates read the first or the second."""
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((message[name] for name in names if message.get(name) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}
