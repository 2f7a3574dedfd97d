"""Export process: opens the source, writes it for its target, compares, and gives it its name."""

import os
import sys
from pathlib import Path

import msgspec

from headway.base.errors import Refusal, exit_code
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import PULSE_VARIABLE, report_refusal, send_answer
from headway.base.pulse import Phase, Pulse
from headway.export.request import ExportRequest


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    end_with_parent()
    request = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=ExportRequest)
    path = os.environ.get(PULSE_VARIABLE)
    pulse = Pulse(Path(path) if path else None)
    try:
        with pulse.importing(Phase.IMPORTING_TORCH):
            from headway.export.export import export
        pulse.enter(Phase.LOOKING_UP_MODEL)
        send_answer(export(request, pulse))
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    return 0


if __name__ == "__main__":
    sys.exit(run_child(main))
