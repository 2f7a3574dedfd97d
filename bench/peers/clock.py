"""When each step ended, what it learned from, and its loss: what every peer writes down."""

import json
import sys
import time
from pathlib import Path
from typing import Any


class Clock:
    """Steps of one run of a peer."""

    def __init__(self) -> None:
        self._ends: list[float] = []  # seconds since 1970
        self._trained: list[int] = []
        self._positions: list[int] = []
        self._losses: list[float] = []
        self._open: list[tuple[int, int, Any]] = []

    def saw(self, trained: Any, positions: int, loss: Any) -> None:
        """A part of the step that is computed now.

        Args:
            trained: tokens with a target; a number or a tensor.
            positions: tokens that ran through the model, padding included.
            loss: this part's share of the step's mean; a number or a tensor.
        """
        self._open.append((trained, positions, loss))

    def step_ended(self) -> None:
        """The update has reached the weights."""
        self.step_ended_at(time.time())

    def step_ended_at(self, end: float) -> None:
        """The same, by a clock of the peer's own.

        Args:
            end: in seconds since any moment.
        """
        self._ends.append(end)
        trained, positions, losses = zip(*self._open, strict=True)
        self._open.clear()
        self._trained.append(int(sum(trained)))
        self._positions.append(sum(positions))
        self._losses.append(sum(float(loss) for loss in losses))

    def write(self, result: Path) -> None:
        """As JSON, with the most memory that this process held so far."""
        told = {
            "ends": self._ends,
            "trained": self._trained,
            "positions": self._positions,
            "losses": self._losses,
            "peak_bytes": _peak_of_this_process(),
        }
        result.write_text(json.dumps(told))


def _peak_of_this_process() -> int:
    """On a GPU, what it held there."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_bytes()


def peak_bytes(process: int | str = "self") -> int:
    """The most memory a process held; getrusage would count its parent's too.

    Raises:
        OSError: there is no such process, or no longer.
    """
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {process} has ended")
