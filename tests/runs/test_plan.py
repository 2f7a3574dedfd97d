"""A plan as a value: whole on disk, and never one with nothing to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers import in_memory, plan_of

from headway.base.errors import DataRefused
from headway.data.survey.result import SurveySample
from headway.runs.plan import Plan, StreamPlan, load_plan

PLAN = plan_of(in_memory(1601), max_length=16, sample_prompts=("The",), warmup_steps=2)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    PLAN.save(tmp_path)
    plan = load_plan(tmp_path)
    assert replace(plan, settings=()) == replace(PLAN, settings=())
    assert plan.to_json() == PLAN.to_json()
    assert plan.choice("sample_prompts").value == ["The"]


@pytest.mark.parametrize("steps", [0, -3])
def test_d01_a_plan_without_steps_cannot_be_built(steps: int) -> None:
    with pytest.raises(DataRefused, match="there is nothing to train"):
        replace(PLAN, steps=replace(PLAN.steps, num=steps))


def test_d01_a_plan_without_rows_cannot_be_built() -> None:
    rows = replace(PLAN.data.rows, planned=0)
    with pytest.raises(DataRefused, match="there is nothing to train"):
        replace(PLAN, data=replace(PLAN.data, rows=rows))


@pytest.mark.parametrize("change", [{"steps": None}, {"schema": 3}, {"seed": "x"}])
def test_what_is_no_plan_of_this_version_is_not_read(tmp_path: Path, change: Any) -> None:
    plain = msgspec.json.decode(PLAN.to_json(), type=dict[str, Any]) | change
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plain))
    with pytest.raises(msgspec.ValidationError):
        load_plan(tmp_path)


def first_version(**data: Any) -> dict[str, Any]:
    """The plan as Headway 0.1 wrote it."""
    plain = msgspec.json.decode(PLAN.to_json(), type=dict[str, Any])
    plain["data"] = {k: v for k, v in plain["data"].items() if k != "stream"} | data
    plain["looks"] = plain.pop("evaluation")
    return plain | {"schema": "headway.plan/1"}


@pytest.mark.parametrize("tried", [{}, {"tried": None}, {"tried": {"separately": False}}])
def test_a_plan_of_version_1_is_read(tmp_path: Path, tried: dict[str, Any]) -> None:
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(first_version() | tried))
    assert load_plan(tmp_path).to_json() == PLAN.to_json()


def test_a_streams_plan_of_version_1_is_read(tmp_path: Path) -> None:
    sample = SurveySample(bytes=10, whole=100, parts=2, error=0.1)
    stream = StreamPlan("cache/streams/1", 100, sample)
    plain = first_version(flow=msgspec.to_builtins(stream))
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plain))
    assert load_plan(tmp_path).data.stream == stream


def test_the_last_step_is_the_first_and_the_steps_after_it() -> None:
    assert PLAN.steps.last == PLAN.steps.first + PLAN.steps.num
    assert isinstance(PLAN, Plan)
