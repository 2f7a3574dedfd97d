"""Bundle parts: what belongs in a bug report about a run or a process."""

import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import cast

import msgspec

from headway.base.version import __version__
from headway.diagnose.answer import DiagnosisAnswer
from headway.diagnose.environment import environment_text
from headway.diagnose.redaction import hide_in_value
from headway.diagnose.report import report_text

LAST_EVENTS = 200  # lines of the log
LAST_OUTPUT = 100  # lines that a guarded command printed
_MOST_ENVIRONMENTS = 4  # processes: the first ones of a job
_MOST_STALLS = 3  # reports of earlier ones: the newest
_WIDTH = 100
# What trains, and what it stands on; those that are not installed are left out.
_PACKAGES = (
    *("torch", "transformers", "tokenizers", "accelerate", "peft", "trl", "datasets", "numpy"),
    *("safetensors", "huggingface-hub", "lightning", "deepspeed", "bitsandbytes", "flash-attn"),
    *("axolotl", "llamafactory", "unsloth", "wandb", "triton", "msgspec", "psutil", "py-spy"),
)


def bundle_parts(answer: DiagnosisAnswer, folder: Path | None) -> dict[str, str]:
    """The texts of a bundle by the names of their files.

    Args:
        answer: as `headway diagnose` gives it.
        folder: of the run; None for a process, and for a run that has none yet.
    """
    parts = {"diagnosis.json": _json(msgspec.to_builtins(answer))}
    if answer.evidence and answer.diagnosis:
        parts = {"report.txt": report_text(answer.evidence, answer.diagnosis)} | parts
        parts["environment.txt"] = "\n".join(
            f"process {process.pid} {process.role}\n{environment_text(process.pid)}"
            for process in answer.evidence.processes[:_MOST_ENVIRONMENTS]
        )
    parts["versions.txt"] = versions_text()
    parts["machine.txt"] = machine_text(folder)
    return parts | (run_parts(folder) if folder else {})


def run_parts(folder: Path) -> dict[str, str]:
    """What a run's folder has: its plan, settings, last events and earlier stalls."""
    parts: dict[str, str] = {}
    for name in ("plan.json", "settled.json", "watched.json", "guard.json", "receipt.json"):
        if text := _text(folder / name):
            parts[f"run/{name}"] = _json_text(text)
    if text := _text(folder / "run.yaml"):
        parts["run/run.yaml"] = text
    if text := _text(folder / "events.jsonl"):
        parts["run/events.jsonl"] = _last_events(text)
    if text := _text(folder / "output.log"):
        parts["run/output.log"] = "\n".join(text.splitlines()[-LAST_OUTPUT:]) + "\n"
    stalls = (path for path in folder.glob("stall-*.txt") if path.is_file())
    for path in sorted(stalls, key=lambda path: path.stat().st_mtime)[-_MOST_STALLS:]:
        parts[f"run/{path.name}"] = _text(path)
    return parts


def versions_text() -> str:
    """Versions of Headway, Python, the system and the packages next to this Headway."""
    lines = [
        f"headway {__version__}",
        f"python {platform.python_version()} ({sys.executable})",
        f"system {platform.platform()}",
    ]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(lines) + "\n"


def machine_text(folder: Path | None) -> str:
    """What `headway doctor` says."""
    from headway.doctor.checks import examine, lines
    from headway.doctor.facts import read_machine

    where = folder.parent if folder else Path()
    return "\n".join(lines(examine(read_machine(where)), _WIDTH)) + "\n"


def _last_events(text: str) -> str:
    """The last lines of a log. Samples are left out: they are made of somebody's data."""
    kept: list[str] = []
    for line in text.splitlines()[-LAST_EVENTS:]:
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:  # the last line of a writer that was killed
            continue
        if not isinstance(event, dict):
            continue
        if cast("dict[str, object]", event).get("event") == "sampled":
            continue
        kept.append(msgspec.json.encode(hide_in_value(cast("object", event))).decode())
    return "".join(f"{line}\n" for line in kept)


def _json_text(text: str) -> str:
    try:
        return _json(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return text


def _json(value: object) -> str:
    encoded = msgspec.json.encode(hide_in_value(value))
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
