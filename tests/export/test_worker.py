"""The export process answers with what it exported."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.export.test_request import RESULT

from headway.base.host import child_main
from headway.export import export as exporting
from headway.export import worker
from headway.export.request import ExportOptions, ExportRequest


def test_it_sends_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(child_main, "end_with_parent", lambda: None)
    monkeypatch.setattr(child_main, "send_answer", said.append)
    monkeypatch.setattr(exporting, "export", lambda request, _: [request, RESULT])
    request = ExportRequest(str(tmp_path / "model"), str(tmp_path / "out"), ExportOptions("hf"))
    question = tmp_path / "question.json"
    question.write_bytes(msgspec.json.encode(request))
    assert worker.main([str(question)]) == 0
    assert said == [[request, RESULT]]
