"""The example maker picks tokenizer, template and kind; its options name what it makes."""

from dataclasses import replace
from pathlib import Path

import pytest

from headway.data.examples.chatml import CHATML
from headway.data.examples.examples import Example
from headway.data.examples.maker import ExampleMaker, ExampleOptions
from headway.data.examples.tokenizer import DOCUMENT_END, TURN_END, byte_level
from headway.data.formats.records import DataKind, Record, Rejected

OPTIONS = ExampleOptions(None, 300, None, assistant_only=True)
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
CHAT = Record(
    "f", 1, messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
)


def maker(kind: DataKind, options: ExampleOptions = OPTIONS) -> ExampleMaker:
    return ExampleMaker(options, byte_level(), kind, lambda _: None)


def trained_text(made: ExampleMaker, record: Record) -> str:
    (example,) = made.make([record])
    assert isinstance(example, Example)
    return made.tokenizer.decode(example.ids[example.trained], special=True)


def test_conversations_get_chatml_and_an_end_of_turn_when_the_tokenizer_is_ours() -> None:
    made = maker("conversations")
    assert (made.template_from, made.tokenizer.end_token) == ("ChatML", TURN_END)
    assert made.tokenizer.chat_template == CHATML
    assert trained_text(made, CHAT) == "b" + TURN_END


def test_a_models_own_tokenizer_keeps_its_end_token() -> None:
    made = maker("conversations", replace(OPTIONS, tokenizer=Path("model")))
    assert made.tokenizer.end_token == DOCUMENT_END


def test_a_given_template_replaces_the_tokenizers_own() -> None:
    own = byte_level().with_template(TEMPLATE)
    kept = ExampleMaker(OPTIONS, own, "conversations", lambda _: None)
    assert (kept.template_from, kept.tokenizer.chat_template) == ("its own", TEMPLATE)
    options = replace(OPTIONS, template=CHATML)
    replaced = ExampleMaker(options, own, "conversations", lambda _: None)
    assert (replaced.template_from, replaced.tokenizer.chat_template) == ("as given", CHATML)


def test_all_tokens_of_conversations_are_trained_on_request() -> None:
    made = maker("conversations", replace(OPTIONS, assistant_only=False))
    assert trained_text(made, CHAT).startswith("user\na" + TURN_END)


def test_text_and_tokens_need_no_template() -> None:
    text, tokens = maker("text"), maker("tokens")
    assert (text.template_from, tokens.template_from) == ("", "")
    assert trained_text(text, Record("f", 1, text="abc")) == "bc" + DOCUMENT_END
    good, bad = tokens.make([Record("f", 1, ids=(1, 2)), Record("f", 2, ids=(1, 9999))])
    assert isinstance(good, Example)
    assert isinstance(bad, Rejected)


def test_the_number_of_new_tokens_is_reported() -> None:
    reported: list[int] = []
    made = ExampleMaker(OPTIONS, byte_level(), "text", reported.append)
    made.make([Record("f", 1, text="abc")])
    assert sum(reported) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(OPTIONS, vocab_size=301),
        replace(OPTIONS, template="x"),
        replace(OPTIONS, assistant_only=False),
        replace(OPTIONS, drop_duplicates=True),
        replace(OPTIONS, skip_corrupt=True),
    ],
)
def test_every_option_is_part_of_the_key(other: ExampleOptions) -> None:
    assert other.key("content") != OPTIONS.key("content")
    assert OPTIONS.key("content") == OPTIONS.key("content") != OPTIONS.key("else")
