"""The export process answers with what it exported, or with why it did not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.export.folders import model_folder
from tests.export.test_request import RESULT

from headway.base.errors import Cause, Exit, UsageError
from headway.export import export as exporting
from headway.export import worker
from headway.export.request import ExportOptions, ExportRequest


def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: Any) -> tuple[int, list[Any]]:
    said: list[Any] = []
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "send_answer", said.append)
    monkeypatch.setattr(worker, "report_refusal", said.append)
    monkeypatch.setattr(exporting, "export", export)
    request = ExportRequest(str(tmp_path / "model"), str(tmp_path / "out"), ExportOptions("hf"))
    question = tmp_path / "question.json"
    question.write_bytes(msgspec.json.encode(request))
    return worker.main([str(question)]), said


def test_it_sends_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder(tmp_path / "model")
    assert ran(tmp_path, monkeypatch, lambda *_: RESULT) == (0, [RESULT])


def test_it_sends_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("no", cause=Cause.MODEL_INVALID)

    code, (refusal,) = ran(tmp_path, monkeypatch, refuse)
    assert code == Exit.USAGE
    assert refusal.cause is Cause.MODEL_INVALID
