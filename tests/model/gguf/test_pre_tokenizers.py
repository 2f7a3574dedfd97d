"""The names under which text is cut: those that are written are read alike."""

import pytest
from tokenizers import Regex, pre_tokenizers

from headway.model.gguf.pre_tokenizers import PRE_TOKENIZERS, WRITTEN


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS.keys() & WRITTEN.keys()))
def test_a_name_means_the_same_both_ways(name: str) -> None:
    assert PRE_TOKENIZERS[name] is WRITTEN[name]


def test_no_two_names_are_written_for_the_same_cuts() -> None:
    cuts = [(one.patterns, one.whole_words) for one in WRITTEN.values()]
    assert len(set(cuts)) == len(cuts)


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt-2", ["Don", "'t", " stop", " 12345", "\n\n"]),
        ("qwen2", ["Don", "'t", " stop", " ", "1", "2", "3", "4", "5", "\n\n"]),
        ("llama-bpe", ["Don", "'t", " stop", " ", "123", "45", "\n\n"]),
        ("tekken", ["Don", "'t", " stop", " ", "1", "2", "3", "4", "5", "\n\n"]),
        ("gpt-4o", ["Don't", " stop", " ", "123", "45", "\n\n"]),
    ],
)
def test_how_text_is_cut(name: str, pieces: list[str]) -> None:
    (pattern,) = WRITTEN[name].patterns
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    assert [text for text, _ in cut.pre_tokenize_str("Don't stop 12345\n\n")] == pieces
