"""Reading ahead: what is asked for, when, and that nothing of it stays."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers import plan_of, settings, text_store
from tests.runs.folders import made

from headway.inbox.arriving.read_ahead import ReadAhead
from headway.supervise.planner import PlanRequest


class Started:
    """Starts a process that sleeps, and keeps what it would have read."""

    def __init__(self) -> None:
        self.requests: list[PlanRequest] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.files: list[Path] = []

    def spawn(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        module, file, option, self.read = command[3:]
        assert (module, option) == ("headway.supervise.planner", "--ahead")
        self.files.append(Path(file))
        self.requests.append(msgspec.json.decode(self.files[-1].read_bytes(), type=PlanRequest))
        self.processes.append(subprocess.Popen[bytes](["sleep", "600"], **options))
        return self.processes[-1]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    plan = plan_of(text_store(tmp_path / "store", 200), max_length=16, batch_size=4)
    made(tmp_path / "runs" / "0001-a", plan)
    return tmp_path / "runs"


def test_the_next_file_is_read_under_the_name_that_it_will_have(runs: Path, runtime: Path) -> None:
    started = Started()
    asked = settings(output_dir=str(runs), continue_run=str(runs / "0001-a"))
    ahead = ReadAhead("/inbox/b.txt", Path("/inbox/processing"), asked, (), started.spawn)
    for _ in range(2):  # new workers took the place of others
        ahead.start()
    (request,) = started.requests
    assert request.sources == ("/inbox/b.txt",)
    assert request.name == "/inbox/processing/b.txt"
    assert request.settings.max_length == 16  # of the run that is continued
    assert not request.train
    assert started.processes[0].poll() is None
    ahead.close()
    assert started.processes[0].wait(60) < 0
    assert not started.files[0].parent.exists()


def test_its_process_plans_the_file_once_it_has_read_it(runs: Path, runtime: Path) -> None:
    started = Started()
    asked = settings(output_dir=str(runs), continue_run=str(runs / "0001-a"))
    ahead = ReadAhead("/inbox/b.txt", Path("/inbox/processing"), asked, (), started.spawn)
    turn = "/inbox/processing/b.txt", Path("/live/request.json"), Path("/live/planner.pulse")
    assert ahead.planner_of(*turn) is None  # it has not started
    ahead.start()
    assert ahead.planner_of(*turn) is None  # it still reads
    Path(started.read).touch()
    assert ahead.planner_of("/inbox/processing/c.txt", *turn[1:]) is None
    found = ahead.planner_of(*turn)
    assert found is not None
    assert found.pid == started.processes[0].pid
    started.processes[0].kill()
    started.processes[0].wait(60)
    assert ahead.planner_of(*turn) is None
    ahead.close()


def test_nothing_is_read_without_a_file_a_model_or_a_plan(runs: Path, runtime: Path) -> None:
    started = Started()
    first = settings(output_dir=str(runs), preset="tiny")
    later = settings(output_dir=str(runs), continue_run=str(runs / "0001-a"))
    gone = settings(output_dir=str(runs), continue_run=str(runs / "0009-x"))
    for source, asked in (("", later), ("/inbox/b.txt", first), ("/inbox/b.txt", gone)):
        ahead = ReadAhead(source, Path("/inbox/processing"), asked, (), started.spawn)
        ahead.start()
        ahead.close()
    assert started.requests == []


def test_a_process_that_cannot_be_started_hurts_nobody(runs: Path, runtime: Path) -> None:
    def spawn(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "no more processes")

    asked = settings(output_dir=str(runs), continue_run=str(runs / "0001-a"))
    ahead = ReadAhead("/inbox/b.txt", Path("/inbox/processing"), asked, (), spawn)
    ahead.start()
    ahead.close()
