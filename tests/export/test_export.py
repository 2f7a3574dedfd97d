"""An export is compared before it gets its name; what differs never does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.export.folders import model_folder

from headway.base.errors import BrokenContract, Cause, Finding, MachineError, Remedy, UsageError
from headway.base.files import verify_folder
from headway.base.host import packages
from headway.base.pulse import Pulse
from headway.export.export import export
from headway.export.request import (
    NOTE,
    ExportCheck,
    ExportOptions,
    ExportRequest,
    ExportResult,
    ExportVerification,
    WrittenFiles,
)

FAILURE = Finding("refused", "it differs", "a", "b", (Remedy("do"),), Cause.EXPORT_DIFFERS)
PASSED = ExportVerification("judge")
WARNING = Finding("warning", "odd", cause=Cause.NOT_LEARNED)


class Target:
    """A target that writes one file."""

    verifies_with: tuple[str, ...] = ()

    def __init__(self, found: ExportVerification = PASSED, num_bytes: int = 100) -> None:
        self.found, self.bytes, self.calls = found, num_bytes, list[str]()

    def num_bytes(self, *_: object) -> int:
        return self.bytes

    def write(self, source: Any, options: Any, folder: Path, pulse: Pulse) -> WrittenFiles:
        self.calls.append("write")
        (folder / "model.gguf").write_bytes(b"weights")
        return WrittenFiles(("model.gguf",), merged=True, findings=(WARNING,))

    def verify(self, source: Any, options: Any, folder: Path, pulse: Pulse) -> ExportVerification:
        self.calls.append("verify")
        assert (folder / "model.gguf").is_file()
        return self.found


def exported(here: Path, target: Target, **options: Any) -> ExportResult:
    folder = here / "model"
    if not folder.exists():
        model_folder(folder)
    asked = ExportOptions(**({"to": "gguf", "name": "small"} | options))
    request = ExportRequest(str(folder), str(here / "out"), asked)
    return export(request, Pulse(), target)


def test_what_passed_is_there_with_its_note(tmp_path: Path) -> None:
    check = ExportCheck("logits", passed=True, measured=1e-6, limit=2e-5)
    found = exported(
        tmp_path, Target(ExportVerification("llama.cpp", (check,), findings=(WARNING,)))
    )
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [NOTE, "manifest.json", "model.gguf"]
    assert verify_folder(out) == []
    note = json.loads((out / NOTE).read_text())
    assert note["verification"]["judge"] == "llama.cpp"
    assert note["verification"]["checks"][0]["measured"] == 1e-6
    assert note["end_tokens"] == {"2": "<|im_end|>", "0": "<|endoftext|>"}
    assert note["output"] == "", "a folder may be moved"
    assert found.output == str(out)
    assert [one.cause for one in found.findings] == [Cause.NOT_LEARNED] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_x02_what_differs_never_gets_its_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenContract, match="it differs") as refused:
        exported(tmp_path, Target(ExportVerification("llama.cpp", failure=FAILURE)))
    assert refused.value.cause is Cause.EXPORT_DIFFERS
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_earlier_export_stays_if_the_next_one_differs(tmp_path: Path) -> None:
    exported(tmp_path, Target())
    before = (tmp_path / "out" / NOTE).read_bytes()
    with pytest.raises(BrokenContract):
        exported(tmp_path, Target(ExportVerification("llama.cpp", failure=FAILURE)))
    assert (tmp_path / "out" / NOTE).read_bytes() == before


def test_without_what_compares_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = packages.is_installed
    monkeypatch.setattr(packages, "is_installed", lambda n: n != "judge" and installed(n))
    target = Target()
    target.verifies_with = ("judge",)
    found = exported(tmp_path, target)
    assert found.verification is None
    assert target.calls == ["write"]
    assert found.findings[-1].cause is Cause.EXPORT_UNVERIFIED
    target.calls.clear()
    with pytest.raises(UsageError) as refused:
        exported(tmp_path, target, verify="always")
    assert refused.value.cause is Cause.MISSING_PACKAGE
    assert target.calls == [], "nothing is written first"


def test_asked_not_to_compare_it_says_so(tmp_path: Path) -> None:
    target = Target()
    found = exported(tmp_path, target, verify="never")
    assert target.calls == ["write"]
    assert found.verification is None
    assert found.findings[-1].have == "--no-verify"


def test_the_disk_is_looked_at_first(tmp_path: Path) -> None:
    target = Target(num_bytes=1 << 60)
    with pytest.raises(MachineError) as refused:
        exported(tmp_path, target)
    assert refused.value.cause is Cause.DISK_FULL
    assert target.calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_target_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Failing(Target):
        def write(self, *given: Any) -> WrittenFiles:
            super().write(*given)
            raise UsageError("no such architecture", cause=Cause.MODEL_UNSUPPORTED)

    with pytest.raises(UsageError):
        exported(tmp_path, Failing())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_file_holds_what_the_screen_shows(tmp_path: Path) -> None:
    import msgspec

    found = exported(tmp_path, Target())
    stored = msgspec.json.decode((tmp_path / "out" / NOTE).read_bytes(), type=ExportResult)
    assert replace(found, output="") == stored
