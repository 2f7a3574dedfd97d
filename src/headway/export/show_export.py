"""Export on the screen: where it is, how it was compared, and what to type next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from headway.base.errors import Finding, four_parts
from headway.base.units import plural, seconds, size
from headway.export.request import ExportCheck, ExportResult, ExportVerification
from headway.ui.text_layout import fold

# Where the answers are compared: whether Ollama itself was asked, a finding says.
PROGRAMS = {"hf": "transformers", "gguf": "llama.cpp", "ollama": "llama.cpp"}
_LABEL = 12  # columns


def export_lines(result: ExportResult, width: int) -> list[str]:
    """What `headway export` prints.

    Args:
        result: of the export.
        width: columns.
    """
    folder = Path(result.output)
    sizes = {name: (folder / name).stat().st_size for name in result.files}
    rows = [
        ("written", f"{folder} · {plural(len(sizes), 'file')}, {size(sum(sizes.values()))}"),
        *_origin(result),
        ("ends with", " or ".join(f"{t} ({n})" for n, t in result.end_tokens.items()) or "nothing"),
        *_compared(result.verification),
    ]
    lines = [line for label, text in rows for line in _row(label, text, width)]
    for finding in result.findings:
        lines += ["", *finding_lines(finding, width)]
    return [*lines, "", *closing_lines(result, width)]


def finding_lines(finding: Finding, width: int) -> list[str]:
    """A finding in its four parts, with its kind in front."""
    what = f"{finding.kind}: {finding.what}"
    return four_parts(what, finding.have, finding.need, finding.remedies, width)


def closing_lines(result: ExportResult, width: int) -> list[str]:
    """What came of it, and the next line to type."""
    program = PROGRAMS[result.options.to]
    if result.verification is None:
        closing = f"not compared in {program}"
    else:
        closing = f"same answers in {program}: {_numbers(result.verification.checks)}"
    check = f"headway check {shlex.quote(result.output)}"
    return [*fold(closing, width), *([f"  {check}"] if result.options.to == "hf" else [])]


def _origin(result: ExportResult) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if result.base:
        what = "merged in fp32 into" if result.merged else "not merged, for"
        rows.append(("adapters", f"{what} {result.base.name} (weights {result.base.sha256[:12]})"))
    if result.dequantized:
        rows.append(("dequantized", f"from {result.dequantized}"))
    return rows


def _compared(found: ExportVerification | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    rows = [("compared", f"{found.judge} · {seconds(found.seconds)}")]
    return rows + [("", _check_text(check)) for check in found.checks]


def _check_text(check: ExportCheck) -> str:
    if check.measured is None:
        return f"{check.what}: {'same' if check.passed else 'different'}"
    limit = f", limit {check.limit:.2g}" if check.limit is not None else ""
    return f"{check.what}: {check.measured:.2g}{limit}"


def _numbers(checks: Sequence[ExportCheck]) -> str:
    measured = [f"{one.what} {one.measured:.2g}" for one in checks if one.measured is not None]
    return " · ".join(measured[:2]) or plural(len(checks), "check")


def _row(label: str, text: str, width: int) -> list[str]:
    first, *rest = fold(text, width - _LABEL)
    return [f"{label:{_LABEL}}{first}", *(f"{'':{_LABEL}}{line}" for line in rest)]
