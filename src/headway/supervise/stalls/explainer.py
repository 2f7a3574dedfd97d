"""Explainer: the cause of a silence, looked for in a thread while the supervisor watches on."""

import contextlib
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.base.errors import Cause, Finding, Remedy
from headway.base.pulse import PulseReading
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause


@dataclass(frozen=True)
class Question:
    """Why a job is not making progress.

    Attributes:
        pids: its processes, the one that is to blame first.
        roles: what they are in the job, by pid.
        pulses: their last ones.
        folders: that matter to it: their disks are looked at.
        silent_s: how long it has shown nothing new.
        missing: ranks that are gone.
        file: gets everything that was seen, unless patience is what helps; None: nothing is kept.
    """

    pids: tuple[int, ...]
    roles: Mapping[int, str] = field(default_factory=dict[int, str])
    pulses: tuple[PulseReading, ...] = ()
    folders: tuple[Path, ...] = ()
    silent_s: float = 0.0
    missing: tuple[int, ...] = ()
    file: Path | None = None


@dataclass(frozen=True)
class Explanation:
    """A diagnosis.

    Attributes:
        diagnosis: why, and what helps.
        file: the name of the file with all that was seen; "" if none was written.
    """

    diagnosis: Diagnosis
    file: str = ""


class Explainer:
    """Answers one question at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[Explanation] = queue.SimpleQueue()
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        """Whether a question has not been answered, or its answer not taken."""
        return self._is_busy

    def ask(self, question: Question) -> None:
        """Begin to look for the cause; nothing while it still does for another question."""
        if not self._is_busy:
            self._is_busy = True
            threading.Thread(target=self._answer, args=(question,), daemon=True).start()

    def take(self) -> Explanation | None:
        """The answer to the last question, once it is there."""
        with contextlib.suppress(queue.Empty):
            answer = self._answers.get_nowait()
            self._is_busy = False
            return answer
        return None

    def _answer(self, question: Question) -> None:
        try:
            answer = answer_to(question)
        except Exception as error:  # a run is not ended by what explains it
            answer = Explanation(_unexplained(question, f"{type(error).__name__}: {error}"))
        self._answers.put(answer)


def answer_to(question: Question) -> Explanation:
    """Look at the processes, find the cause and keep what was seen."""
    from headway.diagnose.examine import examine  # here: most runs never stall
    from headway.diagnose.explain import explain
    from headway.diagnose.report import report_text

    evidence = examine(
        question.pids,
        roles=question.roles,
        pulses=question.pulses,
        folders=question.folders,
        silent_s=question.silent_s,
        missing=question.missing,
    )
    diagnosis = explain(evidence)
    if question.file is None or diagnosis.helps is Helps.PATIENCE:
        return Explanation(diagnosis)
    try:
        question.file.write_text(report_text(evidence, diagnosis), encoding="utf-8")
    except OSError:  # the disk that is full may be the cause
        return Explanation(diagnosis)
    return Explanation(diagnosis, question.file.name)


def _unexplained(question: Question, why: str) -> Diagnosis:
    finding = Finding(
        "warning",
        f"no progress for {question.silent_s:.0f} s, for an unknown reason",
        have=f"the processes could not be looked at: {why}",
        need="a process that makes progress",
        remedies=(Remedy(f"headway diagnose --pid {question.pids[0]}", "looks once more"),),
        cause=Cause.STALLED,
    )
    return Diagnosis(StallCause.UNKNOWN, finding, Helps.RESTART)
