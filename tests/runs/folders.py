"""Run folders for tests: a plan, checkpoints of a few bytes, a flipped bit."""

from pathlib import Path
from typing import Any

from tests.helpers import in_memory, plan_of

from headway.base.files import write_folder
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan, SavesPlan

TEXT = in_memory(1601)
SAVES = SavesPlan(every_steps=10, every_minutes=10, keep=2, num=4, bytes_each=1000)


def planned(**given: Any) -> Plan:
    return plan_of(TEXT, max_length=16, **given)


def made(folder: Path, plan: Plan, outcome: str = "") -> RunFolder:
    """A run's folder, as its supervisor leaves it."""
    folder.mkdir(parents=True)
    plan.save(folder)
    if outcome:
        (folder / "receipt.json").write_text(f'{{"outcome": "{outcome}"}}')
    return RunFolder(folder)


def checkpoint(run: RunFolder, step: int) -> Path:
    final = run.path / f"checkpoint-{step}"
    write_folder(final, lambda f: (f / "model.safetensors").write_bytes(b"weights" * step) and None)
    return final


def flip(path: Path, byte: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
