"""Machine watch: swapping, pressure, disks, from the kernel's numbers."""

import time
from pathlib import Path

import pytest

from headway.diagnose.evidence import machine_watch
from headway.diagnose.evidence.machine_watch import MachineWatch, pressure

PRESSURE = "some avg10={} avg60=0.87 avg300=0.30 total=123\nfull avg10=0.50 avg60=0.1 total=9\n"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_watch, "cgroup_folders", lambda: [tmp_path / "group"])
    monkeypatch.setattr(machine_watch, "read_gpus", lambda _: ())


def test_pages_that_are_swapped(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 9\npswpin 100\npswpout 10\n")
    watch = MachineWatch((), (), 1.0, tmp_path)
    (tmp_path / "vmstat").write_text("nr_free_pages 9\npswpin 300\npswpout 10\n")
    time.sleep(0.01)
    facts = watch.facts()
    assert facts.swap_in_pages_per_s > 1
    assert facts.swap_out_pages_per_s == 0
    assert facts.memory_bytes > facts.memory_free_bytes > 0


def test_the_greater_pressure_counts_of_the_machine_and_of_its_part(tmp_path: Path) -> None:
    assert pressure("memory", tmp_path) == 0.0
    for folder, name, value in (("pressure", "memory", "1.53"), ("group", "memory.pressure", "40")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(PRESSURE.format(value))
    assert pressure("memory", tmp_path) == 0.4
    (tmp_path / "group" / "memory.pressure").write_text("")
    assert pressure("memory", tmp_path) == pytest.approx(0.0153)
    assert pressure("io", tmp_path) == 0.0


def test_disks_of_folders_that_may_not_exist_yet(tmp_path: Path) -> None:
    watch = MachineWatch((), (tmp_path, tmp_path / "runs" / "new"), 1.0, tmp_path)
    disks, gpus = watch.disks_and_gpus(time.monotonic() + 30)
    assert {disk.path for disk in disks} == {str(tmp_path), str(tmp_path / "runs" / "new")}
    assert all(0 < disk.free_bytes <= disk.total_bytes for disk in disks)
    assert gpus == ()
