"""Facts of a model folder, read with bounds and without any library: its files, not its model.

Nothing of it is trusted: files are regular ones, JSON has a longest length, headers of weights are
compared with the length of their file, and no pickle is opened.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from headway.base.files import regular_file
from headway.base.foreign.lfs import is_pointer_file
from headway.base.foreign.tensors import Tensors, read_tensors
from headway.base.foreign.trainer_state import NAME as TRAINER_STATE
from headway.base.foreign.trainer_state import TrainerState, read_state

CONFIG, GENERATION = "config.json", "generation_config.json"
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
_MAX_JSON_BYTES = 256 << 20  # of a tokenizer.json with a large vocabulary: 40 MB
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NO_MODEL = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")

Json = Mapping[str, Any]


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class ModelFacts:
    """What the files of a folder say.

    Attributes:
        path: of the folder.
        names: of its files.
        files: its JSON objects by name; a missing file is {}.
        tensors: of its weights, by name.
        bad: files that are damaged, incomplete or missing.
        pickles: files with weights that are pickles.
        vocabulary: id by token, with added ones; {} if there is no tokenizer that can be read.
        added: ids of the added tokens, by token.
        template: the chat template; "" if there is none.
        state: of a Trainer; None if there is none.
        base: the same of the base model; None if nobody knows where it is.
    """

    path: Path
    names: frozenset[str]
    files: Mapping[str, Json]
    tensors: Tensors
    bad: tuple[BadFile, ...] = ()
    pickles: tuple[str, ...] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict[str, int])
    added: Mapping[str, int] = field(default_factory=dict[str, int])
    template: str = ""
    state: TrainerState | None = None
    base: "ModelFacts | None" = None

    @property
    def is_adapter(self) -> bool:
        """Whether it holds PEFT adapters."""
        return ADAPTER_CONFIG in self.names

    @property
    def is_quantized(self) -> bool:
        """Whether its configuration names a quantizer."""
        return self.files[CONFIG].get("quantization_config") is not None

    @property
    def num_embeddings(self) -> int:
        """Rows of its input embedding; 0 if it has none."""
        rows = (
            one.shape[0]
            for name, one in self.tensors.items()
            if name.endswith(_EMBEDDINGS) and len(one.shape) == 2
        )
        return next(rows, 0)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a generation: of the generation config, or else of config.json."""
        for name in (GENERATION, CONFIG):
            found = self.files[name].get("eos_token_id")
            ids = cast("list[object]", found) if isinstance(found, list) else [found]
            numbers = tuple(one for one in ids if type(one) is int)
            if numbers:
                return numbers
        return ()

    def token_of(self, number: int) -> str:
        """The token with an id; "" if there is none."""
        return next((token for token, one in self.vocabulary.items() if one == number), "")


def read_folder(path: Path, base: "ModelFacts | None" = None) -> ModelFacts:
    """Read a folder.

    Args:
        path: of the folder.
        base: the facts of its base model.

    Raises:
        OSError: the folder cannot be listed.
    """
    names = frozenset(one.name for one in path.iterdir() if one.is_file())
    bad: list[BadFile] = []
    objects = (CONFIG, GENERATION, ADAPTER_CONFIG, TOKENIZER, TOKENIZER_CONFIG)
    files = {name: _object(path / name, bad) if name in names else {} for name in objects}
    words = files.pop(TOKENIZER)
    added = _added(words)
    tensors, trained = _tensors(path, names, bad), _state(path, names, bad)
    return ModelFacts(
        path=path,
        names=names,
        files=files,
        tensors=tensors,
        bad=tuple(bad),
        pickles=tuple(sorted(n for n in names if n.endswith(_PICKLES) and not _is_state(n))),
        vocabulary={**_vocabulary(words), **added},
        added=added,
        template=_template(path, names, files[TOKENIZER_CONFIG]),
        state=trained,
        base=base,
    )


def _object(path: Path, bad: list[BadFile]) -> Json:
    try:
        if regular_file(path).stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is too long")
        value = json.loads(path.read_bytes())
    except RecursionError:
        value, why = None, "nested too deeply"
    except (OSError, ValueError) as error:
        value, why = None, str(error)[:200]
    else:
        why = "not a JSON object"
    if isinstance(value, dict):
        return cast("Json", value)
    bad.append(BadFile(path.name, why))
    return {}


def _tensors(path: Path, names: frozenset[str], bad: list[BadFile]) -> Tensors:
    """The tensors of all its weight files."""
    shards = _shards(path, names, bad)
    found: Tensors = {}
    for name in shards:
        try:
            if is_pointer_file(path / name):
                raise ValueError("a Git LFS pointer: the file itself was not fetched")
            found |= read_tensors(path / name)
        except (OSError, ValueError) as error:
            bad.append(BadFile(name, str(error)[:200]))
    return found


def _shards(path: Path, names: frozenset[str], bad: list[BadFile]) -> list[str]:
    whole = [name for name in (ADAPTER, WHOLE) if name in names]
    if whole or INDEX not in names:
        return whole
    named = _object(path / INDEX, bad).get("weight_map")
    listed = cast("dict[str, object]", named).values() if isinstance(named, dict) else ()
    shards = sorted({str(one) for one in listed})
    why = f"{INDEX} names it, and it is not there"
    bad += [BadFile(name[:200], why) for name in shards if name not in names]
    return [name for name in shards if name in names]


def _is_state(name: str) -> bool:
    return name.startswith(_NO_MODEL)


def _vocabulary(words: Json) -> dict[str, int]:
    """The tokens of a model in tokenizer.json: a mapping, or a list of pairs."""
    model = words.get("model")
    found = cast("Json", model).get("vocab") if isinstance(model, dict) else None
    if isinstance(found, dict):
        items = cast("dict[str, object]", found).items()
        return {token: number for token, number in items if type(number) is int}
    if isinstance(found, list):
        pairs = enumerate(cast("list[object]", found))
        return {str(one[0]): at for at, one in pairs if isinstance(one, list) and one}
    return {}


def _added(words: Json) -> dict[str, int]:
    listed = words.get("added_tokens")
    found: dict[str, int] = {}
    for one in cast("list[object]", listed) if isinstance(listed, list) else ():
        match one:
            case {"content": str(token), "id": int(number)}:
                found[token] = number
            case _:
                pass
    return found


def _template(path: Path, names: frozenset[str], config: Json) -> str:
    if TEMPLATE in names:
        with contextlib.suppress(OSError):
            return (path / TEMPLATE).read_text(encoding="utf-8", errors="replace")
    found = config.get("chat_template")
    if isinstance(found, list):  # several by name
        for one in cast("list[object]", found):
            match one:
                case {"name": "default", "template": str(template)}:
                    return template
                case _:
                    pass
    return found if isinstance(found, str) else ""


def _state(path: Path, names: frozenset[str], bad: list[BadFile]) -> TrainerState | None:
    if TRAINER_STATE not in names:
        return None
    try:
        return read_state(path / TRAINER_STATE)
    except (OSError, ValueError) as error:
        bad.append(BadFile(TRAINER_STATE, str(error)[:200]))
        return None
