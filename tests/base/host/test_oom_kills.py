"""The out-of-memory killer's own count, of control groups and of the machine."""

from pathlib import Path

import pytest

from headway.base.host import oom_kills


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A control group and the one above it, without files; the machine has counted 70."""
    folders = [tmp_path / "above" / "own", tmp_path / "above"]
    folders[0].mkdir(parents=True)
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 70\n")
    monkeypatch.setattr(oom_kills, "cgroup_folders", lambda: folders)
    monkeypatch.setattr(oom_kills, "_VMSTAT", tmp_path / "vmstat")
    return folders


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory.events", "low 0\noom 1\noom_kill 3\noom_group_kill 0\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
    ],
)
def test_a_control_group_counts_its_own(groups: list[Path], name: str, text: str) -> None:
    (groups[0] / name).write_text(text)
    (groups[1] / name).write_text("oom_kill 9\n")
    assert oom_kills.count_oom_kills() == 3


def test_without_control_groups_the_machine_counts(groups: list[Path]) -> None:
    assert oom_kills.count_oom_kills() == 70


def test_where_nothing_counts_nothing_is_known(groups: list[Path], tmp_path: Path) -> None:
    (tmp_path / "vmstat").unlink()
    (groups[0] / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert oom_kills.count_oom_kills() is None
