"""The measurements of several workers: what is typed, what counts, and what a kill costs."""

import importlib
import json
import types
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "peers")
    return importlib.import_module


# -- reductions


def test_the_reductions_are_those_of_the_setting(load: Load) -> None:
    row = types.SimpleNamespace
    table = [
        row(name="nproc", metadata={"choices": ()}),
        row(name="reduction", metadata={"choices": ("auto", "tree", "fast")}),
    ]
    reductions = load("workers").reductions
    assert reductions(table) == ("auto", "tree", "fast")
    assert reductions(table[:1]) == ()


@pytest.mark.parametrize(
    ("kind", "known", "words"),
    [
        ("tree", (), []),
        ("tree", ("auto", "tree"), ["--reduction", "tree"]),
        ("fast", ("auto", "tree", "fast"), ["--reduction", "fast"]),
    ],
)
def test_a_reduction_is_typed_where_there_is_a_choice(
    load: Load, kind: str, known: tuple[str, ...], words: list[str]
) -> None:
    assert load("workers").reduction_words(kind, known) == words


def test_a_reduction_that_is_not_there_is_told(load: Load) -> None:
    workers, trials = load("workers"), load("trials")
    with pytest.raises(trials.TrialError, match=r"^there is no --reduction hsdp in this version$"):
        workers.reduction_words("hsdp", ("auto", "tree"))


# -- figures


def test_figures_are_of_the_steps_after_the_warm_up(load: Load) -> None:
    workers, trials = load("workers"), load("trials")
    watch = trials.CpuWatch()
    for at_s, used_s in ((99.0, 0.0), (101.0, 10.0), (104.0, 16.0), (106.0, 30.0)):
        watch.saw(at_s, used_s)
    steps = trials.Steps([98.0, 100.0, 102.0, 105.0], [9] * 4, [40, 40, 60, 90], [4, 3, 2.5, 2])
    found = workers.figures(steps, watch)
    assert found[workers.RATE] == 30.0
    assert found["seconds a step"] == 2.5
    # 5 at 100 and 23 at 105, on the lines between two looks.
    assert found[workers.CPU] == pytest.approx(9.0)
    assert found["cores at work"] == pytest.approx(3.6)
    assert (found["loss of step 3"], found["loss of the last step"]) == (2.5, 2)


def test_cores_that_nobody_looked_at_are_no_measurement(load: Load) -> None:
    trials = load("trials")
    watch = trials.CpuWatch()
    watch.saw(10.0, 1.0)
    watch.saw(11.0, 2.0)
    assert watch.used_s(10.0, 10.5) == 0.5
    with pytest.raises(trials.TrialError, match="nobody looked"):
        watch.used_s(9.0, 10.5)


def test_utilization_is_the_mean_of_the_workers(load: Load, tmp_path: Path) -> None:
    utilization, receipt = load("workers").utilization, tmp_path / "receipt.json"
    workers = [{"computing": 0.9, "peers": 0.1}, {"computing": 0.7, "peers": 0.3}]
    receipt.write_text(json.dumps({"workers": workers}))
    assert utilization(receipt) == {
        "utilization": pytest.approx(0.8),
        "share waiting for peers": pytest.approx(0.2),
    }
    receipt.write_text(json.dumps({"workers": []}))
    assert utilization(receipt) == {}


def test_a_speed_up_is_of_the_medians_over_one_thread(load: Load) -> None:
    workers, report = load("workers"), load("report")

    def contender(name: str, rates: list[float]) -> Any:
        return report.Contender(name, "", tuple({workers.RATE: rate} for rate in rates))

    one, two = contender("1 x 1 thread", [90.0, 100.0, 300.0]), contender("2 x 1 thread", [190.0])
    said = ["Speed-up over 1 x 1 thread: 2 x 1 thread 1.90."]
    assert workers.speed_ups([one, two], "1 x 1 thread") == said
    lost = report.Contender("1 x 1 thread", "", (), "did not finish")
    assert workers.speed_ups([lost, two], "1 x 1 thread") == [
        "No speed-up: 1 x 1 thread was not measured."
    ]


@pytest.mark.parametrize(
    ("hashes", "said"),
    [
        ({"one": {"aa"}, "two": {"aa"}}, "the same bits for one, two, sha256 aa"),
        ({"one": {"aa"}, "two": {"bb"}}, "NOT the same bits for one, two: 2 different ones"),
        ({"one": {"aa", "bb"}, "two": {"aa"}}, "NOT the same bits for one, two: 2 different ones"),
        ({"one": {"aa"}}, "not compared, two ended with none"),
    ],
)
def test_bits_are_compared_over_all_rounds(
    load: Load, hashes: dict[str, set[str]], said: str
) -> None:
    assert load("workers").bits(hashes, ["one", "two"]) == said


# -- recovery


def entry(second: int, attempt: int, step: int = 0) -> dict[str, Any]:
    told = {"at": f"2026-11-30T00:00:{second:02}+00:00", "attempt": attempt}
    return told | ({"event": "step_done", "step": step} if step else {"event": "phase_began"})


def test_only_a_step_of_the_next_attempt_that_was_not_finished_before_counts(load: Load) -> None:
    recovery = load("recovery")
    killed_s = datetime.fromisoformat(entry(10, 1)["at"]).timestamp() + 0.5
    lines = [entry(1, 1), entry(5, 1, step=1), entry(10, 1, step=2)]
    assert recovery.since_kill(lines, killed_s) is None
    # The step that was under way is told after the kill: no part of the recovery.
    lines.append(entry(11, 1, step=3))
    assert recovery.since_kill(lines, killed_s) is None
    lines += [entry(20, 2), entry(25, 2, step=2), entry(28, 2, step=3)]
    assert recovery.since_kill(lines, killed_s) is None
    lines.append(entry(31, 2, step=4))
    assert recovery.since_kill(lines, killed_s) == {
        recovery.NEXT_STEP: 20.5,
        recovery.NEXT_START: 9.5,
        recovery.AGAIN: 2,
    }


def test_a_line_that_is_still_written_is_not_read(load: Load, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    entries_of = load("recovery").entries_of
    assert entries_of(log) == []
    log.write_text('{"event":"step_done","step":1}\n{"event":"step_do')
    assert [one["step"] for one in entries_of(log)] == [1]


# -- a corpus


def test_a_corpus_is_cut_after_a_line_and_skips_what_is_no_text(load: Load, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "site-packages").mkdir(parents=True)
    (second / "package").mkdir(parents=True)
    (first / "b.py").write_text("b = 1\n")
    (first / "a.py").write_text("a = 12\n")
    (first / "c.py").write_bytes(b"\xff\xfe")
    (first / "site-packages" / "d.py").write_text("not = here\n")
    (second / "package" / "e.py").write_text("e = 1\nf = 2\ng = 3\n")
    (second / "package" / "f.py").write_text("h\n")
    written = load("inputs").write_corpus(tmp_path / "all", 28, [first, second])
    files = sorted((tmp_path / "all").iterdir())
    assert [file.name for file in files] == ["00001-a.py", "00002-b.py", "00003-e.py"]
    assert files[-1].read_text() == "e = 1\nf = 2\n"
    assert (written.files, written.bytes, written.words) == (3, 25, 12)
    again = load("inputs").write_corpus(tmp_path / "again", 28, [first, second])
    assert again == written
