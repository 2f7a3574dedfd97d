"""Loss history: each step once, evaluations at their steps, in forms that others read."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of
from tests.training.jobs import STATE
from transformers.trainer_callback import TrainerState

from headway.base.events import AttemptStarted, Evaluated, Event, EventLog, Probed, Resumed
from headway.runs import loss_history
from headway.runs.loss_history import FILE, LossHistory, stride
from headway.runs.receipt import StepReport

FIRST, PER_EPOCH = 100, 4


def step(number: int, loss: float | None = None) -> Event:
    """Step `number` of the job; its loss is its number unless it is given."""
    made = loss if loss is not None else float(number)
    report = StepReport(
        number, FIRST + number, 0, made, 0.5, 1e-3 / number, 8, 0, 10, 16, 16, seconds=0.1
    )
    return report.event()


def started(at: int) -> Event:
    return AttemptStarted("notes", "1", 1, FIRST + at, "")


def history(folder: Path, *events: Event) -> LossHistory:
    log = EventLog(folder / "events.jsonl")
    for event in events:
        log.write(event)
    made = LossHistory(log.path, FIRST, PER_EPOCH)
    made.read()
    return made


WHOLE = (
    started(0),
    Probed("before", 9.0, 8.0),
    *(step(1), step(2), Evaluated(FIRST + 2, 2.5, 4, 0.1), step(3), step(4)),
    Evaluated(FIRST + 4, 1.5, 4, 0.1),
    step(5),
    Probed("after", 3.0, 1.25),
)
# What else the log of the same job may say, from its start on.
ON_THE_WAY: dict[str, tuple[Event, ...]] = {
    "killed, and resumed from a save": (
        *WHOLE[:6],
        *(started(2), Resumed("checkpoint-102", FIRST + 2), *WHOLE[5:]),
    ),
    "killed, and the newest save was damaged": (
        *WHOLE[:8],
        *(started(4), Resumed("checkpoint-102", FIRST + 2), *WHOLE[5:]),
    ),
    "killed before the first save": (*WHOLE[:6], started(0), *WHOLE[1:]),
    "stopped, measured, and resumed": (
        *WHOLE[:6],
        Probed("after", 3.5, 1.9),
        *(started(3), Resumed("checkpoint-103", FIRST + 3), *WHOLE[6:]),
    ),
    "a step told again without a resume": (*WHOLE[:6], *WHOLE[5:]),
}


def test_a_row_for_each_step_with_what_was_evaluated_after_it(tmp_path: Path) -> None:
    made = history(tmp_path, *WHOLE)
    made.write_csv(tmp_path)
    with (tmp_path / FILE).open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "eval_loss"]
    assert rows == [
        ["100", "0.0", "", "", "", "", "8.0"],
        ["101", "0.25", "1.0", "0.001", "0.5", "10", ""],
        ["102", "0.5", "2.0", "0.0005", "0.5", "20", "2.5"],
        ["103", "0.75", "3.0", str(1e-3 / 3), "0.5", "30", ""],
        ["104", "1.0", "4.0", "0.00025", "0.5", "40", "1.5"],
        ["105", "1.25", "5.0", "0.0002", "0.5", "50", "1.25"],
    ]


@pytest.mark.parametrize("way", ON_THE_WAY)
def test_what_happened_on_the_way_shows_in_no_row(tmp_path: Path, way: str) -> None:
    (tmp_path / "whole").mkdir()
    whole = history(tmp_path / "whole", *WHOLE)
    made = history(tmp_path, *ON_THE_WAY[way])
    assert made.rows(100) == whole.rows(100)
    assert made.log_history(FIRST + 5) == whole.log_history(FIRST + 5)


def test_a_run_that_is_stopped_shows_what_was_measured_then(tmp_path: Path) -> None:
    made = history(tmp_path, *WHOLE[:6], Probed("after", 3.5, 1.9))
    assert made.rows(100)[-1].eval_loss == 1.9


def test_a_checkpoint_knows_nothing_of_later_steps(tmp_path: Path) -> None:
    made = history(tmp_path, *WHOLE)
    assert [(e["step"], "loss" in e) for e in made.log_history(FIRST + 2)] == [
        (100, False),
        (101, True),
        (102, True),
        (102, False),
    ]
    assert [row.step for row in made.rows(100, FIRST + 2)] == [100, 101, 102]


def test_what_is_new_in_the_log_is_read_once(tmp_path: Path) -> None:
    made = history(tmp_path, *WHOLE[:3])
    EventLog(made.events).write(step(2))
    made.read()
    made.read()
    assert [row.step for row in made.rows(100)] == [100, 101, 102]


def test_the_trainers_own_class_reads_it(tmp_path: Path) -> None:
    from dataclasses import replace

    plan = plan_of(in_memory(1601), max_length=16)
    state = replace(STATE, global_step=FIRST + 4)
    made = history(tmp_path, *WHOLE)
    file = tmp_path / "trainer_state.json"
    file.write_text(json.dumps(made.trainer_state(plan, state)))
    read: Any = TrainerState.load_from_json(str(file))
    assert (read.global_step, read.logging_steps) == (FIRST + 4, 1)
    assert read.log_history[1] == {
        "epoch": 0.25,
        "grad_norm": 0.5,
        "learning_rate": 1e-3,
        "loss": 1.0,
        "step": 101,
    }
    assert read.log_history[-1] == {"epoch": 1.0, "eval_loss": 1.5, "step": 104}


def test_a_long_run_is_written_in_means_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the Trainer with larger logging_steps: the mean loss, the last rate and norm."""
    monkeypatch.setattr(loss_history, "MOST_LOGGED", 3)
    evaluated = [Evaluated(FIRST + n, float(n), 4, 0.1) for n in range(1, 11)]
    steps = [event for n in range(1, 11) for event in (step(n), evaluated[n - 1])]
    made = history(tmp_path, started(0), *steps)
    entries = made.log_history(FIRST + 10)
    assert [(e["step"], e["loss"]) for e in entries if "loss" in e] == [
        (104, 2.5),
        (108, 6.5),
        (110, 9.5),
    ]
    assert [e["step"] for e in entries if "eval_loss" in e] == [102, 106, 110]
    assert made.trainer_state(plan_of(in_memory(1601), max_length=16), STATE)["logging_steps"] == 1
    assert [row.loss for row in made.rows(5)] == [None, 1.5, None, 3.5, None, 5.5, None, 7.5,
                                                  None, 9.5]  # fmt: skip
    assert made.rows(5)[1].tokens == 20


@pytest.mark.parametrize(
    ("num", "every"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 4), (10**6, 2**17)]
)
def test_a_stride_is_the_smallest_that_fits(num: int, every: int) -> None:
    assert stride(num, 10) == every


def test_a_run_without_a_step_gets_no_file(tmp_path: Path) -> None:
    history(tmp_path, *WHOLE[:2]).write_csv(tmp_path)
    assert not (tmp_path / FILE).exists()
