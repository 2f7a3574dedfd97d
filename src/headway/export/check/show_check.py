"""Check on the screen: each finding with its fix, and one closing line."""

from headway.base.errors import four_parts
from headway.base.units import plural
from headway.export.check.request import CheckResult
from headway.ui.text_layout import fold


def check_lines(result: CheckResult, width: int) -> list[str]:
    """What `headway check` prints.

    Args:
        result: of the check.
        width: columns.
    """
    lines: list[str] = []
    for finding in result.findings:
        what = f"{'warning: ' if finding.kind == 'warning' else ''}{finding.what}"
        lines += [*four_parts(what, finding.have, finding.need, finding.remedies, width), ""]
    for text in result.skipped:
        lines += fold(f"not checked: {text}", width)
    return [*lines, *fold(_closing(result), width)]


def _closing(result: CheckResult) -> str:
    num = sum(finding.kind == "refused" for finding in result.findings)
    warnings = len(result.findings) - num
    if num:
        what = plural(num, "problem")
    else:
        what = plural(warnings, "warning") if warnings else "nothing found"
    return " · ".join([f"{result.folder}: {what}", *result.checked])
