"""Write docs/schemas/: what each file of a run holds, for other programs.

Usage:
    python docs/make_schemas.py            write them
    python docs/make_schemas.py --check    exit 1 when one is not what the code says
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from headway.base.events import KINDS, Event
from headway.base.files import Manifest
from headway.base.pulse import LAYOUT, SIZE, PulseReading
from headway.config.settings import Settings, is_flag, printed_name, table
from headway.data.formats.records import Rejected
from headway.diagnose.answer import DiagnosisAnswer
from headway.export.check.request import CheckResult
from headway.export.request import ExportResult
from headway.guard.run_record import GuardedCommand
from headway.inbox.inbox_status import InboxStatus
from headway.inbox.jobs.inbox_job import InboxJob
from headway.planning.gpu.ways import GpuPlan
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt
from headway.runs.settled import Settled
from headway.runs.watched.watched_receipt import WatchedReceipt
from headway.runs.watched.watched_run import WatchedRun
from headway.supervise.progress import Status

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: dict[str, tuple[type, str]] = {
    "check": (CheckResult, "`headway check --json`."),
    "checkpoint": (CheckpointState, "headway.json in a checkpoint."),
    "diagnosis": (DiagnosisAnswer, "`headway diagnose --json`."),
    "export": (ExportResult, "export.json beside what was exported; `headway export --json`."),
    "gpu_plan": (GpuPlan, "`headway plan --gpu SIZE --json`."),
    "guard": (GuardedCommand, "guard.json of a run of a guarded command."),
    "inbox_job": (InboxJob, "A record of .headway/jobs of an inbox; `headway inbox list --json`."),
    "inbox_status": (InboxStatus, "`headway inbox status --json`."),
    "manifest": (Manifest, "manifest.json in a checkpoint: every other file of it."),
    "plan": (Plan, "plan.json of a run, and `headway plan --json`."),
    "settled": (Settled, "settled.json of a run: what trying showed before step 1."),
    "receipt": (Receipt, "receipt.json of a run."),
    "rejected": (Rejected, "One line of rejected.jsonl of a run."),
    "status": (Status, "`headway status --json`."),
    "watched-receipt": (WatchedReceipt, "receipt.json of a run of another program."),
    "watched": (WatchedRun, "watched.json of a run of another program."),
}


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by its file's name."""
    made = {name: titled(about, msgspec.json.schema(kind)) for name, (kind, about) in PLAIN.items()}
    made |= {"event": event_schema(), "pulse": pulse_schema(), "settings": settings_schema()}
    return dict(sorted(made.items()))


def titled(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its dialect and what it is of."""
    return {"$schema": DIALECT, "title": about, **schema}


def event_schema() -> dict[str, Any]:
    """One line of events.jsonl: the envelope, and the fields of one kind of event."""
    _, definitions = msgspec.json.schema_components(KINDS.values(), ref_template="#/$defs/{name}")
    refs = []
    for name, kind in KINDS.items():
        definition = definitions[kind.__name__]
        with_envelope(definition, name, kind)
        refs.append({"$ref": f"#/$defs/{kind.__name__}"})
    return titled("One line of events.jsonl of a run.", {"oneOf": refs, "$defs": definitions})


def with_envelope(definition: dict[str, Any], name: str, kind: type[Event]) -> None:
    """Add what every line has. A number that is not finite is null: JSON has no word for it."""
    properties = definition["properties"]
    for field, hint in get_type_hints(kind).items():
        if hint is float:
            properties[field] = {"type": ["number", "null"]}
    definition["properties"] = {
        "at": {"type": "string", "format": "date-time", "description": "UTC"},
        "t": {"type": "number", "description": "seconds since the attempt began"},
        "attempt": {"type": "integer", "minimum": 1},
        "rank": {"type": "integer", "minimum": -1, "description": "-1: the supervisor"},
        "event": {"const": name},
        **properties,
    }
    definition["required"] = ["at", "t", "attempt", "rank", "event", *definition["required"]]


def pulse_schema() -> dict[str, Any]:
    """A worker's pulse as a value, and where each part of it lies in the shared record."""
    offset, fields = 0, []
    for name, code in LAYOUT:
        size = struct.calcsize("<" + code)
        kind = {"Q": "u64", "I": "u32", "d": "f64"}.get(code, "UTF-8, filled up with zeros")
        fields.append({"name": name, "offset": offset, "bytes": size, "kind": kind})
        offset += size
    record = {
        "bytes": SIZE,
        "byte_order": "little endian",
        "magic": "HEADWAY1",
        "reading": "read it; where `sequence` is odd, or other when read again, read again",
        "times": "CLOCK_MONOTONIC, seconds",
        "fields": fields,
    }
    reading = titled("What a worker says of itself.", msgspec.json.schema(PulseReading))
    return {**reading, "x-record": record}


def settings_schema() -> dict[str, Any]:
    """A settings file, as an editor completes it."""
    properties: dict[str, Any] = {
        "data": {
            "description": "what to train on: files, folders, globs",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }
    }
    lora: dict[str, Any] = {}
    for row in table():
        name, schema = printed_name(row), setting_schema(row)
        properties[name] = schema
        for short in row.metadata["also"]:
            properties[short] = {"description": f"short for {name}", **schema}
        section, _, inner = name.partition(".")
        if section == "lora" and inner:
            lora[inner] = schema
    properties["lora"]["anyOf"].append(
        {"type": "object", "properties": lora, "additionalProperties": False}
    )
    body = {"type": "object", "properties": properties, "additionalProperties": False}
    return titled("A settings file, and run.yaml of a run.", body)


def setting_schema(row: Any) -> dict[str, Any]:
    """One setting. Numbers and switches may be texts: `2e-4` is one in YAML 1.1."""
    about = {"description": row.metadata["help"]}
    default = getattr(Settings(), row.name)
    if default not in (None, ()):
        about["default"] = default
    nothing = [{"type": "null"}] if default is None else []
    if row.metadata["choices"]:
        return {**about, "anyOf": [{"enum": list(row.metadata["choices"])}, *nothing]}
    if is_flag(row):
        return {**about, "anyOf": [{"type": "boolean"}, {"type": "string"}, *nothing]}
    hint = str(get_type_hints(Settings)[row.name])
    if hint.startswith("tuple"):
        texts = {"type": "array", "items": {"type": "string"}}
        return {**about, "anyOf": [texts, {"type": "string"}]}
    number = "integer" if "int" in hint else "number" if "float" in hint else ""
    bounds = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum"}
    limits = {
        theirs: row.metadata[ours]
        for ours, theirs in bounds.items()
        if row.metadata[ours] is not None
    }
    numbers = [{"type": number, **limits}] if number else []
    return {**about, "anyOf": [*numbers, {"type": "string"}, *nothing]}


def text_of(schema: dict[str, Any]) -> str:
    """As it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the schemas, or compare them."""
    wanted = {FOLDER / f"{name}.json": text_of(schema) for name, schema in schemas().items()}
    there = {path: path.read_text() for path in FOLDER.glob("*.json")}
    stale = sorted(path.name for path in wanted | there if wanted.get(path) != there.get(path))
    if "--check" in arguments:
        if stale:
            print(f"docs/schemas: {', '.join(stale)} differ from the code: make docs")
        return bool(stale)
    FOLDER.mkdir(exist_ok=True)
    for path in there.keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
