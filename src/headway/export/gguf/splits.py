"""Splits of a tokenizer.json: the name of llama.cpp's pre-tokenizer that cuts text alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from headway.export.gguf.architecture import UnsupportedModelError
from headway.model.gguf.pre_tokenizers import WORDS, WRITTEN

Part = Mapping[str, Any]  # of a tokenizer.json
SPACE = "\u2581"  # stands for a space in SentencePiece's tokens


@dataclass(frozen=True)
class Splits:
    """How a tokenizer cuts text, in llama.cpp's words.

    Attributes:
        model: of the vocabulary: gpt2 (bytes) or llama (SentencePiece).
        pre: llama.cpp's name of the pre-tokenizer.
        composes: the tokenizer composes characters first (NFC); llama.cpp does not.
        space_prefix: llama.cpp puts a space before a text.
        first_space: the tokenizer puts a space before a text, unless a special token comes first.
    """

    model: str
    pre: str
    composes: bool = False
    space_prefix: bool = False
    first_space: bool = False


def splits_of(backend: Part) -> Splits:
    """How a tokenizer cuts text.

    Args:
        backend: its tokenizer.json.

    Raises:
        UnsupportedModelError: llama.cpp has no pre-tokenizer that cuts like it.
    """
    model = backend["model"]
    if model.get("type") != "BPE":
        raise UnsupportedModelError(f"a {model.get('type')} tokenizer", "pairs of bytes (BPE)")
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key) and not (key == "unk_token" and model.get("byte_fallback")):
            raise UnsupportedModelError(f"a tokenizer with {key} {model[key]!r}", "one without")
    normal, cuts = _parts(backend, "normalizer"), _parts(backend, "pre_tokenizer")
    if model.get("byte_fallback"):
        return _sentence_piece(normal, cuts)
    composes = [one["type"] for one in normal] == ["NFC"]
    if normal and not composes:
        raise _unknown("normalizer", normal)
    patterns = tuple(pattern for cut in cuts for pattern in _patterns(cut, cuts))
    whole = bool(model.get("ignore_merges"))
    for name, known in WRITTEN.items():
        if known.patterns == patterns and known.whole_words == whole:
            return Splits("gpt2", name, composes)
    raise _unknown("pre_tokenizer", cuts)


def _patterns(cut: Part, cuts: list[Part]) -> Iterable[str]:
    match cut:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return (WORDS,) if use_regex else ()
        case {"type": "Digits", "individual_digits": True}:
            return (r"\p{N}",)
        case {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }:
            return (pattern,)
        case {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Removed",
            "invert": True,
        }:
            return (pattern,)
        case _:
            raise _unknown("pre_tokenizer", cuts)


def _sentence_piece(normal: list[Part], cuts: list[Part]) -> Splits:
    """A SentencePiece vocabulary: a space is a letter of its tokens."""
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepends = {"type": "Prepend", "prepend": SPACE}
    by_space = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    if normal in ([prepends, replaces], [replaces]) and cuts in ([], [by_space]):
        return Splits("llama", "default", space_prefix=prepends in normal)
    if not normal and len(cuts) == 1 and cuts[0]["type"] == "Metaspace":
        # Where it always puts a space, it does not double one, and llama.cpp does.
        scheme = cuts[0].get("prepend_scheme", "always")
        plain = cuts[0].get("replacement") == SPACE and not cuts[0].get("split")
        if plain and scheme in ("first", "never"):
            return Splits("llama", "default", first_space=scheme == "first")
    raise _unknown("pre_tokenizer", [*normal, *cuts])


def _parts(backend: Part, name: str) -> list[Part]:
    """The steps of a normalizer or pre-tokenizer, one after the other."""
    return list(_flat(backend.get(name)))


def _flat(part: Part | None) -> Iterable[Part]:
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part
        return
    inner = part.get("pretokenizers", part.get("normalizers", []))
    for one in cast("list[Part]", inner):
        yield from _flat(one)


def _unknown(name: str, parts: list[Part]) -> UnsupportedModelError:
    shown = ", ".join(str(one.get("type")) for one in parts) or "none"
    patterns = [one["pattern"] for one in parts if "pattern" in one]
    return UnsupportedModelError(
        f"a tokenizer whose {name} is {shown} {patterns or ''}".strip()[:400],
        f"one that cuts text like {', '.join(WRITTEN)} or SentencePiece",
    )
