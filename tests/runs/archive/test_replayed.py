"""Rows that a run replays: those of its plan, or it does not start."""

from pathlib import Path

import pytest
from tests.helpers import chat_store, chats, plan_of, text_store

from headway.base.errors import DataRefused
from headway.data.batching.rows import rows_of
from headway.data.replay_plan import ReplayPlan, ReplaySource
from headway.runs.archive.kept_rows import FILE, kept_rows_of
from headway.runs.archive.replayed import replay_source, with_replayed
from headway.runs.order import order_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 30 conversations of 8 to 11 tokens, of which the first 4 to 6 are no answer."""
    folder = tmp_path / "0001-a"
    folder.mkdir()
    plan_of(chat_store(tmp_path / "a", *chats(30)), max_length=16, batch_size=4).save(folder)
    return folder


def source_of(run: Path, max_length: int = 16) -> ReplaySource:
    found = replay_source(run, max_length)
    assert found is not None
    return found


def test_rows_that_fit_are_counted(run: Path) -> None:
    all_of_them = len(kept_rows_of(run).to_replay)
    assert source_of(run).num_rows == all_of_them
    assert 0 < source_of(run, 4).num_rows < all_of_them  # of the others, no answer is left
    assert replay_source(run, 2) is None


def test_rows_are_cut_to_the_length_of_the_run(run: Path, tmp_path: Path) -> None:
    store = text_store(tmp_path / "b", 200)
    plan = plan_of(store, max_length=6, batch_size=4)
    source = source_of(run, 6)
    replay = ReplayPlan(0.5, 4, 1, (source,))
    rows, order = with_replayed(replay, rows_of(store, 6), order_of(plan), 6)
    numbers = order.rows(1)[1]
    assert sum(numbers < 0) == 2
    assert all(sum(map(len, rows.segments(int(n)))) <= 6 for n in numbers)


@pytest.mark.parametrize("damage", ["deleted", "changed", "cut off"])
def test_rows_that_changed_since_the_plan_are_refused(run: Path, damage: str) -> None:
    source = source_of(run)
    file = run / FILE
    match damage:
        case "deleted":
            file.unlink()
        case "changed":
            file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
        case _:
            file.write_bytes(file.read_bytes()[:-9])
    plan = plan_of(chat_store(run.parent / "b", *chats(30)), max_length=16, batch_size=4)
    rows = rows_of(chat_store(run.parent / "c", *chats(30)), 16)
    with pytest.raises(DataRefused, match="changed since") as refusal:
        with_replayed(ReplayPlan(0.5, 4, 1, (source,)), rows, order_of(plan), 16)
    assert "--fresh" in str(refusal.value)
