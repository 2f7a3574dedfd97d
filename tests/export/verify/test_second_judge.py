"""ggufdoctor is asked if it is there, by its report; what it finds is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause
from headway.export.verify import second_judge
from headway.export.verify.second_judge import judge_template

# As ggufdoctor 0.3.0 writes it, shortened.
REPORT: dict[str, Any] = {
    "schema_version": "1",
    "tool_version": "0.3.0",
    "engines": [
        {"name": "jinja2", "version": "3.1.6"},
        {"name": "llama.cpp", "version": "b10775", "commit": "67a17c17"},
    ],
    "findings": [{"id": "S003", "severity": "info", "message": "an older template"}],
}
CLI = """
import json, sys
from pathlib import Path
def main():
    assert sys.argv[2] == "--json" and sys.argv[4:] == ["--fail-on", "never"]
    assert Path(sys.argv[1]).read_bytes() == b"GGUF"
    {body}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    return path


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A package of its name, for this process and those that it starts."""
    package = tmp_path / "packages" / "ggufdoctor"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CLI.format(body=body))
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def reports(**changes: Any) -> str:
    return f"Path(sys.argv[3]).write_text({json.dumps(REPORT | changes)!r}); return 0"


def test_without_it_nothing_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_judge, "PACKAGE", "no_such_package")
    assert judge_template(file) == ()


def test_nothing_wrong(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, reports())
    (finding,) = judge_template(file)
    assert finding.kind == "ok"
    assert finding.have == "jinja2 3.1.6 and llama.cpp b10775"


def test_problems_are_told(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"id": "X003", "severity": "error", "message": "Ollama renders another text"}
    installed(tmp_path, monkeypatch, reports(findings=[*REPORT["findings"], wrong]))
    (finding,) = judge_template(file)
    assert (finding.kind, finding.cause) == ("warning", Cause.TEMPLATE_INVALID)
    assert finding.have == "X003 Ollama renders another text"
    assert finding.remedies[0].do == "ggufdoctor a.gguf"


@pytest.mark.parametrize(
    ("body", "have"),
    [
        ("print('ggufdoctor: no such file', file=sys.stderr); return 2", "no such file"),
        ("Path(sys.argv[3]).write_text('{}'); return 0", "no report"),
        ("raise RuntimeError('odd')", "RuntimeError: odd"),
    ],
)
def test_a_judge_that_fails_is_told(
    body: str, have: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, body)
    (finding,) = judge_template(file)
    assert (finding.kind, finding.cause) == ("warning", Cause.BAD_ANSWER)
    assert have in finding.have


def test_a_judge_that_never_answers(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_judge, "_LIMIT_S", 0.5)
    installed(tmp_path, monkeypatch, "import time; time.sleep(60)")
    (finding,) = judge_template(file)
    assert "within" in finding.have
