"""A receipt is held to its folder: whatever is changed in one of them shows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import Ran, plan_of, run, stop_after, text_store
from tests.training.jobs import adapted, planned

from headway.base.errors import BrokenContract, Exit, Finding
from headway.base.events import AttemptStarted, EventLog, Stalled, StallEnded, StopAsked
from headway.base.files import write_folder
from headway.base.lock import RunLock
from headway.base.pulse import Pulse
from headway.data.batching.rows import rows_of
from headway.data.order import StoreOrder
from headway.data.survey.store import Store
from headway.runs.folder import RunFolder
from headway.runs.identity import identity_of
from headway.runs.log_facts import ReceiptStalls
from headway.runs.order import order_of
from headway.runs.plan import Plan
from headway.runs.verification.verify import Verification, verify

MEASURED = (  # by a clock, or by a model that is not loaded again
    "schema",
    "run",
    "at",
    "time.",
    "speed.",
    "plan_against_actual.",
    "environment.",
    "learning_facts.train_probe.rows",
    "learning_facts.train_probe.spread",
    "learning_facts.held_out.rows",
    "learning_facts.held_out.spread",
    "learning_facts.tensors.with_gradient",
    "learning_facts.tensors.changed",
    "learning_facts.tensors.relative_change",
    "learning_facts.tensors.dead",
)


@pytest.fixture(scope="module")
def finished(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("runs") / "notes"
    return run(folder, planned(here, val_size=4, num_train_epochs=2))


@pytest.fixture
def folder(finished: Ran, tmp_path: Path) -> Path:
    """A copy to harm."""
    return Path(shutil.copytree(finished.folder.path, tmp_path / "notes", symlinks=True))


def verified(folder: Path) -> Verification:
    return verify(RunFolder(folder), Pulse())


def differing(folder: Path) -> set[str]:
    return {claim.name for claim in verified(folder).differences}


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


def lines_of(folder: Path, event: str) -> list[int]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [i for i, line in enumerate(lines) if json.loads(line)["event"] == event]


def edit_log(folder: Path, change: Callable[[list[str]], None]) -> None:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def reseal(checkpoint: Path) -> None:
    """A manifest that fits, as somebody who lies on purpose would write one."""
    aside = checkpoint.with_name("aside")
    checkpoint.rename(aside)
    (aside / "manifest.json").unlink()
    write_folder(checkpoint, lambda folder: shutil.copytree(aside, folder, dirs_exist_ok=True))
    shutil.rmtree(aside)


# ---- what is true ------------------------------------------------------------------------------


def test_a_receipt_that_is_true_holds(finished: Ran) -> None:
    found = verified(finished.folder.path)
    assert found.differences == ()
    assert found.holds
    assert len(found.claims) > 50
    assert {c.name for c in found.unchecked} == {"tensors.changed", "tensors.relative_change"}


@pytest.mark.parametrize(
    "make",
    [
        lambda here: planned(here, "chats", max_length=7),
        lambda here: planned(here, "chats", val_size=5, num_train_epochs=3),
        lambda here: planned(here, max_steps=3),
        lambda here: planned(here, batch_size=6, num_train_epochs=2, max_steps=13),
        lambda here: adapted(here, max_steps=4),
    ],
    ids=["cut conversations", "conversations", "a part", "an epoch and a part", "adapters"],
)
def test_runs_of_every_kind_hold(here: Path, tmp_path: Path, make: Callable[[Path], Plan]) -> None:
    ran = run(tmp_path / "kind", make(here))
    assert ran.code == 0
    assert differing(ran.folder.path) == set()


def test_an_interrupted_run_holds_and_so_does_its_end(here: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "again", planned(here)
    ran = run(folder, plan, on=stop_after(5))
    assert {c.name for c in verified(folder).unchecked} >= {
        "contract",
        "line",
    }  # not logged
    EventLog(ran.folder.events, rank=-1).write(StopAsked("SIGTERM"))
    assert verified(folder).differences == ()
    assert "contract" not in {c.name for c in verified(folder).unchecked}
    run(folder, plan, attempt=2)
    assert verified(folder).differences == ()


def test_the_stalls_of_a_receipt_are_those_of_the_log(here: Path, tmp_path: Path) -> None:
    finding = Finding("warning", "a lock")

    def stall(event: Any, job: Any) -> None:
        if getattr(event, "step", 0) == 2:
            log = EventLog(job.folder.events, rank=-1)
            log.write(Stalled(1, "the trainer", "deadlock", 12.0, "training", finding, ""))
            log.write(StallEnded(1, "deadlock", 14.5, "itself"))

    ran = run(tmp_path / "stalled", planned(here, max_steps=3), on=stall)
    assert ran.receipt.stalls == ReceiptStalls(1, 14.5, {"deadlock": 1}, restarts=0)
    assert differing(ran.folder.path) == set()
    EventLog(ran.folder.events, rank=-1).write(  # the receipt was written before
        Stalled(2, "the trainer", "deadlock", 12.0, "training", finding, "")
    )
    assert differing(ran.folder.path) == set()
    edit_log(ran.folder.path, lambda lines: lines.pop(lines_of(ran.folder.path, "stall_ended")[0]))
    assert differing(ran.folder.path) == {"stalls"}


def test_who_asked_for_a_stop_is_who_the_log_says(here: Path, tmp_path: Path) -> None:
    """A signal is sent on somebody's behalf: of a stall, too."""

    def stop(event: Any, job: Any) -> None:
        if getattr(event, "step", 0) == 2:
            EventLog(job.folder.events, rank=-1).write(StopAsked("a stall"))
            job.stop.ask("SIGTERM", Exit.COME_BACK)

    ran = run(tmp_path / "stopped", planned(here), on=stop)
    assert "saved (a stall)" in ran.receipt.line
    assert verified(ran.folder.path).differences == ()


def test_steps_that_a_later_attempt_did_again_count_once(here: Path, tmp_path: Path) -> None:
    folder, plan = tmp_path / "killed", planned(here, save_steps=4)

    def killed(event: Any, job: Any) -> None:
        if getattr(event, "step", 0) == 7:
            job.attempt.saver.finish()  # of step 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, plan, on=killed)
    (newest,) = RunFolder(folder).checkpoints()
    start = AttemptStarted("killed", "1", 1, newest.global_step, "")
    EventLog(folder / "events.jsonl", attempt=2, rank=-1).write(start)
    run(folder, plan, attempt=2)
    assert verified(folder).differences == ()
    told = lines_of(folder, "step_done")
    assert len(told) > plan.steps.num

    def another_first_time(lines: list[str]) -> None:
        at = told[6]  # step 7, before the kill
        lines[at] = json.dumps(json.loads(lines[at]) | {"rows": 99})

    edit_log(folder, another_first_time)
    assert verified(folder).differences == ()


def test_the_tokenised_data_may_be_gone_and_that_is_said(here: Path, tmp_path: Path) -> None:
    text_store(tmp_path / "store", 300, 40)
    ran = run(tmp_path / "run", plan_of(Store(tmp_path / "store"), max_length=16, max_steps=3))
    assert verified(ran.folder.path).holds
    shutil.rmtree(tmp_path / "store")
    found = verified(ran.folder.path)
    assert found.holds
    gone = {c.name: c.by for c in found.unchecked if not c.name.startswith("tensors")}
    why = "the tokenized data is no longer in the cache"
    assert gone == {"tokens.input": why, "tokens.trained": why}


@pytest.mark.parametrize("data", ["text", "chats"])
@pytest.mark.parametrize("given", [{}, {"val_size": 3}, {"max_steps": 2}, {"batch_size": 55}])
def test_the_order_follows_from_the_plan_alone(here: Path, data: str, given: Any) -> None:
    plan = planned(here, data, **given)
    rows = rows_of(Store(here / data), plan.data.max_length)
    held_out, batch = plan.data.rows.held_out, plan.steps.batch_size
    passed_over = plan.data.twin_places
    assert order_of(plan) == StoreOrder(
        plan.seed, rows.num_full, rows.has_short, held_out, batch, passed_over
    )


def test_the_identity_follows_from_the_plan_alone(here: Path) -> None:
    plan = planned(here)
    assert identity_of(plan) == plan.identity
    assert identity_of(replace(plan, seed=5)) != plan.identity


# ---- what is not -------------------------------------------------------------------------------


OTHERS: dict[str, Any] = {
    "workers": [{"rank": n, "group": 0, "rows": 8, "computing": 0.5} for n in range(2)],
    "stalls": {"number": 1, "longest": 14.0, "causes": {"deadlock": 1}, "restarts": 0},
}


def leaves(value: Any, path: str = "") -> list[str]:
    match value:
        case dict():
            return [leaf for k, v in value.items() for leaf in leaves(v, f"{path}.{k}")]
        case _:
            return [path.removeprefix(".")]


def other(value: Any) -> Any:
    match value:
        case bool() | None:
            return 7
        case int() | float():
            return value + 1
        case str():
            return {"finished": "interrupted", "kept": "broken", "improved": "not"}.get(
                value, "unclear" if value != "unclear" else "improved"
            )
        case _:
            return [*value, "more"]


def test_every_number_of_a_receipt_that_can_be_computed_again_is(
    finished: Ran, folder: Path
) -> None:
    path = folder / "receipt.json"
    true = json.loads(path.read_text())
    believed: list[str] = []
    for leaf in leaves(true):
        if leaf.startswith(MEASURED) and leaf != "environment.trust_remote_code":
            continue
        *way, last = leaf.split(".")
        lie = json.loads(json.dumps(true))
        place = lie
        for name in way:
            place = place[name]
        place[last] = OTHERS.get(leaf) or other(place[last])
        path.write_text(json.dumps(lie))
        if verified(folder).holds:
            believed.append(leaf)
    assert believed == []


def first_step(lines: list[str]) -> int:
    return next(i for i, line in enumerate(lines) if '"step_done"' in line)


def drop_a_step(lines: list[str]) -> None:
    del lines[first_step(lines) + 1]


def repeat_a_step(lines: list[str]) -> None:
    at = first_step(lines) + 1
    lines.insert(at, lines[at])


def one_row_less(lines: list[str]) -> None:
    at = first_step(lines) + 1
    lines[at] = lines[at].replace('"rows":4', '"rows":3')


def another_number(lines: list[str]) -> None:
    at = first_step(lines) + 1
    lines[at] = lines[at].replace('"step":2,', '"step":500,')


def another_loss(lines: list[str]) -> None:
    at = first_step(lines)
    told = json.loads(lines[at])
    lines[at] = json.dumps(told | {"loss": told["loss"] / 2})


LOG = {
    "a step is missing": (drop_a_step, "steps.applied"),
    "a step twice": (repeat_a_step, "steps.applied"),
    "a row less": (one_row_less, "rows.applications"),
    "a step of another number": (another_number, "steps.applied"),
    "another loss": (another_loss, "loss_first"),
    "an empty log": (list.clear, "tokens.trained"),
}


@pytest.mark.parametrize("harm", LOG)
def test_a_log_that_says_otherwise_is_found(folder: Path, harm: str) -> None:
    change, claim = LOG[harm]
    edit_log(folder, change)
    assert claim in differing(folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def newest(folder: Path) -> Path:
    return RunFolder(folder).checkpoints()[-1].path


def another_state(folder: Path) -> None:
    rewrite(newest(folder) / "headway.json", lambda state: state | {"row_sum": 12345})
    reseal(newest(folder))


def another_link(folder: Path) -> None:
    (folder / "model").unlink()
    (folder / "model").symlink_to("elsewhere")


def another_plan(folder: Path) -> None:
    def more(plan: Any) -> None:
        plan["learning"]["peak"] *= 2

    rewrite(folder / "plan.json", more)


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (lambda f: flip(newest(f) / "model.safetensors"), "checkpoint"),
    "a missing file": (lambda f: (newest(f) / "headway.json").unlink(), "checkpoint"),
    "a missing checkpoint": (lambda f: shutil.rmtree(newest(f)), "checkpoint"),
    "a manifest that lies too": (another_state, "checkpoint.row_sum"),
    "resealed": (
        lambda f: flip(newest(f) / "model.safetensors") or reseal(newest(f)),
        "checkpoint.manifest_sha256",
    ),
    "another link": (another_link, "model"),
    "another plan": (another_plan, "plan.identity"),
    "more rejected": (
        lambda f: (f / "rejected.jsonl").write_text('{"reason": "not JSON"}\n'),
        "rows.rejected",
    ),
    "rejected in no form": (lambda f: (f / "rejected.jsonl").write_text("[]\n"), "rows.rejected"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_folder_that_says_otherwise_is_found(folder: Path, harm: str) -> None:
    change, claim = HARM[harm]
    change(folder)
    assert claim in differing(folder)


def test_a_receipt_of_tokens_that_the_data_does_not_have_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log and the receipt may agree on a lie: the data itself is asked."""

    def more(lines: list[str]) -> None:
        at = first_step(lines)
        told = json.loads(lines[at])
        told |= {n: told[n] + 1 for n in ("trained_tokens", "input_tokens", "computed_tokens")}
        lines[at] = json.dumps(told)

    edit_log(folder, more)
    rewrite(
        folder / "receipt.json",
        lambda r: r["tokens"].update(
            trained=r["tokens"]["trained"] + 1, input=r["tokens"]["input"] + 1
        ),
    )
    wrong = {(c.name, c.by) for c in verified(folder).differences}
    assert ("tokens.trained", "the tokenized data") in wrong
    assert ("tokens.trained", "events.jsonl") not in wrong


# ---- nothing to verify -------------------------------------------------------------------------


def test_a_run_without_a_receipt_says_what_is_there(folder: Path) -> None:
    (folder / "receipt.json").unlink()
    with pytest.raises(BrokenContract, match="never finished") as refused:
        verified(folder)
    assert "26 steps in its log, checkpoint-26" in refused.value.have
    with RunLock(folder / "run.lock"), pytest.raises(BrokenContract, match="it is still training"):
        verified(folder)


@pytest.mark.parametrize("name", ["receipt.json", "plan.json"])
def test_what_cannot_be_read_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("{not")
    with pytest.raises(BrokenContract, match=f"{name} cannot be read"):
        verified(folder)
