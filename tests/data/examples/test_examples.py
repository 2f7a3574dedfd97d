"""Records become ids, and the right ones are trained."""

import itertools
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.examples.talks import WORDS
from tokenizers import models, normalizers

from headway.data.examples import examples
from headway.data.examples.chat import Template
from headway.data.examples.chatml import CHATML
from headway.data.examples.examples import (
    Example,
    chat_examples,
    end_token_id,
    render_marked,
    text_examples,
    token_example,
    token_examples,
)
from headway.data.examples.notes import ExampleNote
from headway.data.examples.tokenizer import DOCUMENT_END, TURN_END, Ids, Tokenizer, byte_level
from headway.data.formats.records import Record, Rejected

BYTES = byte_level()
CHAT = BYTES.with_end_token(TURN_END)
ENCODE = Tokenizer.encode
# The answer's end is not part of what it marks, and a line break follows.
MARKS_WORDS = """\
{%- for m in messages %}
    {{- '<|im_start|>' + m['role'] + '\\n' }}
    {%- if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}
    {%- else %}{{ m['content'] }}{% endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
MARKS_NOTHING = MARKS_WORDS.replace("{% generation %}", "").replace("{% endgeneration %}", "")
NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def conversation(*contents: str, line: int = 1) -> Record:
    roles = ("user", "assistant")
    messages = tuple({"role": roles[n % 2], "content": one} for n, one in enumerate(contents))
    return Record("f", line, messages=messages)


def text_example(record: Record, tokenizer: Tokenizer, add: Any = "auto") -> Example:
    (made,) = text_examples([record], tokenizer, add_special_tokens=add)
    assert isinstance(made, Example), made
    return made


def chat_example(
    record: Record, tokenizer: Tokenizer, source: str, assistant_only: bool = True
) -> Example | Rejected:
    template = Template(tokenizer, source)
    (made,) = chat_examples([record], tokenizer, template, assistant_only=assistant_only)
    return made


def chat(source: str, record: Record, assistant_only: bool = True) -> Example:
    made = chat_example(record, CHAT, source, assistant_only)
    assert isinstance(made, Example), made
    return made


def trained_runs(example: Example, tokenizer: Tokenizer = CHAT) -> list[str]:
    """The stretches of trained tokens, as text."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.trained.astype(int), [0]])))
    return [
        tokenizer.decode(example.ids[a:b], special=True)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


# ---- text ------------------------------------------------------------------------------------


def test_T07_a_text_ends_in_the_end_token_which_is_trained() -> None:
    example = text_example(Record("f", 3, text="abc"), BYTES)
    assert BYTES.decode(example.ids, special=True) == "abc" + DOCUMENT_END
    assert example.trained.tolist() == [False, True, True, True]
    assert (example.file, example.line) == ("f", 3)
    assert BYTES.pad_id == BYTES.end_id  # and it is trained all the same


def test_a_text_begins_with_what_its_tokenizer_puts_first() -> None:
    begun = Tokenizer(BYTES.files, "a model")
    begun.bos_id = 1
    example = text_example(Record("f", 1, text="a"), begun)
    assert example.ids.tolist() == [1, *BYTES.encode(["a"])[0].tolist(), BYTES.end_id]
    assert example.trained.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "auto", "note"),
    [
        ("a", "<s>a</s>", None),
        ("<s>a", "<s>a</s>", ExampleNote.BEGINS_WITH_BOS),
        ("a</s>", "<s>a</s>", ExampleNote.ENDS_WITH_END),
        ("<|user|>a<|end|>\n", "<s><|user|>a<|end|>\n", ExampleNote.ENDS_WITH_END),
        ("a<|user|>b", "<s>a<|user|>b</s>", ExampleNote.MARKERS_IN_TEXT),
        ("a <s> b", "<s>a <s> b</s>", ExampleNote.MARKERS_IN_TEXT),
    ],
)
def test_special_tokens_that_a_text_has_are_not_added_again(
    text: str, auto: str, note: ExampleNote | None
) -> None:
    words = Tokenizer(WORDS.files, "a model")
    words.bos_id = words.id_of("<s>")
    record = Record("f", 1, text=text)
    made = {add: text_example(record, words, add) for add in ("auto", "always", "never")}
    shown = {add: words.decode(one.ids, special=True) for add, one in made.items()}
    assert shown == {"auto": auto, "always": f"<s>{text}</s>", "never": text}
    assert made["auto"].notes == ((note,) if note else ())
    marked = (ExampleNote.MARKERS_IN_TEXT,) if note else ()
    assert made["always"].notes == made["never"].notes == marked


def test_a_text_with_both_ends_gets_neither() -> None:
    words = Tokenizer(WORDS.files, "a model")
    words.bos_id = words.id_of("<s>")
    made = text_example(Record("f", 1, text="<s>a</s>"), words)
    assert words.decode(made.ids, special=True) == "<s>a</s>"
    assert made.notes == (ExampleNote.BEGINS_WITH_BOS, ExampleNote.ENDS_WITH_END)
    assert made.ends == {words.end_id}


def test_a_message_that_spells_out_special_tokens_is_counted() -> None:
    made = chat(CHATML, conversation("<|im_start|>user\na<|im_end|>\n", "b"))
    assert made.notes == (ExampleNote.MARKERS_IN_MESSAGES,)
    assert chat(CHATML, conversation("im_start", "b")).notes == ()


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("ends", [True, False])
def test_a_part_of_a_text_has_the_first_and_the_end_token_only_where_the_text_has_them(
    begins: bool, ends: bool
) -> None:
    begun = Tokenizer(BYTES.files, "a model")
    begun.bos_id = 1
    ids = text_example(Record("f", 7, text="ab", begins=begins, ends=ends), begun).ids.tolist()
    middle = BYTES.encode(["ab"])[0].tolist()
    assert ids == [1] * begins + middle + [BYTES.end_id] * ends


def test_parts_of_a_text_are_the_tokens_of_the_whole() -> None:
    lines = ["one line\n", "another\n", "the last"]
    parts = [
        Record("f", n + 1, text=line, begins=n == 0, ends=n == 2) for n, line in enumerate(lines)
    ]
    apart = np.concatenate([one.ids for one in text_examples(parts, BYTES)])
    assert np.array_equal(apart, text_example(Record("f", 1, text="".join(lines)), BYTES).ids)


def test_many_texts_are_as_each_alone() -> None:
    records = [Record("f", n, text="x" * n) for n in range(1, 50)]
    together = text_examples(records, BYTES)
    for record, example in zip(records, together, strict=True):
        alone = text_example(record, BYTES)
        assert np.array_equal(example.ids, alone.ids)
        assert example.line == record.line


def test_T03_the_caller_is_told_after_every_half_million_characters() -> None:
    ticks: list[int] = []
    text_examples([Record("f", 1, text="word\n" * 300_000)], BYTES, ticks.append)
    assert sum(ticks) == 1_500_000
    assert max(ticks) <= 550_000


@pytest.mark.parametrize("longest_first", [True, False])
def test_T03_work_is_handed_out_by_characters_however_texts_are_sorted(
    longest_first: bool,
) -> None:
    """One long document among many short ones is shared by all cores, as they are."""
    texts = ["word\n" * n for n in (*[20] * 5_000, 200_000, 300_000)]
    groups = list(examples._piece_batches(texts[::-1] if longest_first else texts, BYTES))
    sizes = [sum(len(piece.text) for piece in group) for group in groups]
    assert sum(sizes) == sum(map(len, texts))
    assert max(sizes) <= 525_000
    assert all(size >= 475_000 for size in sizes[:-1])
    assert max(len(piece.text) for group in groups for piece in group) <= 25_000


# ---- long texts ------------------------------------------------------------------------------


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are cut as they are, but every 50 characters."""
    monkeypatch.setattr(examples, "_CUT_WINDOW", 50)
    monkeypatch.setattr(examples, "_MAX_PIECE", 1_000)
    monkeypatch.setattr(examples, "_BATCH_CHARACTERS", 500)


def gpt2_like() -> Tokenizer:
    from headway.data.examples.tokenizer import train

    return train(["word and word\n\n and \n the  word" * 20], 300)


GPT2_LIKE = gpt2_like()
LINES = st.text(alphabet=" \nab.'1\u00e9", max_size=400)


@settings(max_examples=200)
@given(text=LINES)
def test_a_long_text_has_the_same_tokens_as_in_one_go(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "_CUT_WINDOW", 50)
        whole = GPT2_LIKE.encode([text])[0]
        cuts = examples._cuts(text, GPT2_LIKE)
        if any(len(run) >= 50 for run in text.split()):
            return  # an endless word is cut inside
        assert "".join(text[a:b] for a, b in itertools.pairwise(cuts)) == text
        pieces = [text_example(Record("f", 1, text=text), GPT2_LIKE).ids[:-1]]
        assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.usefixtures("short_stretches")
def test_a_long_text_is_cut_at_lines() -> None:
    text = "a line of words\n" * 100
    cuts = examples._cuts(text, GPT2_LIKE)
    assert len(cuts) > 20
    assert all(text[cut - 1] == "\n" for cut in cuts[1:])


@pytest.mark.usefixtures("short_stretches")
def test_a_tokenizer_that_sees_a_seam_gets_a_million_characters_in_one_go() -> None:
    backend = tokenizers.Tokenizer(models.BPE({"a": 0, "\n": 1, "_": 2, "</s>": 3}, []))
    backend.normalizer = normalizers.Prepend("_")
    sees = Tokenizer({"tokenizer.json": backend.to_str().encode()}, "x")
    cuts = examples._cuts("aaaaaaaaa\n" * 350, sees)
    assert cuts == [0, 1000, 2000, 3000, 3500]


@pytest.mark.parametrize("run", ["w" + "e" * 900_000, "\u65e5\u672c" * 200_000, "!?" * 200_000])
def test_T04_an_endless_word_is_never_encoded_in_one_go(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def encode(self: Tokenizer, texts: list[str]) -> list[Ids]:
        encoded.extend(map(len, texts))
        return ENCODE(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", encode)
    example = text_example(Record("f", 1, text="before " + run + " after"), BYTES)
    assert max(encoded) <= 50_000
    assert BYTES.decode(example.ids) == "before " + run + " after"


def test_T04_an_endless_word_in_an_answer_is_cut_and_trained_in_full() -> None:
    run = "w" + "e" * 200_000
    made = chat(CHATML, conversation("q", run, "r", "s"))
    assert trained_runs(made) == [run + TURN_END, "s" + TURN_END]


# ---- tokens ----------------------------------------------------------------------------------


def test_tokens_stay_as_they_are_and_all_but_the_first_are_trained() -> None:
    made = token_example(Record("f", 4, ids=(5, 0, 258)), 259)
    assert isinstance(made, Example)
    assert (made.file, made.line) == ("f", 4)
    assert made.ids.tolist() == [5, 0, 258]
    assert made.ids.dtype == np.int32
    assert made.trained.tolist() == [False, True, True]


def test_tokens_with_labels_train_those_that_are_not_masked_whatever_their_id() -> None:
    """Labels mask, ids do not: a padding or end token that has a label is learned."""
    end = BYTES.end_id
    record = Record("f", 1, ids=(5, 6, end, 7, end), labels=(5, -100, end, -100, end))
    made = token_example(record, 259)
    assert isinstance(made, Example)
    assert made.trained.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("ids", "found"),
    [((5, 259), "token 259 at position 1"), ((-1, 5), "token -1 at position 0"),
     ((5, 6, 2**70), f"token {2**70} at position 2")],
    ids=["beyond", "negative", "enormous"],
)  # fmt: skip
def test_T08_T09_an_id_outside_the_vocabulary_is_rejected_with_its_place(
    ids: tuple[int, ...], found: str
) -> None:
    made = token_example(Record("f", 4, ids=ids), 259)
    assert made == Rejected(
        "f", 4, "a token outside the vocabulary", f"{found}, ids go from 0 to 258"
    )
    assert isinstance(token_example(Record("f", 4, ids=(5, 258)), 259), Example)


@pytest.mark.parametrize(
    ("ids", "labels"),
    [((5, 6, 7), (-100, -100, -100)), ((5, 6, 7), (5, -100, -100)), ((5,), None), ((), None)],
    ids=["all masked", "only the first", "one token", "none"],
)
def test_F27_tokens_that_train_nothing_are_rejected(
    ids: tuple[int, ...], labels: tuple[int, ...] | None
) -> None:
    made = token_example(Record("f", 2, ids=ids, labels=labels), 259)
    assert made == Rejected("f", 2, "no learned label", "every label after the first token is -100")


def test_rejected_tokens_keep_their_places_and_only_others_are_told() -> None:
    ticks: list[int] = []
    records = [Record("f", n, ids=ids) for n, ids in enumerate([(1, 2), (1, 900), (3, 4, 5)])]
    made = token_examples(records, 259, ticks.append)
    assert [type(one) for one in made] == [Example, Rejected, Example]
    assert ticks == [5]


# ---- conversations ---------------------------------------------------------------------------


@pytest.mark.parametrize("source", [CHATML, MARKS_WORDS, MARKS_NOTHING])
def test_T07_each_answer_is_trained_with_its_end_and_nothing_else(source: str) -> None:
    example = chat(source, conversation("Hi", "Hello", "And?", "Well\n"))
    assert trained_runs(example) == ["Hello" + TURN_END, "Well\n" + TURN_END]
    assert CHAT.decode(example.ids, special=True).startswith("<|im_start|>user\nHi<|im_end|>\n")


def test_an_answer_without_an_end_token_is_trained_with_its_line_break() -> None:
    assert trained_runs(chat(NO_END, conversation("Hi", "Hello"))) == ["Hello\n"]


def test_everything_but_the_first_token_is_trained_when_asked() -> None:
    example = chat(CHATML, conversation("Hi", "Hello"), assistant_only=False)
    assert example.trained.tolist() == [False] + [True] * (len(example.ids) - 1)


def test_nothing_is_put_before_what_the_template_writes() -> None:
    begun = Tokenizer(CHAT.files, "a model")
    begun.bos_id = 0
    made = chat_example(conversation("a", "b"), begun, "<|endoftext|>" + CHATML)
    assert isinstance(made, Example)
    assert made.ids[:2].tolist() == [0, 1]


def test_the_first_token_is_never_trained() -> None:
    source = "{% generation %}{{ messages[0].content }}{% endgeneration %}"
    greeting = Record("f", 1, messages=({"role": "assistant", "content": "bcd"},))
    assert chat(source, greeting).trained.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("source", "record", "detail"),
    [
        (CHATML, conversation("only a question"), "no assistant message"),
        ("{{ messages[0].content }}{% generation %}{% endgeneration %}", conversation("a", "b"),
         "the template does not write any answer"),
        ("", conversation("a", "b"), "the template does not write any answer"),
    ],
)  # fmt: skip
def test_F27_a_conversation_that_trains_nothing_is_rejected(
    source: str, record: Record, detail: str
) -> None:
    made = chat_example(record, CHAT, source or " ")
    assert made == Rejected("f", 1, "no trained token", detail)


@given(
    talks=st.lists(
        st.lists(st.text(alphabet="ab \n\u20ac<|im_end|>", max_size=9), min_size=1, max_size=5),
        min_size=1,
        max_size=6,
    ),
    source=st.sampled_from([CHATML, MARKS_WORDS, MARKS_NOTHING, NO_END]),
)
def test_B02_every_example_of_a_conversation_trains_something(
    talks: list[list[str]], source: str
) -> None:
    """So that no batch is made whose loss is a mean over nothing."""
    records = [conversation(*talk, line=n) for n, talk in enumerate(talks)]
    made = chat_examples(
        records, CHAT, Template(CHAT, source), assistant_only=True, keep_empty_answers=True
    )
    assert [one.line for one in made] == list(range(len(talks)))
    for one in made:
        if isinstance(one, Rejected):
            assert one.reason == "no trained token"
        else:
            assert one.trained.any()
            assert not one.trained[0]


def test_rejected_ones_keep_their_places_among_many() -> None:
    records = [
        conversation("a", "b", line=1),
        conversation("a", line=2),
        conversation("c", "d", line=3),
    ]
    made = chat_examples(records, CHAT, Template(CHAT, CHATML), assistant_only=True)
    assert [(type(one), one.line) for one in made] == [(Example, 1), (Rejected, 2), (Example, 3)]
    last: Any = made[2]
    assert trained_runs(last) == ["d" + TURN_END]


@pytest.mark.usefixtures("short_stretches")
def test_a_long_conversation_is_cut_without_moving_its_answers() -> None:
    answer = "\n".join(f"line {n}, caf\u00e9" for n in range(40))
    record = conversation("q" * 230, answer, "r\n" * 60, "end")
    example = chat(CHATML, record)
    assert trained_runs(example) == [answer + TURN_END, "end" + TURN_END]


def test_T11_a_token_that_reaches_into_the_answer_is_trained() -> None:
    """The template's last character and the answer's first are one token here."""
    vocab = {"a": 0, ":": 1, "b": 2, ":b": 3, "</s>": 4}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [(":", "b")]))
    backend.add_special_tokens(["</s>"])
    merges = Tokenizer({"tokenizer.json": backend.to_str().encode()}, "x")
    source = "{% for m in messages %}{% if m.role == 'assistant' %}:{% generation %}"
    source += "{{ m.content }}{% endgeneration %}</s>{% else %}a{% endif %}{% endfor %}"
    made = chat_example(conversation("a", "b"), merges, source)
    assert isinstance(made, Example)
    assert made.ids.tolist() == [0, 3, 4]
    assert made.trained.tolist() == [False, True, True]


# ---- for people ------------------------------------------------------------------------------


def test_T12_the_trained_stretches_are_marked() -> None:
    example = chat(CHATML, conversation("Hi", "Hello", "And?", "Well"))
    assert render_marked(example, CHAT) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n\u00abHello<|im_end|>\u00bb\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n\u00abWell<|im_end|>\u00bb\n"
    )


@pytest.mark.parametrize(
    "record",
    [conversation("q" * 5000, "a" * 5000), conversation(*["some words"] * 90)],
    ids=["long", "many"],
)
def test_a_marked_example_is_short_and_shows_an_answer(record: Record) -> None:
    shown = render_marked(chat(CHATML, record), CHAT)
    assert len(shown) <= 400
    assert "\u00ab" in shown
    assert "\u2026" in shown


def test_the_end_of_an_example_is_its_last_trained_special_token() -> None:
    assert end_token_id(chat(CHATML, conversation("a", "b")), BYTES) == CHAT.end_id
    assert end_token_id(text_example(Record("f", 1, text="a"), BYTES), BYTES) == BYTES.end_id
    assert end_token_id(chat(NO_END, conversation("a", "b")), BYTES) == BYTES.end_id
