"""Environment of a process: the variables that matter to training, and the names of all others."""

import re
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import PROC, text_of
from headway.diagnose.redaction import hide_secrets, is_secret_name

# Variables whose values are shown: how threads, devices, workers and caches are set up.
_SHOWN = re.compile(
    r"CUDA_\w+|NVIDIA_VISIBLE_DEVICES|OMP_\w+|GOMP_\w+|KMP_\w+|MKL_\w+|OPENBLAS_\w+|NUMEXPR_\w+"
    r"|TOKENIZERS_PARALLELISM|RAYON_\w+|NCCL_\w+|GLOO_\w+|TORCH_\w+|TORCHINDUCTOR_\w+|PYTORCH_\w+"
    r"|TRITON_\w+|ACCELERATE_\w+|DS_\w+|FSDP_\w+|WORLD_SIZE|RANK|LOCAL_RANK|LOCAL_WORLD_SIZE"
    r"|GROUP_RANK|MASTER_ADDR|MASTER_PORT|SLURM_(?:JOB_ID|NTASKS|PROCID|NODEID|JOB_NUM_NODES)"
    r"|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE|HF_DATASETS_OFFLINE|HF_HUB_ENABLE_HF_TRANSFER|HF_HOME"
    r"|HF_HUB_CACHE|WANDB_MODE|WANDB_DISABLED|PYTHON(?:PATH|HASHSEED|UNBUFFERED|SAFEPATH|UTF8"
    r"|FAULTHANDLER|MALLOC)|MALLOC_\w+|LD_PRELOAD|LD_LIBRARY_PATH|LANG|LC_ALL|LC_CTYPE|TZ|TERM"
    r"|COLUMNS|VIRTUAL_ENV|CONDA_PREFIX|XDG_CACHE_HOME|XDG_RUNTIME_DIR|TMPDIR"
)


def environment_text(pid: int, proc: Path = PROC) -> str:
    """The variables of a process, a line each; of most of them the name alone.

    Nothing is known of another user's process, or where there is no /proc.
    """
    pairs = [pair.partition("=") for pair in text_of(proc / str(pid) / "environ").split("\0")]
    values = {name: value for name, _, value in pairs if name}
    if not values:
        return "its environment cannot be read\n"
    shown = {name: one for name, one in sorted(values.items()) if _is_shown(name)}
    lines = [f"{name}={hide_secrets(value)}" for name, value in shown.items()]
    others = ", ".join(name for name in sorted(values) if name not in shown)
    return "\n".join([*lines, f"also set, values left out: {others or 'none'}"]) + "\n"


def _is_shown(name: str) -> bool:
    return bool(_SHOWN.fullmatch(name)) and not is_secret_name(name)
