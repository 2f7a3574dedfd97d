"""Settled values: the plan's until they are tried, then read as they were written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of

from headway.base.errors import Cause, MachineError, UsageError
from headway.model.kernels.compile_level import CompileLevel
from headway.runs.settled import NAME, Settled, load_settled

PLAN = plan_of(in_memory(1601), max_length=16, micro_batch_tokens=64)
FOUND = replace(
    Settled.from_plan(PLAN),
    has_tried=True,
    compute_dtype="bfloat16",
    run_separately=True,
    custom_logits=True,
    compiled=CompileLevel.LAYERS,
    micro_batch_tokens=32,
    gradient_checkpointing=True,
    max_time_s=60.0,
)


def test_without_a_file_it_is_what_was_planned(tmp_path: Path) -> None:
    PLAN.save(tmp_path)
    settled = load_settled(tmp_path, PLAN)
    assert settled == Settled.from_plan(PLAN)
    assert not settled.has_tried
    assert settled.micro_batch_tokens == PLAN.steps.micro_batch_tokens == 64
    assert settled.compute_dtype == PLAN.machine.compute_dtype
    assert settled.grace_s == PLAN.grace_s


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    FOUND.save(tmp_path)
    assert load_settled(tmp_path, PLAN) == FOUND


@pytest.mark.parametrize(
    ("compiled", "level"), [(True, CompileLevel.OPERATIONS), (False, CompileLevel.NOTHING)]
)
def test_one_that_says_only_whether_it_is_compiled_is_read(
    tmp_path: Path, compiled: bool, level: CompileLevel
) -> None:
    FOUND.save(tmp_path)
    path = tmp_path / NAME
    old = json.loads(path.read_text()) | {"schema": "headway.settled/1", "compiled": compiled}
    path.write_text(json.dumps(old))
    assert load_settled(tmp_path, PLAN) == replace(FOUND, compiled=level)


@pytest.mark.parametrize(
    ("device", "level"), [("cpu", CompileLevel.OPERATIONS), ("cuda", CompileLevel.LAYERS)]
)
def test_whole_layers_are_what_a_gpu_compiles(device: str, level: CompileLevel) -> None:
    plan = replace(PLAN, machine=replace(PLAN.machine, device=device))
    assert Settled.from_plan(plan).compiled is CompileLevel.NOTHING
    plan = replace(plan, machine=replace(plan.machine, compiled=True))
    assert Settled.from_plan(plan).compiled is level


def test_a_person_sees_the_plan_with_what_was_found() -> None:
    shown = FOUND.applied_to(PLAN)
    assert shown.machine.compute_dtype == "bfloat16"
    assert shown.machine.compiled
    assert shown.machine.gradient_checkpointing
    assert (shown.steps.micro_batch_tokens, shown.max_time_s) == (32, 60.0)
    assert shown.identity == PLAN.identity
    assert Settled.from_plan(PLAN).applied_to(PLAN) == PLAN


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "headway.plan/2"}', "[]"])
def test_one_that_cannot_be_read_is_refused_and_not_tried_again(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(MachineError, match=r"cannot use settled\.json") as refused:
        load_settled(tmp_path, PLAN)
    assert refused.value.cause is Cause.RUN_UNREADABLE


def test_one_of_another_plan_is_refused(tmp_path: Path) -> None:
    replace(FOUND, plan="cd" * 32).save(tmp_path)
    with pytest.raises(MachineError, match=r"cannot use settled\.json") as refused:
        load_settled(tmp_path, PLAN)
    assert "plan cdcdcdcdcdcd" in refused.value.have


def test_one_of_a_newer_headway_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"schema": "headway.settled/3"}')
    with pytest.raises(UsageError, match="newer Headway"):
        load_settled(tmp_path, PLAN)


TRIED: dict[str, tuple[dict[str, bool], dict[str, Any]]] = {
    "sound": ({"separately": False, "own_logits": False}, {"share_prefixes": True}),
    "leaks": ({"separately": True, "own_logits": True}, {"custom_logits": True}),
    "not shared": ({"separately": False, "own_logits": False, "not_shared": True}, {}),
    "compiled": (
        {"separately": False, "own_logits": False, "compiled": True},
        {"share_prefixes": True, "compiled": CompileLevel.OPERATIONS},
    ),
}


@pytest.mark.parametrize("kind", TRIED)
def test_trials_in_a_plan_of_version_1_are_read(tmp_path: Path, kind: str) -> None:
    """They were kept in plan.json, and are never run again."""
    tried, found = TRIED[kind]
    plan = replace(PLAN, steps=replace(PLAN.steps, share_prefixes=True))
    old: dict[str, Any] = json.loads(plan.to_json())
    (tmp_path / "plan.json").write_text(
        json.dumps(old | {"schema": "headway.plan/1", "tried": tried})
    )
    settled = load_settled(tmp_path, plan)
    base = replace(Settled.from_plan(plan), has_tried=True, share_prefixes=False)
    assert settled == replace(base, run_separately=tried["separately"], **found)


def test_data_is_where_the_newest_attempt_found_it() -> None:
    assert Settled.from_plan(PLAN).locate_data(PLAN) == PLAN
    moved = replace(Settled.from_plan(PLAN), store="/elsewhere/ab12")
    assert moved.locate_data(PLAN).data.store == "/elsewhere/ab12"
    unknown = replace(moved, store="", stream="")  # as 0.1 wrote it
    assert unknown.locate_data(PLAN) == PLAN
