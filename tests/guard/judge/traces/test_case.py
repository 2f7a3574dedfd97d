"""A case: which states a command wrote, which lay there before, and what it cannot read."""

from pathlib import Path

from tests.guard.judge.left import age, facts_of, floats, losses_of, safetensors, state

from headway.guard.judge.traces.case import read_case

NAME = "trainer_state.json"


def test_states_are_told_apart_by_their_age(tmp_path: Path) -> None:
    state(tmp_path / "out/checkpoint-5" / NAME, 5, 10)
    state(tmp_path / "old/checkpoint-90" / NAME, 90, 100)
    started = age(tmp_path)
    state(tmp_path / "out/checkpoint-10" / NAME, 10, 10)
    case = read_case(facts_of(tmp_path, started_s=started))
    assert [one.global_step for one in case.written] == [10]
    assert sorted(one.global_step for one in case.earlier) == [5, 90]
    assert case.resumed_from is not None
    assert case.resumed_from.global_step == 5
    assert [step for step, _ in case.curves[0].losses] == [6, 7, 8, 9, 10]


def test_a_new_run_in_an_old_folder_went_on_from_nothing(tmp_path: Path) -> None:
    state(tmp_path / "out/checkpoint-50" / NAME, 50, 100)
    started = age(tmp_path)
    state(tmp_path / "out/checkpoint-10" / NAME, 10, 20)
    case = read_case(facts_of(tmp_path, started_s=started))
    assert case.resumed_from is None
    assert len(case.curves[0].losses) == 10


def test_an_option_names_what_was_resumed(tmp_path: Path) -> None:
    state(tmp_path / "elsewhere/checkpoint-5" / NAME, 5, 10)
    started = age(tmp_path)
    (tmp_path / "work").mkdir()
    command = ("train.py", "--resume_from_checkpoint", "../elsewhere/checkpoint-5")
    case = read_case(facts_of(tmp_path / "work", *command, started_s=started))
    assert case.resumed_from is not None
    assert case.resumed_from.global_step == 5


def test_exact_numbers_come_before_printed_ones(tmp_path: Path) -> None:
    state(tmp_path / NAME, 5, 10)
    case = read_case(facts_of(tmp_path, records=losses_of(1.0, 2.0)))
    assert [curve.source for curve in case.curves] == [NAME, "its output"]


def test_what_it_wrote_and_cannot_be_read_is_counted(tmp_path: Path) -> None:
    safetensors(tmp_path / "old/model.safetensors", {"w": floats(1)}).write_bytes(b"")
    started = age(tmp_path)
    path = safetensors(tmp_path / "out/model.safetensors", {"w": floats(1)})
    path.write_bytes(path.read_bytes()[:-2])
    (tmp_path / NAME).write_text('{"global_step"')
    unread = read_case(facts_of(tmp_path, started_s=started)).unread
    assert sorted(one.path.name for one in unread) == ["model.safetensors", NAME]


def test_paths_are_shown_as_they_would_be_typed(tmp_path: Path) -> None:
    case = read_case(facts_of(tmp_path))
    assert case.shown(tmp_path / "out" / "a") == "out/a"
    assert case.shown(Path("/elsewhere/a")) == "/elsewhere/a"
