"""What a command leaves, made by hand: facts, states, weights and logs of known content."""

import json
import os
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

from headway.guard.facts import GuardFacts, ProgressRecord, TouchedFile

WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8}


def facts_of(folder: Path, *command: str, **fields: Any) -> GuardFacts:
    """A command that ended well, and wrote all files that are younger than its start."""
    started = fields.pop("started_s", 0.0)
    written = tuple(
        TouchedFile(path, path.stat().st_size, max(0.0, path.stat().st_mtime - started), True)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_mtime >= started
    )
    fields = {"exit_code": 0, "seconds": 10.0, "files": written} | fields
    return GuardFacts(command or ("python", "train.py"), folder, started, **fields)


def losses_of(*losses: float, **fields: Any) -> tuple[ProgressRecord, ...]:
    """Lines with a step and a loss."""
    return tuple(
        ProgressRecord(float(at), step=at, loss=loss, **fields)
        for at, loss in enumerate(losses, start=1)
    )


def falling(number: int = 30) -> tuple[float, ...]:
    """Losses of a model that learns."""
    return tuple(2.5 - 1.5 * at / number + 0.05 * (at % 3) for at in range(number))


def safetensors(path: Path, tensors: dict[str, bytes], dtype: str = "F32") -> Path:
    """A safetensors file, as the library lays it out."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, content in tensors.items():
        shape = [len(content) // WIDTHS[dtype]]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors.values()))
    return path


def archive(path: Path, *storages: bytes) -> Path:
    """An archive as `torch.save` writes it; its pickle would end the process that loads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{path.stem}/data.pkl", b"cos\n_exit\n(I1\ntR.")
        for number, content in enumerate(storages):
            file.writestr(f"{path.stem}/data/{number}", content)
    return path


def state(path: Path, step: int, target: int, **fields: Any) -> Path:
    """trainer_state.json as transformers writes it, with a falling loss for each step."""
    values = {
        "global_step": step,
        "max_steps": target,
        "num_train_epochs": 1,
        "epoch": step / target,
        "log_history": history(step, target),
        "stateful_callbacks": {"TrainerControl": {"args": {}}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values | fields), encoding="utf-8")
    return path


def history(step: int, target: int) -> list[dict[str, float]]:
    """The log of a Trainer that learns, an entry for each step."""
    return [
        {"step": at, "epoch": at / target, "loss": 3.0 - at / target, "learning_rate": 1e-4}
        for at in range(1, step + 1)
    ]


def closing(step: int, *, steps_per_second: float, loss: float) -> dict[str, float]:
    """The entry that ends the log of a Trainer."""
    return {
        "step": step,
        "train_runtime": 0.0004,
        "train_steps_per_second": steps_per_second,
        "train_loss": loss,
    }


def age(*paths: Path, seconds: float = 1000.0) -> float:
    """Make files as old as that; the start of a command that came after them."""
    then = time.time() - seconds
    for path in paths:
        for one in (path, *path.rglob("*")):
            os.utime(one, (then, then))
    return then + 1


def floats(*numbers: float) -> bytes:
    """Their bytes in F32."""
    return struct.pack(f"<{len(numbers)}f", *numbers)
