"""Export process: opens the source, writes it for its target, compares, and gives it its name."""

import sys
from pathlib import Path

from headway.base.foreign.imports import quick_imports
from headway.base.host.child_main import answer_request, run_child
from headway.base.pulse import Phase, Pulse
from headway.export.request import ExportRequest, ExportResult


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    return answer_request(arguments, ExportRequest, _export)


def _export(request: ExportRequest, path: Path | None) -> ExportResult:
    pulse = Pulse(path)
    with quick_imports():
        with pulse.importing(Phase.IMPORTING_TORCH):
            from headway.export.export import export
            from headway.model.load import warm_up
        with pulse.importing(Phase.IMPORTING_TRANSFORMERS):
            warm_up(adapters=False)  # the first model of any target needs it
    pulse.enter(Phase.LOOKING_UP_MODEL)
    return export(request, pulse)


if __name__ == "__main__":
    sys.exit(run_child(main))
