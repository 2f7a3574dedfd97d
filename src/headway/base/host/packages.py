"""Optional packages: what an extra contains, what is missing, and the command that installs it.

`pip install headway` brings the verbs that only look. Everything else needs an extra; code
that needs one checks here, so that a missing package is the same refusal wherever it is noticed.
"""

import importlib.util
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError

# What `pip install headway[train]` installs, and the oldest versions it accepts.
TRAIN = {
    "httpx2": "2",
    "huggingface-hub": "2",
    "jinja2": "3.1.6",
    "numpy": "2",
    "peft": "0.19",
    "safetensors": "0.8",
    "tokenizers": "0.22",
    "torch": "2.11",
    "transformers": "5.2",
    "zstandard": "0.23",
}
READING = ("numpy", "tokenizers", "jinja2")  # modules that every plan needs
TRAINING = (*READING, "torch", "transformers", "safetensors", "peft")

_EXTRAS = {
    **{name.replace("-", "_"): "train" for name in TRAIN},
    "pyarrow": "parquet",
    "s3fs": "s3",
    "datasets": "hub",
    "gguf": "export",
    "xllamacpp": "verify",
    "bitsandbytes": "cuda",
}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_TRAIN_LINE = "pip install 'headway[train]'"


def require(verb: str, modules: Iterable[str]) -> None:
    """Check that the modules a verb imports are installed.

    Args:
        verb: the name of the command.
        modules: as they are imported.

    Raises:
        UsageError: some are not; says what to install.
    """
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        raise _refusal(f"headway {verb} needs packages that are not installed", missing)


def require_for(setting: str, module: str, otherwise: Remedy) -> None:
    """Check that the module is installed that a setting needs.

    Args:
        setting: as it is typed.
        module: as it is imported.
        otherwise: what can be typed instead.

    Raises:
        UsageError: it is not.
    """
    if not is_installed(module):
        refusal = _refusal(f"{setting} needs {module}, which is not installed", [module])
        install, doctor = refusal.remedies
        raise UsageError(
            refusal.what,
            cause=refusal.cause,
            have=refusal.have,
            need=refusal.need,
            remedies=(install, otherwise, doctor),
        )


def missing_package(error: ModuleNotFoundError) -> UsageError | None:
    """The refusal for an import that failed; None if no extra brings the module."""
    name = (error.name or "").partition(".")[0]
    if name not in _EXTRAS:
        return None
    return _refusal(f"{name} is not installed", [name])


def training_remedies(nvidia: str, system: str, *, torch: bool) -> tuple[Remedy, ...]:
    """The lines that install what training needs.

    On Linux, PyPI's torch brings CUDA: 6 GB that a machine without an NVIDIA device cannot use.

    Args:
        nvidia: how an NVIDIA device was found, "" for none.
        system: such as "Linux x86_64".
        torch: whether it is among what will be installed.
    """
    if nvidia or not torch or not system.startswith("Linux"):
        return (Remedy(_TRAIN_LINE, "installs what training needs"),)
    return (
        Remedy(_TRAIN_LINE, "installs what training needs, and about 6 GB of CUDA"),
        Remedy(
            f"pip install torch --index-url {CPU_INDEX} && {_TRAIN_LINE}",
            "without CUDA: this machine has no NVIDIA device",
        ),
    )


def nvidia_device() -> str:
    """How an NVIDIA device was found: "/dev/nvidia0", "nvidia-smi"; "" for none."""
    device = Path("/dev/nvidia0")
    if device.exists():
        return str(device)
    return "nvidia-smi" if shutil.which("nvidia-smi") else ""


def is_installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook or a broken package
        return False


def _refusal(what: str, missing: list[str]) -> UsageError:
    extras = sorted({_EXTRAS.get(name, "train") for name in missing})
    other = ",".join(extra for extra in extras if extra != "train")
    remedies = (Remedy(f"pip install 'headway[{other}]'"),) if other else ()
    if "train" in extras:
        system = f"{platform.system()} {platform.machine()}"
        torch = not is_installed("torch")
        remedies = (*training_remedies(nvidia_device(), system, torch=torch), *remedies)
    return UsageError(
        what,
        cause=Cause.MISSING_PACKAGE,
        have=f"headway without {', '.join(missing)}",
        need=f"the packages of headway[{','.join(extras)}]",
        remedies=(*remedies, Remedy("headway doctor", "what else is missing")),
    )
