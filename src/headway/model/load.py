"""Model loading: an existing or new transformers model, with or without LoRA adapters."""

import contextlib
import importlib
import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from headway.base.errors import Cause, MachineError, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.model.model_config import check_router_loss
from headway.model.safetensors_index import check_file, check_folder

# What torch says on a processor, CUDA, and cuBLAS, whose workspace comes last.
_OUT_OF_MEMORY = ("allocate memory", "out of memory", "cublas_status_alloc_failed")


def warm_up(*, adapters: bool) -> None:
    """Do ahead of time what a model's first use does, while the plan is being made."""
    importlib.import_module("transformers.models.llama.modeling_llama")
    with contextlib.suppress(ImportError, AttributeError):  # older ones make no such table
        # A thousand expressions are compiled when the first model is loaded.
        importlib.import_module(
            "transformers.conversion_mapping"
        ).get_checkpoint_conversion_mapping("llama")
    if adapters:
        importlib.import_module("peft")


def from_config(config: Mapping[str, Any], seed: int) -> nn.Module:
    """Fresh fp32 weights; they depend only on config and seed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = dict(config)
    made = AutoConfig.for_model(plain.pop("model_type"), **plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(
            "nn.Module", AutoModelForCausalLM.from_config(made, attn_implementation="sdpa").float()
        )


def from_folder(path: Path, *, trust_remote_code: bool) -> nn.Module:
    """The model in a transformers folder, as fp32; only safetensors are read.

    Raises:
        UsageError: it cannot be loaded as a causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    check_folder(path)
    _refuse_adapters(path)
    with _not_loadable(path / "config.json", allowed=trust_remote_code)():
        AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=trust_remote_code)
    trust = {"trust_remote_code": trust_remote_code}
    return _from_pretrained(AutoModelForCausalLM, path, **trust)


def without_weights(path: Path, *, trust_remote_code: bool) -> nn.Module:
    """The model that `from_folder` loads, with weights as its constructor makes them.

    Raises:
        UsageError: the folder's config.json makes no causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    check_folder(path)
    _refuse_adapters(path)
    with _not_loadable(path / "config.json", allowed=trust_remote_code)():
        config = AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=trust_remote_code
        )
    with _not_loadable(path, allowed=trust_remote_code)():
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
        if (path / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
    check_router_loss(model.config.to_dict(), path)
    return model


def put_weights(model: nn.Module, folder: Path) -> None:
    """Load a folder's weights into a model of the same class and shape.

    Goes through transformers, which stores some tensors (experts) under other names.

    Raises:
        UsageError: the folder cannot be loaded.
        RuntimeError: names or shapes do not match.
    """
    model.load_state_dict(_from_pretrained(type(model), folder).state_dict())


def _from_pretrained(kind: Any, path: Path, **options: Any) -> nn.Module:
    check_folder(path)
    _refuse_adapters(path)
    with _not_loadable(path, allowed=bool(options.get("trust_remote_code")))():
        model, loading_info = kind.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    check_all_used(path, loading_info)
    check_router_loss(model.config.to_dict(), path)
    return model


def _refuse_adapters(path: Path) -> None:
    if is_adapter(path):  # transformers would go looking for their base model
        raise UsageError(
            f"{path} has adapters, not a whole model",
            cause=Cause.MODEL_INVALID,
            have="adapter_config.json",
            need="a folder with all weights of a model",
            remedies=(Remedy(f"ls {path}", "shows its files"),),
        )


def check_all_used(path: Path, loading_info: Mapping[str, Any]) -> None:
    """Check that model and files have the same tensors: transformers does without, and continues.

    Raises:
        UsageError: a tensor is missing, or is not used.
    """
    missing, unused = (
        sorted(loading_info[kind] or ()) for kind in ("missing_keys", "unexpected_keys")
    )
    if missing:
        raise UsageError(
            f"{path} is missing weights of its model",
            cause=Cause.WEIGHTS_MISSING,
            have=f"{len(missing)} tensors are in none of its files, {missing[0]} among them",
            need="every tensor of the model in config.json",
            remedies=(Remedy("copy the folder again", "a file may be missing"),),
        )
    if unused:
        raise UsageError(
            f"{path} has weights that its model does not use",
            cause=Cause.WEIGHTS_UNUSED,
            have=f"{len(unused)} tensors that config.json has no place for, {unused[0]} among them",
            need="a config.json that belongs to these weights",
            remedies=(Remedy("copy config.json again", "from where the weights came from"),),
        )


def _not_loadable(path: Path, *, allowed: bool) -> Boundary:
    """The refusal of what transformers cannot load.

    Args:
        path: of the folder, or of the file in it that is to blame.
        allowed: its own code may run.
    """
    folder = path.parent if path.is_file() else path
    code = "" if allowed else custom_code(folder)
    if code:
        return Boundary(
            f"{folder} needs its own code, which runs only if you allow it",
            cause=Cause.MODEL_NEEDS_CODE,
            need=f"a model that transformers supports, or your trust in {code}",
            remedies=(Remedy("--trust-remote-code", "runs it with your permissions"),),
            passes=is_out_of_memory,
        )
    return Boundary(
        f"transformers cannot read {path}"
        if path.is_file()
        else f"cannot load {path} as a language model",
        cause=Cause.MODEL_INVALID,
        need="config.json and weights that transformers' AutoModelForCausalLM loads",
        remedies=(Remedy("headway doctor", "shows the installed version of transformers"),),
        passes=is_out_of_memory,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError.
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return any(words in text for words in _OUT_OF_MEMORY)


def custom_code(folder: Path) -> str:
    """The Python file that defines a folder's model; "" if transformers defines it."""
    try:
        classes: Any = json.loads((folder / "config.json").read_bytes()).get("auto_map", {})
        name = str(classes.get("AutoModelForCausalLM") or next(iter(classes.values()), ""))
    except (OSError, ValueError, AttributeError):
        return ""
    return f"{name.rpartition('.')[0]}.py" if name else ""


def with_lora(
    model: nn.Module,
    *,
    r: int,
    alpha: float,
    dropout: float,
    target_modules: tuple[str, ...],
    seed: int,
) -> nn.Module:
    """Wrap a model in fresh adapters (PEFT): A is random, from the seed; B is zero.

    Raises:
        UsageError: no module matches a name, or adapters would not be computed there.
    """
    from peft import LoraConfig, get_peft_model

    takes_all = target_modules == ("all-linear",)
    names = target_modules[0] if takes_all else list(target_modules)
    config = LoraConfig(
        r=r,
        lora_alpha=cast("int", alpha),
        lora_dropout=dropout,
        target_modules=names,
        exclude_modules=(read_by_kernels(model) or None) if takes_all else None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _quiet_peft():
        torch.manual_seed(seed)
        try:
            return get_peft_model(cast("Any", model), config)
        except ValueError as error:
            raise _no_adapters(model, target_modules, str(error)) from error


def read_by_kernels(model: nn.Module) -> list[str]:
    """Names of linear layers whose weights a fused kernel reads by itself, without adapters.

    Those at the end of a state-space layer (Mamba), which has A and D (Gu and Dao 2023,
    arXiv:2312.00752). PEFT refuses them for some kinds of models.
    """
    return [
        f"{name}.out_proj"
        for name, module in model.named_modules()
        if all(hasattr(module, part) for part in ("A_log", "D", "out_proj"))
    ]


def with_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """Wrap a model in the adapters of a checkpoint, trainable.

    Raises:
        UsageError: the file is missing, or its header does not match its bytes.
    """
    from peft import PeftModel

    check_folder(folder)  # without the file, PEFT tries a pickle, then the hub
    with _quiet_peft():
        return PeftModel.from_pretrained(cast("Any", model), str(folder), is_trainable=True)


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor of one safetensors file.

    Raises:
        UsageError: its header does not match its bytes, or it does not exist.
    """
    from safetensors.torch import load_file

    check_file(file)
    return load_file(file)


def reads_as_stored(model: nn.Module) -> bool:
    """Whether transformers takes a model's tensors from files as they are; False if unknown."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping

        return not get_model_conversion_mapping(cast("Any", model), add_legacy=False)
    except (ImportError, AttributeError, TypeError):  # other releases convert in other places
        return False


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds PEFT adapters, not a whole model."""
    return (folder / "adapter_config.json").is_file()


def to_device(model: nn.Module, device: str) -> nn.Module:
    """Move the weights.

    Raises:
        MachineError: the device does not exist, or is too small.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise MachineError(
            f"cannot move the model to {device}",
            cause=Cause.NO_DEVICE,
            have=str(error).splitlines()[0],
            need=f"a {device} device with enough memory",
            remedies=(Remedy("--device cpu", "trains on the CPU"),),
        ) from error


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> trainable parameter, in the model's order; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@contextmanager
def _quiet_peft() -> Generator[None]:
    """Hide PEFT's warnings about transformers' names and layers, which no user can fix.

    One counts modules alone, and misses the stacked experts that PEFT's own patterns are for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)  # GPT-2's layers
        warnings.filterwarnings("ignore", ".*_pattern keys did not match", RuntimeWarning)
        yield


def _no_adapters(model: nn.Module, names: tuple[str, ...], why: str) -> Refusal:
    """The refusal of names that no module has, or of modules that PEFT refuses."""
    from transformers.pytorch_utils import Conv1D

    linear = (nn.Linear, Conv1D)  # GPT-2's name for one
    leaves = sorted(
        {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, linear)}
    )
    there = [name for name in names if name.rpartition(".")[2] in leaves]
    if there:
        return UsageError(
            f"PEFT refuses adapters on {' or '.join(there)} of this model",
            cause=Cause.NO_SUCH_MODULE,
            have=why.strip().splitlines()[0],
            need="modules that PEFT adapts",
            remedies=(
                Remedy("--lora.target_modules all-linear", "every linear layer that takes them"),
            ),
        )
    return UsageError(
        f"no module of this model is named {' or '.join(names)}",
        cause=Cause.NO_SUCH_MODULE,
        have=f"linear layers named {', '.join(leaves)}",
        need="lora.target_modules that match",
        remedies=(
            Remedy("--lora.target_modules all-linear", "every linear layer but the head"),
            Remedy(f"--lora.target_modules {leaves[0] if leaves else 'q_proj'}"),
        ),
    )
