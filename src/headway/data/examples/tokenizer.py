"""Tokenizer: load, train and save; text to ids and back.

A tokenizer is the set of files that transformers keeps next to a model, held as bytes. Files that
came with a model are saved unchanged; a tokenizer trained here is saved in the same format.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.files import hash_bytes
from headway.base.units import count
from headway.data.examples.tokenizer_files import (
    CONFIG,
    MAX_ID,
    TEMPLATE,
    WORDS,
    chat_templates,
    context_length,
    failing,
    invalid,
    read_end_ids,
    read_files,
    read_object,
    special_tokens,
)

if TYPE_CHECKING:
    import tokenizers

DOCUMENT_END = "<|endoftext|>"
TURN_BEGIN = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL = (DOCUMENT_END, TURN_BEGIN, TURN_END)

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]

_PLAIN_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}


class Tokenizer:
    """Text to ids and back. Encoding adds no special tokens.

    Attributes:
        files: by name, as `save` writes them.
        origin: where the tokenizer came from, as text for people.
        special: special tokens by role ("eos_token", ...), as templates name them.
        special_ids: ids of special tokens.
        special_tokens: their spellings.
        vocab_size: embedding rows that the ids need: the largest id + 1.
        end_token: ends a document, or an answer if the tokenizer was trained here on conversations.
        end_id: its id.
        end_ids: all ids that end an answer, according to the tokenizer and the model's config.
        bos_id: the token that the tokenizer adds before a text, or None.
        pad_id: for programs that pad, or None.
        templates: its own chat templates, and the file they are in.
        max_length: the model's context length in tokens, or None if the files do not say.
        fingerprint: sha256 over the files except the chat template's own.
    """

    def __init__(self, files: Mapping[str, bytes], origin: str, ends: Sequence[int] = ()) -> None:
        self.files = dict(files)
        self.origin = origin
        self._backend = _backend(self.files[WORDS], origin)
        with failing(origin)():
            vocab: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
            added = self._backend.get_added_tokens_decoder()
        self.vocab_size = _vocab_size(vocab, origin)
        special = {one: token.content for one, token in added.items() if token.special}
        self.special_ids, self.special_tokens = frozenset(special), frozenset(special.values())
        config = read_object(self.files, CONFIG, origin)
        self.special = special_tokens(self.files, origin)
        if self.special.get("eos_token") not in vocab:
            end = self._find_end_token(ends, vocab)
            self.special["eos_token"] = config["eos_token"] = end
            self.files[CONFIG] = _as_json(_PLAIN_CONFIG | config)
        self.end_token = self.special["eos_token"]
        self.end_id = vocab[self.end_token]
        self.end_ids = tuple(dict.fromkeys((self.end_id, *ends)))
        self.pad_id = vocab.get(self.special.get("pad_token", ""))
        with failing(origin)():
            self.bos_id = self._find_bos_id(config.get("add_bos_token"))
        self._backend.post_processor = None  # adds special tokens and trims offsets
        self.templates = chat_templates(self.files, config, origin)
        self.max_length = context_length(config)
        hashed = {name: data for name, data in self.files.items() if name != TEMPLATE}
        self.fingerprint = hash_bytes(msgspec.json.encode(sorted(hashed.items())))

    @property
    def chat_template(self) -> str | None:
        """Its own chat template, or None."""
        return self.templates.default

    @property
    def tool_template(self) -> str | None:
        """Its own separate template for conversations with tools, or None."""
        return self.templates.tools

    def _find_end_token(self, ends: Sequence[int], vocab: Mapping[str, int]) -> str:
        """The end token when no file names one that is in the vocabulary."""
        by_id = [self._backend.id_to_token(end) for end in ends]
        usual = (DOCUMENT_END, "</s>", "<|end_of_text|>", "<eos>", TURN_END)
        for token in (*by_id, *usual):
            if token and token in vocab:
                return token
        raise UsageError(
            f"{self.origin}: the tokenizer has no end token",
            cause=Cause.TOKENIZER_INVALID,
            have="no eos_token in tokenizer_config.json or config.json that is in the vocabulary",
            need="the token that ends a document",
            remedies=(
                Remedy(
                    f'"eos_token": "{min(vocab, key=lambda token: vocab[token])}"',
                    "in tokenizer_config.json, or any other token of the vocabulary",
                ),
            ),
        )

    def _find_bos_id(self, add_bos: object) -> int | None:
        """The token that post-processing adds before a text; the configuration overrides it."""
        if isinstance(add_bos, bool):
            return self._backend.token_to_id(self.special.get("bos_token", "")) if add_bos else None
        plain = self._backend.encode("a", add_special_tokens=False).ids
        whole = self._backend.encode("a", add_special_tokens=True).ids
        return whole[0] if whole != plain and whole[1 : 1 + len(plain)] == plain else None

    def id_of(self, token: str) -> int | None:
        """The id of a token as spelled in the vocabulary, or None."""
        return self._backend.token_to_id(token)

    def token_of(self, id: int) -> str | None:  # noqa: A002 - the field's word
        """The token of an id as spelled in the vocabulary, or None."""
        return self._backend.id_to_token(id)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Decode ids; special tokens are left out unless `special` is set."""
        with failing(self.origin)():
            return self._backend.decode([int(one) for one in ids], skip_special_tokens=not special)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Encode each text to (T,) ids, on all cores.

        Special tokens spelled out in a text become special tokens, as in transformers.
        """
        with failing(self.origin)():
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return _ids_of(encodings)

    def prompt_ids(self, prompt: str, begin_id: int | None) -> list[int]:
        """The ids of a prompt, beginning as the training data began.

        Args:
            prompt: "": only the beginning.
            begin_id: the first token of the training data; None: unknown, so BOS if there is one.
        """
        ids: list[int] = self.encode([prompt])[0].tolist() if prompt else []
        begin = self.bos_id if begin_id is None else begin_id
        if begin is not None and begin == self.bos_id and ids[:1] != [begin]:
            ids = [begin, *ids]
        return ids or [self.end_id if begin is None else begin]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[Ids, Offsets]]:
        """Encode each text to (T,) ids and (T, 2) character spans [begin, end)."""
        with failing(self.origin)():
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        ids = _ids_of(encodings)
        flat = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
        together = np.fromiter(flat, np.int64, 2 * sum(map(len, ids))).reshape(-1, 2)
        return list(zip(ids, _parts(together, map(len, ids)), strict=True))

    def save(self, folder: Path) -> None:
        """Write the files so that transformers' AutoTokenizer loads the same tokenizer."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    def with_template(self, template: str) -> "Tokenizer":
        """A copy with this chat template."""
        if template == self.chat_template:
            return self
        files = self.files | {TEMPLATE: template.encode()}
        return Tokenizer(files, self.origin, self.end_ids)

    def with_end_token(self, token: str) -> "Tokenizer":
        """A copy with another end token."""
        config = read_object(self.files, CONFIG, self.origin) | {"eos_token": token}
        return Tokenizer(self.files | {CONFIG: _as_json(config)}, self.origin)


# ---- from a folder ---------------------------------------------------------------------------


def load(path: Path) -> Tokenizer:
    """Load the tokenizer of a transformers folder, or a tokenizer.json.

    Raises:
        UsageError: there is none, or its files are damaged.
    """
    folder = path.parent if path.is_file() else path
    return Tokenizer(read_files(path), str(path), read_end_ids(folder))


def fingerprint(path: Path) -> str:
    """sha256 over what `load` reads, chat template included; much faster than `load`.

    Raises:
        UsageError: there is no tokenizer.
    """
    ends = read_end_ids(path.parent if path.is_file() else path)
    return hash_bytes(msgspec.json.encode((sorted(read_files(path).items()), ends)))


def _backend(data: bytes, origin: str) -> "tokenizers.Tokenizer":
    import tokenizers

    with invalid(origin, WORDS)():
        backend = tokenizers.Tokenizer.from_str(data.decode())
        backend.no_truncation()
        backend.no_padding()
        return backend


def _vocab_size(vocab: Mapping[str, int], origin: str) -> int:
    if not vocab:
        raise invalid(origin, WORDS).refusal("no tokens")
    token, last = max(vocab.items(), key=lambda item: item[1])
    if last > MAX_ID:
        raise invalid(origin, WORDS).refusal(f"token {token!r} with the id {last}")
    return last + 1


def _ids_of(encodings: "Sequence[tokenizers.Encoding]") -> list[Ids]:
    """One ids array per encoding: views of one array, several times faster for short texts."""
    ids = [encoding.ids for encoding in encodings]
    together = np.fromiter(chain.from_iterable(ids), np.int32, sum(map(len, ids)))
    return _parts(together, map(len, ids))


def _parts(together: NDArray[Any], lengths: Iterable[int]) -> list[NDArray[Any]]:
    """Consecutive views of one array."""
    return [together[begin:end] for begin, end in pairwise(accumulate(lengths, initial=0))]


def _as_json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


# ---- trained here ----------------------------------------------------------------------------


def byte_level() -> Tokenizer:
    """One token per byte: for data too small to train a vocabulary on."""
    from tokenizers import models

    vocab = {token: number for number, token in enumerate((*SPECIAL, *_alphabet()))}
    backend = _byte_level_backend(models.BPE(vocab, []))
    backend.add_special_tokens(list(SPECIAL))
    return _new_tokenizer(backend, "byte-level")


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` tokens; deterministic.

    It always holds the 256 bytes and the 3 special tokens.
    """
    from tokenizers import models, trainers

    backend = _byte_level_backend(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=_alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _new_tokenizer(backend, f"trained here, {count(backend.get_vocab_size())} tokens")


def _byte_level_backend(model: Any) -> "tokenizers.Tokenizer":
    import tokenizers
    from tokenizers import decoders, pre_tokenizers, processors

    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _new_tokenizer(backend: "tokenizers.Tokenizer", origin: str) -> Tokenizer:
    config = _PLAIN_CONFIG | {"eos_token": DOCUMENT_END, "pad_token": DOCUMENT_END}
    files = {
        "tokenizer.json": backend.to_str(pretty=False).encode(),
        "tokenizer_config.json": _as_json(config),
    }
    return Tokenizer(files, origin)
