"""Templates render as in transformers, and trained tokens are the answers that it finds.

The templates in `templates/` mark their answers, so that transformers can say which tokens they
are. The same template without its marks must come to the same answers by what each adds.
"""

import itertools
import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from headway.base.errors import UsageError
from headway.data.examples.chat import Rendered, RenderError, Template
from headway.data.examples.chatml import CHATML, chatml_for
from headway.data.examples.examples import Example, chat_examples
from headway.data.examples.notes import ExampleNote
from headway.data.examples.tokenizer import TURN_END, Tokenizer, byte_level, load
from headway.data.formats.records import Record, Rejected, RejectReason

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


# ---- templates of many kinds, token by token --------------------------------------------------

HERE = Path(__file__).parent
NAMES = ("chatml", "llama", "mistral", "gemma", "tools", "forgets", "thinks_first")
SPECIAL = (
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|header|>", "<|/header|>", "<|eot|>",
    "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|model|>",
)  # fmt: skip
ENDS = {"</s>", "<|im_end|>", "<|eot|>", "<end_of_turn>"}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's, in \u00b0C <or> & 'F'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "pair": [user("Hi there"), assistant("Hello you")],
    "system": [said("system", "Be brief."), user("a b"), assistant("c"), user("d"), assistant("e")],
    "developer": [said("developer", "Be brief."), user("a"), assistant("b")],
    "many turns": [user("1+1"), assistant("2"), user("2+2"), assistant("4"), user("3+3"),
                   assistant("6"), user("4+4"), assistant("8")],
    "unicode": [user("caf\u00e9 \u65e5\u672c\u8a9e \U0001f600\u200d\U0001f600"),
                assistant("na\u0131\u0308ve \u05e9\u05dc\u05d5\u05dd <b>&amp;</b>")],
    "white space": [user("  a\n\n"), assistant("\n\n  b\t\n"), user("\n"), assistant(" c d \n\n")],
    "empty": [user(""), assistant(""), user("and?"), assistant("")],
    "specials spelt out": [user("a<|im_end|>\n<|im_start|>assistant\nb</s><s>"),
                           assistant("c<|im_start|>d<|eot|> </s> e <end_of_turn>")],
    "absent": [user("a", name=None), assistant("b", tool_calls=None, reasoning_content=None)],
    "two answers": [user("a"), assistant("b"), assistant("c"), user("d"), assistant("e")],
    "answer first": [assistant("Welcome."), user("a"), assistant("b")],
    "reasoning": [user("a"), assistant("b", reasoning_content="since c"), user("d"),
                  assistant("e", reasoning="since f")],
    "calls": [user("How warm is it?"),
              assistant(None, tool_calls=[call("weather", {"city": "K\u00f6ln", "n": [1, None]}),
                                          call("weather", '{"city": "Bonn"}')]),
              said("tool", '{"c": 21}'), said("tool", "<cold>"), assistant("21 and cold.")],
}  # fmt: skip
WITH_TOOLS = ("pair", "system", "calls")


def source_of(name: str, *, marked: bool) -> str:
    source = (HERE / "templates" / f"{name}.jinja").read_text()
    return source if marked else re.sub(r"\{%-? (end)?generation %\}", "", source)


@cache
def words() -> tokenizers.Tokenizer:
    """Byte-level words, the special tokens of all templates, and <s> put before every text."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([(HERE.parent / "tiny.txt").read_text()], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    return backend


class Pair:
    """One folder, opened by us and by transformers."""

    def __init__(self, folder: Path) -> None:
        import transformers

        # pad = EOS, as many models have it
        self.theirs: Any = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words(), bos_token="<s>", eos_token="</s>", pad_token="</s>"
        )
        self.theirs.save_pretrained(folder)
        self.ours: Tokenizer = load(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("model"))


def fails(render: Callable[[], Any], error: type[Exception]) -> bool:
    try:
        render()
    except error:
        return True
    return False


def example(
    pair: Pair, source: str, messages: list[dict[str, Any]], **record: Any
) -> Example | Rejected:
    chat = Record("f", 1, messages=tuple(messages), **record)
    template = Template(pair.ours, source)
    (made,) = chat_examples(
        [chat], pair.ours, template, assistant_only=True, keep_empty_answers=True
    )
    return made


def trained(pair: Pair, source: str, messages: list[dict[str, Any]]) -> list[str]:
    """The stretches of trained tokens, as text."""
    made = example(pair, source, messages)
    assert isinstance(made, Example), made
    edges = np.flatnonzero(np.diff([0, *made.trained.astype(int), 0]))
    return [
        pair.ours.decode(made.ids[a:b], special=True)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CONVERSATIONS)
def test_text_and_ids_are_those_of_transformers(name: str, case: str, pair: Pair) -> None:
    messages, source = CONVERSATIONS[case], source_of(name, marked=True)
    ours = Template(pair.ours, source)
    for tools in [None, [WEATHER]] if case in WITH_TOOLS else [None]:
        for prompt in (False, True):

            def theirs(tools: Any = tools, prompt: bool = prompt, tokenize: bool = False) -> Any:
                return pair.theirs.apply_chat_template(
                    messages, tools=tools, chat_template=source, add_generation_prompt=prompt,
                    tokenize=tokenize, return_dict=False,
                )  # fmt: skip

            if fails(theirs, jinja2.TemplateError):
                assert fails(lambda t=tools: ours.render(messages, t), RenderError)
                continue
            text = ours.render(messages, tools, add_generation_prompt=prompt)
            assert text == theirs()
            assert pair.ours.encode([text])[0].tolist() == theirs(tokenize=True)


def usable(name: str, case: str, pair: Pair) -> bool:
    template = Template(pair.ours, source_of(name, marked=True))
    return not fails(lambda: template.render(CONVERSATIONS[case]), RenderError)


def masks(pair: Pair, name: str, messages: list[dict[str, Any]]) -> tuple[list[int], list[bool]]:
    """By transformers: the ids, and which are an answer's."""
    told = pair.theirs.apply_chat_template(
        messages,
        chat_template=source_of(name, marked=True),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return told["input_ids"], [bool(one) for one in told["assistant_masks"]]


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "by-prefix"])
@pytest.mark.parametrize(
    ("name", "case"),
    [one for one in itertools.product(NAMES, CONVERSATIONS) if one != ("forgets", "reasoning")],
)
def test_T10_T11_the_trained_tokens_are_those_that_transformers_finds(
    name: str, case: str, marked: bool, pair: Pair
) -> None:
    if not usable(name, case, pair):
        made = example(pair, source_of(name, marked=marked), CONVERSATIONS[case])
        assert isinstance(made, Rejected)
        assert made.reason == "the template fails"
        return
    made = example(pair, source_of(name, marked=marked), CONVERSATIONS[case])
    if case == "calls" and name not in ("tools", "chatml"):
        assert made == Rejected(
            "f", 1, RejectReason.CALLS_NOT_WRITTEN, "message 2 has nothing else"
        )
        return
    assert isinstance(made, Example), made
    ids, mask = masks(pair, name, CONVERSATIONS[case])
    assert made.ids.tolist() == ids
    assert made.trained.tolist() == mask
    expected = {ExampleNote.UNPROMPTED} if name == "thinks_first" and not marked else set()
    if case == "specials spelt out":
        expected.add(ExampleNote.MARKERS_IN_MESSAGES)
    if case == "empty":
        expected.add(ExampleNote.EMPTY)
    if case == "reasoning":
        expected.add(ExampleNote.REASONING_LOST)
    assert set(made.notes) == expected


@pytest.mark.parametrize("name", NAMES)
def test_T07_every_answer_ends_in_a_trained_end_though_padding_is_the_same_token(
    name: str, pair: Pair
) -> None:
    assert pair.ours.pad_id == pair.ours.end_id
    for marked in (True, False):
        stretches = trained(pair, source_of(name, marked=marked), CONVERSATIONS["many turns"])
        assert [one.strip() for one in stretches] == [
            answer + end for answer, end in zip("2468", [stretches[0].strip()[1:]] * 4, strict=True)
        ]
        assert stretches[0].strip()[1:] in ENDS


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma", "thinks_first"])
def test_a_conversation_has_one_first_token_where_template_and_tokenizer_both_write_it(
    name: str, pair: Pair
) -> None:
    made = example(pair, source_of(name, marked=False), CONVERSATIONS["pair"])
    assert isinstance(made, Example)
    assert pair.ours.bos_id == 0
    assert np.flatnonzero(made.ids == 0).tolist() == [0]


CONTENT = st.text(alphabet="ab \n\u00e9<|/>") | st.sampled_from(SPECIAL)
TURNS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=4)


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("tools", "thinks_first")])
@given(turns=TURNS)
def test_what_an_answer_adds_is_what_its_template_marks(
    name: str, turns: list[tuple[str, str]], pair: Pair
) -> None:
    messages = [one for a, b in turns for one in (user(a), assistant(b))]
    marked, unmarked = (
        example(pair, source_of(name, marked=is_marked), messages) for is_marked in (True, False)
    )
    assert isinstance(marked, Example)
    assert isinstance(unmarked, Example)
    assert np.array_equal(marked.ids, unmarked.ids)
    assert np.array_equal(marked.trained, unmarked.trained)


# ---- turns that are written otherwise later on -----------------------------------------------

THOUGHTS = [
    user("a"), assistant("b", reasoning_content="since"),
    user("c"), assistant("d"),
    user("e"), assistant("f", reasoning_content="thus"),
]  # fmt: skip


def notes(pair: Pair, source: str, messages: list[dict[str, Any]]) -> tuple[str, ...]:
    made = example(pair, source, messages)
    assert isinstance(made, Example)
    return made.notes


def test_an_answer_whose_reasoning_is_dropped_later_is_context_and_others_are_learned(
    pair: Pair,
) -> None:
    source = source_of("forgets", marked=False)
    assert trained(pair, source, THOUGHTS) == [
        "d<|im_end|>",
        "<think>\nthus\n</think>\n\nf<|im_end|>",
    ]
    assert notes(pair, source, THOUGHTS) == (ExampleNote.REASONING_DROPPED,)


def test_an_answer_that_was_written_after_what_is_dropped_later_is_context(pair: Pair) -> None:
    """Its own words stay, but what the model read before them does not."""
    messages = [*THOUGHTS[:2], assistant("more"), user("c"), assistant("d")]
    source = source_of("forgets", marked=False)
    assert trained(pair, source, messages) == ["d<|im_end|>"]
    assert notes(pair, source, messages) == (
        ExampleNote.REASONING_DROPPED,
        ExampleNote.EARLIER_REWRITTEN,
    )


def test_answers_of_one_question_keep_their_reasoning_and_are_all_learned(pair: Pair) -> None:
    messages = [
        *THOUGHTS[:2],
        user("c"),
        assistant("d", reasoning_content="one"),
        assistant("e", reasoning_content="two"),
    ]
    assert trained(pair, source_of("forgets", marked=False), messages) == [
        "<think>\none\n</think>\n\nd<|im_end|>",
        "<think>\ntwo\n</think>\n\ne<|im_end|>",
    ]


def test_what_is_learned_is_what_the_model_read_and_wrote_at_its_turn(pair: Pair) -> None:
    """A row up to the end of a trained answer is the conversation as it was then."""
    template = Template(pair.ours, source_of("forgets", marked=False))
    rendered = template.render_record(Record("f", 1, messages=tuple(THOUGHTS)), assistant_only=True)
    assert not isinstance(rendered, Rejected)
    assert len(rendered.answers) == 2
    for number, (begin, end) in zip((3, 5), rendered.answers, strict=True):
        asked = template.render(THOUGHTS[:number], add_generation_prompt=True)
        assert rendered.text[:begin] == asked
        assert rendered.text[:end] == template.render(THOUGHTS[: number + 1])


def test_the_last_answer_is_learned_also_where_more_follows_it(pair: Pair) -> None:
    """The question behind it would drop its reasoning; nothing behind it teaches."""
    source = source_of("forgets", marked=False)
    messages = [*THOUGHTS[:2], user("and?")]
    assert trained(pair, source, messages) == ["<think>\nsince\n</think>\n\nb<|im_end|>"]
    made = example(pair, source, messages)
    assert isinstance(made, Example)
    assert np.array_equal(made.ids, pair.ours.encode(
        [Template(pair.ours, source).render(messages[:2])])[0])  # fmt: skip


def test_marks_are_believed_also_where_turns_are_rewritten(pair: Pair) -> None:
    source = source_of("forgets", marked=True)
    assert trained(pair, source, THOUGHTS)[:2] == ["b<|im_end|>", "d<|im_end|>"]
    assert notes(pair, source, THOUGHTS) == ()


def test_an_answer_that_does_not_begin_as_prompted_is_learned_and_noted(pair: Pair) -> None:
    source = source_of("thinks_first", marked=False)
    messages = [user("a"), assistant("<think>\nx</think>b"), user("c"), assistant("d")]
    assert trained(pair, source, messages) == ["b</s>", "d</s>"]
    assert notes(pair, source, messages) == (
        ExampleNote.UNPROMPTED,
        ExampleNote.UNPROMPTED,
        ExampleNote.REASONING_LOST,
    )


def test_an_answer_that_cannot_be_asked_for_by_itself_is_context(pair: Pair) -> None:
    """The template takes the whole conversation, but not the nothing before its greeting."""
    source = "{% if not messages %}{{ raise_exception('nothing to answer') }}{% endif %}"
    source += source_of("chatml", marked=False)
    assert trained(pair, source, CONVERSATIONS["answer first"]) == ["b<|im_end|>"]
    assert notes(pair, source, CONVERSATIONS["answer first"]) == (ExampleNote.NOT_ALONE,)


def test_a_template_that_tells_the_last_answer_from_others_by_its_end(pair: Pair) -> None:
    """Earlier answers end in another token; they are context, with the token that they have."""
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|model|>{{ m.content }}"
        "{{ '</s>' if loop.last else '<|eot|>' }}{% else %}<|user|>{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|model|>{% endif %}"
    )
    assert trained(pair, source, CONVERSATIONS["many turns"]) == ["8</s>"]
    assert notes(pair, source, CONVERSATIONS["many turns"]) == (ExampleNote.OTHER_END,) * 3


# ---- answers that are not to be trained ------------------------------------------------------


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "by-prefix"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("no", [{"train": False}, {"weight": 0}], ids=["train", "weight"])
def test_T12_an_answer_that_is_not_to_be_trained_is_not(
    name: str, marked: bool, no: dict[str, Any], pair: Pair
) -> None:
    source = source_of(name, marked=marked)
    messages = CONVERSATIONS["many turns"]
    chosen = [*messages[:3], messages[3] | no, *messages[4:5], messages[5] | {"train": True},
              messages[6], messages[7] | no]  # fmt: skip
    stretches = trained(pair, source, messages)
    assert trained(pair, source, chosen) == [stretches[0], stretches[2]]
    made, whole = example(pair, source, chosen), example(pair, source, messages[:6])
    assert isinstance(made, Example)
    assert isinstance(whole, Example)
    assert np.array_equal(made.ids, whole.ids)  # nothing behind the last trained answer


def test_marks_of_a_message_belong_together(pair: Pair) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}"
        "{% generation %}{{ m.content }}{% endgeneration %}-"
        "{% generation %}!</s>{% endgeneration %}{% endif %}{% endfor %}"
    )
    messages = [user("a"), assistant("b", train=False), user("c"), assistant("d")]
    assert trained(pair, source, messages) == ["d", "!</s>"]


def test_marks_that_come_and_go_are_told(pair: Pair) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}"
        "{% elif loop.last %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    messages = [user("a"), assistant("b", train=False), user("c"), assistant("d"),
                user("e"), assistant("f")]  # fmt: skip
    made = example(pair, source, messages)
    assert isinstance(made, Rejected)
    assert made.reason == "the template does not tell which answer a mark belongs to"


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "by-prefix"])
def test_where_everything_is_trained_such_an_answer_is_still_left_out(
    marked: bool, pair: Pair
) -> None:
    messages = [user("a"), assistant("b", train=False), user("c"), assistant("d")]
    template = Template(pair.ours, source_of("chatml", marked=marked))
    chat = Record("f", 1, messages=tuple(messages))
    (made,) = chat_examples([chat], pair.ours, template, assistant_only=False)
    assert isinstance(made, Example)
    left_out = pair.ours.decode(made.ids[1:][~made.trained[1:]], special=True)
    assert left_out == "b<|im_end|>"


def test_where_everything_is_trained_questions_are_left_out_only_together(pair: Pair) -> None:
    template = Template(pair.ours, source_of("chatml", marked=True))

    def made(*messages: dict[str, Any]) -> Example | Rejected:
        chat = Record("f", 1, messages=messages)
        return chat_examples([chat], pair.ours, template, assistant_only=False)[0]

    questions = (user("a", train=False), assistant("b"), user("c", train=False), assistant("d"))
    all_marked = made(*questions)
    assert isinstance(all_marked, Example)
    assert pair.ours.decode(all_marked.ids[all_marked.trained], special=True) == (
        "b<|im_end|>d<|im_end|>"
    )
    some = made(*questions[:2], user("c"), assistant("d"))
    assert isinstance(some, Rejected)
    assert some.reason == "a turn that is not an answer is marked as not to be trained"


def test_a_template_does_not_see_the_flag(pair: Pair) -> None:
    source = "{% for m in messages %}{{ m | tojson }}{% endfor %}"
    shown = Template(pair.ours, source).render([user("a"), assistant("b", train=False)])
    assert "train" not in shown


def test_F27_a_conversation_whose_answers_are_all_not_to_be_trained_is_rejected(
    pair: Pair,
) -> None:
    made = example(pair, source_of("chatml", marked=True), [user("a"), assistant("b", train=False)])
    assert made == Rejected("f", 1, "no trained token", "every answer says train: false")


# ---- masks that cannot be right --------------------------------------------------------------


def test_T10_a_template_that_marks_everything_is_rejected(pair: Pair) -> None:
    source = "{{ bos_token }}{% generation %}{% for m in messages %}{{ m.content }}</s>"
    source += "{% endfor %}{% endgeneration %}"
    made = example(pair, source, CONVERSATIONS["many turns"])
    assert made == Rejected(
        "f", 1, "no untrained token", "the template marks everything as an answer"
    )
    alone = example(pair, source, [assistant("a text of its own")])
    assert isinstance(alone, Example)
    assert alone.trained[1:].all()


@pytest.mark.parametrize("case", WITH_TOOLS)
def test_a_template_for_tools_is_used_for_conversations_with_tools(
    case: str, pair: Pair, tmp_path: Path
) -> None:
    import transformers

    pair.theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "default", "template": source_of("tools", marked=True).replace("<tools>", "?")},
        {"name": "tool_use", "template": source_of("tools", marked=True)},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs: Any = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    ours = Template(load(tmp_path))
    for tools in (None, [WEATHER]):
        expected = theirs.apply_chat_template(CONVERSATIONS[case], tools=tools, tokenize=False)
        assert ours.render(CONVERSATIONS[case], tools) == expected
