"""A trial of packing that an earlier run made is made again where it might end otherwise."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers import Ran, run
from tests.training.jobs import going_on, planned

from headway.runs.plan import Plan
from headway.runs.settled import load_settled
from headway.training.setup import versions
from headway.training.trials import settle
from headway.training.trials.earlier_trial import earlier_trial

NAMES = "first", "second", "third"


@pytest.fixture(scope="module")
def ran(here: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Ran], list[Plan]]:
    """Three runs, each of which continues the one before."""
    folder = tmp_path_factory.mktemp("earlier")
    runs, plans = list[Ran](), list[Plan]()
    for name in NAMES:
        before = going_on(runs[-1].folder) if runs else None
        plans.append(planned(here, "chats", before, max_steps=2))
        runs.append(run(folder / name, plans[-1]))
    return runs, plans


def test_the_third_run_in_a_row_takes_it_over(ran: tuple[list[Ran], list[Plan]]) -> None:
    runs, plans = ran
    settled = load_settled(runs[1].folder.path, plans[1])
    tokens = settled.tried_tokens
    assert tokens > 8
    assert earlier_trial(plans[0], 1, versions()) is None  # it continues nothing
    assert earlier_trial(plans[1], 1, versions()) is None  # weights that were never trained
    found = earlier_trial(plans[2], tokens, versions())
    assert found == settled
    assert load_settled(runs[2].folder.path, plans[2]).tried_tokens == tokens
    assert earlier_trial(plans[2], tokens + 1, versions()) is None


def test_it_is_not_made_then(
    ran: tuple[list[Ran], list[Plan]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "try_packing", lambda *_: pytest.fail("it is tried again"))
    again = run(tmp_path / "third", ran[1][2])
    assert again.hashes() == ran[0][2].hashes()


@pytest.mark.parametrize(
    "what", ["torch", "the device", "the model", "its own code", "it was separate", "gone"]
)
def test_whatever_may_end_otherwise_is_tried(
    ran: tuple[list[Ran], list[Plan]], tmp_path: Path, what: str
) -> None:
    runs, plans = ran
    plan, now = plans[2], versions()
    parent = plan.model.parent
    assert parent is not None
    copy = shutil.copytree(runs[1].folder.path, tmp_path / "parent", symlinks=True)
    plan = replace(plan, model=replace(plan.model, parent=replace(parent, run=str(copy))))
    assert earlier_trial(plan, 1, now) is not None
    match what:
        case "torch":
            now |= {"torch": "0.1"}
        case "the device":
            plan = replace(plan, machine=replace(plan.machine, device="cuda"))
        case "the model":
            config = {**plan.model.config, "rope_theta": 1.0}
            plan = replace(plan, model=replace(plan.model, config=config))
        case "its own code":
            plan = replace(plan, model=replace(plan.model, trust_remote_code=True))
        case "it was separate":
            settled = load_settled(copy, plans[1])
            replace(settled, run_separately=True).save(copy)
        case _:
            (copy / "settled.json").write_text("{")
    assert earlier_trial(plan, 1, now) is None
