"""The daemon's decisions, and that no kill anywhere changes what is learned."""

import os
import shlex
import shutil
from datetime import time
from pathlib import Path

import pytest
from tests.inbox.recall.test_still_known import NEWEST, WORSE, losses
from tests.inbox.world import MortalDisk, World, refused

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.files import hash_bytes
from headway.inbox.arriving.arrivals import Listed
from headway.inbox.jobs.inbox_job import InboxJob
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.jobs.queue import Queue
from headway.inbox.neighbor.hours import read_hours
from headway.inbox.notices import NoticeKind
from headway.inbox.recall.gate import GateTerm
from headway.inbox.training_process import FileRequest

KILLED = TrainingEnd(-9)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---- one file after the other ------------------------------------------------------------------


def test_f25_files_are_learned_one_on_top_of_the_other(world: World) -> None:
    for number in range(10):
        world.drop(f"{number}.txt", at_s=number)
    assert world.run() == 0
    assert world.model == [f"{number}.txt\n" for number in range(10)]
    for number in range(10):
        beside = world.beside(f"done/{number}.txt")
        assert beside["outcome"] == "finished"
        assert beside["steps"]["first"] == 2 * number
        assert beside["file"]["sha256"] == hash_bytes(f"{number}.txt\n".encode())
    assert world.names("failed") == world.names("processing") == world.names("") == []
    assert [r.parent.rpartition("/")[2] for r in world.trainer.requests[:3]] == [
        "", "0001-0", "0002-1"
    ]  # fmt: skip


def test_each_file_is_trained_with_the_settings_as_they_were_written(world: World) -> None:
    world.drop("a.txt")
    world.run()
    (request,) = world.trainer.requests
    assert [(one.name, one.value) for one in request.settings] == [("batch_size", "8")]
    assert request.run_name == "0001-a"
    assert request.source == str(world.inbox.processing / "a.txt")


def test_files_that_wait_are_counted(world: World) -> None:
    for number in range(3):
        world.drop(f"{number}.txt", at_s=number)
    world.run()
    assert [request.num_waiting for request in world.trainer.requests] == [2, 1, 0]
    following = [Path(request.next_source).name for request in world.trainer.requests]
    assert following == [Path(request.source).name for request in world.trainer.requests[1:]] + [""]


def test_a_folder_is_one_job(world: World) -> None:
    (world.inbox.path / "lessons").mkdir()
    for name in ("a.txt", "b.txt"):
        (world.inbox.path / "lessons" / name).write_text(name)
    assert world.run() == 0
    assert world.model == ["a.txt", "b.txt"]
    assert world.names("done") == ["lessons", "lessons.receipt.json"]


def test_an_empty_folder_keeps_nobody_waiting(world: World) -> None:
    (world.inbox.path / "lessons").mkdir()
    world.drop("a.txt")
    assert world.run() == 0
    assert world.model == ["a.txt\n"]
    assert world.names("") == ["lessons"]


def test_the_name_of_an_earlier_file_is_not_overwritten(world: World) -> None:
    for content in ("one", "two", "three"):
        world.drop("a.txt", content)
        world.run()
    assert world.model == ["one", "two", "three"]
    places = [name for name in world.names("done") if not name.endswith(".json")]
    assert places == ["a-0002.txt", "a-0003.txt", "a.txt"]


def test_f46_a_file_that_is_being_written_is_not_taken(world: World) -> None:
    world.drop("a.txt")
    path = world.drop("b.txt", "half")
    daemon = world.start(once=False)
    with path.open("a") as writer:
        world.steps(40)
        assert world.model == ["a.txt\n"]
        assert world.names("") == ["b.txt"]
        writer.write(" and half")
    for _ in range(10):
        world.now_s += 1
        daemon.step(world.now_s)
    assert world.model == ["a.txt\n", "half and half"]


def test_names_of_unfinished_files_are_left_alone(world: World) -> None:
    for name in ("a.part", "b.tmp", "c~", ".hidden"):
        world.drop(name)
    assert world.run() == 0
    assert world.model == []
    assert world.names("") == [".hidden", "a.part", "b.tmp", "c~"]


def test_a_gate_keeps_the_last_good_model(world: World) -> None:
    for number in range(3):
        world.drop(f"{number}.txt", at_s=number)
    world.start(promote_if=(GateTerm.IMPROVED,))
    world.trainer.verdicts = {"1.txt": "not", "2.txt": "unclear"}
    world.steps(60)
    assert world.model == ["0.txt\n"]
    assert world.jobs == {"0.txt": "done", "1.txt": "done", "2.txt": "done"}
    texts = [notice.text for notice in world.notices]
    assert "learning not: current_model is not updated" in texts[1]
    world.drop("3.txt", at_s=9)
    world.run(promote_if=(GateTerm.IMPROVED,))
    assert world.model == [f"{number}.txt\n" for number in range(4)]  # the training went on
    assert world.queue().jobs[1].held_back == "learning not"


KNOWN = losses(), NEWEST
FORGOTTEN = WORSE, NEWEST


@pytest.mark.parametrize("is_gated", [True, False])
def test_a_file_that_makes_another_worse_is_told_and_not_promoted(
    world: World, is_gated: bool
) -> None:
    for number in range(2):
        world.drop(f"{number}.txt", at_s=number)
    world.start(once=False, promote_if=(GateTerm.NOTHING_FORGOTTEN if is_gated else GateTerm.KEPT,))
    world.trainer.known = {"0.txt": (NEWEST,), "1.txt": FORGOTTEN, "2.txt": KNOWN}
    world.steps(16)
    assert world.jobs == {"0.txt": "done", "1.txt": "done"}
    assert {one.measure_all for one in world.trainer.requests} == {is_gated}
    assert world.model == ["0.txt\n"] if is_gated else ["0.txt\n", "1.txt\n"]
    warning = next(one for one in world.notices if one.kind is NoticeKind.FORGOT)
    assert warning.text == "warning: a.jsonl is worse after b.jsonl: 2.00 -> 2.50 (± 0.042)"
    assert warning.job is None  # it is no end of a file
    beside = world.beside("done/1.txt")
    assert beside["still_known"]["files"][0]["now"]["mean"] == 2.5
    assert beside["file"]["held_back"] == ("a.jsonl forgotten" if is_gated else "")
    world.drop("2.txt", at_s=2)
    world.steps(20)
    assert world.model == ["0.txt\n", "1.txt\n", "2.txt\n"]


def test_all_files_before_are_measured_and_those_that_were_undone_are_not(world: World) -> None:
    world.drop("a.txt", at_s=0)
    world.drop("b.txt", at_s=1)
    world.run()
    assert [one.name for one in world.trainer.requests[1].learned] == ["a.txt", "b.txt"]
    world.queue().undo()
    world.drop("c.txt", at_s=2)
    world.run()
    assert [one.name for one in world.trainer.requests[0].learned] == ["a.txt", "c.txt"]


def test_killed_before_it_was_measured_it_is_measured_and_not_trained_again(world: World) -> None:
    world.drop("a.txt")
    disk = MortalDisk()
    world.start(disk)
    world.trainer.is_slow = True
    world.steps(4)
    request = world.trainer.requests[0]
    world.trainer.train(request)  # and the machine goes down
    world.start(disk)
    world.trainer.known = {"a.txt": (NEWEST,)}
    world.steps(4)
    (again,) = world.trainer.requests
    assert again == request
    assert world.beside("done/a.txt")["still_known"]["files"][0]["name"] == "b.jsonl"
    assert world.queue().jobs[0].attempts == 1
    assert world.model == ["a.txt\n"]


def test_stopped_before_it_was_measured_it_is_measured_at_the_next_start(world: World) -> None:
    world.drop("a.txt")
    world.start()
    world.trainer.is_slow = True
    world.steps(4)
    world.trainer.train(world.trainer.requests[0])
    world.stop.ask("headway stop", Exit.COME_BACK)
    world.steps(2)
    assert world.jobs == {"a.txt": "claimed"}
    world.start(promote_if=(GateTerm.NOTHING_FORGOTTEN,))
    world.steps(4)  # and this time nothing can be measured
    assert world.jobs == {"a.txt": "done"}
    assert world.beside("done/a.txt")["still_known"] is None
    assert world.queue().jobs[0].held_back == "what is still known was not measured"


# ---- the same content --------------------------------------------------------------------------


def test_the_same_content_is_skipped_and_said(world: World) -> None:
    world.drop("a.txt", "same", at_s=0)
    world.drop("b.txt", "same", at_s=1)
    assert world.run() == 0
    assert world.model == ["same"]
    assert world.jobs == {"a.txt": "done", "b.txt": "skipped"}
    assert "same content as a.txt" in world.beside("done/b.txt")["file"]["finding"]["what"]
    assert world.beside("done/b.txt")["outcome"] == "skipped"
    assert any("same content as a.txt" in notice.text for notice in world.notices)


@pytest.mark.parametrize(
    ("policy", "model", "state", "code"),
    [("train", ["same", "same"], "done", 0), ("fail", ["same"], "failed", 3)],
)
def test_the_same_content_by_policy(
    world: World, policy: str, model: list[str], state: str, code: int
) -> None:
    world.drop("a.txt", "same", at_s=0)
    world.drop("b.txt", "same", at_s=1)
    assert world.run(on_duplicate=policy) == code
    assert world.model == model
    assert world.jobs["b.txt"] == state


# ---- failures ----------------------------------------------------------------------------------


def test_f23_an_empty_file_fails_and_the_next_is_trained(world: World) -> None:
    world.drop("b.txt", at_s=1)
    (world.inbox.path / "a.txt").touch()
    os.utime(world.inbox.path / "a.txt", (1e9, 1e9))
    assert world.run() == Exit.DATA
    assert world.jobs == {"a.txt": "failed", "b.txt": "done"}
    assert world.error("failed/a.txt").startswith("a.txt is empty")
    assert world.beside("failed/a.txt")["outcome"] == "failed"
    assert [request.name for request in world.trainer.requests] == ["b.txt"]


def test_a_refused_file_fails_with_its_four_parts(world: World) -> None:
    world.drop("a.txt", at_s=0)
    world.drop("b.txt", at_s=1)
    remedy = Remedy("more data", "makes a row")
    end = refused(
        3, what="a.txt is too short", have="1 token", need="2", remedies=(remedy,),
        cause=Cause.TOO_LITTLE_DATA,
    )  # fmt: skip
    assert world.run(ends={"a.txt": [end]}) == Exit.DATA
    assert world.error("failed/a.txt").splitlines() == [
        "a.txt is too short",
        "  have  1 token",
        "  need  2",
        "  try   more data   makes a row",
        f"  try   headway inbox retry failed/a.txt {world.inbox.path}",
        "            once the problem is fixed",
    ]
    assert world.model == ["b.txt\n"]


def test_an_error_names_the_file_where_it_is_now(world: World) -> None:
    world.drop("a b.txt")
    there = shlex.quote(str(world.inbox.processing / "a b.txt"))
    end = refused(
        3, what=f"{there} is damaged", have="half of it", remedies=(Remedy(f"gzip -t {there}"),),
        cause=Cause.SOURCE_DAMAGED,
    )  # fmt: skip
    world.run(ends={"a b.txt": [end]})
    error = world.error("failed/a b.txt")
    assert "processing" not in error
    commands = [line.split(None, 1)[1] for line in error.splitlines() if line.startswith("  try")]
    assert Path(shlex.split(commands[0])[-1]).exists()
    assert shlex.split(commands[1])[:4] == ["headway", "inbox", "retry", "failed/a b.txt"]


def test_f50_a_file_that_kills_the_process_three_times_fails(world: World) -> None:
    world.drop("a.txt", at_s=0)
    world.drop("poison.txt", at_s=1)
    world.drop("z.txt", at_s=2)
    assert world.run(ends={"poison.txt": [KILLED]}) == Exit.MACHINE
    names = [request.name for request in world.trainer.requests]
    assert names == ["a.txt", *["poison.txt"] * 3, "z.txt"]
    assert world.model == ["a.txt\n", "z.txt\n"]
    assert "died 3 times" in world.error("failed/poison.txt")
    assert world.trainer.requests[-1].parent.endswith("0001-a")


def test_a_crash_that_does_not_come_again_is_forgiven(world: World) -> None:
    world.drop("a.txt")
    assert world.run(ends={"a.txt": [KILLED, KILLED, None]}) == 0
    assert world.model == ["a.txt\n"]
    assert [notice.kind.value for notice in world.notices] == ["again", "again", "done"]


def test_a_full_disk_is_waited_for(world: World) -> None:
    world.drop("a.txt")
    full = refused(5, what="the disk is full", cause=Cause.DISK_FULL)
    daemon = world.start(ends={"a.txt": [full, full, full, full]}, once=False)
    began_s = world.now_s
    while len(world.trainer.requests) < 4:
        world.now_s += daemon.step(world.now_s).sleep_s
    assert world.now_s - began_s >= 5 + 10 + 20
    assert world.jobs == {"a.txt": "claimed"}
    assert sum("trying again" in notice.text for notice in world.notices) == 3


def test_a_folder_that_cannot_be_read_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("a.txt")
    daemon = world.start()
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr("headway.inbox.arriving.inbox_watch.list_inbox", refuse)
        world.now_s += daemon.step(world.now_s).sleep_s
    assert "trying again in 5.0 s" in world.notices[0].text
    world.steps(80)
    assert world.model == ["a.txt\n"]


def test_wrong_settings_end_the_daemon_and_cost_no_file(world: World) -> None:
    world.drop("a.txt")
    wrong = refused(2, what="no such model", cause=Cause.MODEL_NOT_FOUND)
    assert world.run(ends={"a.txt": [wrong]}) == Exit.USAGE
    assert world.names("failed") == []
    assert world.run() == 0
    assert world.model == ["a.txt\n"]


def test_d10_f46_a_file_that_changes_after_it_was_taken_fails_with_both_hashes(
    world: World,
) -> None:
    world.drop("a.txt", "first", at_s=0)
    world.drop("b.txt", at_s=1)
    world.start()

    def change(request: FileRequest) -> None:
        if request.name == "a.txt":
            Path(request.source).write_text("second")

    world.trainer.on_start = change
    world.steps(30)
    assert world.jobs == {"a.txt": "failed", "b.txt": "done"}
    error = world.error("failed/a.txt")
    assert hash_bytes(b"first") in error
    assert hash_bytes(b"second") in error
    assert world.model == ["b.txt\n"]


def test_d10_a_file_that_changed_while_it_was_half_trained_fails_before_it_goes_on(
    world: World,
) -> None:
    """Its run could not be resumed: it was planned for other rows."""
    world.drop("a.txt", "first", at_s=0)
    world.start()
    world.trainer.is_slow = True
    world.steps(5)
    (world.inbox.processing / "a.txt").write_text("second")
    world.drop("b.txt", at_s=1)
    assert world.run() == Exit.DATA
    assert [request.name for request in world.trainer.requests] == ["b.txt"]
    assert hash_bytes(b"second") in world.error("failed/a.txt")
    assert world.model == ["b.txt\n"]


def test_a_file_that_is_taken_away_fails_or_is_done(world: World) -> None:
    world.drop("a.txt")
    world.start()
    world.trainer.is_slow = True
    world.steps(5)
    assert world.daemon is not None
    world.daemon.close()
    (world.inbox.processing / "a.txt").unlink()
    assert world.run() == Exit.DATA
    assert "was removed" in world.error("failed/a.txt")


@pytest.mark.parametrize("kind", ["link", "pipe", "link to a folder"])
def test_f59_what_is_no_file_is_refused_unopened(world: World, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    path = world.inbox.path / "x.txt"
    match kind:
        case "link":
            path.symlink_to(outside / "secret.txt")
        case "link to a folder":
            path.symlink_to(outside)
        case _:
            os.mkfifo(path)
    assert world.run() == Exit.DATA
    assert world.trainer.requests == []
    assert world.names("") == []
    errors = [one for one in world.names("failed") if one.endswith(".error.txt")]
    assert len(errors) == 1
    assert sorted(p.name for p in outside.iterdir()) == ["secret.txt"]
    assert world.run() == 0


def test_a_name_that_is_no_text_becomes_one(world: World) -> None:
    path = os.fsdecode(os.fsencode(world.inbox.path) + b"/a\xff.txt")
    Path(path).write_text("x")
    assert world.run() == 0
    assert world.model == ["x"]
    assert world.names("done") == ["a�.txt", "a�.txt.receipt.json"]


def test_f59_what_people_left_beside_a_link_stays(world: World) -> None:
    (world.inbox.path / "x.txt").symlink_to("/etc/hostname")
    world.drop("x.txt.error.txt", "mine")
    world.run()
    assert world.model == ["mine"]


def test_f59_a_folder_of_the_inbox_that_is_a_link_is_refused(world: World, tmp_path: Path) -> None:
    world.inbox.done.rmdir()
    (tmp_path / "elsewhere").mkdir()
    world.inbox.done.symlink_to(tmp_path / "elsewhere")
    world.drop("a.txt")
    with pytest.raises(UsageError, match="is a link"):
        world.run()
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---- pause and stop ----------------------------------------------------------------------------


def test_a_pause_saves_and_a_resume_goes_on(world: World) -> None:
    world.drop("a.txt")
    daemon = world.start()
    world.trainer.is_slow = True
    world.steps(5)
    world.inbox.paused.write_text("{}")
    world.steps(5)
    assert world.jobs == {"a.txt": "claimed"}
    assert [notice.kind.value for notice in world.notices] == ["paused"]
    assert len(world.trainer.requests) == 1
    world.inbox.paused.unlink()
    world.trainer.is_slow = False
    world.steps(5)
    assert len(world.trainer.requests) == 2
    assert world.model == ["a.txt\n"]
    daemon.close()


def test_outside_of_its_hours_nothing_is_trained(world: World) -> None:
    world.drop("a.txt")
    world.start(once=False, train_between=read_hours("22:00-07:00"))
    world.wall_time = time(21, 59)
    world.steps(10)
    assert world.trainer.requests == []
    world.trainer.is_slow = True
    world.wall_time = time(22, 0)
    world.steps(5)
    assert len(world.trainer.requests) == 1
    world.wall_time = time(7, 0)
    world.steps(5)
    assert world.jobs == {"a.txt": "claimed"}
    assert [notice.text for notice in world.notices] == [
        "paused: trains between 22:00-07:00", "resumed", "paused: trains between 22:00-07:00"
    ]  # fmt: skip
    world.trainer.is_slow = False
    world.wall_time = time(23, 0)
    world.steps(5)
    assert world.model == ["a.txt\n"]


def test_a_stop_is_passed_on_and_the_file_goes_on_later(world: World) -> None:
    world.drop("a.txt")
    daemon = world.start()
    world.trainer.is_slow = True
    world.steps(5)
    world.stop.ask("SIGTERM", Exit.COME_BACK)
    steps = [daemon.step(world.now_s) for _ in range(3)]
    assert steps[-1].code == Exit.COME_BACK
    assert world.jobs == {"a.txt": "claimed"}
    assert world.run() == 0
    assert world.model == ["a.txt\n"]


# ---- killed anywhere ---------------------------------------------------------------------------


def fill(world: World) -> None:
    world.drop("a.txt", "one", at_s=0)
    world.drop("again.txt", "one", at_s=1)
    (world.inbox.path / "empty.txt").touch()
    os.utime(world.inbox.path / "empty.txt", (1e9 + 2, 1e9 + 2))
    (world.inbox.path / "link.txt").symlink_to("/etc/hostname")
    world.drop("b.txt", "two", at_s=3)


def num_changes(folder: Path) -> int:
    world = World(folder)
    fill(world)
    disk = MortalDisk()
    world.run(disk)
    return disk.num


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_f49_killed_at_every_change_each_file_is_trained_once(tmp_path: Path, before: bool) -> None:
    (tmp_path / "twin").mkdir()
    changes = num_changes(tmp_path / "twin")
    assert changes > 30
    twin = World(tmp_path / "twin")
    for last in range(changes):
        folder = tmp_path / str(last)
        folder.mkdir()
        world = World(folder)
        fill(world)
        assert world.run_killed(MortalDisk(last, before=before)), last
        world.run()
        assert world.model == twin.model == ["one", "two"], last
        assert world.tree() == twin.tree(), last
        assert world.jobs == {
            "a.txt": "done", "again.txt": "skipped", "empty.txt": "failed", "link.txt": "failed",
            "b.txt": "done",
        }, last  # fmt: skip
        shutil.rmtree(folder)


def test_killed_again_and_again_it_still_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(5):
        world.drop(f"{number}.txt", at_s=number)
    kills = 0
    while world.run_killed(MortalDisk(3, before=bool(kills % 2))):
        kills += 1
        assert kills < 100
    assert kills >= 5
    assert world.model == [f"{number}.txt\n" for number in range(5)]


def test_a_daemon_that_is_killed_costs_a_file_no_attempt(world: World) -> None:
    world.drop("a.txt")
    for _ in range(10):
        world.start()
        world.trainer.is_slow = True
        world.steps(5)
    assert world.run() == 0
    assert world.model == ["a.txt\n"]


def test_a_record_that_is_cut_off_is_named(world: World) -> None:
    world.drop("a.txt")
    world.run()
    (world.inbox.jobs / "0001.json").write_text("{")
    with pytest.raises(UsageError, match=r"0001.json cannot be read"):
        world.start()


def test_a_file_that_changes_while_it_is_taken_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("a.txt", "half")
    real, calls = Queue.claim, list[str]()

    def claim(queue: Queue, listed: Listed) -> InboxJob | None:
        calls.append(listed.name)
        if len(calls) == 1:
            world.drop("a.txt", "half and half")
        return real(queue, listed)

    monkeypatch.setattr(Queue, "claim", claim)
    assert world.run() == 0
    assert calls == ["a.txt", "a.txt"]
    assert world.model == ["half and half"]


def test_an_idle_daemon_does_not_read_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.drop("a.txt")
    world.run()
    daemon = world.start(once=False)
    monkeypatch.setattr(daemon.queue, "reload", lambda: pytest.fail("nothing has changed"))
    world.steps(5)
    monkeypatch.undo()
    world.drop("b.txt", at_s=1)
    world.steps(10)
    assert world.jobs == {"a.txt": "done", "b.txt": "done"}
