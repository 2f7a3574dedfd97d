"""A run's folder may be on a shared disk: its last pulses lie there too."""

from pathlib import Path

import msgspec

from headway.base.pulse import Pulse
from headway.supervise.live_jobs import copy_pulses
from headway.supervise.progress import Readings


def test_the_last_pulses_are_copied_into_the_folder(tmp_path: Path) -> None:
    live, folder = tmp_path / "live", tmp_path / "run"
    live.mkdir()
    folder.mkdir()
    pulse = Pulse(live / "rank-0.pulse")
    pulse.enter("training", total=9, unit="steps")
    copy_pulses(live, folder)
    copied = msgspec.json.decode((folder / "pulse.json").read_bytes(), type=Readings)
    assert copied.workers[0].phase == "training"
    assert copied.workers[0].total == 9
    assert [p.name for p in folder.iterdir()] == ["pulse.json"]


def test_a_folder_that_takes_no_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    copy_pulses(tmp_path, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
