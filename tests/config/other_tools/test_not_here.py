"""What Headway cannot do: told with a reason and lines that work; turned off, it is not needed."""

import pytest

from headway.config.other_tools.lookup import answer
from headway.config.other_tools.meaning import Outcome
from headway.config.other_tools.not_here import NOT_HERE
from headway.config.resolve import resolve
from headway.config.settings import Given

NAMES = [name for meaning in NOT_HERE for name in meaning.names.split()]


def test_each_name_is_refused_with_a_reason_and_lines_that_work() -> None:
    for name in NAMES:
        found = answer(name, "something")
        assert found
        assert found.outcome is Outcome.NOT_HERE
        assert found.because
        resolve([Given(ours, value, "you") for ours, value in found.lines])


def test_turned_off_it_is_not_needed() -> None:
    for name in NAMES:
        found = answer(name, "false")
        assert found
        assert found.outcome is Outcome.NOT_NEEDED


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("load_in_8bit", True),
        ("use_dora", True),
        ("beta", True),
        ("modules_to_save", True),
        ("min_lr", True),
        ("fp16", False),
        ("deepspeed", False),
        ("wandb_project", False),
        ("push_to_hub", False),
        ("eval_dataset", False),
    ],
)
def test_what_decides_the_weights_is_told_from_what_does_not(name: str, decides: bool) -> None:
    found = answer(name, True)
    assert found
    assert found.decides is decides


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard", "mlflow", "comet_ml", "all"])
@pytest.mark.parametrize("name", ["report_to", "log_with", "tracker"])
def test_o02_no_tracker_runs_in_the_training_process(name: str, tracker: str) -> None:
    found = answer(name, tracker)
    assert found
    assert found.outcome is Outcome.NOT_HERE
    assert not found.decides  # the weights are the same without it
    assert "events.jsonl" in found.because
    assert "nothing is sent" in found.because
