"""Texts that are compared: each kind of trouble, and the tokenizer's own tokens."""

import unicodedata

from tests.export.models import trained_tokenizer

from headway.export.verify.texts import conversations, nasty_texts, prose


def test_every_special_token_is_spelled_out() -> None:
    words = trained_tokenizer()
    texts = nasty_texts(words, composed=False)
    for token in words.special_tokens:
        assert any(f"a{token}b" in text for text in texts)


def test_the_tokenizers_own_words_are_in_them() -> None:
    words = trained_tokenizer()
    whole = "".join(nasty_texts(words, composed=False))
    ids = range(0, words.vocab_size, 7)
    missing = [words.decode([one]) for one in ids if words.decode([one]) not in whole]
    assert [one for one in missing if "\ufffd" not in one and one.strip()] == []


def test_composed_texts_stay_as_they_are_when_they_are_composed() -> None:
    texts = nasty_texts(trained_tokenizer(), composed=True)
    assert texts == [unicodedata.normalize("NFC", text) for text in texts]


def test_conversations_end_with_a_question() -> None:
    for messages in conversations():
        assert messages[-1]["role"] == "user"
    assert conversations()[0] == [{"role": "user", "content": "What is the capital of France?"}]
    assert len(prose()) > 200
