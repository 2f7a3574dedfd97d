"""Pre-tokenizers of llama.cpp by name: how text is split before pairs of tokens are merged."""

from dataclasses import dataclass

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{NUM}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{END}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{END}}"
    r"|\p{N}{NUM}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """How text is cut before pairs are merged.

    Attributes:
        patterns: each cuts what the one before it left.
        whole_words: a word that is a token is not merged from parts.
        composed: text is composed first (NFC), as the model's own tokenizer does.
        begins: texts begin with the bos token, if the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    composed: bool = False
    begins: bool = False


_GPT2 = PreTokenizer((WORDS,))
_DIGITS = PreTokenizer((r"\p{N}", WORDS))
_QWEN2 = PreTokenizer((_MODERN.replace("{NUM}", ""),), composed=True)
_THREE_DIGITS = _MODERN.replace("{NUM}", "{1,3}")
_LLAMA3 = PreTokenizer((_THREE_DIGITS,), whole_words=True, begins=True)
# llama.cpp's names, `tokenizer.ggml.pre`, of files that are read.
PRE_TOKENIZERS = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}
# Of files that are written; the first that cuts alike is taken.
WRITTEN = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS,
    "qwen2": _QWEN2,
    "llama-bpe": _LLAMA3,
    "dbrx": PreTokenizer((_THREE_DIGITS,)),
    "tekken": PreTokenizer((_CASED.replace("{NUM}", "").replace("{END}", ""),), whole_words=True),
    "gpt-4o": PreTokenizer(
        (_CASED.replace("{NUM}", "{1,3}").replace("{END}", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"),)
    ),
}
