"""Bundle parts: what a run's folder has, without samples and secrets."""

import json
import os
from pathlib import Path

from headway.commands.stalls.bundle_parts import (
    LAST_EVENTS,
    LAST_OUTPUT,
    bundle_parts,
    run_parts,
    versions_text,
)
from headway.diagnose.answer import SCHEMA, DiagnosisAnswer

EVENT = {"at": "2026-11-30T00:00:00Z", "t": 1.0, "attempt": 1, "rank": 0}


def test_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"data":{"path":"https://u:planted@h/x?a=1","seed":5}}')
    (tmp_path / "receipt.json").write_text("{torn")
    (tmp_path / "run.yaml").write_text("seed: 5\n")
    events = [EVENT | {"event": "step_done", "step": n} for n in range(LAST_EVENTS + 5)]
    events.append(EVENT | {"event": "sampled", "text": "somebody's words"})
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (tmp_path / "events.jsonl").write_text(lines + '{"torn')
    for number in range(8, 13):
        path = tmp_path / f"stall-{number}.txt"
        path.write_text("it stands")
        os.utime(path, (number, number))
    (tmp_path / "output.log").write_text("".join(f"line {n}\n" for n in range(LAST_OUTPUT + 5)))
    parts = run_parts(tmp_path)
    assert json.loads(parts["run/plan.json"]) == {"data": {"path": "https://h/x", "seed": 5}}
    assert parts["run/receipt.json"] == "{torn"
    kept = [json.loads(line) for line in parts["run/events.jsonl"].splitlines()]
    assert kept[-1]["step"] == LAST_EVENTS + 4
    assert len(kept) == LAST_EVENTS - 2
    assert parts["run/output.log"].splitlines()[0] == "line 5"
    assert "somebody" not in str(parts)
    assert [name for name in parts if "stall" in name] == [
        f"run/stall-{number}.txt" for number in (10, 11, 12)
    ]


def test_an_empty_folder_has_no_parts(tmp_path: Path) -> None:
    assert run_parts(tmp_path) == {}


def test_versions() -> None:
    lines = dict(line.split(" ", 1) for line in versions_text().splitlines())
    assert {"headway", "python", "system", "msgspec", "psutil"} <= lines.keys()


def test_a_run_that_has_ended_has_a_bundle_too(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 5\n")
    parts = bundle_parts(DiagnosisAnswer(SCHEMA, "notes", "failed", running=False), tmp_path)
    assert {"diagnosis.json", "versions.txt", "machine.txt", "run/run.yaml"} == set(parts)
