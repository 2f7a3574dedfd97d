"""What the daemon does now, as it is noted and read."""

from pathlib import Path

from headway.inbox.notices import DaemonState, read_activity, write_activity


def test_what_is_noted_is_read(tmp_path: Path) -> None:
    assert read_activity(tmp_path / "daemon.json") is None
    write_activity(tmp_path / "daemon.json", DaemonState.PAUSED, "why")
    found = read_activity(tmp_path / "daemon.json")
    assert found is not None
    assert (found.state, found.why) == (DaemonState.PAUSED, "why")
    assert found.since.endswith("+00:00")
    (tmp_path / "daemon.json").write_text("{")
    assert read_activity(tmp_path / "daemon.json") is None
