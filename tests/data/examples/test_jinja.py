"""Chat templates render in a sandbox, and `generation` blocks are located in what they render."""

from datetime import datetime
from typing import Any

import pytest

from headway.base.errors import Cause, UsageError
from headway.data.examples.jinja import Jinja, RenderError

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
]


def compiled(source: str) -> Jinja:
    return Jinja(source, now=lambda: datetime(2026, 2, 3))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{% set _ = messages.append(1) %}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{{ 'x' * 5 + 3 }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_hostile_or_broken_template_fails_inside_its_sandbox(source: str) -> None:
    with pytest.raises(RenderError) as error:
        compiled(source).render({"messages": MESSAGES})
    assert error.value.reason == "the template fails"
    assert error.value.detail


def test_a_template_that_is_not_valid_jinja_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match="is not valid Jinja") as refusal:
        compiled("fine\n{% for x in %}\n")
    assert refusal.value.have == "line 2: {% for x in %}"
    assert refusal.value.cause == Cause.TEMPLATE_INVALID


def test_generation_blocks_are_located() -> None:
    source = (
        "{% for m in messages %}<{% generation %}{{ m.content }}{% endgeneration %}>{% endfor %}"
    )
    jinja = compiled(source)
    assert jinja.marks_answers
    assert jinja.render({"messages": MESSAGES}) == ("<a><b>", ((1, 2), (4, 5)))
    assert jinja.render({"messages": MESSAGES}) == ("<a><b>", ((1, 2), (4, 5)))  # marks start over


def test_a_template_without_generation_blocks_marks_nothing() -> None:
    jinja = compiled("{{ messages | length }}")
    assert not jinja.marks_answers
    assert jinja.render({"messages": MESSAGES}) == ("2", ())


def test_marks_that_cannot_be_located_are_an_error() -> None:
    source = "{% set text %}ab{% generation %}c{% endgeneration %}{% endset %}{{ text }}"
    with pytest.raises(RenderError, match="marks answers inside a macro"):
        compiled(source).render({"messages": MESSAGES})


def test_json_is_written_as_in_transformers() -> None:
    value = {"b": "caf\u00e9 <&>'", "a": [1]}
    text, _ = compiled("{{ value | tojson }}").render({"value": value})
    assert text == '{"b": "caf\u00e9 <&>\'", "a": [1]}'


def test_the_clock_is_an_argument() -> None:
    assert compiled("{{ strftime_now('%d %b %Y') }}").render({}) == ("03 Feb 2026", ())


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("{{ strftime_now('%Y') }}", True),
        ("{% if tools %}{% set day = strftime_now('%d') %}{% endif %}", True),
        ("{{ 'strftime_now' }}{# strftime_now #}", False),
        ("{% set strftime_now = 'x' %}{{ strftime_now }}", False),
    ],
)
def test_whether_a_template_asks_for_the_date_is_known_before_it_renders(
    source: str, asks: bool
) -> None:
    assert compiled(source).uses_date is asks


def test_a_detail_is_kept_short() -> None:
    assert len(RenderError("the template fails", "x" * 1000).detail) == 200
