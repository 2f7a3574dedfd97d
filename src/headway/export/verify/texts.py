"""Texts that tokenizers and chat templates read differently, and conversations made of them."""

import unicodedata
from typing import Any

from headway.data.examples.tokenizer import Tokenizer

# Each line is one that some converter got wrong.
_NASTY = (
    "Hello world! It's 2,048 tokens, isn't it? I'LL say we've 1234567 of them.",
    " leading space, two  spaces,   three, and a trailing one ",
    "\ttab\t\ttabs\n\nnew\n\n\nlines\r\nand Windows' own\r\n\r\n",
    "n\u00b2 + \u00bd = \u0968\u0969, \u2167 \u2460 12\u066034",
    "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m \u1e9e \u0130\u0131 \ufb01sh",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002",
    "\ud55c\uad6d\uc5b4",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u03ba\u03cc\u03c3\u03bc\u03b5",
    "\u0645\u0631\u062d\u0628\u0627",
    "\u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f469\u200d\U0001f4bb\U0001f44d\U0001f3fd \u2764\ufe0f \U0001f1e9\U0001f1ea\u2026",
    "\u201cquotes\u201d \u2014 dash",
    "a\u00a0b\u2003c\u200bd\u3000e \u2028f",
    "def f(x):\n    return {'a': [1, 2, 3][x]}  # <b>not</b> \\n &amp; $$100%",
    "https://example.org/a_b-c?d=e#f user@example.org C:\\Users\\me",
    "CamelCase snake_case XMLHttpRequest aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...;;;///***---___===+++~~~```",
    "< |im_end| > <|nothing|> [INST] <s>x</s> <start_of_turn> <unk>",
)
_WORDS = 400  # of its tokens, about, that texts are made of
_PROSE = (
    "The mill by the river was built in 1873, and nobody remembers who paid for it. "
    "Every spring the water rises; every autumn someone counts the boards that it took. "
    "Was it worth it? \u201cCertainly,\u201d says the miller\u2019s daughter, and goes on counting."
)


def nasty_texts(tokenizer: Tokenizer, *, composed: bool) -> list[str]:
    """Texts whose tokens are compared, the tokenizer's own special tokens among them.

    Args:
        tokenizer: that they are for.
        composed: it composes characters, which llama.cpp does not: the texts are composed already.
    """
    special = sorted(tokenizer.special_tokens)[:40]
    spelled = [f"a{token}b {token} c" for token in special]
    texts = [*_NASTY, "".join(_NASTY), _PROSE, *_of_its_words(tokenizer)]
    texts += ["".join(special), *spelled]
    return [unicodedata.normalize("NFC", text) if composed else text for text in texts]


def _of_its_words(tokenizer: Tokenizer) -> list[str]:
    """Texts of its own tokens: only in what it has merged does it show how it cuts."""
    step = max(1, tokenizer.vocab_size // _WORDS)
    words = [tokenizer.decode([number]) for number in range(0, tokenizer.vocab_size, step)]
    words = [word for word in words if word.strip() and "\ufffd" not in word]
    joined = ("", " ", "'s", ".\n\n", "1", " 12345 ", "!\n", "\t", "'T ", "/", "\r\n  ")
    return [join.join(words) for join in joined]


def conversations() -> list[list[dict[str, Any]]]:
    """Conversations that are rendered and compared; the first is a plain question."""
    question = {"role": "user", "content": "What is the capital of France?"}
    answer = {"role": "assistant", "content": "Paris."}
    system = {"role": "system", "content": "Answer in one word.\nNothing else."}
    odd = {
        "role": "user",
        "content": "  It's\n\n\u201c{{ odd }}\u201d {% if %} \u4f60\u597d <b>&amp;</b>\t",
    }
    return [
        [question],
        [system, question],
        [question, answer, odd],
        [system, odd, answer, question, answer, question],
    ]


def prose() -> str:
    """Ordinary text, to compare probabilities in."""
    return _PROSE
