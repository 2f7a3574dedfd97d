"""Second judge of a chat template: ggufdoctor, if it is installed.

It renders ten conversations with jinja2 and with llama.cpp's engine, tool calls among them, and
knows which templates Ollama replaces by its own. What it finds is told, and refuses nothing: it
does not know what the model was trained on.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from headway.base.errors import Cause, Finding, Remedy

PACKAGE = "ggufdoctor"
_LIMIT_S = 120.0
_SHOWN = 3  # problems
_SHOWN_CHARACTERS = 300
_RUN = f"import sys; from {PACKAGE}.cli import main; sys.exit(main())"


class _Problem(msgspec.Struct):
    id: str
    severity: str
    message: str


class _Engine(msgspec.Struct):
    name: str
    version: str


class _Report(msgspec.Struct):
    tool_version: str
    findings: list[_Problem]
    engines: list[_Engine]


def judge_template(file: Path) -> tuple[Finding, ...]:
    """What it says about the template in a GGUF file; nothing if it is not installed.

    Args:
        file: GGUF, with a chat template.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return ()
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-P", "-c", _RUN, str(file.resolve())]
        command += ["--json", str(report), "--fail-on", "never"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return (_not_judged(f"no answer within {_LIMIT_S:.0f} s"),)
        try:
            found = msgspec.json.decode(report.read_bytes(), type=_Report)
        except (OSError, msgspec.MsgspecError):
            said = " ".join((done.stderr or done.stdout).split())[-_SHOWN_CHARACTERS:]
            return (_not_judged(said or "no report"),)
    return (_finding(file, found),)


def _finding(file: Path, report: _Report) -> Finding:
    judge = f"{PACKAGE} {report.tool_version}"
    wrong = [one for one in report.findings if one.severity in ("error", "warn")]
    if not wrong:
        engines = " and ".join(f"{one.name} {one.version}" for one in report.engines)
        return Finding("ok", f"{judge} finds nothing wrong with the chat template", have=engines)
    return Finding(
        "warning",
        f"{judge} finds {len(wrong)} problems in the chat template",
        have="; ".join(f"{one.id} {one.message}" for one in wrong[:_SHOWN])[:_SHOWN_CHARACTERS],
        need="a template that programs render alike; it is the model's own, unchanged",
        remedies=(Remedy(f"{PACKAGE} {file.name}", "all of it, in the folder of the file"),),
        cause=Cause.TEMPLATE_INVALID,
    )


def _not_judged(why: str) -> Finding:
    return Finding(
        "warning",
        f"{PACKAGE} did not judge the chat template",
        have=why,
        need="its report",
        remedies=(Remedy(f"pip install -U {PACKAGE}", "its newest version"),),
        cause=Cause.BAD_ANSWER,
    )
