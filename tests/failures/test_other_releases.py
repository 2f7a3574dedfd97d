"""F66: what another release wrote is read as it is, or refused in words; never misread."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import plan_of, run, text_store
from tests.training.jobs import going_on

from headway.base.errors import UsageError
from headway.base.files import MANIFEST, write_folder
from headway.base.pulse import Pulse
from headway.cli import run as headway
from headway.commands.inference import inference_request
from headway.runs.archive.backup import list_backups
from headway.runs.folder import RunFolder
from headway.runs.placement import place
from headway.runs.plan import load_plan
from headway.runs.receipt import load_receipt
from headway.runs.verification.verify import verify
from headway.supervise.live.live_jobs import run_status
from headway.training.inference.answer import _Talk

RELEASES = sorted((Path(__file__).parent / "releases").glob("[0-9]*"))
NEWEST = RELEASES[-1]


@pytest.fixture
def runs(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    release = getattr(request, "param", NEWEST)
    return Path(shutil.copytree(release, tmp_path / "runs", symlinks=True))


every_release = pytest.mark.parametrize(
    "runs", RELEASES, indirect=True, ids=[path.name for path in RELEASES]
)


# ---- older ones --------------------------------------------------------------------------------


@every_release
def test_f66_its_status_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = load_receipt(runs / "notes")
    assert run_status(RunFolder(runs / "notes")).state == "finished"
    assert headway(["status", "notes", "--output-dir", str(runs)]) == 0
    assert f"step {receipt.steps.applied}/{receipt.steps.planned}" in capsys.readouterr().out


@every_release
def test_f66_its_receipt_holds(runs: Path) -> None:
    found = verify(RunFolder(runs / "notes"), Pulse())
    assert found.differences == ()
    assert len(found.claims) - len(found.unchecked) > 50


@every_release
def test_f66_its_model_writes_text(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = inference_request("generate", "notes", runs, {"max_tokens": "4"}, prompt="ab")
    _Talk(asked, Pulse()).run()
    assert capsys.readouterr().out.startswith("ab")


@every_release
def test_f66_its_training_goes_on(runs: Path, tmp_path: Path) -> None:
    notes = RunFolder(runs / "notes")
    store = text_store(tmp_path / "more", 100)
    plan = plan_of(store, going_on(notes), max_length=16, max_steps=2)
    ran = run(runs / "more", plan)
    assert ran.code == 0
    first = load_receipt(notes.path).steps.last
    assert (ran.receipt.steps.first, ran.receipt.steps.last) == (first, first + 2)
    assert plan.model.parent is not None
    assert plan.model.parent.keeps_optimizer


@every_release
def test_f66_it_is_backed_up_and_restored(runs: Path) -> None:
    where = ["--output-dir", str(runs), "--quiet"]
    assert headway(["backup", "notes", *where]) == 0
    assert headway(["restore", "notes", *where]) == 0
    assert len(list_backups(runs / "notes")) == 2


# ---- newer ones --------------------------------------------------------------------------------


def newer(path: Path) -> None:
    """What a later Headway might have written in its place."""
    value = json.loads(path.read_text())
    name = value["schema"].partition("/")[0]
    path.write_text(json.dumps({"schema": f"{name}/99", "version": "9.9"}))


def newer_state(run: Path) -> None:
    """In a checkpoint whose manifest fits."""
    folder = run / "checkpoint-6"
    newer(folder / "headway.json")
    aside = folder.rename(run / "aside")
    (aside / MANIFEST).unlink()
    write_folder(folder, lambda made: shutil.copytree(aside, made, dirs_exist_ok=True))
    shutil.rmtree(aside)


USES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "verify, plan": (lambda run: newer(run / "plan.json"), ["verify", "notes"]),
    "verify, receipt": (lambda run: newer(run / "receipt.json"), ["verify", "notes"]),
    "verify, checkpoint": (newer_state, ["verify", "notes"]),
    "generate, plan": (lambda run: newer(run / "plan.json"), ["generate", "notes"]),
}


@pytest.mark.parametrize("use", USES)
def test_f66_what_a_newer_one_wrote_is_refused_with_what_to_do(
    runs: Path, use: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = USES[use]
    change(runs / "notes")
    assert headway([*words, "--output-dir", str(runs)]) == 2
    told = capsys.readouterr().err
    assert "was written by a newer Headway" in told
    assert "pip install --upgrade headway" in told
    assert headway(["runs", "--output-dir", str(runs)]) == 0  # the others are still shown
    assert headway(["status", "notes", "--output-dir", str(runs)]) == 0


def test_f66_a_newer_run_is_neither_gone_on_from_nor_written_over(runs: Path) -> None:
    plan = load_plan(runs / "notes")
    newer_state(runs / "notes")
    with pytest.raises(UsageError, match="written by a newer Headway"):
        going_on(RunFolder(runs / "notes"))
    newer(runs / "notes" / "plan.json")
    for named in (True, False):
        with pytest.raises(UsageError, match="written by a newer Headway"):
            place(plan, runs, named=named, fresh=False)
