"""Jinja for chat templates: transformers' sandbox, filters and `generation` blocks."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.base.foreign.budget import Budget, LimitReachedError, limited
from headway.data.examples.tokenizer_files import TEMPLATE
from headway.data.formats.records import RejectReason

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

Span = tuple[int, int]  # characters [begin, end)


class RenderError(Exception):
    """A template that cannot render a conversation.

    Attributes:
        reason: the category it is counted under; the same for all conversations with this problem.
        detail: what went wrong in this one.
    """

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]


RENDER_BUDGET = Budget(memory_bytes=512_000_000, cpu_s=5.0)  # a usual record: 1 MB, 1 ms


class Jinja:
    """A compiled chat template.

    Args:
        source: Jinja source, as in chat_template.jinja.
        now: the clock behind `strftime_now`.
        name: of the template, as the subject of a sentence.
        budget: of compiling it.

    Attributes:
        marks_answers: whether the template has a `generation` block.
        uses_date: whether it calls `strftime_now`.

    Raises:
        UsageError: the source is not valid Jinja, or takes too much to compile.
    """

    def __init__(
        self,
        source: str,
        now: Callable[[], datetime],
        *,
        name: str = "the chat template",
        budget: Budget = RENDER_BUDGET,
    ) -> None:
        import jinja2
        from jinja2 import meta

        def raise_exception(message: str) -> None:
            raise jinja2.TemplateError(message)

        def strftime_now(form: str) -> str:
            return now().strftime(form)

        self._marks = _Marks()
        self._name = name
        known = {"raise_exception": raise_exception, "strftime_now": strftime_now}
        environment = _environment(self._marks)
        with _invalid(name)():
            try:
                with limited(budget):  # constants are computed here, however large they are
                    parsed = environment.parse(source)
                    self.uses_date = "strftime_now" in meta.find_undeclared_variables(parsed)
                    self._template = environment.from_string(source, globals=known)
            except jinja2.TemplateSyntaxError as error:
                raise _syntax_error(name, source, error.lineno, error.message or "") from error
            except LimitReachedError as error:
                raise self.too_costly(error, "to be compiled") from error
        # Each rendering copies the globals, which is several times slower from a ChainMap.
        self._template.globals = dict(self._template.globals)
        self.marks_answers = self._marks.are_used

    def render(self, variables: Mapping[str, Any]) -> tuple[str, tuple[Span, ...]]:
        """The text and the character spans inside `generation` blocks. The caller limits it.

        Raises:
            RenderError: the template fails, or marks text that cannot be located.
        """
        try:
            if not self.marks_answers:
                return self._template.render(variables), ()
            return self._marks.gather(self._template.generate(variables))
        except (RenderError, MemoryError):
            raise
        except Exception as error:  # a template is third-party code
            raise RenderError(
                RejectReason.TEMPLATE_FAILS, f"{type(error).__name__}: {error}"
            ) from error

    def too_costly(self, error: LimitReachedError, work: str) -> Refusal:
        """The refusal of a template that exceeded its budget.

        Args:
            error: raised while it was compiled or rendered.
            work: what for, after "it takes more than 5 s".
        """
        return _invalid(self._name).refusal(f"it takes {error} {work}")


def _invalid(name: str) -> Boundary:
    return Boundary(
        f"{name} cannot be used",
        cause=Cause.TEMPLATE_INVALID,
        need="a template that transformers can render quickly",
        remedies=(Remedy("copy the file again", "from where the model came from"),),
    )


def _syntax_error(name: str, source: str, number: int, message: str) -> UsageError:
    line = "".join(source.split("\n")[number - 1 : number]).strip()
    return UsageError(
        f"{name} is not valid Jinja: {message}",
        cause=Cause.TEMPLATE_INVALID,
        have=f"line {number}: {line[:80]}",
        need="a template that transformers can render",
        remedies=(Remedy(f"fix that line of {TEMPLATE}"),),
    )


class _Marks:
    """Text inside `generation` blocks of the current rendering, with its positions."""

    def __init__(self) -> None:
        self.are_used = False
        self._num_characters = 0
        self._marked: list[tuple[int, str]] = []

    def add(self, text: str) -> str:
        """Record a rendered block; all text before it has been gathered."""
        self._marked.append((self._num_characters, text))
        return text

    def gather(self, parts: Iterable[str]) -> tuple[str, tuple[Span, ...]]:
        self._num_characters = 0
        self._marked = []
        texts: list[str] = []
        for part in parts:
            texts.append(part)
            self._num_characters += len(part)
        whole = "".join(texts)
        if any(not whole.startswith(text, begin) for begin, text in self._marked):
            raise RenderError(RejectReason.TEMPLATE_MARKS_IN_MACRO)
        return whole, tuple((begin, begin + len(text)) for begin, text in self._marked)


def _environment(marks: _Marks) -> "ImmutableSandboxedEnvironment":
    """The settings, filters and blocks that transformers offers chat templates."""
    from jinja2 import ext, nodes, parser, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: parser.Parser) -> nodes.Node:
            marks.are_used = True
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_record"), [], [], body).set_lineno(line)

        def _record(self, caller: Callable[[], str]) -> str:
            return marks.add(caller())

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
