"""Jinja as chat templates expect it: in a sandbox, with marks where the answers are."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headway.base.errors import Remedy, UsageError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

Span = tuple[int, int]  # characters [begin, end)


class UnusableError(Exception):
    """Why the template makes no example of a conversation: a reason that groups, and details."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]


class Jinja:
    """A compiled chat template.

    Args:
        source: as in chat_template.jinja.
        now: the clock of `strftime_now`.

    Attributes:
        marks_answers: whether it has a `generation` block.

    Raises:
        UsageError: it is no Jinja.
    """

    def __init__(self, source: str, now: Callable[[], datetime]) -> None:
        import jinja2

        def raise_exception(message: str) -> None:
            raise jinja2.TemplateError(message)

        def strftime_now(form: str) -> str:
            return now().strftime(form)

        self._marks = _Marks()
        known = {"raise_exception": raise_exception, "strftime_now": strftime_now}
        try:
            self._template = _environment(self._marks).from_string(source, globals=known)
        except jinja2.TemplateSyntaxError as error:
            raise UsageError(
                f"the chat template is no Jinja: {error.message}",
                have=f"line {error.lineno}: {source.splitlines()[error.lineno - 1].strip()[:80]}",
                need="a template that transformers can render",
                remedies=(Remedy("mend that line of chat_template.jinja"),),
            ) from error
        # every rendering copies them, which takes several times longer from a ChainMap
        self._template.globals = dict(self._template.globals)
        self.marks_answers = self._marks.are_used

    def render(self, variables: Mapping[str, Any]) -> tuple[str, tuple[Span, ...]]:
        """The text, and what is marked in it.

        Raises:
            UnusableError: the template fails on these variables, or marks what has no place.
        """
        try:
            if not self.marks_answers:
                return self._template.render(variables), ()
            return self._marks.gather(self._template.generate(variables))
        except UnusableError:
            raise
        except Exception as error:  # a template is a program of somebody else's
            raise UnusableError("the template fails", f"{type(error).__name__}: {error}") from error


class _Marks:
    """What stands inside `generation` in the rendering under way, and where."""

    def __init__(self) -> None:
        self.are_used = False
        self._num_characters = 0
        self._marked: list[tuple[int, str]] = []

    def note(self, said: str) -> str:
        """A block is rendered; all that stands before it has been gathered."""
        self._marked.append((self._num_characters, said))
        return said

    def gather(self, parts: Iterable[str]) -> tuple[str, tuple[Span, ...]]:
        self._num_characters = 0
        self._marked = []
        text: list[str] = []
        for part in parts:
            text.append(part)
            self._num_characters += len(part)
        whole = "".join(text)
        if any(not whole.startswith(said, begin) for begin, said in self._marked):
            raise UnusableError("the template marks answers inside a macro")
        return whole, tuple((begin, begin + len(said)) for begin, said in self._marked)


def _environment(marks: _Marks) -> "ImmutableSandboxedEnvironment":
    """The settings, filters and blocks that transformers gives to a chat template."""
    from jinja2 import ext, nodes, parser, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: parser.Parser) -> nodes.Node:
            marks.are_used = True
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Callable[[], str]) -> str:
            return marks.note(caller())

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    return environment


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
