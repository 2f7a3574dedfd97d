"""What holds training back: a pause, the hours of the day, and the room on the GPU."""

from collections.abc import Callable
from datetime import time

from headway.inbox.folder import InboxFolder
from headway.inbox.neighbor.gpu_room import GpuRoom
from headway.inbox.neighbor.hours import Hours, local_time


class HeldBack:
    """Whether something may be trained now.

    Args:
        inbox: may be paused.
        hours: of the day in which it trains; None: at any time.
        room: on the GPU; None: it does not matter.
        wall_time: of the clock on the wall.
    """

    def __init__(
        self,
        inbox: InboxFolder,
        hours: Hours | None = None,
        room: GpuRoom | None = None,
        wall_time: Callable[[], time] = local_time,
    ) -> None:
        self._inbox, self._hours, self._room, self._wall_time = inbox, hours, room, wall_time

    def why(self, now_s: float, *, is_training: bool) -> str:
        """Why nothing may be trained now; "" if something may.

        Args:
            now_s: monotonic.
            is_training: a file is being trained, and would be saved.
        """
        if self._inbox.paused.exists():
            return "headway inbox resume continues"
        if self._hours and self._wall_time() not in self._hours:
            return f"trains between {self._hours}"
        return self._room.why_not(now_s, is_training=is_training) if self._room else ""
