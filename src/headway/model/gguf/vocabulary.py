"""GGUF vocabulary: a file's tokens as tokenizer.json, tokenizer_config.json and chat template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headway.model.gguf.architecture import UnsupportedGgufError
from headway.model.gguf.container import Value
from headway.model.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # kinds of tokens that text may spell out
_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # as llama.cpp spells it
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's files, and what a model's own files say of it.

    Attributes:
        files: content by name, as transformers writes them.
        ids: bos, eos and pad ids for config.json.
        ends: the ids that end an answer.
    """

    files: dict[str, bytes]
    ids: dict[str, int]
    ends: tuple[int, ...]


def vocabulary_of(metadata: Mapping[str, Value], num_rows: int, context: int) -> Vocabulary:
    """The tokenizer in a file's metadata.

    Args:
        metadata: of the file.
        num_rows: of its embedding.
        context: tokens that the model supports.

    Raises:
        UnsupportedGgufError: its kind is not known.
        ValueError: a part is missing, or does not fit the others.
    """
    pre = _pre_tokenizer(metadata)
    tokens = _texts(metadata, "tokens")
    if len(tokens) > num_rows:
        raise ValueError(f"{len(tokens):,} tokens, and {num_rows:,} rows in the embedding")
    vocab = {token: number for number, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        raise ValueError(f"{len(tokens) - len(vocab)} tokens that are in the vocabulary twice")
    ids = {role: _id(metadata, key, len(tokens)) for role, key in _ROLES.items()}
    named = {role: tokens[number] for role, number in ids.items() if number is not None}
    if "eos_token" not in named:
        raise ValueError("no tokenizer.ggml.eos_token_id in its metadata")
    begins = _flag(metadata, "add_bos_token", default=pre.begins and "bos_token" in named)
    if begins and "bos_token" not in named:
        raise ValueError("tokenizer.ggml.add_bos_token, and no bos_token_id")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "add_bos_token": begins,
        **named,
        **_templates(metadata),
    }
    backend = _backend(metadata, vocab, tokens, pre)
    if begins:
        _begin_with(backend, named["bos_token"], vocab)
    files = {
        "tokenizer.json": backend.to_str(pretty=False).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
    }
    ends = (_id(metadata, key, len(tokens)) for key in _ENDS)
    kept = {f"{role}_id": ids[role] for role in ("bos_token", "eos_token", "pad_token")}
    return Vocabulary(
        files=files,
        ids={name: number for name, number in kept.items() if number is not None},
        ends=tuple(dict.fromkeys(number for number in ends if number is not None)),
    )


def _pre_tokenizer(metadata: Mapping[str, Value]) -> PreTokenizer:
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise UnsupportedGgufError(
            f"a tokenizer of the kind {str(kind)[:80]!r}", "byte-level pairs: the kind 'gpt2'"
        )
    name = metadata.get("tokenizer.ggml.pre")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        have = f"the pre-tokenizer {name[:80]!r}" if isinstance(name, str) else "no pre-tokenizer"
        raise UnsupportedGgufError(have, "one of " + ", ".join(PRE_TOKENIZERS))
    if _flag(metadata, "add_space_prefix", default=False):
        raise UnsupportedGgufError("add_space_prefix", "a tokenizer that adds no space")
    return PRE_TOKENIZERS[name]


def _backend(
    metadata: Mapping[str, Value], vocab: dict[str, int], tokens: Sequence[str], pre: PreTokenizer
) -> Any:
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

    merges = [_pair(one) for one in _texts(metadata, "merges")]
    model = models.BPE(vocab=vocab, merges=merges, ignore_merges=pre.whole_words)
    backend = tokenizers.Tokenizer(cast("Any", model))
    if pre.composed:
        backend.normalizer = cast("Any", normalizers.NFC())
    cuts = [pre_tokenizers.Split(Regex(one), "isolated") for one in pre.patterns]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = cast("Any", pre_tokenizers.Sequence([*cuts, bytes_only]))
    backend.decoder = cast("Any", decoders.ByteLevel())
    kinds = metadata.get("tokenizer.ggml.token_type", ())
    if not isinstance(kinds, tuple) or len(kinds) != len(tokens):
        raise ValueError("tokenizer.ggml.token_type does not have one number per token")
    spelled = [(t, k) for t, k in zip(tokens, kinds, strict=True) if k in (_CONTROL, _USER_DEFINED)]
    backend.add_tokens(
        [AddedToken(t, normalized=False, special=k == _CONTROL) for t, k in spelled if t]
    )
    if backend.get_vocab_size() != len(tokens):
        raise ValueError("its tokens do not keep their numbers")
    return backend


def _begin_with(backend: Any, token: str, vocab: Mapping[str, int]) -> None:
    from tokenizers import processors

    backend.post_processor = processors.TemplateProcessing(
        single=f"{token}:0 $A:0",
        pair=f"{token}:0 $A:0 {token}:1 $B:1",
        special_tokens=[(token, vocab[token])],
    )


def _templates(metadata: Mapping[str, Value]) -> dict[str, Any]:
    """The chat templates as tokenizer_config.json has them: one, or several by name."""
    key = "tokenizer.chat_template"
    default = metadata.get(key)
    others = {
        name.removeprefix(f"{key}."): text
        for name, text in metadata.items()
        if name.startswith(f"{key}.") and isinstance(text, str)
    }
    if default is None:
        return {}
    if not isinstance(default, str):
        raise ValueError(f"{key} is not text")
    if not others:
        return {"chat_template": default}
    named = {"default": default} | others
    return {"chat_template": [{"name": n, "template": text} for n, text in named.items()]}


def _pair(merge: str) -> tuple[str, str]:
    """The two parts of a merge; a part may begin with a space."""
    left, _, right = merge[1:].partition(" ")
    return merge[:1] + left, right


def _texts(metadata: Mapping[str, Value], name: str) -> tuple[str, ...]:
    found = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, tuple) or not all(isinstance(one, str) for one in found) or not found:
        raise ValueError(f"no tokenizer.ggml.{name} in its metadata")
    return cast("tuple[str, ...]", found)


def _id(metadata: Mapping[str, Value], key: str, num_tokens: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < num_tokens:
        raise ValueError(f"tokenizer.ggml.{key} {value!r}, which is not a token")
    return value


def _flag(metadata: Mapping[str, Value], key: str, *, default: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.{key}", default)
    if not isinstance(value, bool):
        raise ValueError(f"tokenizer.ggml.{key} {value!r}, neither true nor false")
    return value
