"""Model configuration: config.json of a foreign folder, with the values read here validated.

What only transformers reads, transformers checks when it loads the model.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import msgspec

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.model.safetensors_index import Tensors
from headway.model.sizes import CONTEXT_NAMES, SIZE_NAMES, embedding_shape

CONFIG = "config.json"
# Other files that hold an object in a model folder.
_OBJECTS = ("generation_config.json", "adapter_config.json")
# Files in which a quantizer leaves its settings, where config.json does not have them.
_QUANTIZERS = ("quantize_config.json", "quant_config.json")
_LENGTHS = (*CONTEXT_NAMES, "sliding_window")


def read_config(folder: Path, tensors: Tensors) -> dict[str, Any]:
    """The configuration of a model folder, with the sizes that it leaves out.

    Args:
        folder: with config.json in it.
        tensors: from the headers of its weights.

    Raises:
        UsageError: it is not a configuration, does not fit the weights, or is of a model that
            cannot be trained: a quantized one, or one with a router loss.
    """
    config = read_object(folder / CONFIG)
    for name in (CONFIG, *_OBJECTS):
        if (folder / name).is_file():
            _check_ends(folder, name, read_object(folder / name))
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise _invalid(folder).refusal("no model_type that is text")
    if quantizer := quantizer_of(folder, config):
        raise _quantized(folder, quantizer)
    check_router_loss(config, folder)
    config = _with_sizes(config, tensors)
    for name, problem in _problems(config, tensors):
        raise _invalid(folder).refusal(
            f"{name} {json.dumps(config_value(config, name))}: {problem}"
        )
    return config


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. As in transformers, numbers may be infinite.

    Raises:
        UsageError: it is something else.
    """
    boundary = _invalid(path.parent, path.name)
    with boundary():
        value: Any = json.loads(path.read_bytes())
        msgspec.json.encode(value)  # it must survive in a plan: no lone surrogates, no huge numbers
    if not isinstance(value, dict):
        raise boundary.refusal(f"not a JSON object, but {json.dumps(value)[:80]}")
    return cast("dict[str, Any]", value)


def config_value(config: Mapping[str, Any], name: str) -> Any:
    """A value of the language model: of its own part in the configuration of a multimodal one."""
    text = config.get("text_config")
    inner: Mapping[str, Any] = cast("dict[str, Any]", text) if isinstance(text, dict) else {}
    return inner.get(name, config.get(name))


def check_router_loss(config: Mapping[str, Any], folder: Path) -> None:
    """Check that the model's loss is the cross-entropy alone.

    A mixture of experts may add a loss that balances its router. It is a product of means over a
    whole batch, so it is not a sum over micro-batches, and its gradient would depend on how a batch
    is cut.

    Raises:
        UsageError: it asks for more.
    """
    coefficient = config_value(config, "router_aux_loss_coef")
    if config_value(config, "output_router_logits") is not True or coefficient == 0:
        return
    path = shlex.quote(str(folder / CONFIG))
    pattern = '"output_router_logits": *true'
    raise UsageError(
        f"{folder / CONFIG} asks for a router loss, which Headway does not compute",
        cause=Cause.MODEL_UNSUPPORTED,
        have='"output_router_logits": true' + (f", weight {coefficient:g}" if coefficient else ""),
        need="a model that is trained on the cross-entropy alone",
        remedies=(
            Remedy(
                f"sed -i 's/{pattern}/\"output_router_logits\": false/' {path}",
                "leaves the router loss out",
            ),
        ),
    )


def _check_ends(folder: Path, name: str, config: Mapping[str, Any]) -> None:
    """Check the ids that end an answer."""
    ends = config.get("eos_token_id")
    numbers = cast("list[Any]", ends) if isinstance(ends, list) else [ends]
    if ends is not None and not all(type(one) is int for one in numbers):
        raise _invalid(folder, name).refusal(f"eos_token_id {json.dumps(ends)[:80]}: not a number")


def _with_sizes(config: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The configuration, with width and vocabulary from the embedding where it has neither."""
    embedding = embedding_shape(tensors)
    if len(embedding) != 2:
        return config
    missing = zip(("vocab_size", "hidden_size"), embedding, ("vocab", "hidden"), strict=True)
    found = {
        name: size
        for name, size, kind in missing
        if all(config_value(config, one) is None for one in SIZE_NAMES[kind])
    }
    return {**config, **found}


def _problems(config: Mapping[str, Any], tensors: Tensors) -> Iterator[tuple[str, str]]:
    """The name of each value that cannot be right, and why."""
    text = config.get("text_config")
    if text is not None and not isinstance(text, dict):
        yield "text_config", "not an object"
    num_values = sum(prod(shape) for _, shape in tensors.values())
    most = dict.fromkeys(SIZE_NAMES, num_values) | {"layers": len(tensors)}
    for kind, names in SIZE_NAMES.items():
        for name in names:
            value = config_value(config, name)
            if value is None:
                continue
            numbers = cast("list[Any]", value) if isinstance(value, list) else [value]
            if not numbers or not all(_is_whole(one) and one > 0 for one in numbers):
                yield name, "not a number above 0"
            elif max(numbers) > most[kind]:
                yield name, f"more than the {most[kind]:,} that its weights hold"
    yield from _odd_numbers(config)
    for kind in ("vocab", "hidden"):
        if all(config_value(config, one) is None for one in SIZE_NAMES[kind]):
            yield SIZE_NAMES[kind][0], "missing"


def _odd_numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _LENGTHS:
        value = config_value(config, name)
        if value is not None and not (_is_whole(value) and value >= 0):
            yield name, "not a number of tokens"
    for name, value in config.items():
        if "drop" in name and type(value) in (int, float) and not 0 <= value <= 1:
            yield name, "not a probability"


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def quantizer_of(folder: Path, config: Mapping[str, Any]) -> str:
    """What quantized the weights, and the file that says so; "" if they are not quantized."""
    found = config_value(config, "quantization_config")
    if found is not None:
        method = cast("dict[str, Any]", found).get("quant_method") if isinstance(found, dict) else 0
        return f"{method or 'unknown'}, in {CONFIG}"
    name = next((one for one in _QUANTIZERS if (folder / one).is_file()), "")
    return name and f"{name} next to the weights"


def _quantized(folder: Path, quantizer: str) -> Refusal:
    return UsageError(
        f"{folder} is a quantized model, which cannot be trained",
        cause=Cause.MODEL_UNSUPPORTED,
        have=f"quantization: {re.sub(r'[^ -~]', '?', quantizer)[:80]}",
        need="the model as it was before: weights in float32, bfloat16 or float16",
        remedies=(
            Remedy("--model DIR", "the folder of the model before it was quantized"),
            Remedy("--preset tiny", "train a model from scratch"),
        ),
    )


def _invalid(folder: Path, name: str = CONFIG) -> Boundary:
    return Boundary(
        f"{folder / name} is not valid",
        cause=Cause.MODEL_INVALID,
        need="the file that save_pretrained writes with these weights",
        remedies=(Remedy("copy the file again", "from where the model came from"),),
    )
