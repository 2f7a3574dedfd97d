"""GGUF vocabulary of a model: its tokenizer and chat template as metadata of llama.cpp."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.base.errors import Finding
from headway.base.units import count
from headway.data.examples.chat import Template
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer
from headway.data.examples.tokenizer_files import WORDS
from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.splits import Splits, splits_of

# llama.cpp's kinds of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Tokens at which llama.cpp ends an answer, whatever a file says, if they are spelled so.
_ENDS_BY_SPELLING = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"),
    *("<|eom_id|>", "</s>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"),
)
_LEAST_SCORE = -1e6  # of tokens that nothing is merged into
_PHI3_PLAIN = ("<unk>", "<s>", "<|endoftext|>")  # of Phi-3, llama.cpp strips behind all others


@dataclass(frozen=True)
class GgufVocabulary:
    """A tokenizer in llama.cpp's words.

    Attributes:
        metadata: keys and values; lists of text, of numbers, and single ones.
        add_bos: llama.cpp puts the bos token before a text and before a chat.
        splits: how text is cut.
        is_phi3: tokens take the space behind them as in Phi-3. llama.cpp tells that by the name.
        findings: what a person should know.
    """

    metadata: Mapping[str, Any]
    add_bos: bool
    splits: Splits
    is_phi3: bool = False
    findings: tuple[Finding, ...] = ()


def vocabulary_of(tokenizer: Tokenizer, end_ids: Sequence[int], num_rows: int) -> GgufVocabulary:
    """The vocabulary of a model.

    Args:
        tokenizer: of the model.
        end_ids: every token that ends an answer.
        num_rows: of its embedding.

    Raises:
        UnsupportedModelError: llama.cpp would cut text otherwise, or has no such tokens.
    """
    backend = _parsed(tokenizer)
    splits = splits_of(backend)
    if tokenizer.vocab_size > num_rows:
        raise UnsupportedModelError(
            f"{count(tokenizer.vocab_size)} tokens, and {count(num_rows)} rows in the embedding",
            "a row for each token",
        )
    tokens, kinds = _tokens(backend, num_rows)
    is_phi3 = _strips_like_phi3(backend.get("added_tokens", []))
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": splits.model,
        "tokenizer.ggml.pre": splits.pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
    }
    pairs = _pairs(backend["model"]["merges"])
    if splits.model == "gpt2":
        merges = [" ".join(pair) for pair in pairs]
        metadata["tokenizer.ggml.merges"] = merges or [_no_merge(tokens)]
    else:
        metadata["tokenizer.ggml.scores"] = _scores(tokens, pairs)
    begins, findings = _begins(tokenizer)
    metadata |= _special(tokenizer, end_ids)
    metadata |= {
        "tokenizer.ggml.add_bos_token": begins,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": splits.space_prefix,
    }
    metadata |= _templates(tokenizer)
    findings = (*findings, *_space_prefix(splits, tokenizer), *_composing(splits))
    return GgufVocabulary(metadata, begins, splits, is_phi3, findings)


def _no_merge(tokens: Sequence[str]) -> str:
    """A merge that never applies: llama.cpp wants one, even where each byte is a token.

    Without another merge, a text is single characters, and neither side of this one is.
    """
    longest = max(tokens, key=len)
    return f"{longest} {longest}"


def _parsed(tokenizer: Tokenizer) -> dict[str, Any]:
    """Its tokenizer.json, with what older files leave out."""
    import tokenizers

    return json.loads(tokenizers.Tokenizer.from_str(tokenizer.files[WORDS].decode()).to_str())


def _tokens(backend: Mapping[str, Any], num_rows: int) -> tuple[list[str], list[int]]:
    """Each id's spelling and kind; rows without a token are padding."""
    vocab: dict[str, int] = backend["model"]["vocab"]
    tokens = [f"[PAD{number}]" for number in range(num_rows)]
    kinds = [UNUSED] * num_rows
    unknown = backend["model"].get("unk_token")
    is_bytes = bool(backend["model"].get("byte_fallback"))
    for token, number in vocab.items():
        tokens[number] = token
        kinds[number] = BYTE if is_bytes and _is_byte(token) else NORMAL
    for one in backend.get("added_tokens", []):
        number = one["id"]
        tokens[number] = one["content"]
        kinds[number] = CONTROL if one["special"] else USER_DEFINED
        if one["content"] == unknown:
            kinds[number] = UNKNOWN
    twice = len(tokens) - len(set(tokens))
    if twice:
        raise UnsupportedModelError(f"{twice} tokens that are spelled like others", "each once")
    return tokens, kinds


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _strips_like_phi3(added: Sequence[Mapping[str, Any]]) -> bool:
    """Whether tokens take the space behind them as in Phi-3; False: none takes any.

    Raises:
        UnsupportedModelError: they take other ones.
    """
    odd = [one for one in added if one["lstrip"] or one["single_word"] or one["rstrip"]]
    if not odd:
        return False
    spelled = {one["content"]: one["rstrip"] for one in added if one["special"]}
    like_phi3 = all(takes == (token not in _PHI3_PLAIN) for token, takes in spelled.items())
    only_behind = all(
        one["special"] and not one["lstrip"] and not one["single_word"] for one in odd
    )
    if like_phi3 and only_behind and {"</s>", *_PHI3_PLAIN} <= spelled.keys():
        return True
    raise UnsupportedModelError(
        f"{odd[0]['content']!r}, a token that takes the space beside it", "tokens that do not"
    )


def _pairs(merges: Sequence[Any]) -> list[tuple[str, str]]:
    """The two parts of each merge."""
    return [(left, right) for left, right in merges]


def _scores(tokens: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[float]:
    """SentencePiece's score of each token: the pair that comes first has the highest.

    Raises:
        UnsupportedModelError: the order of merges is none of tokens.
    """
    ranks: dict[str, int] = {}
    last = ""
    for left, right in pairs:
        if left + right != last and left + right in ranks:
            raise UnsupportedModelError(
                f"merges of {left + right!r} in several places", "a SentencePiece vocabulary"
            )
        last = left + right
        ranks.setdefault(last, len(ranks))
    return [-float(ranks[token]) if token in ranks else _LEAST_SCORE for token in tokens]


def _begins(tokenizer: Tokenizer) -> tuple[bool, tuple[Finding, ...]]:
    """Whether llama.cpp puts the bos token first: before a text, and before a chat, or neither."""
    adds = tokenizer.bos_id is not None
    rendered = _rendered(tokenizer)
    if rendered is None or not adds:
        return adds, ()
    bos = tokenizer.token_of(tokenizer.bos_id or 0) or ""
    if rendered.startswith(bos):
        return True, ()  # llama.cpp takes the template's own away again
    return False, (
        Finding(
            "adjusted",
            "the GGUF file says add_bos_token false",
            have=f"{bos} before a text, and none where the chat template begins",
            need="chats as they were trained; llama.cpp has one setting for both",
        ),
    )


def _rendered(tokenizer: Tokenizer) -> str | None:
    """How a chat begins; None for a tokenizer without a template."""
    if tokenizer.chat_template is None:
        return None
    try:
        return Template(tokenizer).render([{"role": "user", "content": "Hi"}])
    except RenderError:
        return None


def _space_prefix(splits: Splits, tokenizer: Tokenizer) -> tuple[Finding, ...]:
    """What a person should know about the space before a text.

    Raises:
        UnsupportedModelError: llama.cpp puts one where the tokenizer does not, or none.
    """
    if not splits.first_space:
        return ()
    if tokenizer.chat_template is None:
        raise UnsupportedModelError(
            "a tokenizer that puts a space before a text that begins without one",
            "a chat template, whose chats begin with a special token",
        )
    return (
        Finding(
            "adjusted",
            "the GGUF file says add_space_prefix false",
            have="a space before a text, but not behind a special token",
            need="chats as they were trained; llama.cpp has one setting for both",
        ),
    )


def _composing(splits: Splits) -> tuple[Finding, ...]:
    if not splits.composes:
        return ()
    return (
        Finding(
            "ok",
            "llama.cpp does not compose characters",
            have="a tokenizer that composes them first (NFC)",
            need="texts that are composed, as almost all are",
        ),
    )


def _special(tokenizer: Tokenizer, end_ids: Sequence[int]) -> dict[str, int]:
    """The special tokens by role, and every token that ends an answer.

    Raises:
        UnsupportedModelError: there are more than llama.cpp has places for.
    """
    found: dict[str, int] = {}
    for role, key in (
        ("bos_token", "bos_token_id"),
        ("unk_token", "unknown_token_id"),
        ("pad_token", "padding_token_id"),
    ):
        number = tokenizer.id_of(tokenizer.special.get(role, ""))
        if number is not None:
            found[key] = number
    if tokenizer.bos_id is not None:
        found["bos_token_id"] = tokenizer.bos_id
    ends = list(dict.fromkeys((tokenizer.end_id, *end_ids)))
    named = [one for one in ends if tokenizer.token_of(one) not in _ENDS_BY_SPELLING]
    spelled = [one for one in ends if one not in named]
    if len(named) > len(_END_KEYS) - (0 if tokenizer.end_id in named else 1):
        raise UnsupportedModelError(
            f"{len(named)} tokens that end an answer", f"at most {len(_END_KEYS)}"
        )
    others = [one for one in (*named, *spelled) if one != tokenizer.end_id]
    found |= dict(zip(_END_KEYS, (tokenizer.end_id, *others), strict=False))
    return {f"tokenizer.ggml.{key}": number for key, number in found.items()}


def _templates(tokenizer: Tokenizer) -> dict[str, Any]:
    if tokenizer.chat_template is None:
        return {}
    found: dict[str, Any] = {"tokenizer.chat_template": tokenizer.chat_template}
    if tokenizer.tool_template:
        found |= {
            "tokenizer.chat_templates": ["tool_use"],
            "tokenizer.chat_template.tool_use": tokenizer.tool_template,
        }
    return found
