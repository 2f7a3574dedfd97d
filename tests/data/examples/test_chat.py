"""Templates render as in transformers, and the answers are found in what they render."""

from datetime import datetime
from typing import Any

import pytest

from headway.base.errors import UsageError
from headway.data.examples.chat import CHATML, Rendered, RenderError, Template, chatml_for
from headway.data.examples.tokenizer import TURN_END, Tokenizer, byte_level
from headway.data.formats.records import Record, Rejected

BYTES = byte_level()

LLAMA = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|h|>' + message['role'] + '<|/h|>\\n\\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|h|>assistant<|/h|>\\n\\n' }}
{%- endif %}
"""
INSTRUCT = """\
{% set ns = namespace(n=0) %}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if message.role == 'user' %}
[INST] {{ message.content }} [/INST]
    {%- elif message.role == 'assistant' %}
 {{ message.content }}</s>
    {%- else %}{{ raise_exception('only user and assistant, not ' ~ message.role) }}{% endif %}
    {% set ns.n = ns.n + 1 %}
{% endfor %}
"""
TOOLS = """\
{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{% for m in messages %}<{{ m.role }}>
{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}
{{ m.content or '' }}{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}
{% if loop.index > 6 %}{% break %}{% endif %}{% endfor %}
"""
# Thinks only in the last turn, as some models' templates do.
REWRITING = """\
{% for m in messages %}<{{ m.role }}>
{%- if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}<end>
{%- endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}
"""
SET_BLOCK = """\
{% for m in messages %}
{% set text %}ab{% generation %}{{ m.content }}{% endgeneration %}{% endset %}
{{ text }}{% endfor %}
"""


def talk(*contents: str, system: str = "") -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": one} for n, one in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def template(source: str | None, tokenizer: Tokenizer = BYTES) -> Template:
    return Template(tokenizer, source, now=lambda: datetime(2026, 2, 3))


def learned(source: str, messages: list[dict[str, Any]], **tools: Any) -> list[str]:
    """The pieces of the text that are learned."""
    record = Record("f", 1, messages=tuple(messages), **tools)
    rendered = template(source).render_record(record, assistant_only=True)
    assert isinstance(rendered, Rendered), rendered
    return [rendered.text[begin:end] for begin, end in rendered.answers]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Any tokenizer of transformers, for its rendering."""
    import transformers

    backend = BYTES._backend
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|im_start|>"
    )


@pytest.mark.parametrize("source", [CHATML, LLAMA, INSTRUCT, TOOLS, REWRITING])
@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize(
    "messages",
    [
        talk("Hi", "Hello <b>&amp;</b> \u65e5\u672c\n"),
        talk("a", "b", "c", " d ", "e", system="Be brief."),
        [{"role": "assistant", "content": "x", "reasoning": "since"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": []}],
    ],
    ids=["pair", "system", "reasoning", "empty"],
)
def test_text_is_what_transformers_renders(
    source: str, prompt: bool, messages: list[dict[str, Any]], theirs: Any
) -> None:
    variables = dict(theirs.special_tokens_map)
    ours = template(source)
    ours._variables = variables
    expected = theirs.apply_chat_template(
        messages, chat_template=source, tokenize=False, add_generation_prompt=prompt
    )
    assert ours.render(messages, add_generation_prompt=prompt) == expected


def test_tools_and_calls_are_rendered_as_in_transformers(theirs: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "caf\u00e9 <>&'"}}]
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": "\u00e9"}}}]
    messages = [*talk("Hi"), {"role": "assistant", "content": None, "tool_calls": calls}]
    expected = theirs.apply_chat_template(
        messages, tools=tools, chat_template=TOOLS, tokenize=False
    )
    assert template(TOOLS).render(messages, tools) == expected


def test_the_marked_answers_are_those_of_transformers(theirs: Any) -> None:
    messages = talk("Hi", "Hello", "And?", "caf\u00e9", system="s")
    rendered = template(CHATML).render_record(
        Record("f", 1, messages=tuple(messages)), assistant_only=True
    )
    assert isinstance(rendered, Rendered)
    encoded = theirs.apply_chat_template(
        messages, chat_template=CHATML, return_dict=True, return_assistant_tokens_mask=True
    )
    ((_, offsets),) = BYTES.encode_with_offsets([rendered.text])
    ours = [any(b < end and a > begin for begin, end in rendered.answers) for b, a in offsets]
    assert ours == [bool(one) for one in encoded["assistant_masks"]]


def test_chatml_marks_each_answer_with_its_end() -> None:
    assert learned(CHATML, talk("Hi", "Hello", "And?", "Well", system="s")) == [
        "Hello" + TURN_END,
        "Well" + TURN_END,
    ]


@pytest.mark.parametrize(
    ("source", "pieces"),
    [
        (LLAMA, ["Hello<|endoftext|>", "Well<|endoftext|>"]),
        (INSTRUCT, [" Hello</s>", " Well</s>"]),
    ],
)
def test_T10_answers_are_found_by_what_they_add(source: str, pieces: list[str]) -> None:
    found = learned(source, talk("Hi", "Hello", "And?", "Well"))
    assert [piece.strip("\n") for piece in found] == pieces


def test_two_answers_in_a_row_are_both_learned() -> None:
    messages = [*talk("Hi", "one"), {"role": "assistant", "content": "two"}]
    assert learned(LLAMA, messages) == ["one<|endoftext|>", "two<|endoftext|>"]


def rejected(source: str, messages: list[dict[str, Any]]) -> Rejected:
    record = Record("f", 7, messages=tuple(messages))
    result = template(source).render_record(record, assistant_only=True)
    assert isinstance(result, Rejected)
    assert (result.file, result.line) == ("f", 7)
    return result


def test_a_template_none_of_whose_answers_stay_as_they_were_written_is_told() -> None:
    counting = "{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert rejected(counting, talk("a", "b", "c", "d")).reason == (
        "the template changes earlier turns"
    )


def test_everything_is_learned_where_that_is_asked_also_of_such_a_template() -> None:
    record = Record("f", 1, messages=tuple(talk("a", "b", "c", "d")))
    rendered = template(REWRITING).render_record(record, assistant_only=False)
    assert isinstance(rendered, Rendered)
    assert rendered.inverted
    assert rendered.answers == ()


def test_a_template_that_fails_says_what_it_said() -> None:
    messages = [{"role": "tool", "content": "x"}, *talk("a", "b")]
    result = rejected(INSTRUCT, messages)
    assert result.reason == "the template fails"
    assert "only user and assistant, not tool" in result.detail


def test_answers_marked_where_they_cannot_be_placed_are_told() -> None:
    assert rejected(SET_BLOCK, talk("a", "b")).reason == "the template marks answers inside a macro"


def test_chatml_refuses_tools_that_it_would_lose() -> None:
    with pytest.raises(RenderError) as error:
        template(CHATML).render(talk("a"), [{"type": "function"}])
    assert "no place for tools" in error.value.detail


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        Template(BYTES)


def test_templates_do_not_mix_up_their_answers() -> None:
    one, two = template(CHATML), template(LLAMA)
    two.render(talk("a", "b"))
    one.render(talk("a", "b"))
    assert learned(LLAMA, talk("a", "b")) == ["b<|endoftext|>"]


def test_chatml_for_a_model_uses_the_end_token_that_it_knows() -> None:
    class Words(Tokenizer):
        def id_of(self, token: str) -> int | None:
            return None if token == TURN_END else super().id_of(token)

    unaware = Words(BYTES.files, "a model")
    assert chatml_for(BYTES) == CHATML
    text = template(chatml_for(unaware)).render(talk("a", "b"))
    assert text == "<|im_start|>user\na<|endoftext|>\n<|im_start|>assistant\nb<|endoftext|>\n"


def test_chatml_for_a_model_begins_with_the_token_that_its_tokenizer_puts_first() -> None:
    begun = Tokenizer(BYTES.files, "a model")
    begun.bos_id, begun.special = 1, {**begun.special, "bos_token": "<s>"}
    assert template(chatml_for(begun), begun).render(talk("a")) == (
        f"<s><|im_start|>user\na{TURN_END}\n"
    )
