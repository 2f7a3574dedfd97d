"""What holds training back, the first reason first."""

from datetime import time
from pathlib import Path

import pytest

from headway.diagnose.evidence.facts import GpuFacts
from headway.inbox.folder import InboxFolder
from headway.inbox.neighbor.gpu_room import GpuRoom, RoomRules
from headway.inbox.neighbor.held_back import HeldBack
from headway.inbox.neighbor.hours import read_hours

FULL = GpuFacts(0, "card", 0.5, 80, 80, (7, 100))
ROOM = GpuRoom(RoomRules(gives_way=True), lambda: (FULL,), lambda: {100})


@pytest.mark.parametrize(
    ("is_paused", "hours", "room", "why"),
    [
        (False, "", None, ""),
        (False, "9-17", None, ""),
        (True, "", None, "headway inbox resume continues"),
        (False, "22:00-07:00", None, "trains between 22:00-07:00"),
        (False, "9-17", ROOM, "1 other program on GPU 0"),
        (False, "22:00-07:00", ROOM, "trains between 22:00-07:00"),
        (True, "22:00-07:00", ROOM, "headway inbox resume continues"),
    ],
)
@pytest.mark.parametrize("is_training", [True, False])
def test_why_nothing_is_trained(
    tmp_path: Path,
    is_paused: bool,
    hours: str,
    room: GpuRoom | None,
    why: str,
    is_training: bool,
) -> None:
    inbox = InboxFolder(tmp_path)
    inbox.state.mkdir()
    if is_paused:
        inbox.paused.touch()
    held = HeldBack(inbox, read_hours(hours) if hours else None, room, lambda: time(12, 0))
    assert held.why(0.0, is_training=is_training) == why
