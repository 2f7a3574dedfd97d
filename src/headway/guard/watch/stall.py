"""Stall of a command: whether a silence is one, why, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence, ThreadFacts
from headway.diagnose.evidence.frames import own_frame

# What a command may do for as long as it wants to: reported, but not called a stall.
_GETS_ON = frozenset(
    {
        StallCause.HEALTHY,
        StallCause.COMPUTING,
        StallCause.COMPILING,
        StallCause.BUSY_MACHINE,
        StallCause.CPU_QUOTA,
        StallCause.TOO_MANY_THREADS,
    }
)
# What stops a command although a processor is busy.
_IN_SPITE_OF_WORK = frozenset(
    {
        StallCause.GIL_HELD,
        StallCause.DEADLOCK,
        StallCause.RANK_DEAD,
        StallCause.COLLECTIVE,
        StallCause.LOADER_DEAD,
        StallCause.LOADER_FROZEN,
        StallCause.TOKENIZER,
        StallCause.THREADS_SPIN,
        StallCause.DISK_FULL,
        StallCause.STOPPED,
    }
)


@dataclass(frozen=True)
class Look:
    """What a close look at a silent command showed.

    Attributes:
        diagnosis: why it is not making progress.
        text: all that was seen.
        where: the function that computes or waits, "" if that is not known.
        gpu_busy: share of the time in which a GPU of the command computed.
    """

    diagnosis: Diagnosis
    text: str
    where: str = ""
    gpu_busy: float = 0.0

    def is_stall(self, *, is_idle: bool) -> bool:
        """Whether it is stuck and will not free itself.

        Args:
            is_idle: whether its processes did nothing for as long as it has been silent.
        """
        cause = self.diagnosis.cause
        if cause in _GETS_ON or self.gpu_busy >= 0.05:
            return False
        return cause in _IN_SPITE_OF_WORK or (is_idle and self.diagnosis.helps != Helps.PATIENCE)

    @property
    def is_worth_telling(self) -> bool:
        """Whether the cause says more than that it makes progress."""
        return self.diagnosis.cause not in (StallCause.HEALTHY, StallCause.COMPUTING)


def look_closely(pids: Sequence[int], folders: Sequence[Path], silent_s: float) -> Look:
    """Examine a command and explain it; takes up to two seconds."""
    # here: nothing of this is needed as long as a command makes progress
    from headway.diagnose.examine import examine
    from headway.diagnose.explain import explain
    from headway.diagnose.report import report_text

    evidence = examine(pids, folders=folders, silent_s=silent_s)
    diagnosis = explain(evidence)
    text = report_text(evidence, diagnosis)
    return Look(diagnosis, text, busy_function(evidence), _gpu_busy(evidence))


def busy_function(evidence: Evidence) -> str:
    """The function of the thread that uses the most of a processor: "matmul (train.py:12)"."""
    threads = [thread for process in evidence.processes for thread in process.threads]
    known = [thread for thread in threads if own_frame(thread.frames)]
    if not known:
        return ""
    busiest = max(known, key=_busy)
    frame = own_frame(busiest.frames)
    assert frame is not None, "chosen for having one"
    return f"{frame.function} ({PurePath(frame.file).name}:{frame.line})"


def _busy(thread: ThreadFacts) -> float:
    return thread.cpu


def _gpu_busy(evidence: Evidence) -> float:
    """Of the GPUs that the command uses."""
    pids = {process.pid for process in evidence.processes}
    return max((gpu.busy for gpu in evidence.machine.gpus if pids & set(gpu.pids)), default=0.0)
