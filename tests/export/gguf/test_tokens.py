"""A tokenizer in llama.cpp's words: kinds of tokens, ends, beginnings and templates."""

import json
from typing import Any

import pytest
from tests.export.models import trained_tokenizer
from tests.export.tokenizers import byte_pairs, sentence_piece
from tokenizers import AddedToken

from headway.data.examples.tokenizer import DOCUMENT_END, TURN_END, Tokenizer, byte_level
from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.tokens import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    vocabulary_of,
)

BEGINNING = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


def metadata(tokenizer: Tokenizer, rows: int = 0, ends: tuple[int, ...] = ()) -> dict[str, Any]:
    return dict(vocabulary_of(tokenizer, ends, rows or tokenizer.vocab_size).metadata)


def with_bos(tokenizer: Tokenizer, template: str) -> Tokenizer:
    config = json.loads(tokenizer.files["tokenizer_config.json"])
    config |= {"bos_token": DOCUMENT_END, "add_bos_token": True}
    files = tokenizer.files | {"tokenizer_config.json": json.dumps(config).encode()}
    return Tokenizer(files, "with bos").with_template(template)


def test_a_vocabulary_of_bytes_has_one_merge_that_never_applies() -> None:
    (merge,) = metadata(byte_level())["tokenizer.ggml.merges"]
    left, right = merge.split(" ")
    assert left == right
    assert len(left) > 1
    assert left in byte_level().special_tokens


def test_kinds_of_tokens() -> None:
    words = byte_pairs("gpt-2")
    found = metadata(words, rows=words.vocab_size + 2)
    kinds = dict(
        zip(found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], strict=True)
    )
    assert kinds[TURN_END] == CONTROL
    assert kinds["<tool>"] == USER_DEFINED
    assert kinds["a"] == NORMAL
    assert kinds[f"[PAD{words.vocab_size + 1}]"] == UNUSED
    assert found["tokenizer.ggml.merges"][0].count(" ") == 1
    assert "tokenizer.ggml.scores" not in found


def test_kinds_and_scores_of_a_sentence_piece_vocabulary() -> None:
    found = metadata(sentence_piece("legacy"))
    tokens = found["tokenizer.ggml.tokens"]
    kinds = dict(zip(tokens, found["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<0x0A>"], kinds["<unk>"], kinds["</s>"]) == (BYTE, UNKNOWN, CONTROL)
    scores = dict(zip(tokens, found["tokenizer.ggml.scores"], strict=True))
    merged = [token for token, score in scores.items() if score > -1e6]
    assert max(scores.values()) == 0
    assert len({scores[token] for token in merged}) == len(merged)
    assert found["tokenizer.ggml.add_space_prefix"] is True


def test_merges_whose_tokens_have_no_order_are_refused() -> None:
    words = sentence_piece("legacy")
    backend = json.loads(words.files["tokenizer.json"])
    vocab, merges = backend["model"]["vocab"], backend["model"]["merges"]
    left, right = next(
        (token[:at], token[at:])
        for token in (a + b for a, b in merges[: len(merges) // 2])
        for at in range(1, len(token))
        if {token[:at], token[at:]} <= vocab.keys() and [token[:at], token[at:]] not in merges
    )
    backend["model"]["merges"] = [*merges, [left, right]]
    files = words.files | {"tokenizer.json": json.dumps(backend).encode()}
    with pytest.raises(UnsupportedModelError, match="several places"):
        metadata(Tokenizer(files, "odd"))


def test_ends_that_llama_cpp_does_not_know_by_name_come_first() -> None:
    words = byte_pairs("gpt-2", added=(AddedToken("<over>", special=True),))
    ids = {token: words.id_of(token) for token in (TURN_END, DOCUMENT_END, "<over>")}
    found = metadata(words, ends=(ids[DOCUMENT_END] or 0, ids["<over>"] or 0))
    assert found["tokenizer.ggml.eos_token_id"] == ids[TURN_END]
    assert found["tokenizer.ggml.eot_token_id"] == ids["<over>"]
    assert found["tokenizer.ggml.eom_token_id"] == ids[DOCUMENT_END]


def test_more_ends_than_there_are_places_for_are_refused() -> None:
    odd = tuple(AddedToken(f"<end{n}>", special=True) for n in range(3))
    words = byte_pairs("gpt-2", added=odd)
    ends = tuple(words.id_of(one.content) or 0 for one in odd)
    assert len([key for key in metadata(words, ends=ends[:2]) if "_token_id" in key]) == 3
    with pytest.raises(UnsupportedModelError) as caught:
        metadata(words, ends=ends)
    assert "3 tokens" in str(caught.value)


def test_a_bos_token_that_the_template_writes_is_added_once() -> None:
    found = vocabulary_of(with_bos(trained_tokenizer(), BEGINNING), (), 400)
    assert found.add_bos
    assert found.metadata["tokenizer.ggml.add_bos_token"] is True
    assert found.findings == ()


def test_a_template_without_the_bos_token_keeps_it_out_of_chats() -> None:
    words = with_bos(trained_tokenizer(), BEGINNING.replace("{{ bos_token }}", ""))
    found = vocabulary_of(words, (), 400)
    assert not found.add_bos
    assert found.findings[0].kind == "adjusted"


def test_a_text_model_begins_as_its_texts_do() -> None:
    words = trained_tokenizer(chat=False)
    assert metadata(words)["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.chat_template" not in metadata(words)


def test_both_templates_are_kept() -> None:
    words = trained_tokenizer(chat=False)
    config = json.loads(words.files["tokenizer_config.json"])
    config["chat_template"] = [
        {"name": "default", "template": "a"},
        {"name": "tool_use", "template": "b"},
    ]
    files = words.files | {"tokenizer_config.json": json.dumps(config).encode()}
    found = metadata(Tokenizer(files, "two"))
    assert found["tokenizer.chat_template"] == "a"
    assert found["tokenizer.chat_template.tool_use"] == "b"
    assert found["tokenizer.chat_templates"] == ["tool_use"]


def test_more_tokens_than_rows_are_refused() -> None:
    words = trained_tokenizer()
    with pytest.raises(UnsupportedModelError, match="rows in the embedding"):
        metadata(words, rows=words.vocab_size - 1)


def test_tokens_that_take_the_space_beside_them_are_refused() -> None:
    words = byte_pairs("gpt-2", added=(AddedToken("<mask>", lstrip=True, special=True),))
    with pytest.raises(UnsupportedModelError, match="<mask>"):
        metadata(words)


def test_a_space_before_the_first_text_alone_needs_chats() -> None:
    assert vocabulary_of(sentence_piece("first"), (), 2000).findings[0].kind == "adjusted"
    with pytest.raises(UnsupportedModelError):
        metadata(sentence_piece("first", template=None))
