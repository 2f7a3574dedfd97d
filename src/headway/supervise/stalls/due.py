"""Due stalls: what a watch knows, and which processes have been silent for too long."""

from dataclasses import dataclass, replace
from pathlib import Path

from headway.base.errors import Cause, Exit, Finding, Refusal, RefusalMessage, refusal_from
from headway.base.units import seconds
from headway.diagnose.diagnosis import Diagnosis
from headway.runs.workers import OnStall
from headway.supervise.stalls.policy import Act
from headway.supervise.stalls.silence import StuckWorker


@dataclass(frozen=True)
class StallRules:
    """What the watch of a job goes by.

    Attributes:
        on_stall: what is done about a process that is past its patience.
        run: the run's folder; None before there is one.
        about: what the times of phases depend on, in one text.
        ends_waits: whether something is done about a wait, too.
    """

    on_stall: OnStall = "restart"
    run: Path | None = None
    about: str = ""
    ends_waits: bool = True


@dataclass(frozen=True)
class Due:
    """A worker that is past its patience, and what is done about it.

    Attributes:
        worker: which one, and for how long.
        act: restart or stop.
        diagnosis: why it is not making progress.
        is_stopped: it was frozen by SIGSTOP.
        lacks_rows: it waits for rows, and what keeps them is no stall of ours.
    """

    worker: StuckWorker
    act: Act
    diagnosis: Diagnosis
    is_stopped: bool = False
    lacks_rows: bool = False

    @property
    def by(self) -> str:
        """Who asks for the stop, as people call it."""
        return "missing rows" if self.lacks_rows else "a stall"

    @property
    def finding(self) -> Finding:
        """Why a run ends because of it."""
        found, silent = self.diagnosis.finding, seconds(self.worker.silent_s)
        have = (
            f"{found.have}\nno progress for {silent}" if found.have else f"no progress for {silent}"
        )
        return replace(found, kind="refused", have=have, cause=found.cause or Cause.STALLED)

    @property
    def exit_code(self) -> Exit:
        """What a run ends with because of it."""
        return self.diagnosis.exit_code

    def refusal(self) -> Refusal:
        """The same as an error."""
        return refusal_from(RefusalMessage(int(self.exit_code), (self.finding,)))
