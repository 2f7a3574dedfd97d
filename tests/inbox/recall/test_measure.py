"""Measuring what is still known: once, of all files, and without a result after a stop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.inbox.recall.test_still_known import measured
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, Exit, MachineError
from headway.base.process import ChildProcess, Stop
from headway.inbox.recall.measure import measure_still_known
from headway.inbox.recall.still_known import (
    FILE,
    KnownFile,
    LearnedFile,
    StillKnown,
    load_still_known,
)
from headway.training.inference.request import InferenceRequest, InferenceResult, Recalled

Wait = Callable[[ChildProcess, Path], None]
CHILD = cast("ChildProcess", None)


class Files:
    """Files that are learned one after the other, and a model whose losses are given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.learned: list[LearnedFile] = []
        self.requests: list[InferenceRequest] = []
        self.stop = Stop()

    def learn(self, name: str, *losses: float | None, infer: Any = None) -> StillKnown | None:
        run = self._folder / f"{len(self.learned) + 1:04}-{name}"
        run.mkdir()
        conversations_plan().save(run)
        self.learned.append(LearnedFile(len(self.learned) + 1, name, str(run)))
        self.measure(losses, infer)
        return load_still_known(run)

    def measure(
        self, losses: Sequence[float | None] = (), infer: Any = None, *, all_files: bool = False
    ) -> None:
        def model(request: InferenceRequest, wait: Wait) -> InferenceResult:
            self.requests.append(request)
            asked = losses[: len(request.runs)]
            found = (Recalled(measured(x) if x else None, True, "" if x else "no") for x in asked)
            return InferenceResult(recalled=tuple(found))

        run = Path(self.learned[-1].run)
        show, infer = lambda *_: None, infer or model
        measure_still_known(
            run, "checkpoint-4", self.learned, self.stop, show, infer, all_files=all_files
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_every_file_is_measured_after_every_file(files: Files) -> None:
    first = files.learn("a", 2.0)
    second = files.learn("b", 2.5, 1.0)
    third = files.learn("c", 3.0, 0.9, 1.5)
    assert first == StillKnown(
        "headway.still_known/1",
        "checkpoint-4",
        (KnownFile(1, "a", True, measured(2.0), None, measured(2.0)),),
    )
    assert second is not None
    assert third is not None
    assert [(one.name, one.learned, one.before, one.now) for one in third.files] == [
        ("a", measured(2.0), measured(2.5), measured(3.0)),
        ("b", measured(1.0), measured(1.0), measured(0.9)),
        ("c", measured(1.5), None, measured(1.5)),
    ]
    request = files.requests[-1]
    assert request.kind == "recall"
    assert request.runs == tuple(one.run for one in files.learned)
    assert request.checkpoint == f"{files.learned[-1].run}/checkpoint-4"


def test_it_is_measured_once(files: Files) -> None:
    before = files.learn("a", 2.0)
    files.measure((1.0,))
    assert load_still_known(Path(files.learned[0].run)) == before
    assert len(files.requests) == 1


def test_what_cannot_be_measured_says_why(files: Files) -> None:
    def refuse(request: InferenceRequest, wait: Wait) -> InferenceResult:
        raise MachineError("the process died", cause=Cause.PROCESS_KILLED)

    found = files.learn("a", None)
    assert found is not None
    assert (found.files[0].problem, found.is_nothing_forgotten) == ("no", False)
    found = files.learn("b", infer=refuse)
    assert found is not None
    assert [one.problem for one in found.files] == ["the process died"] * 2


def test_a_stop_leaves_no_result(files: Files) -> None:
    def stopped(request: InferenceRequest, wait: Wait) -> InferenceResult:
        files.stop.ask("SIGTERM", Exit.COME_BACK)
        wait(CHILD, Path())
        raise AssertionError("it went on")

    def interrupted(request: InferenceRequest, wait: Wait) -> InferenceResult:
        raise KeyboardInterrupt

    assert files.learn("a", infer=stopped) is None
    files.stop = Stop()
    files.measure(infer=interrupted)
    assert load_still_known(Path(files.learned[0].run)) is None
    files.measure((2.0,))
    assert load_still_known(Path(files.learned[0].run)) is not None


def test_a_file_of_few_rows_has_few_others_measured_unless_all_are_asked_for(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = conversations_plan()
    rows = replace(short.data.rows, applications=50)
    monkeypatch.setattr(
        "headway.inbox.recall.measure.load_plan",
        lambda _: replace(short, data=replace(short.data, rows=rows)),
    )
    for number in range(9):
        files.learn(f"{number}", *[1.0] * (number + 1))
    found = load_still_known(Path(files.learned[-1].run))
    assert found is not None
    assert [one.name for one in found.files] == ["0", "2", "4", "6", "8"]
    assert found.num_not_looked_at == 4
    Path(files.learned[-1].run, FILE).unlink()
    files.measure([1.0] * 9, all_files=True)
    found = load_still_known(Path(files.learned[-1].run))
    assert found is not None
    assert (len(found.files), found.num_not_looked_at) == (9, 0)
