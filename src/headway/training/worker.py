"""What one trainer process does from start to exit.

    python -m headway.training.worker RUN     train the plan in RUN's folder
    python -m headway.training.worker -       import all, then read a `Go` from standard input
    python -m headway.training.worker - --adapters     and what adapters need, too

The second form is the supervisor's: torch is imported while the plan is still being made.
"""

import gc
import os
import sys
import time
from pathlib import Path

import msgspec

from headway.base.errors import Exit, Refusal, exit_code, message_of
from headway.base.events import Ended, EventLog
from headway.base.process import PULSE_VARIABLE, Go, Stop, end_with_parent, report_refusal
from headway.base.pulse import Phase, Pulse


def main(arguments: list[str]) -> int:
    """The process; what it returns is its exit code."""
    end_with_parent()
    path = os.environ.get(PULSE_VARIABLE)
    pulse = Pulse(Path(path) if path else None)
    with Stop().listening() as stop:
        return _work(arguments, pulse, stop)


def _work(arguments: list[str], pulse: Pulse, stop: Stop) -> int:
    pulse.enter(Phase.IMPORTING_TORCH)
    gc.disable()  # modules stay: looking through them for garbage is a quarter of the imports
    from headway.model.load import warm_up
    from headway.training.calibrate import remember_process
    from headway.training.job import Job

    pulse.enter(Phase.IMPORTING_TRANSFORMERS)
    warm_up(adapters="--adapters" in arguments)
    gc.freeze()
    gc.enable()
    remember_process()  # in time for the plan that is being made meanwhile
    pulse.enter(Phase.STARTING)
    if arguments[0] == "-":
        with pulse.waiting("the plan"):
            line = sys.stdin.buffer.readline()
        if not line:
            return Exit.KEPT  # nothing for us to do: refused, or done already
        go = msgspec.json.decode(line, type=Go)
    else:
        go = Go(arguments[0], 1, time.monotonic())
    log = EventLog(Path(go.run) / "events.jsonl", go.attempt, rank=0, began_s=go.began_s)
    try:
        return Job(Path(go.run), log, pulse, stop, go.attempt).run()
    except Refusal as refusal:
        finding = message_of(refusal).findings[0]
        try:
            log.write(Ended("failed", int(exit_code(refusal)), finding.what, finding))
        except Refusal:  # where the log lies on the disk that is full
            report_refusal(refusal)
        return exit_code(refusal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
