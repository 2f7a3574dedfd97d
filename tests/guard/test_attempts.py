"""Restarts: only while each leads to a new step."""

from headway.guard.attempts import AttemptBudget


def test_restarts_go_on_while_steps_are_reached() -> None:
    budget = AttemptBudget(3)
    assert [budget.take(step, 5.0) for step in (10, 20, 30)] == ["", "", ""]
    assert "as many restarts" in budget.take(40, 5.0)
    assert budget.number == 3


def test_a_restart_without_a_new_step_is_the_last() -> None:
    budget = AttemptBudget(9)
    assert budget.take(10, 5.0) == ""
    assert "no new step" in budget.take(10, 5.0)
    assert budget.take(11, 5.0) == ""


def test_a_command_that_prints_no_steps_must_have_run_for_a_while() -> None:
    budget = AttemptBudget(9)
    assert budget.take(None, 1.0) == "", "the first is not judged: there is nothing before it"
    assert "within a minute" in budget.take(None, 1.0)
    assert budget.take(None, 61.0) == ""


def test_none_are_left_of_none() -> None:
    assert AttemptBudget(0).take(5, 100.0)


def test_pauses_grow() -> None:
    budget = AttemptBudget(9)
    pauses = []
    for step in range(8):
        budget.take(step + 1, 5.0)
        pauses.append(budget.pause_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
