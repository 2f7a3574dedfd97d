"""Placement: new run, resume, or done; and what differs from the plan that is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of
from tests.runs.folders import checkpoint, made, planned

from headway.base.errors import UsageError
from headway.base.lock import RunLock
from headway.model.kernels.compile_level import CompileLevel
from headway.runs.folder import RunFolder
from headway.runs.placement import carry_over, difference, move_aside, place
from headway.runs.plan import Plan, load_plan
from headway.runs.settled import Settled


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return made(tmp_path / "runs" / "notes", planned())


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
    with pytest.raises(
        UsageError, match="run mine already exists with a different plan"
    ) as refused:
        put(planned(run_name="mine", batch_size=3), tmp_path, named=True)
    assert refused.value.have == f"{tmp_path / 'mine'} has other settings (batch_size 4)"
    assert [remedy.do for remedy in refused.value.remedies] == [
        "headway train notes.txt --run-name mine-2",
        "headway train notes.txt --run-name mine --fresh",
        "headway train notes.txt --continue mine",
    ]


def test_a_plan_that_cannot_be_saved_there_is_refused_with_lines_that_save_it(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "my runs"
    made(runs / "mine", planned(run_name="mine"))
    with pytest.raises(UsageError, match="run mine already exists") as refused:
        put(planned(run_name="mine", batch_size=3), runs, named=True, saves=True)
    assert [remedy.do for remedy in refused.value.remedies] == [
        f"headway plan notes.txt --save '{runs / 'mine-2'}'",
        f"headway plan notes.txt --save '{runs / 'mine'}' --fresh",
        f"headway plan notes.txt --continue '{runs / 'mine'}' --save '{runs / 'mine-2'}'",
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


def test_a_resume_changes_time_and_memory_and_nothing_else() -> None:
    before = Settled.from_plan(planned(micro_batch_tokens=64))
    assert carry_over(before, planned()) == (before, "")
    now, note = carry_over(before, planned(micro_batch_tokens=32, max_time="1h", threads=3))
    assert now == replace(before, micro_batch_tokens=32, max_time_s=3600.0)
    assert note == (
        "from here on with micro-batches of 32 tokens, 64 before: the same within rounding"
    )
    now, note = carry_over(before, planned(gradient_checkpointing=True))
    assert now == replace(before, gradient_checkpointing=True)
    assert note == "from here on with gradient checkpointing on: the same within rounding"
    now, note = carry_over(before, planned(deterministic=True))
    assert now == replace(before, deterministic=True)
    assert note == "from here on with deterministic kernels on: the same within rounding"


@pytest.mark.parametrize("has_tried", [True, False])
def test_a_resume_can_turn_compiling_on_and_off(has_tried: bool) -> None:
    before = replace(Settled.from_plan(planned()), has_tried=has_tried)
    now, note = carry_over(before, planned(torch_compile=True))
    assert now == replace(before, compiled=CompileLevel.OPERATIONS)
    assert note == "from here on with compiling on: the same within rounding"
    assert carry_over(now, planned(torch_compile=True)) == (now, "")
    assert carry_over(now, planned(torch_compile=False))[0] == before


@pytest.mark.parametrize(
    ("has_tried", "level"), [(False, CompileLevel.LAYERS), (True, CompileLevel.OPERATIONS)]
)
def test_a_resume_compiles_no_layers_that_were_never_tried(
    has_tried: bool, level: CompileLevel
) -> None:
    before = replace(Settled.from_plan(planned()), has_tried=has_tried)
    plan = planned(torch_compile=True)
    asked = replace(plan, machine=replace(plan.machine, device="cuda"))
    assert carry_over(before, asked)[0].compiled is level


def test_a_micro_batch_that_was_taken_over_is_not_asked_for_again() -> None:
    before = replace(Settled.from_plan(planned(micro_batch_tokens=64)), micro_batch_tokens=16)
    plan = planned(micro_batch_tokens=64)
    settings = tuple(replace(choice, inherited="person") for choice in plan.settings)
    assert carry_over(before, replace(plan, settings=settings)) == (before, "")


def test_a_micro_batch_that_was_halved_stays_halved() -> None:
    before = replace(Settled.from_plan(planned(micro_batch_tokens=64)), micro_batch_tokens=16)
    assert carry_over(before, planned()) == (before, "")
    now, note = carry_over(before, planned(micro_batch_tokens=64))
    assert now.micro_batch_tokens == 64
    assert "micro-batches of 64 tokens, 16 before" in note


def test_a_difference_that_no_setting_shows_is_the_models() -> None:
    plan = planned()
    other = replace(plan, identity="other", model=replace(plan.model, weights_sha256="31" * 32))
    assert difference(other, plan) == "another model"


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
    with RunLock(run.lock), pytest.raises(UsageError, match="is being trained right now"):
        move_aside(run)
    assert run.path.exists()


def test_a_resume_keeps_its_number_of_workers_unless_one_is_given() -> None:
    before = replace(Settled.from_plan(planned()), workers=4, groups=2)
    kept, note = carry_over(before, planned(nproc="auto"))
    assert (kept.workers, kept.groups, note) == (4, 2, "")
    given, note = carry_over(before, planned(nproc=2))
    assert (given.workers, given.groups, note) == (2, 1, "")
