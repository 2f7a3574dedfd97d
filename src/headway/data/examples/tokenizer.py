"""Text <-> ids; train one when there is none (byte-level under 1 MB of text).

A tokenizer is the files that transformers keeps beside a model, held as bytes: what came with a
model is saved again as it was, and what was trained here is saved in the same shape.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.base.errors import Remedy, UsageError
from headway.base.files import hash_bytes
from headway.base.units import count

if TYPE_CHECKING:
    import tokenizers

DOCUMENT_END = "<|endoftext|>"
TURN_BEGIN = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL = (DOCUMENT_END, TURN_BEGIN, TURN_END)

# What a tokenizer's folder may hold; only the first is needed.
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]

_TEMPLATE_FILE = "chat_template.jinja"
_PLAIN_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}


class Tokenizer:
    """Text to ids and back. Nothing is added to a text: no first token and no last one.

    Attributes:
        files: by name, what `save` writes.
        origin: where it came from, in words.
        special: the special tokens by their role ("eos_token", ...), as templates name them.
        special_ids: ids of tokens that are no text.
        vocab_size: embedding rows that the ids need: the largest id + 1.
        end_token: ends a document; for a tokenizer made here for conversations, an answer.
        end_id: its id.
        end_ids: all ids that end an answer, as far as the folder knows.
        bos_id: what the tokenizer itself puts before a text, or None.
        pad_id: for programs that pad, or None.
        chat_template: the one that came with it, or None.
        tool_template: the one for conversations with tools, where it has one of its own.
        max_length: tokens that its model reads, or None where it does not say.
        fingerprint: sha256 over the files, without the chat template's own.
    """

    def __init__(self, files: Mapping[str, bytes], origin: str, ends: Sequence[int] = ()) -> None:
        self.files = dict(files)
        self.origin = origin
        self._backend = _backend(self.files["tokenizer.json"], origin)
        vocab: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        added = self._backend.get_added_tokens_decoder()
        self.special_ids = frozenset(one for one, token in added.items() if token.special)
        config = _json(self.files, "tokenizer_config.json")
        named = {**_json(self.files, "special_tokens_map.json"), **config}
        self.special = {role: _content(named[role]) for role in ROLES if named.get(role)}
        if self.special.get("eos_token") not in vocab:
            end = self._likely_end(ends, vocab)
            self.special["eos_token"] = config["eos_token"] = end
            self.files["tokenizer_config.json"] = _as_json(_PLAIN_CONFIG | config)
        self.end_token = self.special["eos_token"]
        self.end_id = vocab[self.end_token]
        self.end_ids = tuple(dict.fromkeys((self.end_id, *ends)))
        self.pad_id = vocab.get(self.special.get("pad_token", ""))
        self.bos_id = self._put_first(config.get("add_bos_token"))
        self._backend.post_processor = None  # adds what is never asked for, and shortens offsets
        self.chat_template = _template(self.files, config, "default")
        self.tool_template = _template(self.files, config, "tool_use")
        limit = config.get("model_max_length")
        self.max_length = int(limit) if isinstance(limit, int | float) and limit < 1e9 else None
        hashed = {name: data for name, data in self.files.items() if name != _TEMPLATE_FILE}
        self.fingerprint = hash_bytes(msgspec.json.encode(sorted(hashed.items())))

    def _likely_end(self, ends: Sequence[int], vocab: Mapping[str, int]) -> str:
        """The end token where no file names one that exists."""
        by_id = [self._backend.id_to_token(end) for end in ends]
        usual = (DOCUMENT_END, "</s>", "<|end_of_text|>", "<eos>", TURN_END)
        for token in (*by_id, *usual):
            if token and token in vocab:
                return token
        raise UsageError(
            f"{self.origin}: the tokenizer names no end token",
            have="no eos_token of its vocabulary in tokenizer_config.json or config.json",
            need="the token that ends a document",
            remedies=(
                Remedy(
                    f'"eos_token": "{min(vocab, key=lambda token: vocab[token])}"',
                    "or another token of its vocabulary, as a line of tokenizer_config.json",
                ),
            ),
        )

    def _put_first(self, asked: object) -> int | None:
        """What post-processing puts before a text; the configuration may overrule it."""
        if isinstance(asked, bool):
            return self._backend.token_to_id(self.special.get("bos_token", "")) if asked else None
        plain = self._backend.encode("a", add_special_tokens=False).ids
        whole = self._backend.encode("a", add_special_tokens=True).ids
        return whole[0] if whole != plain and whole[1 : 1 + len(plain)] == plain else None

    def id_of(self, token: str) -> int | None:
        """The id of a token, spelt as in the vocabulary; None when it has no such token."""
        return self._backend.token_to_id(token)

    def token_of(self, id: int) -> str | None:  # noqa: A002 - the field's word
        """The token of an id, spelt as in the vocabulary; None when it has no such id."""
        return self._backend.id_to_token(id)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of some ids; special tokens are left out unless they are asked for."""
        return self._backend.decode([int(one) for one in ids], skip_special_tokens=not special)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, (T,), on all cores.

        Special tokens that are spelt out in a text become what they say, as in transformers.
        """
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return _ids_of(encodings)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[Ids, Offsets]]:
        """As `encode`, and for each token its characters [begin, end) in the text, (T, 2)."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        ids = _ids_of(encodings)
        places = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
        together = np.fromiter(places, np.int64, 2 * sum(map(len, ids))).reshape(-1, 2)
        return list(zip(ids, _parts(together, map(len, ids)), strict=True))

    def save(self, folder: Path) -> None:
        """Write the files, so that transformers' AutoTokenizer reads the same tokenizer."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    def with_template(self, template: str) -> "Tokenizer":
        """The same tokenizer with this chat template, saved with it where it is new."""
        if template == self.chat_template:
            return self
        files = self.files | {_TEMPLATE_FILE: template.encode()}
        return Tokenizer(files, self.origin, self.end_ids)

    def ending_in(self, token: str) -> "Tokenizer":
        """The same tokenizer with another end token."""
        config = _json(self.files, "tokenizer_config.json") | {"eos_token": token}
        return Tokenizer(self.files | {"tokenizer_config.json": _as_json(config)}, self.origin)


# ---- from a folder ---------------------------------------------------------------------------


def load(place: Path) -> Tokenizer:
    """The tokenizer of a transformers folder, or of a tokenizer.json.

    Raises:
        UsageError: there is none, or its files are broken.
    """
    folder = place.parent if place.is_file() else place
    beside = _read(folder, ("generation_config.json", "config.json"))
    ends: list[int] = []
    for name in beside:
        end = _json(beside, name).get("eos_token_id")
        ends += [end] if isinstance(end, int) else end or []
    return Tokenizer(_files(place), str(place), ends)


def fingerprint(place: Path) -> str:
    """sha256 over the files that `load` would read, chat template included; much faster.

    Raises:
        UsageError: there is no tokenizer.
    """
    return hash_bytes(msgspec.json.encode(sorted(_files(place).items())))


def _files(place: Path) -> dict[str, bytes]:
    folder = place.parent if place.is_file() else place
    files = _read(folder, FILES)
    if place.is_file():
        files["tokenizer.json"] = place.read_bytes()
    if "tokenizer.json" not in files:
        raise _no_tokenizer(folder)
    return files


def _read(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _no_tokenizer(folder: Path) -> UsageError:
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    place = str(folder)
    line = (
        "from transformers import AutoTokenizer as T; "
        f"T.from_pretrained({place!r}).save_pretrained({place!r})"
    )
    if any(name.startswith(("tokenizer", "vocab.", "spiece")) for name in there):
        remedy = Remedy(f"python -c {shlex.quote(line)}", "makes it from the files that are there")
    else:
        remedy = Remedy(f"ls {shlex.quote(str(folder.parent))}", "where it may be instead")
    return UsageError(
        f"{folder} has no tokenizer.json",
        have=", ".join(there[:8]) or ("an empty folder" if folder.exists() else "no such folder"),
        need="a tokenizer in the format of the tokenizers library",
        remedies=(remedy,),
    )


def _backend(data: bytes, origin: str) -> "tokenizers.Tokenizer":
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(
            f"{origin}: tokenizer.json cannot be read",
            have=str(error)[:200],
            need="a file that the tokenizers library wrote",
            remedies=(Remedy("copy it again from where it came", "it may have been cut short"),),
        ) from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _template(files: Mapping[str, bytes], config: Mapping[str, Any], use: str) -> str | None:
    """A template by its use: one of a file of its own is for all uses, and is the default."""
    given = config.get("chat_template")
    if isinstance(given, list) and _TEMPLATE_FILE not in files:
        named = {one["name"]: one["template"] for one in cast("list[dict[str, str]]", given)}
        return named.get(use)
    if use != "default":
        return None
    if _TEMPLATE_FILE in files:
        return files[_TEMPLATE_FILE].decode()
    return given if isinstance(given, str) else None


def _ids_of(encodings: "Sequence[tokenizers.Encoding]") -> list[Ids]:
    """Made as one array, which for many short texts is several times faster than one each."""
    ids = [encoding.ids for encoding in encodings]
    together = np.fromiter(chain.from_iterable(ids), np.int32, sum(map(len, ids)))
    return _parts(together, map(len, ids))


def _parts(together: NDArray[Any], lengths: Iterable[int]) -> list[NDArray[Any]]:
    """One array as consecutive parts of it, not copied."""
    return [together[begin:end] for begin, end in pairwise(accumulate(lengths, initial=0))]


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(files.get(name, b"{}"), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{name} cannot be read",
            have=str(error),
            need="a JSON object",
            remedies=(Remedy("copy it again from where it came", "it may have been cut short"),),
        ) from error


def _as_json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


# ---- made here -------------------------------------------------------------------------------


def byte_level() -> Tokenizer:
    """A token per byte and nothing to learn: for data too small to learn a vocabulary from."""
    from tokenizers import models

    vocab = {token: number for number, token in enumerate((*SPECIAL, *_alphabet()))}
    backend = _byte_level_backend(models.BPE(vocab, []))
    backend.add_special_tokens(list(SPECIAL))
    return _made(backend, "byte-level")


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` tokens; the same texts give the same one.

    At least the bytes and the special tokens are in it, 259 tokens.
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
    return _made(backend, f"trained here, {count(backend.get_vocab_size())} tokens")


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


def _made(backend: "tokenizers.Tokenizer", origin: str) -> Tokenizer:
    config = _PLAIN_CONFIG | {"eos_token": DOCUMENT_END, "pad_token": DOCUMENT_END}
    files = {
        "tokenizer.json": backend.to_str(pretty=False).encode(),
        "tokenizer_config.json": _as_json(config),
    }
    return Tokenizer(files, origin)
