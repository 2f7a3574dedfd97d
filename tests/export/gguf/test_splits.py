"""A tokenizer's splits have llama.cpp's name for them, and cut text there as they do here."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.export.models import model_folder, source_of, trained_tokenizer
from tests.export.tokenizers import SENTENCE_PIECE, byte_pairs, sentence_piece

from headway.base.pulse import Pulse
from headway.data.examples.tokenizer import Tokenizer, byte_level
from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.plan import file_name, plan_file
from headway.export.gguf.splits import splits_of
from headway.export.request import ExportOptions
from headway.export.targets.gguf import GgufTarget
from headway.export.verify.checks import compare_chats, compare_tokens
from headway.export.verify.llama_cpp import running
from headway.export.verify.reference import Reference
from headway.model.gguf.pre_tokenizers import WRITTEN

MADE = {
    **{name: lambda name=name: byte_pairs(name) for name in WRITTEN},
    **{kind: lambda kind=kind: sentence_piece(kind) for kind in SENTENCE_PIECE},
}


def backend_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.files["tokenizer.json"])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_name_of_byte_level_splits(name: str) -> None:
    found = splits_of(backend_of(byte_pairs(name)))
    assert (found.model, found.pre) == ("gpt2", name)
    assert found.composes == (name == "qwen2")


@pytest.mark.parametrize("kind", SENTENCE_PIECE)
def test_sentence_piece(kind: str) -> None:
    found = splits_of(backend_of(sentence_piece(kind)))
    assert (found.model, found.pre) == ("llama", "default")
    assert found.space_prefix == (kind == "legacy")
    assert found.first_space == (kind == "first")


def test_what_is_trained_here_has_a_name() -> None:
    for tokenizer in (trained_tokenizer(), byte_level()):
        assert splits_of(backend_of(tokenizer)).pre == "gpt-2"


@pytest.mark.parametrize("name", MADE)
def test_the_same_tokens_in_llama_cpp(name: str, tmp_path: Path) -> None:
    tokenizer = MADE[name]()
    small = {"hidden_size": 32, "head_dim": 32, "num_attention_heads": 1, "num_hidden_layers": 1}
    folder = model_folder(
        tmp_path / "model",
        tokenizer=tokenizer,
        **small,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=2048,
    )
    source, options = source_of(folder, tmp_path / "scratch"), ExportOptions("gguf", quantize="f32")
    GgufTarget().write(source, options, tmp_path, Pulse())
    planned = plan_file(source, options).vocabulary
    reference = Reference(source.load_model(), source.tokenizer, begins=planned.add_bos)
    with running(tmp_path / file_name(options), 2048) as llama:
        outcomes = compare_tokens(llama, reference, planned.splits)
        outcomes += compare_chats(llama, reference, 2048)
    assert [one.check for one in outcomes if one.difference] == []
    assert len(outcomes) == 4


def changed(**changes: Any) -> dict[str, Any]:
    return backend_of(trained_tokenizer()) | changes


@pytest.mark.parametrize(
    "backend",
    [
        changed(model=backend_of(trained_tokenizer())["model"] | {"type": "Unigram"}),
        changed(model=backend_of(trained_tokenizer())["model"] | {"end_of_word_suffix": "</w>"}),
        changed(model=backend_of(trained_tokenizer())["model"] | {"ignore_merges": True}),
        changed(normalizer={"type": "Lowercase"}),
        changed(pre_tokenizer={"type": "Whitespace"}),
        changed(pre_tokenizer=None),
        changed(
            pre_tokenizer={
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            }
        ),
        changed(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": r"\p{L}+"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        backend_of(sentence_piece("always")),
    ],
)
def test_splits_that_llama_cpp_does_not_have_are_refused(backend: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        splits_of(backend)
    assert caught.value.need
