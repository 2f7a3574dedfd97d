"""New files beside those that a run has trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runs.folders import made, planned

from headway.runs.folder import RunFolder
from headway.runs.placement import find_new_data, place
from headway.runs.plan import Parent, Plan


def of(names: str, run: RunFolder | None = None, **model: Any) -> Plan:
    """A plan of files "a b", each with its own content; "a!" is another content of a."""
    contents = {f"inbox/{name[0]}.txt": name for name in names.split()}
    plan = planned()
    parent = Parent(str(run.path), "", 3, "", keeps_optimizer=True) if run else None
    data = replace(plan.data, contents=contents, sources=("inbox/",), fingerprint=names)
    model = {"parent": parent, "source": "run" if run else "preset"} | model
    return replace(plan, identity=names, data=data, model=replace(plan.model, **model))


@pytest.fixture
def first(tmp_path: Path) -> RunFolder:
    return made(tmp_path / "runs" / "notes", of("a b"), "finished")


def test_new_files_beside_trained_ones_are_offered_alone(first: RunFolder) -> None:
    placement = place(of("a b c"), first.path.parent, named=False, fresh=False)
    assert (placement.folder.path.name, placement.kind) == ("notes-2", "new")
    assert placement.finding is not None
    assert placement.finding.what == (
        "run notes has trained 2 of these files already; this run trains all 3 from scratch"
    )
    assert placement.finding.have == "new: inbox/c.txt"
    (remedy,) = placement.finding.remedies
    assert remedy.do == (
        "headway train inbox/c.txt --continue notes --run-name notes-2 "
        f"--output-dir {first.path.parent}"
    )


@pytest.mark.parametrize(
    "now",
    [
        "a! b c",  # a file changed
        "b c",  # a file is gone
        "a b",  # nothing is new
        "d e",  # nothing was trained
    ],
)
def test_what_is_not_only_new_is_not_offered(first: RunFolder, now: str) -> None:
    assert find_new_data([first], of(now)) is None


def test_a_run_that_has_not_finished_has_not_trained_them(tmp_path: Path) -> None:
    run = made(tmp_path / "notes", of("a b"), "interrupted")
    assert find_new_data([run], of("a b c")) is None


def test_another_model_has_not_trained_them(first: RunFolder) -> None:
    other = of("a b c", source="folder", weights_sha256="31" * 32)
    assert find_new_data([first], other) is None


def test_what_a_run_continues_was_trained_too(first: RunFolder) -> None:
    second = made(first.path.parent / "notes-2", of("c", first), "finished")
    new = find_new_data([first, second], of("a b c d"))
    assert new is not None
    assert (new.run, new.files, new.num_trained) == (second, ("inbox/d.txt",), 3)


def test_a_folder_that_is_trained_again_on_top_is_told(first: RunFolder) -> None:
    placement = place(of("a b c", first), first.path.parent, named=False, fresh=False)
    assert placement.finding is not None
    assert "this run trains all 3 again" in placement.finding.what
    assert place(of("a b", first), first.path.parent, named=False, fresh=False).finding is None


def test_a_named_run_is_refused_with_what_is_new(first: RunFolder) -> None:
    with pytest.raises(Exception, match="already exists with a different plan") as refused:
        place(of("a b c"), first.path.parent, named=True, fresh=False)
    remedies: Any = vars(refused.value)["remedies"]
    assert remedies[-1].do.startswith("headway train inbox/c.txt --continue notes")


def test_a_plan_that_cannot_be_saved_there_may_be_of_what_is_new(first: RunFolder) -> None:
    with pytest.raises(Exception, match="already exists with a different plan") as refused:
        place(of("a b c"), first.path.parent, named=True, fresh=False, saves=True)
    remedies: Any = vars(refused.value)["remedies"]
    run = first.path
    assert remedies[-1].do == f"headway plan inbox/c.txt --continue {run} --save {run}-2"


def test_many_new_files_are_named_by_their_folder(tmp_path: Path) -> None:
    run = made(tmp_path / "notes", of("a"), "finished")
    many = of(" ".join("abcdefghijklmnopqrstuvwxyz"))
    new = find_new_data([run], many)
    assert new is not None
    assert new.command(many, "notes-2").startswith("headway train inbox/ --continue notes")
