"""GPU room: whether there is memory to train beside the other programs that use a GPU.

The driver is asked, not torch: the daemon has none, and a process that opens a GPU takes memory.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from headway.base.units import plural, size
from headway.diagnose.evidence.facts import GpuFacts
from headway.diagnose.evidence.gpus import read_gpus

CLEAR_S = 30.0  # for how long there must be room before training continues
_LOOK_S, _ANSWER_S = 5.0, 10.0  # between two questions to the driver; for its answer

Gpus = tuple[GpuFacts, ...]


@dataclass(frozen=True)
class RoomRules:
    """What has to be so for training.

    Attributes:
        needed: free bytes on some GPU before a file is begun; 0: any number.
        gives_way: training also stops, saved, while other programs compute on every GPU.
    """

    needed: int = 0
    gives_way: bool = False

    def __bool__(self) -> bool:
        return bool(self.needed or self.gives_way)


class GpuRoom:
    """Whether there is room on the GPUs.

    Args:
        rules: what has to be so.
        probe: how the GPUs are used now; none if nobody can tell.
        own: the processes of this program.
    """

    def __init__(
        self, rules: RoomRules, probe: Callable[[], Gpus], own: Callable[[], set[int]]
    ) -> None:
        self._rules, self._probe, self._own = rules, probe, own
        self._full_s: float | None = None  # when there was last no room

    def why_not(self, now_s: float, *, is_training: bool) -> str:
        """Why nothing may be trained now; "" if something may.

        Args:
            now_s: monotonic.
            is_training: a file is being trained: it has its memory, and may have to give way.
        """
        if not self._rules:
            return ""
        why = no_room(self._rules, self._probe(), self._own(), is_training=is_training)
        if why:
            self._full_s = now_s
        elif not is_training and self._full_s is not None and now_s - self._full_s < CLEAR_S:
            return "the GPU became free just now"
        return why


def no_room(rules: RoomRules, gpus: Gpus, own: set[int], *, is_training: bool) -> str:
    """Why there is no room on any GPU; "" if there is, or nobody can tell.

    Args:
        rules: what has to be so.
        gpus: how they are used.
        own: processes that are ours.
        is_training: its own use of memory is no reason to stop.
    """
    if is_training and not any(own & set(gpu.pids) for gpu in gpus):
        return ""  # in a container, the driver may know our processes by other numbers
    reasons: list[str] = []
    for gpu in gpus:
        num_others = len(set(gpu.pids) - own)
        free = gpu.memory_total_bytes - gpu.memory_used_bytes
        if rules.gives_way and num_others:
            reasons.append(f"{plural(num_others, 'other program')} on GPU {gpu.index}")
        elif not is_training and free < rules.needed:
            reasons.append(f"{size(free)} free on GPU {gpu.index}, {size(rules.needed)} wanted")
        else:
            return ""
    return reasons[0] if reasons else ""


def own_processes() -> set[int]:
    """The numbers of this process and of its descendants."""
    mine = psutil.Process()
    return {mine.pid, *(one.pid for one in mine.children(recursive=True))}


class GpuProbe:
    """Asks the driver now and then, in a thread: it may take seconds to answer, or never answer.

    Args:
        read: asks it once.
        sleep: between two questions.
    """

    def __init__(
        self,
        read: Callable[[float], Gpus] = read_gpus,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read, self._sleep = read, sleep
        self._gpus = read(_ANSWER_S)
        if self._gpus:
            threading.Thread(target=self._ask, name="gpus", daemon=True).start()

    def __call__(self) -> Gpus:
        """The last answer; none if there is no GPU."""
        return self._gpus

    def _ask(self) -> None:
        while True:
            self._sleep(_LOOK_S)
            # A driver that does not answer tells nothing: the last answer holds.
            self._gpus = self._read(_ANSWER_S) or self._gpus
