"""Process trees: every descendant, each once, parents first."""

from pathlib import Path

from tests.diagnose.evidence.kernel.fake_proc import add_process

from headway.diagnose.evidence.kernel.process_tree import parents_by_pid, process_tree, tops

PARENTS = {1: 0, 10: 1, 11: 10, 12: 10, 13: 11, 20: 1, 21: 20}


def test_descendants_follow_those_that_were_asked_about() -> None:
    assert process_tree([10], PARENTS) == [10, 11, 12, 13]
    assert process_tree([12, 10, 12], PARENTS) == [12, 10, 11, 13]


def test_a_process_that_is_gone_is_left_out() -> None:
    assert process_tree([99, 21], PARENTS) == [21]
    assert process_tree([99], PARENTS) == []


def test_what_others_do_is_counted_once() -> None:
    assert tops([10, 13, 21], PARENTS) == (10, 21)
    assert tops([13, 12], PARENTS) == (13, 12)


def test_parents_are_read_from_the_kernel(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, name="a) S 77 (")
    add_process(tmp_path, 11, 10, state="Z")
    (tmp_path / "12").mkdir()  # it has just ended
    (tmp_path / "self").mkdir()
    assert parents_by_pid(tmp_path) == {10: 1, 11: 10}
