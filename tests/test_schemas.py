"""docs/schemas: what the code writes is what they say."""

import json
import math
import types
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.helpers import docs_script

from headway.base.errors import Finding, Remedy
from headway.base.events import KINDS, Event, EventLog
from headway.base.files import MANIFEST, write_folder
from headway.base.pulse import Pulse, read_pulse
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings
from headway.config.yaml_file import write_settings
from headway.data.formats.records import Rejected

DOCS = Path(__file__).resolve().parent.parent / "docs"
NAMES = sorted(path.stem for path in (DOCS / "schemas").glob("*.json"))
FINDING = Finding("warning", "w", "1", "2", (Remedy("do", "gives"),))


def make_schemas() -> types.ModuleType:
    return docs_script("make_schemas")


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((DOCS / "schemas" / f"{name}.json").read_text()))


def example(kind: type[Any]) -> Any:
    """A value of an event's kind, from its annotations; what may be left out is left out."""
    samples = {int: 7, float: 1.5, str: "x", Finding: FINDING}
    hints = get_type_hints(kind)
    values = {
        f.name: next(samples[t] for t in (*get_args(hints[f.name]), hints[f.name]) if t in samples)
        for f in fields(kind)
        if f.default is MISSING
    }
    return kind(**values)


def written(tmp_path: Path, event: Event) -> dict[str, Any]:
    EventLog(tmp_path / "events.jsonl").write(event)
    return json.loads((tmp_path / "events.jsonl").read_text())


def test_the_schemas_are_what_the_code_says() -> None:
    made = make_schemas()
    wanted = {name: made.text_of(schema) for name, schema in made.schemas().items()}
    there = {name: (DOCS / "schemas" / f"{name}.json").read_text() for name in NAMES}
    assert list(there) == list(wanted)
    assert [name for name in wanted if there[name] != wanted[name]] == [], "run: make docs"


def test_check_says_which_schema_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_schemas()
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "of_the_past.json").write_text("{}")
    assert made.main(["--check"]) == 1
    assert "of_the_past.json, plan.json differ" in capsys.readouterr().out
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    schema = validator(name).schema
    Draft202012Validator.check_schema(schema)
    assert schema["title"]


# -- events

# Older logs do not have them.
NEWER = {"held_out", "finding", "stall", "row_sum", "doing", "workers", "restarts", "after"}
NEWER |= {"all_workers", "groups", "all_groups", "replayed", "replay_sum"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_event_fits_its_schema_and_no_other(tmp_path: Path, kind: type[Event]) -> None:
    line = written(tmp_path, example(kind))
    validator("event").validate(line)
    for other in KINDS:
        assert validator("event").is_valid({**line, "event": other}) == (other == line["event"])


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_an_event_that_lacks_a_field_does_not_fit(tmp_path: Path, kind: type[Event]) -> None:
    line = written(tmp_path, example(kind))
    for field in line.keys() - NEWER:
        assert not validator("event").is_valid({k: v for k, v in line.items() if k != field})


def test_a_loss_that_is_no_number_fits(tmp_path: Path) -> None:
    event = replace(example(KINDS["step_done"]), loss=math.nan)
    line = written(tmp_path, event)
    assert line["loss"] is None
    validator("event").validate(line)


def test_optional_parts_fit(tmp_path: Path) -> None:
    ended = replace(example(KINDS["ended"]), finding=FINDING)
    validator("event").validate(written(tmp_path, ended))


# -- the other files


def test_a_pulse_fits(tmp_path: Path) -> None:
    Pulse(tmp_path / "pulse", rank=1).enter("training", total=9, unit="steps")
    validator("pulse").validate(msgspec.to_builtins(read_pulse(tmp_path / "pulse")))


def test_the_pulses_fields_follow_each_other_without_a_gap() -> None:
    record = validator("pulse").schema["x-record"]
    offset = 0
    for field in record["fields"]:
        assert field["offset"] == offset
        offset += field["bytes"]
    assert offset <= record["bytes"]


def test_a_manifest_fits(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    write_folder(tmp_path / "checkpoint-1", fill)
    manifest = json.loads((tmp_path / "checkpoint-1" / MANIFEST).read_text())
    validator("manifest").validate(manifest)
    assert not validator("manifest").is_valid({**manifest, "files": {"a": 3}})


def test_a_rejected_row_fits() -> None:
    rejected = Rejected("a.jsonl", 4, "not JSON", "{")
    validator("rejected").validate(json.loads(msgspec.json.encode(rejected)))


# -- settings


def test_a_written_settings_file_fits() -> None:
    settings = resolve([Given("lora.r", "8", "you"), Given("lr", "2e-4", "--lr")])
    for one in (settings, Settings()):
        validator("settings").validate(yaml.safe_load(write_settings(one, ("notes.txt",))))


@pytest.mark.parametrize(
    "text",
    [
        "lr: 2e-4",
        "learning_rate: 0.0002\nlora: {r: 8, lora_alpha: 16}",
        "data: notes.txt\nmax_time: 1h30m\nbf16: on",
        "optim: adamw\nmax_length: null",
    ],
)
def test_what_people_write_fits(text: str) -> None:
    validator("settings").validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text", ["max_lenght: 512", "optim: sgd", "batch_size: 0", "lora: {rank: 8}", "batch_size: [8]"]
)
def test_what_is_refused_does_not_fit(text: str) -> None:
    assert not validator("settings").is_valid(yaml.safe_load(text))
