"""The launcher asks the export process, and hands back what it answers."""

from pathlib import Path
from typing import Any

import pytest
from tests.export.test_request import RESULT

from headway.export import run_export
from headway.export.request import ExportRequest, ExportResult


def test_the_request_goes_to_the_export_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(*given: Any, **options: Any) -> ExportResult:
        asked.append((given, options))
        return RESULT

    monkeypatch.setattr(run_export, "ask_child", ask)
    request = ExportRequest("/models/a", "/out", RESULT.options)

    def wait(*_: object) -> None:
        return None

    assert run_export.run_export(request, wait) is RESULT
    ((given, options),) = asked
    assert given == ("headway.export.worker", request, ExportResult, wait)
    assert options == {"doing": "headway export"}
    assert Path(run_export.__file__).with_name("worker.py").is_file()
