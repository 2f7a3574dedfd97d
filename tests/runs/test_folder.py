"""A run's folder: where a plan goes, which checkpoint counts, and what is kept."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers import in_memory, plan_of
from tests.training.jobs import STATE

from headway.base import files
from headway.base.errors import UsageError
from headway.base.files import verify_folder, write_folder
from headway.base.lock import Lock
from headway.runs.folder import RunFolder, find_run, kept, list_runs
from headway.runs.placement import carried_on, difference, move_aside, place
from headway.runs.plan import Plan, SavesPlan, Tried, load_plan
from headway.runs.receipt import Measured

TEXT = in_memory(1601)
SAVES = SavesPlan(every_steps=10, every_minutes=10, keep=2, num=4, bytes_each=1000)


def planned(**given: Any) -> Plan:
    return plan_of(TEXT, max_length=16, **given)


def made(folder: Path, plan: Plan, outcome: str = "") -> RunFolder:
    """A run's folder, as its supervisor leaves it."""
    folder.mkdir(parents=True)
    plan.save(folder)
    if outcome:
        (folder / "receipt.json").write_text(f'{{"outcome": "{outcome}"}}')
    return RunFolder(folder)


def checkpoint(run: RunFolder, step: int) -> Path:
    final = run.path / f"checkpoint-{step}"
    write_folder(final, lambda f: (f / "model.safetensors").write_bytes(b"weights" * step) and None)
    return final


def flip(path: Path, byte: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


# ---- where a plan goes -------------------------------------------------------------------------


def put(plan: Plan, runs: Path, **options: Any) -> tuple[str, str, str]:
    found = place(plan, runs, **{"named": False, "fresh": False} | options)
    return found.folder.path.name, found.kind, found.note


def test_a_new_plan_gets_a_folder_and_nothing_is_written(tmp_path: Path) -> None:
    assert put(planned(), tmp_path / "runs") == ("notes", "new", "")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("left", [[], ["run.lock", "run.yaml", ".plan.json.7-7.tmp"]])
def test_f02_a_start_that_was_killed_before_its_plan_is_begun_anew(
    tmp_path: Path, named: bool, left: list[str]
) -> None:
    (tmp_path / "notes").mkdir()
    for name in left:
        (tmp_path / "notes" / name).touch()
    assert put(planned(), tmp_path, named=named) == ("notes", "new", "")


def test_a_folder_with_anything_else_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").touch()
    assert put(planned(), tmp_path)[0] == "notes-2"


@pytest.mark.parametrize("named", [True, False])
def test_the_same_plan_resumes(tmp_path: Path, named: bool) -> None:
    made(tmp_path / "notes", planned(), "interrupted")
    assert put(planned(), tmp_path, named=named) == ("notes", "resume", "")


@pytest.mark.parametrize("named", [True, False])
def test_f26_the_same_plan_that_has_finished_is_done(tmp_path: Path, named: bool) -> None:
    made(tmp_path / "notes", planned(), "finished")
    assert put(planned(), tmp_path, named=named) == ("notes", "done", "")


@pytest.mark.parametrize("outcome", ["", "failed"])
def test_f34_without_the_receipt_of_an_end_it_is_not_done(tmp_path: Path, outcome: str) -> None:
    run = made(tmp_path / "notes", planned(), outcome)
    checkpoint(run, planned().steps.num)
    assert put(planned(), tmp_path) == ("notes", "resume", "")


def test_other_data_under_the_same_stem_is_a_second_run(tmp_path: Path) -> None:
    made(tmp_path / "notes", planned())
    other = plan_of(in_memory(1601, fingerprint="cd" * 32), max_length=16)
    note = f"{tmp_path / 'notes'} has other data; this run is notes-2"
    assert put(other, tmp_path) == ("notes-2", "new", note)


def test_another_setting_is_a_second_run_and_is_named(tmp_path: Path) -> None:
    made(tmp_path / "notes", planned())
    name, kind, note = put(planned(seed=7, lr=1e-4), tmp_path)
    assert (name, kind) == ("notes-2", "new")
    was = "learning_rate 0.003, seed 42"
    assert note == f"{tmp_path / 'notes'} has other settings ({was}); this run is notes-2"


def test_the_second_run_is_found_again(tmp_path: Path) -> None:
    made(tmp_path / "notes", planned(), "finished")
    made(tmp_path / "notes-2", planned(seed=7))
    made(tmp_path / "notes-3", planned(seed=8), "finished")
    assert put(planned(seed=7), tmp_path) == ("notes-2", "resume", "")
    assert put(planned(seed=8), tmp_path) == ("notes-3", "done", "")
    assert put(planned(seed=9), tmp_path)[:2] == ("notes-4", "new")


def test_a_named_run_of_another_plan_is_refused_with_lines_to_type(tmp_path: Path) -> None:
    made(tmp_path / "mine", planned(run_name="mine"))
    with pytest.raises(UsageError, match="run mine exists and is another one") as refused:
        put(planned(run_name="mine", batch_size=3), tmp_path, named=True)
    assert refused.value.have == f"{tmp_path / 'mine'} has other settings (batch_size 4)"
    assert [remedy.do for remedy in refused.value.remedies] == [
        "headway train notes.txt --run-name mine-2",
        "headway train notes.txt --run-name mine --fresh",
        "headway train notes.txt --continue mine",
    ]


def test_fresh_takes_the_name_whatever_is_there(tmp_path: Path) -> None:
    made(tmp_path / "notes", planned(), "finished")
    assert put(planned(), tmp_path, fresh=True) == ("notes", "new", "")
    assert put(planned(seed=7), tmp_path, fresh=True, named=True) == ("notes", "new", "")


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.json").write_text("{}")
    name, kind, note = put(planned(), tmp_path)
    assert (name, kind) == ("notes-2", "new")
    assert "has no readable plan" in note


def test_a_run_that_goes_on_takes_only_time_and_memory_from_what_is_asked_now() -> None:
    before = planned(micro_batch_tokens=64)
    assert carried_on(before, planned()) == (before, "")
    now, note = carried_on(before, planned(micro_batch_tokens=32, max_time="1h", threads=3))
    assert now == replace(
        before, steps=replace(before.steps, micro_batch_tokens=32), max_time_s=3600.0
    )
    assert note == (
        "from here on with micro-batches of 32 tokens, 64 before: the same within rounding"
    )
    now, note = carried_on(before, planned(gradient_checkpointing=True))
    assert now.machine.gradient_checkpointing
    assert now.identity == before.identity
    assert note == "from here on with gradient checkpointing on: the same within rounding"
    for tried in (None, Tried(separately=False, own_logits=False)):
        started = replace(before, tried=tried)
        now, note = carried_on(started, planned(torch_compile=True))
        assert now.machine.compiled
        assert now.tried == (tried and replace(tried, compiled=True))
        assert note == "from here on with compiling on: the same within rounding"
        assert carried_on(now, planned(torch_compile=True)) == (now, "")
        assert carried_on(now, planned(torch_compile=False))[0] == started


def test_a_difference_that_no_setting_shows_is_the_models() -> None:
    plan = planned()
    other = replace(plan, identity="other", model=replace(plan.model, weights_sha256="31" * 32))
    assert difference(other, plan) == "another model"


# ---- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return made(tmp_path / "runs" / "notes", planned())


def test_checkpoints_are_in_order_of_their_steps(run: RunFolder) -> None:
    for step in (900, 1000, 20):
        checkpoint(run, step)
    (run.path / "checkpoint-7").write_text("a file")
    (run.path / "checkpoint-x").mkdir()
    (run.path / ".checkpoint-8.tmp").mkdir()
    assert [c.global_step for c in run.checkpoints()] == [20, 900, 1000]


def test_the_newest_that_verifies_counts(run: RunFolder) -> None:
    for step in (1, 2, 3):
        checkpoint(run, step)
    newest, problems = run.newest_verified()
    assert newest is not None
    assert (newest.global_step, problems) == (3, [])


HARM = {
    "F40 a flipped bit": lambda folder: flip(folder / "model.safetensors"),
    "F40 a flipped bit of the manifest": lambda folder: flip(folder / "manifest.json", 120),
    "F41 cut short": lambda folder: os.truncate(folder / "model.safetensors", 3),
    "F42 a file is missing": lambda folder: (folder / "model.safetensors").unlink(),
    "F42 an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("harm", HARM)
def test_c06_one_that_does_not_verify_is_passed_over_and_told(run: RunFolder, harm: str) -> None:
    for step in (1, 2):
        checkpoint(run, step)
    HARM[harm](run.path / "checkpoint-2")
    newest, problems = run.newest_verified()
    assert newest is not None
    assert newest.global_step == 1
    assert [problem.partition(":")[0] for problem in problems] == ["checkpoint-2"]


def test_none_is_none(run: RunFolder) -> None:
    assert run.newest_verified() == (None, [])
    flip(checkpoint(run, 1) / "model.safetensors")
    newest, problems = run.newest_verified()
    assert newest is None
    assert len(problems) == 1


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (2, [30, 40]), (9, [10, 20, 30, 40])])
def test_c07_the_newest_are_kept(run: RunFolder, keep: int, left: list[int]) -> None:
    for step in (10, 20, 30, 40):
        newest = checkpoint(run, step)
    run.acknowledge(newest, replace(SAVES, keep=keep), first=0)
    assert [c.global_step for c in run.checkpoints()] == left
    assert run.model.resolve() == newest.resolve()
    assert run.model.readlink() == Path("checkpoint-40")  # a link that survives a move


def test_c07_the_acknowledged_one_is_never_deleted(run: RunFolder) -> None:
    """A later one that is broken stands in the folder when an earlier step is saved anew."""
    for step in (10, 20, 30, 40):
        checkpoint(run, step)
    flip(run.path / "checkpoint-40" / "model.safetensors")
    run.acknowledge(run.path / "checkpoint-30", replace(SAVES, keep=1), first=0)
    newest, _ = run.newest_verified()
    assert newest is not None
    assert newest.global_step == 30


@pytest.mark.parametrize(
    ("held_out", "changes", "stay"),
    [
        ({10: 3.0, 20: 2.0, 30: 2.5, 40: None}, {}, {20, 30, 40}),  # the best, as long as it is
        ({10: 3.0, 20: 2.0, 30: 2.5, 40: 1.5}, {}, {30, 40}),
        ({10: 2.0, 20: 2.0, 30: 2.5, 40: 2.5}, {"keep": 1}, {20, 40}),  # of equals the later one
        ({10: None, 20: None, 30: None, 40: None}, {"keep": 1}, {40}),
        ({10: None, 20: None, 30: None, 40: None}, {"keep": 1, "keep_every": 20}, {20, 40}),
        ({25: 1.0, 35: None, 45: None}, {"keep": 1, "keep_every": 20}, {25, 45}),  # first is 5
    ],
)
def test_c07_the_newest_the_best_and_every_so_many_are_kept(
    held_out: dict[int, float | None], changes: dict[str, Any], stay: set[int]
) -> None:
    first = 5 if 25 in held_out else 0
    assert kept(held_out, replace(SAVES, **changes), first) == stay


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_c07_the_best_so_far_is_there_after_every_save(run: RunFolder, keep: int) -> None:
    losses = [3.0, 2.0, 1.5, 1.75, 2.5, 1.6, 2.0]
    for number, loss in enumerate(losses, 1):
        final = checkpoint(run, number)
        state = replace(STATE, global_step=number, held_out=Measured(loss, 0.1, 8))
        (final / "headway.json").write_bytes(msgspec.json.encode(state))
        run.acknowledge(final, replace(SAVES, keep=keep), first=0)
        there = [c.global_step for c in run.checkpoints()]
        assert losses.index(min(losses[:number])) + 1 in there
        assert there[-keep:] == list(range(1, number + 1))[-keep:]
        assert len(there) <= keep + 1


def test_what_is_deleted_half_way_is_no_checkpoint(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it deletes: no half of a checkpoint stands under its name."""
    for step in (10, 20, 30):
        newest = checkpoint(run, step)
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
    run.acknowledge(newest, SAVES, first=0)
    monkeypatch.undo()
    assert [c.global_step for c in run.checkpoints()] == [20, 30]
    run.sweep()
    assert not list(run.path.glob(".checkpoint-*"))


# ---- quarantine --------------------------------------------------------------------------------


def test_one_that_does_not_verify_is_moved_whole_and_never_over_another(run: RunFolder) -> None:
    for expected in ("checkpoint-1", "checkpoint-1-2", "checkpoint-1-3"):
        bad = checkpoint(run, 1)
        flip(bad / "model.safetensors")
        moved = run.quarantine(bad)
        assert moved == run.path / "quarantine" / expected
        assert verify_folder(moved)
        assert not bad.exists()
    assert run.checkpoints() == []


def test_what_a_killed_save_left_is_swept_away(run: RunFolder) -> None:
    checkpoint(run, 1)
    (run.path / ".checkpoint-2.abc").mkdir()
    (run.path / ".checkpoint-2.abc" / "model.safetensors").write_bytes(b"half")
    run.sweep()
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoint-1", "plan.json"]


# ---- finding runs ------------------------------------------------------------------------------


def test_a_run_by_name_folder_checkpoint_or_link(run: RunFolder) -> None:
    runs = run.path.parent
    final = checkpoint(run, 1)
    (final / "headway.json").write_text("{}")
    run.acknowledge(final, SAVES, first=0)
    for name in ("notes", str(run.path), str(final), str(run.model)):
        assert find_run(name, runs).path.resolve() == run.path.resolve()
    assert find_run(str(run.path), Path("elsewhere")).path == run.path


def test_without_a_name_it_is_the_one_with_the_newest_event(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c")):
        run = made(tmp_path / name, planned())
        run.events.write_text("{}\n")
        os.utime(run.events, (1000 + number, 1000 + number))
    os.utime(tmp_path / "b" / "events.jsonl", (2000, 2000))
    (tmp_path / "no run").mkdir()
    assert find_run(None, tmp_path).path.name == "b"
    assert [run.path.name for run in list_runs(tmp_path)] == ["b", "c", "a"]


def test_a_run_that_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    made(tmp_path / "support", planned())
    made(tmp_path / "poems", planned())
    with pytest.raises(UsageError, match="there is no run called suport") as refused:
        find_run("suport", tmp_path)
    assert [remedy.do for remedy in refused.value.remedies] == ["support"]
    with pytest.raises(UsageError, match="no run called notes") as refused:
        find_run("notes", tmp_path / "empty")
    assert refused.value.have == f"no runs in {tmp_path / 'empty'}"
    with pytest.raises(UsageError, match="there is no run in"):
        find_run(None, tmp_path / "empty")


# ---- moved aside -------------------------------------------------------------------------------


def test_an_old_run_is_moved_aside_whole(run: RunFolder) -> None:
    checkpoint(run, 1)
    aside = move_aside(run, now_s=0)
    assert aside is not None
    assert aside.name.startswith("notes.old-19")
    assert not run.path.exists()
    assert load_plan(aside).identity == planned().identity
    assert move_aside(run) is None


def test_two_in_one_second_are_both_kept(run: RunFolder) -> None:
    first = move_aside(run, now_s=0)
    made(run.path, planned())
    second = move_aside(run, now_s=0)
    assert first is not None
    assert second is not None
    assert first != second
    assert load_plan(first).identity == load_plan(second).identity


def test_o04_a_run_that_is_being_trained_is_not_moved(run: RunFolder) -> None:
    with Lock(run.lock), pytest.raises(UsageError, match="is being trained right now"):
        move_aside(run)
    assert run.path.exists()


def test_a_run_that_was_moved_away_is_no_run(run: RunFolder) -> None:
    shutil.rmtree(run.path)
    assert run.plan() is None
    assert not run.finished
    assert run.checkpoints() == []
