"""Tokenizers are learned, loaded and saved so that transformers reads the same ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, processors

from headway.base.errors import UsageError
from headway.data.examples.tokenizer import (
    DOCUMENT_END,
    SPECIAL,
    TURN_END,
    Tokenizer,
    byte_level,
    fingerprint,
    load,
    train,
)

TINY = (Path(__file__).parents[1] / "tiny.txt").read_text()
NASTY = [
    "",
    " ",
    "two  spaces and\ttabs\n\n\nand lines \n",
    "caf\u00e9 \u65e5\u672c\u8a9e \U0001f600 \u200d",
    "a\0b",
    "<|im_start|>user\nhi<|im_end|>\n",
]
BYTES = byte_level()


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train(TINY.splitlines(keepends=True), 512)


def sentencepiece_like(folder: Path, **config: object) -> Path:
    """As Llama 2: a prefix space, no pre-tokenizer, and <s> by post-processing."""
    letters = ["<unk>", "<s>", "</s>", "\u2581", *"abcdefghijklmnopqrstuvwxyz.\n"]
    vocab = {token: number for number, token in enumerate(letters)}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    backend.enable_truncation(7)
    backend.enable_padding(length=9)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str())
    plain = {"eos_token": "</s>", "bos_token": {"__type": "AddedToken", "content": "<s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(plain | config))
    return folder


# ---- made here -------------------------------------------------------------------------------


def test_byte_level_is_259_tokens_one_per_byte() -> None:
    assert BYTES.vocab_size == 259
    (ids,) = BYTES.encode(["caf\u00e9"])
    assert len(ids) == 5
    assert ids.dtype == np.int32
    assert [BYTES.token_of(number) for number in range(3)] == list(SPECIAL)


def test_training_twice_gives_the_same_tokenizer(trained: Tokenizer) -> None:
    again = train(TINY.splitlines(keepends=True), 512)
    assert again.files == trained.files
    assert again.fingerprint == trained.fingerprint


def test_a_trained_tokenizer_has_the_size_asked_for_and_shortens_text(trained: Tokenizer) -> None:
    assert trained.vocab_size == 512
    assert trained.origin == "trained here, 512 tokens"
    (ids,) = trained.encode([TINY])
    assert len(ids) < len(TINY) / 2


def test_other_text_gives_another_fingerprint(trained: Tokenizer) -> None:
    assert train(["entirely other words " * 50], 512).fingerprint != trained.fingerprint
    assert trained.fingerprint != BYTES.fingerprint


def test_a_vocabulary_that_is_too_small_still_holds_every_byte() -> None:
    assert train([TINY], 10).vocab_size == 259


@given(st.text())
def test_byte_level_gives_back_every_text(text: str) -> None:
    (ids,) = BYTES.encode([text])
    if not any(special in text for special in SPECIAL):
        assert BYTES.decode(ids) == text
        assert not set(map(int, ids)) & BYTES.special_ids
    assert BYTES.decode(ids, special=True) == text


def test_T09_text_survives_the_ids_of_a_trained_tokenizer(trained: Tokenizer) -> None:
    for text, ids in zip(NASTY, trained.encode(NASTY), strict=True):
        assert trained.decode(ids, special=True) == text
        assert max(ids, default=0) < trained.vocab_size


def test_special_tokens_in_a_text_are_themselves_and_left_out_when_decoding() -> None:
    (ids,) = BYTES.encode([f"a{TURN_END}b{DOCUMENT_END}"])
    assert list(ids[[1, 3]]) == [BYTES.id_of(TURN_END), BYTES.end_id]
    assert BYTES.decode(ids) == "ab"


def test_offsets_are_characters_also_where_a_character_is_many_tokens() -> None:
    ((ids, offsets),) = BYTES.encode_with_offsets(["a\u20ac b"])
    assert len(ids) == 6
    assert offsets.tolist() == [[0, 1], [1, 2], [1, 2], [1, 2], [2, 3], [3, 4]]


def test_ending_in_another_token_is_another_tokenizer() -> None:
    chat = BYTES.with_end_token(TURN_END)
    assert (chat.end_token, chat.end_id) == (TURN_END, BYTES.id_of(TURN_END))
    assert chat.fingerprint != BYTES.fingerprint
    assert chat.pad_id == BYTES.end_id  # so padding is never the end of an answer


# ---- saved and loaded ------------------------------------------------------------------------


def automatic(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("kind", ["byte-level", "trained"])
def test_transformers_loads_what_was_saved_and_encodes_the_same(
    kind: str, trained: Tokenizer, tmp_path: Path
) -> None:
    ours = (BYTES if kind == "byte-level" else trained).with_template("{{ messages }}")
    ours.save(tmp_path)
    theirs = automatic(tmp_path)
    for text, ids in zip(NASTY, ours.encode(NASTY), strict=True):
        assert theirs.encode(text, add_special_tokens=False) == ids.tolist()
        assert theirs.encode(text) == ids.tolist()  # nothing is put before or after
        assert theirs.decode(ids.tolist()) == ours.decode(ids, special=True)
    assert theirs.eos_token == ours.end_token
    assert theirs.pad_token == DOCUMENT_END
    assert theirs.bos_token is None
    assert theirs.chat_template == "{{ messages }}"
    assert len(theirs) == ours.vocab_size


def test_load_gives_back_what_was_saved(trained: Tokenizer, tmp_path: Path) -> None:
    trained.with_template("{{ messages }}").save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.fingerprint == trained.fingerprint
    assert loaded.chat_template == "{{ messages }}"
    assert loaded.special == trained.special
    assert loaded.origin == str(tmp_path)


def test_a_models_tokenizer_is_saved_as_it_was(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path / "model", model_max_length=2048)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"no file of a tokenizer")
    loaded = load(folder)
    (tmp_path / "out").mkdir()
    loaded.save(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".json"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert loaded.max_length == 2048


def test_only_a_new_template_is_added_to_a_models_tokenizer(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path / "model", chat_template="own")
    loaded = load(folder)
    assert loaded.with_template("own") is loaded
    other = loaded.with_template("other")
    assert set(other.files) - set(loaded.files) == {"chat_template.jinja"}
    assert other.fingerprint == loaded.fingerprint  # the template is told apart from the words
    assert other.origin == loaded.origin


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    loaded = load(sentencepiece_like(tmp_path))
    short, long = loaded.encode(["a", "a" * 50])
    assert (len(short), len(long)) == (2, 51)  # with the prefix space


def test_the_first_token_is_what_post_processing_puts_there(tmp_path: Path) -> None:
    loaded = load(sentencepiece_like(tmp_path))
    assert loaded.bos_id == 1
    assert 1 not in loaded.encode(["abc"])[0]
    assert BYTES.bos_id is None


@pytest.mark.parametrize(("asked", "bos_id"), [(False, None), (True, 1)])
def test_the_configuration_overrules_the_first_token(
    asked: bool, bos_id: int | None, tmp_path: Path
) -> None:
    assert load(sentencepiece_like(tmp_path, add_bos_token=asked)).bos_id == bos_id


def test_a_foreign_tokenizer_encodes_as_transformers_does(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    ours, theirs = load(folder), automatic(folder)
    for text in ("ab c.", " ab", "a\nb  c", "x</s>y"):
        assert theirs.encode(text, add_special_tokens=False) == ours.encode([text])[0].tolist()
        assert theirs.encode(text)[0] == ours.bos_id


@pytest.mark.parametrize(
    ("written", "template"),
    [
        ({}, None),
        ({"chat_template": "one"}, "one"),
        ({"chat_template": [{"name": "tool_use", "template": "t"},
                            {"name": "default", "template": "d"}]}, "d"),
        ({"chat_template": [{"name": "tool_use", "template": "t"}]}, None),
    ],
)  # fmt: skip
def test_the_template_in_the_configuration(
    written: dict[str, object], template: str | None, tmp_path: Path
) -> None:
    assert load(sentencepiece_like(tmp_path, **written)).chat_template == template


def test_a_template_of_its_own_file_comes_first(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path, chat_template="config")
    (folder / "chat_template.jinja").write_text("file")
    assert load(folder).chat_template == "file"


def test_end_ids_come_from_the_model_too(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    (folder / "config.json").write_text('{"eos_token_id": 6}')
    assert load(folder).end_ids == (2, 5, 6)


def test_an_end_token_that_no_file_names_is_found_by_the_model_and_saved(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path / "model", eos_token=None)
    (folder / "config.json").write_text('{"eos_token_id": 5}')
    loaded = load(folder)
    assert loaded.end_id == 5
    (tmp_path / "out").mkdir()
    loaded.save(tmp_path / "out")
    assert load(tmp_path / "out").end_id == 5


def test_a_bare_tokenizer_json_is_enough_where_its_end_is_a_usual_one(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    loaded = load((folder / "tokenizer.json").rename(tmp_path / "other.json"))
    assert loaded.end_token == "</s>"
    (tmp_path / "out").mkdir()
    loaded.save(tmp_path / "out")
    assert automatic(tmp_path / "out").eos_token == "</s>"


def test_a_tokenizer_without_any_end_is_refused(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    with pytest.raises(UsageError, match="has no end token"):
        load(tmp_path)


def test_a_folder_without_tokenizer_json_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"has no tokenizer\.json") as refusal:
        load(tmp_path)
    assert "save_pretrained" in refusal.value.remedies[0].do
    assert refusal.value.have == "tokenizer.model"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_broken_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    (folder / name).write_text((folder / name).read_text()[:-9])
    with pytest.raises(UsageError, match=rf"cannot read {name}"):
        load(folder)


def test_the_fast_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "chat_template.jinja").write_text("x")
    with_template = fingerprint(folder)
    assert with_template != before
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert fingerprint(folder) != with_template  # another end of a text


@pytest.mark.parametrize(
    ("prompt", "bos", "begin", "ids"),
    [
        ("a", None, None, "a"),
        ("a", "<|im_start|>", None, "<|im_start|>a"),
        ("<|im_start|>a", "<|im_start|>", None, "<|im_start|>a"),
        ("", "<|im_start|>", None, "<|im_start|>"),
        ("a", "<|im_start|>", "<|im_start|>", "<|im_start|>a"),
        ("a", "<|im_start|>", "b", "a"),  # trained without BOS
        ("", None, "b", "b"),
        ("", None, None, "<|endoftext|>"),
    ],
)
def test_a_prompt_begins_as_training_began(
    prompt: str, bos: str | None, begin: str | None, ids: str
) -> None:
    words = byte_level()
    words.bos_id = words.id_of(bos) if bos else None
    found = words.prompt_ids(prompt, words.id_of(begin) if begin else None)
    assert words.decode(found, special=True) == ids
