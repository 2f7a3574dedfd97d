"""The arithmetic of the measurements, and what they do with a peer that fails."""

import importlib
import json
import os
import select
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a module of bench/ or bench/peers/ as its scripts do."""
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "peers")
    return importlib.import_module


def measured(report: Any, ours: list[float], theirs: list[float], figure: str, times: float) -> Any:
    def contender(name: str, values: list[float], absent: str = "") -> Any:
        return report.Contender(name, "as typed", tuple({figure: v} for v in values), absent)

    return report.Measurement(
        title="Chats",
        what="",
        notes=(),
        contenders=(
            contender("Trainer", theirs, "" if theirs else "did not finish in 300 s"),
            contender("Headway", ours),
        ),
        targets=(report.Target(figure, "Trainer", times),),
    )


# -- arithmetic


def test_a_ratio_is_of_the_medians_and_its_spread_of_the_rounds(load: Load) -> None:
    report = load("report")
    one = measured(report, [40.0, 10.0, 20.0], [10.0, 20.0, 5.0], "tokens/s", 2)
    theirs, ours = one.contenders
    assert report.ratio(ours, theirs, "tokens/s") == report.Spread(2.0, 0.5, 4.0)


@pytest.mark.parametrize(
    ("figure", "times", "met"),
    [
        ("tokens/s", 2.0, True),
        ("tokens/s", 2.01, False),
        ("first step, s", 2.0, True),
        ("first step, s", 1.99, False),
    ],
)
def test_a_target_is_a_least_where_more_is_better_and_a_most_where_less_is(
    load: Load, figure: str, times: float, met: bool
) -> None:
    report = load("report")
    one = measured(report, [20.0], [10.0], figure, times)
    assert report.verdict(one, one.targets[0]) == (report.Spread(2.0, 2.0, 2.0), met)


def test_a_peer_without_trials_is_named_with_its_reason(load: Load) -> None:
    report = load("report")
    one = measured(report, [20.0], [], "tokens/s", 2)
    head = {"date": "2026-01-01", "machine": report.machine(), "versions": {}, "conditions": []}
    page = report.as_page([one], head)
    (target,) = [line for line in page.splitlines() if line.startswith("| Chats |")]
    assert target.endswith("| at least 2 | not measured here |")
    assert "Not measured here: did not finish in 300 s." in page
    (told,) = report.as_json([one], head)["measurements"]
    assert told["targets"][0]["met"] is None
    json.dumps(told)


def test_the_rate_leaves_the_warm_steps_out(load: Load) -> None:
    trials = load("trials")
    steps = trials.Steps(
        ends=[100.0, 200.0, 201.0, 203.0], trained=[9, 9, 30, 60], positions=[9] * 4, losses=[1] * 4
    )
    assert trials.rate(steps, steps.trained) == 30.0


def test_chats_are_the_same_each_time_and_begin_alike_where_asked(load: Load) -> None:
    chats = load("inputs").chats
    assert chats(20) == chats(20)
    prompts = {
        json.loads(line)["messages"][0]["content"]
        for line in chats(20, system_prompt=True).splitlines()
    }
    assert len(prompts) == 1


# -- trials


def test_a_hung_peer_is_ended_with_its_children(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = load("trials")
    monkeypatch.setattr(trials, "LIMIT_S", 2)
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(trials.TrialError, match=r"^did not finish in 2 s$"):
        trials.run(["sh", "-c", "sleep 600 > held; true"], tmp_path, tmp_path / "cache")
    ended, _, _ = select.select([held], [], [], 20)
    assert ended, "it ends when the last process that could write to it is gone"
    os.close(held)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("import sys; sys.exit('no rows\\n  try  more')", "no rows"),
        ("import sys; sys.exit(1)", "it said nothing"),
    ],
)
def test_a_trial_that_fails_is_told_by_the_line_that_names_it(
    load: Load, tmp_path: Path, code: str, why: str
) -> None:
    trials = load("trials")
    with pytest.raises(trials.TrialError) as failure:
        trials.run([sys.executable, "-c", code], tmp_path, tmp_path / "cache")
    assert str(failure.value).splitlines()[0] == f"failed with exit code 1: {why}"


def test_nobody_inherits_what_is_set_here(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nowhere/libtcmalloc.so")
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    environment = load("trials").environment(Path("cache"))
    assert "LD_PRELOAD" not in environment
    assert environment["OMP_NUM_THREADS"] == "2"


# -- rounds


def entries(contenders: Any, trials: Any, seen: list[str]) -> list[Any]:
    def trial(name: str, value: float, fails_at: int = 0) -> Callable[[Path], dict[str, float]]:
        def run(folder: Path) -> dict[str, float]:
            assert not list(folder.iterdir())
            seen.append(name)
            if seen.count(name) == fails_at:
                raise trials.TrialError("failed with exit code 1: no\nand much more")
            return {"tokens/s": value, "first step, s": value}

        return run

    return [
        contenders.Entry("A", "a", trial("A", 1.0, fails_at=2)),
        contenders.Entry(
            "B", "b", {"eager": trial("slow", 1.0), "compiled": trial("fast", 2.0)}, "tokens/s"
        ),
        contenders.Entry("C", "c", trial("C", 3.0)),
    ]


def test_contenders_take_turns_and_who_fails_is_out(load: Load, tmp_path: Path) -> None:
    contenders, trials = load("contenders"), load("trials")
    seen: list[str] = []
    bench = contenders.Bench(tmp_path, 3, quick=False)
    a, b, c = bench.take_turns(entries(contenders, trials, seen))
    assert seen == ["slow", "fast", "A", "fast", "C", "A", "fast", "C", "fast", "C"]
    assert (a.trials, a.absent) == ((), "failed with exit code 1: no")
    assert b.values("tokens/s") == [2.0] * 3
    assert b.how == "b; tried once before: eager 1 tokens/s, compiled 2 tokens/s; compiled stands"
    assert c.values("tokens/s") == [3.0] * 3


def test_no_second_round_begins_past_the_end(load: Load, tmp_path: Path) -> None:
    contenders, trials = load("contenders"), load("trials")
    seen: list[str] = []
    one = entries(contenders, trials, seen)[2]
    bench = contenders.Bench(tmp_path, 3, quick=False, end_s=0.0)
    (told,) = bench.take_turns([one])
    assert told.values("tokens/s") == [3.0]


def test_the_better_way_is_the_sooner_one_where_less_is_better(load: Load, tmp_path: Path) -> None:
    contenders, trials = load("contenders"), load("trials")
    seen: list[str] = []
    _, two, _ = entries(contenders, trials, seen)
    two = contenders.Entry(two.name, two.how, two.ways, "first step, s")
    (told,) = contenders.Bench(tmp_path, 1, quick=False).take_turns([two])
    assert told.values("first step, s") == [1.0]


# -- llm.c's files


def test_weights_of_llm_c_are_as_many_as_its_header_says(load: Load, tmp_path: Path) -> None:
    llmc = load("llmc")
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16}
    llmc.write_weights(tmp_path / "gpt2.bin", shape, 4)
    embeddings, layer, last = (16 + 4) * 8, 12 * 64 + 13 * 8, 2 * 8
    values = embeddings + 2 * layer + last
    assert (tmp_path / "gpt2.bin").stat().st_size == 4 * (256 + values)


def test_a_variable_of_llm_c_that_is_gone_is_no_measurement(load: Load, tmp_path: Path) -> None:
    llmc = load("llmc")
    source = tmp_path / "train_gpt2.c"
    source.write_text("int B = 4; // batch\nint T = 64;\n")
    llmc.set_variables(source, B=2, T=256)
    assert source.read_text() == "int B = 2; // batch\nint T = 256;\n"
    with pytest.raises(AssertionError, match="val_num_batches 0 times"):
        llmc.set_variables(source, val_num_batches=1)
