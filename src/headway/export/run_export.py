"""Export launcher: the process that reads, writes and compares, and its answer. No torch."""

from collections.abc import Callable
from pathlib import Path

from headway.base.process import ChildProcess
from headway.export.request import ExportRequest, ExportResult
from headway.supervise.request_process import ask_child


def run_export(request: ExportRequest, wait: Callable[[ChildProcess, Path], None]) -> ExportResult:
    """Export in a process of its own.

    Args:
        request: what, and where to.
        wait: called with the process and its pulse, to show what it does.

    Raises:
        Refusal: nothing was written.
        KeyboardInterrupt: Ctrl+C; nothing was written.
    """
    return ask_child("headway.export.worker", request, ExportResult, wait, doing="headway export")
