import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from tests.ui.fixtures import conversations_plan, receipt, step_done

from headway.base.errors import UsageError
from headway.base.events import AttemptStarted, Ended, Event, EventLog
from headway.base.lock import Owner, RunLock
from headway.base.process_id import ProcessId
from headway.base.pulse import Pulse
from headway.runs.watched.watched_run import WatchedRun
from headway.supervise.live import live_jobs as jobs
from headway.supervise.live.live_jobs import LiveJob
from headway.supervise.live.runtime_folder import LiveFolder
from headway.supervise.progress import Readings


@pytest.fixture(autouse=True)
def live(runtime: Path) -> Iterator[Path]:
    """The live folder of this process."""
    with LiveFolder() as folder:
        yield folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def make_job(runs: Path, live: Path, run: str = "", *, started: str = "10:00") -> LiveJob:
    folder, argv = str(runs / run) if run else "", ("headway", "train")
    return LiveJob(run, folder, str(runs), argv, ProcessId.mine(), str(live), started)


def make_run(runs: Path, name: str, *events: Event, age_s: float = 0.0) -> Path:
    folder = runs / name
    folder.mkdir()
    conversations_plan().save(folder)
    log = EventLog(folder / "events.jsonl")
    for event in (AttemptStarted(name, "0.1.0", 4242, 2488, ""), *events):
        log.write(event)
    changed = (folder / "events.jsonl").stat().st_mtime - age_s
    os.utime(folder / "events.jsonl", (changed, changed))
    return folder


@contextmanager
def living(folder: Path, live: Path) -> Iterator[Pulse]:
    """Hold the run's lock and beat as its worker."""
    with RunLock(folder / "run.lock", str(live)):
        yield Pulse(live / "rank-0.pulse")


def test_a_published_job_is_live(runs: Path, live: Path) -> None:
    assert jobs.live_jobs() == []
    job = make_job(runs, live)
    job.publish()
    assert jobs.live_jobs() == [job]


def test_live_jobs_come_newest_first(runs: Path, live: Path) -> None:
    with LiveFolder() as other:
        make_job(runs, live, started="10:00").publish()
        make_job(runs, other, started="11:00").publish()
        assert [job.started_at for job in jobs.live_jobs()] == ["11:00", "10:00"]


def test_a_job_that_is_still_being_written_is_left_alone(live: Path) -> None:
    (live / "job.json").write_bytes(b'{"run": "no')
    assert jobs.live_jobs() == []
    assert live.exists()


def test_whose_a_job_is_says_its_folder_not_its_file(runs: Path, live: Path) -> None:
    forged = ProcessId(os.getppid(), 1)
    replace(make_job(runs, live), process=forged).publish()
    assert [job.process for job in jobs.live_jobs()] == [ProcessId.mine()]


def test_a_planner_that_has_ended_has_nothing_more_to_say(tmp_path: Path, dead_pid: int) -> None:
    Pulse(tmp_path / "planner.pulse").enter("reading")
    Pulse(tmp_path / "rank-1.pulse", rank=1)
    Pulse(tmp_path / "rank-0.pulse")
    readings = jobs.read_pulses(tmp_path)
    assert readings.planner is not None
    assert readings.planner.phase == "reading"
    assert [reading.rank for reading in readings.workers] == [0, 1]
    raw = bytearray((tmp_path / "planner.pulse").read_bytes())
    raw[16:20] = dead_pid.to_bytes(4, "little")  # where the record has the process
    (tmp_path / "planner.pulse").write_bytes(raw)
    assert jobs.read_pulses(tmp_path).planner is None


def test_a_live_run_is_told_from_its_pulses(runs: Path, live: Path) -> None:
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    with (
        living(folder, live) as pulse,
        pulse.phase("training"),
        pulse.waiting("the rows of step 4"),
    ):
        status = jobs.find_status("support-b", runs)
    assert (status.run, status.state, status.waiting_for) == (
        "support-b",
        "training",
        "the rows of step 4",
    )
    assert (status.step, status.steps, status.target_global_step) == (3, 2488, 4976)


def test_a_job_without_a_folder_is_found_while_it_plans(runs: Path, live: Path) -> None:
    make_run(runs, "older")
    make_job(runs, live).publish()
    Pulse(live / "planner.pulse").enter("reading")
    status = jobs.find_status(None, runs)
    assert (status.state, status.phase, status.folder) == ("planning", "reading", "")


def test_a_job_that_plans_into_an_old_folder_is_not_told_from_its_old_log(
    runs: Path, live: Path
) -> None:
    folder = make_run(runs, "support-b", Ended("interrupted", 130, "kept"))
    (folder / "run.lock").write_text('{"pid": 4242, "host": "here", "live": "/nowhere"}')
    make_job(runs, live, "support-b").publish()
    Pulse(live / "planner.pulse").enter("reading")
    assert jobs.find_status("support-b", runs).state == "planning"


def test_another_folders_job_is_not_meant(runs: Path, live: Path, tmp_path: Path) -> None:
    make_run(runs, "older", Ended("finished", 0, "kept"))
    make_job(tmp_path / "elsewhere", live, "notes").publish()
    assert jobs.find_status(None, runs).run == "older"


def test_a_folder_says_which_run_is_meant(runs: Path, tmp_path: Path) -> None:
    folder = make_run(runs, "support-b", Ended("finished", 0, "kept: 2,488 of 2,488 steps"))
    status = jobs.find_status(str(folder), tmp_path / "nowhere")
    assert (status.state, status.line) == ("finished", "kept: 2,488 of 2,488 steps")


def test_a_run_whose_owner_was_killed_died(runs: Path) -> None:
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    (folder / "run.lock").write_text('{"pid": 4242, "host": "here", "live": "/nowhere"}')
    assert jobs.find_status("support-b", runs).state == "died"


@pytest.mark.parametrize(
    ("by", "said"), [("guard", "headway guard was killed"), ("callback", "its own checkpoint")]
)
def test_a_watched_run_that_died_is_not_resumed_by_us(
    runs: Path, by: Literal["guard", "callback"], said: str
) -> None:
    folder = make_run(runs, "support-b", step_done(3))
    (folder / "plan.json").unlink()
    WatchedRun("support-b", by, "python train.py").save(folder)
    status = jobs.find_status("support-b", runs)
    assert (status.state, said in status.line) == ("died", True)


def test_a_run_killed_after_its_receipt_had_done_its_work(runs: Path) -> None:
    folder = make_run(runs, "support-b", step_done(2488, first=2488))
    receipt(attempts=1).save(folder)
    status = jobs.find_status("support-b", runs)
    assert (status.state, status.line, status.skipped) == ("finished", receipt().line, 12)


def test_a_run_whose_log_was_deleted_is_what_its_receipt_says(runs: Path) -> None:
    folder = make_run(runs, "support-b", step_done(2488, first=2488))
    receipt().save(folder)
    (folder / "events.jsonl").unlink()
    status = jobs.find_status("support-b", runs)
    assert (status.state, status.step) == ("finished", receipt().steps.applied)
    assert "events.jsonl, was deleted" in status.line


def test_the_receipt_of_an_earlier_attempt_proves_nothing(runs: Path) -> None:
    folder = make_run(runs, "support-b")
    receipt(attempts=2).save(folder)
    assert jobs.find_status("support-b", runs).state == "died"


def test_all_runs_are_listed_the_live_one_first(runs: Path, live: Path) -> None:
    make_run(runs, "newest", Ended("finished", 0, "kept"))
    make_run(runs, "oldest", Ended("finished", 0, "kept"), age_s=200)
    folder = make_run(runs, "alive", age_s=100)
    make_job(runs, live, "alive").publish()
    with living(folder, live):
        statuses = jobs.all_statuses(runs)
    assert [(s.run, s.state) for s in statuses] == [
        ("alive", "starting"),
        ("newest", "finished"),
        ("oldest", "finished"),
    ]


def test_an_unknown_name_is_told_with_the_nearest(runs: Path) -> None:
    make_run(runs, "support-b")
    with pytest.raises(UsageError) as told:
        jobs.find_status("suport-b", runs)
    assert "suport-b" in told.value.what
    assert [remedy.do for remedy in told.value.remedies] == ["support-b"]


def test_where_there_is_no_run_at_all_it_says_how_to_make_one(runs: Path) -> None:
    with pytest.raises(UsageError) as told:
        jobs.find_status(None, runs)
    assert told.value.remedies[0].do == "headway demo"


def test_the_last_pulses_are_copied_into_the_folder(tmp_path: Path) -> None:
    live, folder = tmp_path / "pulses", tmp_path / "run"
    live.mkdir()
    folder.mkdir()
    pulse = Pulse(live / "rank-0.pulse")
    pulse.enter("training", total=9, unit="steps")
    jobs.copy_pulses(live, folder)
    copied = msgspec.json.decode((folder / "pulse.json").read_bytes(), type=Readings)
    assert copied.workers[0].phase == "training"
    assert copied.workers[0].total == 9
    assert [p.name for p in folder.iterdir()] == ["pulse.json"]


def test_a_folder_that_takes_no_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    jobs.copy_pulses(tmp_path, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


# -- which process


def test_the_process_of_a_live_job_is_found(runs: Path, live: Path) -> None:
    make_job(runs, live).publish()
    Pulse(live / "planner.pulse")
    assert jobs.find_process(jobs.find_status(None, runs)) == ProcessId.mine()


def test_the_process_of_a_run_is_the_one_that_holds_its_lock(runs: Path, live: Path) -> None:
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    with living(folder, live):
        assert jobs.find_process(jobs.find_status("support-b", runs)) == ProcessId.mine()
    assert jobs.find_process(jobs.find_status("support-b", runs)) is None


def test_a_lock_that_names_another_process_finds_none(runs: Path, live: Path) -> None:
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    with living(folder, live):
        stranger = ProcessId.of(os.getppid())
        assert stranger is not None
        forged = Owner(stranger.pid, socket.gethostname(), str(live), stranger.started)
        (folder / "run.lock").write_bytes(msgspec.json.encode(forged))
        with pytest.raises(UsageError, match="cannot tell which process") as refused:
            jobs.find_process(jobs.find_status("support-b", runs))
    assert str(stranger.pid) in refused.value.have


def test_pulses_are_read_from_live_folders_of_this_user_only(
    runs: Path, live: Path, tmp_path: Path
) -> None:
    """A lock file may name any folder; what is in it may be anything."""
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    (tmp_path / "theirs").mkdir()
    Pulse(tmp_path / "theirs" / "rank-0.pulse").enter("forged")
    with RunLock(folder / "run.lock", str(tmp_path / "theirs")):
        assert jobs.find_status("support-b", runs).phase != "forged"


def beat_as(path: Path, pid: int, rank: int = 0) -> None:
    """A pulse that some other process wrote."""
    Pulse(path, rank=rank).enter("training")
    raw = bytearray(path.read_bytes())
    raw[16:20] = pid.to_bytes(4, "little")  # where the record has the process
    path.write_bytes(raw)


def test_the_processes_of_a_run_have_roles(runs: Path, live: Path, dead_pid: int) -> None:
    folder = make_run(runs, "support-b", step_done(3, first=2488))
    make_job(runs, live, "support-b").publish()
    with living(folder, live):
        beat_as(live / "rank-0.pulse", 1)
        beat_as(live / "rank-1.pulse", dead_pid, rank=1)
        found = jobs.job_processes(jobs.find_status("support-b", runs))
        assert found.roles == {os.getpid(): "supervisor", 1: "worker 0", dead_pid: "worker 1"}
        assert [pulse.pid for pulse in found.pulses] == [1, dead_pid]
        assert found.missing == (1,)
        (live / "rank-1.pulse").unlink()
        found = jobs.job_processes(jobs.find_status("support-b", runs))
        assert found.roles == {os.getpid(): "supervisor", 1: "trainer"}
        assert found.missing == ()


def test_while_it_plans_the_planner_is_what_it_waits_for(runs: Path, live: Path) -> None:
    make_job(runs, live, "new").publish()
    beat_as(live / "rank-0.pulse", 1)
    beat_as(live / "planner.pulse", os.getppid())
    found = jobs.job_processes(jobs.find_status("new", runs))
    assert found.roles[os.getppid()] == "planner"
    assert [pulse.pid for pulse in found.pulses] == [os.getppid()]


@pytest.mark.parametrize(
    ("by", "role", "num_pulses"), [("callback", "trainer", 1), ("guard", "guard", 0)]
)
def test_a_run_of_another_program(
    runs: Path, live: Path, by: str, role: str, num_pulses: int
) -> None:
    folder = make_run(runs, "support-b")
    (folder / "plan.json").unlink()
    WatchedRun("support-b", by, "Trainer").save(folder)  # type: ignore[arg-type]
    make_job(runs, live, "support-b").publish()
    with living(folder, live):
        found = jobs.job_processes(jobs.find_status("support-b", runs))
    assert found.roles == {os.getpid(): role}
    assert len(found.pulses) == num_pulses
