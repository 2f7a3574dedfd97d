"""Plan of a GGUF file: everything about it that is known before its weights are written."""

import importlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.export.gguf.architecture import (
    ARCHITECTURES,
    Architecture,
    UnsupportedModelError,
    architecture_of,
)
from headway.export.gguf.formats import FILE_TYPES, K_QUANTS, format_of
from headway.export.gguf.tokens import GgufVocabulary, vocabulary_of
from headway.export.gguf.write import PlannedTensor
from headway.export.request import ExportOptions
from headway.export.source import ExportSource
from headway.model.gguf.layout import TensorTarget, tensor_layout

_PHI3 = re.compile("phi-?3", re.IGNORECASE)
_TIED_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class PlannedFile:
    """A GGUF file, all but its weights.

    Attributes:
        architecture: of the model.
        vocabulary: of its tokenizer.
        metadata: all keys and values.
        tensors: the weights, in the order in which the source yields them.
    """

    architecture: Architecture
    vocabulary: GgufVocabulary
    metadata: Mapping[str, Any]
    tensors: Sequence[PlannedTensor]


def file_name(options: ExportOptions) -> str:
    """The name of the file."""
    return f"{options.name}-{options.quantize}.gguf"


def plan_file(source: ExportSource, options: ExportOptions) -> PlannedFile:
    """Decide everything about a file before it is written.

    Raises:
        UsageError: it cannot be written; says what can.
    """
    try:
        architecture = architecture_of(_completed(source))
        config = architecture.config
        vocabulary = vocabulary_of(source.tokenizer, source.end_ids, config["vocab_size"])
        tensors = _tensors(source, architecture, options.quantize)
    except UnsupportedModelError as error:
        raise unsupported(source, error) from error
    if any(one.format.kind in K_QUANTS for one in tensors):
        importlib.import_module("xllamacpp")  # before anything is written
    metadata: dict[str, Any] = {
        "general.type": "model",
        "general.name": _name(source.name, is_phi3=vocabulary.is_phi3),
        "general.file_type": FILE_TYPES[options.quantize],
        "general.quantization_version": 2,
        **architecture.metadata,
        **vocabulary.metadata,
    }
    return PlannedFile(architecture, vocabulary, metadata, tensors)


def _name(name: str, *, is_phi3: bool) -> str:
    """The name in the file: llama.cpp takes the spaces behind tokens away if it says phi-3."""
    if is_phi3:
        return name if _PHI3.search(name) else f"{name} phi-3"
    return _PHI3.sub("phi 3", name)


def _completed(source: ExportSource) -> dict[str, Any]:
    """The configuration with every default that transformers has for it."""
    kind = source.config.get("model_type")
    if kind not in ARCHITECTURES:
        raise UnsupportedModelError(f"the architecture {kind}", ", ".join(ARCHITECTURES))
    from transformers import AutoConfig

    given = {key: value for key, value in source.config.items() if key != "model_type"}
    return AutoConfig.for_model(kind, **given).to_dict()


def _tensors(
    source: ExportSource, architecture: Architecture, quantize: str
) -> list[PlannedTensor]:
    """The weights in the order in which the source yields them.

    Raises:
        UnsupportedModelError: one is missing, has another shape, or has no place.
    """
    config = architecture.config
    layout = tensor_layout(config, architecture.name)
    here = {target.name: name for name, target in layout.items()}
    shapes = source.shapes
    missing = sorted(here.keys() - shapes.keys())
    tied = config["tie_word_embeddings"]
    unused = {_TIED_HEAD} if tied else set[str]()
    unknown = sorted(one for one in shapes.keys() - here.keys() - unused if not _is_buffer(one))
    if missing or unknown:
        name = architecture.name
        raise UnsupportedModelError(
            f"no tensor {missing[0]}" if missing else f"the tensor {unknown[0]}",
            f"the tensors of a {name} alone, and all of them",
        )
    planned: list[PlannedTensor] = []
    for there, shape in shapes.items():
        if there not in here:
            continue
        name = here[there]
        _check_shape(layout[name], shape)
        chosen = format_of(name, shape, quantize, config["num_hidden_layers"], tied=tied)
        planned.append(PlannedTensor(name, layout[name], chosen))
    return planned


def _is_buffer(name: str) -> bool:
    """Whether a stored tensor is computed from the configuration: older folders have it."""
    return name.endswith("rotary_emb.inv_freq")


def _check_shape(target: TensorTarget, shape: tuple[int, ...]) -> None:
    if tuple(shape) != target.shape:
        raise UnsupportedModelError(
            f"{target.name} of shape {list(shape)}", f"{list(target.shape)}, as its config says"
        )


def unsupported(source: ExportSource, error: UnsupportedModelError) -> Refusal:
    """The refusal, with the command of llama.cpp's own converter."""
    where, name = shlex.quote(str(source.whole)), shlex.quote(f"{source.name}.gguf")
    return UsageError(
        f"{source.name} cannot be written as GGUF",
        cause=Cause.MODEL_UNSUPPORTED,
        have=str(error),
        need=error.need,
        remedies=(
            Remedy(
                f"python convert_hf_to_gguf.py {where} --outfile {name}",
                "llama.cpp's own converter, from github.com/ggml-org/llama.cpp",
            ),
            Remedy("--to hf", "a folder for transformers, vLLM and TRL"),
        ),
    )
