"""Rows that are kept of a run: which, how many, and that they outlive its tokens."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers import chat_store, chats, order_of, plan_of, text_store

from headway.data.batching.listed_rows import ListedRow, ListedRows
from headway.data.batching.rows import rows_of
from headway.data.survey.result import SurveySample
from headway.data.survey.store import Store
from headway.runs.archive.kept_rows import (
    FILE,
    MOST_HELD_OUT,
    MOST_TO_REPLAY,
    choose_rows,
    kept_rows_of,
)
from headway.runs.plan import Plan, StreamPlan


def planned(store: Store, **given: object) -> Plan:
    return plan_of(store, **{"max_length": 16, "batch_size": 4, **given})


def numbers(store: Store, kept: tuple[ListedRow, ...]) -> list[int]:
    """The numbers of kept rows, found by their tokens; their store has no two that are alike."""
    rows = rows_of(store, 16)

    def key(row: int, of: ListedRows | object) -> str:
        return str([one.ids.tolist() for one in of.segments(row)])  # type: ignore[attr-defined]

    known = {key(row, rows): row for row in range(rows.num_rows)}
    listed = ListedRows(kept)
    return [known[key(row, listed)] for row in range(len(kept))]


def distinct(folder: Path, num: int) -> Store:
    """Conversations that all differ."""
    store = chat_store(folder, *chats(num))
    ids = store.ids.copy()
    ids[:] = [7 * i % 199 + i // 199 % 50 for i in range(len(ids))]
    (folder / "ids.bin").write_bytes(ids.tobytes())
    return Store(folder)


def test_held_out_rows_are_measured_and_trained_ones_are_replayed(tmp_path: Path) -> None:
    store = distinct(tmp_path, 60)
    plan = planned(store, val_size=5)
    kept = choose_rows(plan)
    held_out = order_of(plan, store).held_out().tolist()
    assert kept.are_held_out
    assert numbers(store, kept.to_measure) == held_out
    assert numbers(store, kept.to_replay) == [n for n in range(60) if n not in held_out]


def test_without_held_out_rows_some_are_measured_and_the_others_replayed(tmp_path: Path) -> None:
    store = distinct(tmp_path, 60)
    plan = planned(store, batch_size=20)
    kept = choose_rows(plan)
    measured = numbers(store, kept.to_measure)
    assert not kept.are_held_out
    assert len(measured) == 16
    assert set(measured) <= set(order_of(plan, store).rows(1)[1].tolist())
    assert numbers(store, kept.to_replay) == [n for n in range(60) if n not in measured]


def test_of_a_single_row_that_one_is_measured_and_replayed(tmp_path: Path) -> None:
    kept = choose_rows(planned(chat_store(tmp_path, *chats(1))))
    assert kept.to_measure == kept.to_replay
    assert len(kept.to_replay) == 1


def test_only_what_was_trained_is_replayed(tmp_path: Path) -> None:
    store = distinct(tmp_path, 60)
    plan = planned(store, max_steps=3)
    trained = {n for step in (1, 2, 3) for n in order_of(plan, store).rows(step)[1].tolist()}
    kept = choose_rows(plan)
    assert {*numbers(store, kept.to_measure), *numbers(store, kept.to_replay)} == trained


@pytest.mark.parametrize("batch", [1, 4, 2000])
def test_of_many_rows_so_many_are_kept(tmp_path: Path, batch: int) -> None:
    store = chat_store(tmp_path, *chats(2500))
    kept = choose_rows(planned(store, val_size=0, batch_size=batch))
    assert MOST_TO_REPLAY - 1 <= len(kept.to_replay) <= MOST_TO_REPLAY
    store = distinct(tmp_path / "held-out", 1000)
    assert len(choose_rows(planned(store, val_size=200)).to_measure) == MOST_HELD_OUT


def test_of_long_rows_fewer_are_kept(tmp_path: Path) -> None:
    kept = choose_rows(planned(text_store(tmp_path, 600_000), max_length=1024))
    tokens = sum(len(segment.ids) for row in kept.to_replay for segment in row)
    assert 100_000 < tokens <= 1 << 17


def test_they_outlive_the_tokens(tmp_path: Path) -> None:
    store = chat_store(tmp_path / "store", *chats(30))
    run = tmp_path / "run"
    run.mkdir()
    planned(store).save(run)
    kept = kept_rows_of(run)
    content = (run / FILE).read_bytes()
    shutil.rmtree(tmp_path / "store")
    assert kept_rows_of(run) == kept
    assert (run / FILE).read_bytes() == content
    (run / FILE).unlink()
    with pytest.raises(OSError, match="store"):
        kept_rows_of(run)
    assert not (run / FILE).exists()


def test_a_stream_without_held_out_rows_keeps_none(tmp_path: Path) -> None:
    plan = planned(chat_store(tmp_path, *chats(30)))
    stream = StreamPlan(str(tmp_path / "none"), 1, SurveySample(1, 1, 1, 0.1))
    with pytest.raises(ValueError, match="streamed"):
        choose_rows(replace(plan, data=replace(plan.data, stream=stream)))
