"""Tokenizers as models of many families have them, trained on a few sentences."""

import json
from collections.abc import Mapping
from typing import Any

from tests.export.models import TEXTS
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from headway.data.examples.chatml import CHATML
from headway.data.examples.tokenizer import SPECIAL, TURN_END, Tokenizer
from headway.model.gguf.pre_tokenizers import WRITTEN

_SCRIPTS = (
    "don't DON'T It's we'll   \n\n  \t 12345 XMLHttpRequest ... !!! ??? --- ===",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01",
    "\u041f\u0440\u0438\u0432\u0435\u0442 na\u00efve caf\u00e9 \u00bd \u00b2",
) * 4
SPACE = "\u2581"
SENTENCE_PIECE = ("legacy", "gemma", "first", "never")


def byte_pairs(name: str, *, template: str = CHATML, added: tuple[Any, ...] = ()) -> Tokenizer:
    """A byte-level tokenizer that cuts text as llama.cpp does under a name."""
    known = WRITTEN[name]
    backend = Backend(models.BPE(ignore_merges=known.whole_words))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    match name:
        case "gpt-2":
            backend.pre_tokenizer = plain
        case "smollm":
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, plain])
        case _:
            cut = pre_tokenizers.Split(Regex(known.patterns[0]), "isolated")
            only_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([cut, only_bytes])
    if known.composed:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*TEXTS, *_SCRIPTS], trainer)
    backend.add_tokens(["<tool>", *added])
    return _tokenizer(json.loads(backend.to_str()), template)


def sentence_piece(kind: str, *, template: str | None = CHATML) -> Tokenizer:
    """A SentencePiece vocabulary that became a tokenizer.json.

    Args:
        kind: how it treats spaces.
        template: of chats; None for none.
    """
    backend = Backend(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", SPACE)
    match kind:
        case "legacy":
            backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace])
        case "gemma":
            backend.normalizer = replace
            backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        case _:
            backend.pre_tokenizer = pre_tokenizers.Metaspace(
                SPACE, prepend_scheme=kind, split=False
            )
    fallback = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(fallback)
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<unk>", "<s>", "</s>", *SPECIAL, *every_byte],
        show_progress=False,
    )
    backend.train_from_iterator([*TEXTS, *_SCRIPTS], trainer)
    files = json.loads(backend.to_str())
    files["added_tokens"] = [
        one for one in files["added_tokens"] if not one["content"].startswith("<0x")
    ]
    return _tokenizer(files, template)


def _tokenizer(backend: Mapping[str, Any], template: str | None) -> Tokenizer:
    files = {
        "tokenizer.json": json.dumps(backend).encode(),
        "tokenizer_config.json": json.dumps({"eos_token": TURN_END}).encode(),
    }
    made = Tokenizer(files, "made here")
    return made.with_template(template) if template else made
