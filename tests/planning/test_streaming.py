"""Streams in the plan: their order, the file for their reader, and what is refused."""

from pathlib import Path

import pytest
from tests.helpers import chats, decided, folder_of, in_memory, settings

from headway.base.errors import Cause, UsageError
from headway.data.examples.maker import ExampleOptions
from headway.data.order import StoreOrder
from headway.data.stream.spec import load_stream
from headway.data.survey.result import SurveySample
from headway.data.survey.store import Store
from headway.planning.streaming import write_stream_spec
from headway.runs.order import order_of

OPTIONS = ExampleOptions(None, 300, None, assistant_only=True)


def stream(whole: int = 4_000_000) -> Store:
    return in_memory(*chats(300), sampled=SurveySample(4000, whole, 5, 0.02))


def test_a_stream_is_planned_by_an_estimate_of_its_order() -> None:
    plan = decided(stream(), folder_of(), batch_size=16, val_size=20)
    order = order_of(plan)
    assert order == StoreOrder(plan.seed, 300 * 1000, False, 20, 16)
    assert order.rows_per_epoch == 300 * 1000 - 20
    assert plan.steps.per_epoch == -(-order.rows_per_epoch // 16)
    assert plan.data.rows.row_sum == 0  # which rows there are is not known yet


def test_a_stream_of_unknown_size_needs_a_number_of_steps() -> None:
    with pytest.raises(UsageError) as refused:
        decided(stream(whole=0), folder_of())
    assert refused.value.cause is Cause.UNBOUNDED_STREAM
    assert decided(stream(whole=0), folder_of(), max_steps=7).steps.num == 7


def test_duplicates_of_a_stream_are_not_dropped() -> None:
    with pytest.raises(UsageError) as refused:
        decided(stream(), folder_of(), drop_duplicates=True)
    assert refused.value.cause is Cause.CONTRADICTION
    assert refused.value.remedies[0].do == "--survey-exact 4000000"


def test_a_stream_is_not_trained_in_shards_but_its_data_can_be_read_first() -> None:
    with pytest.raises(UsageError) as refused:
        decided(stream(), folder_of(), reduction="hsdp", nproc=2)
    assert refused.value.cause is Cause.CONTRADICTION
    assert refused.value.remedies[0].do.startswith("--survey-exact ")
    assert decided(stream(), folder_of(), reduction="hsdp").machine.workers == 1


def test_a_stream_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    folders = set[str]()
    for nproc in (1, 3):
        plan = decided(stream(), folder_of(), batch_size=512, nproc=nproc)
        given = settings(batch_size=512, nproc=nproc)
        written = write_stream_spec(plan, given, [], OPTIONS, tmp_path)
        assert written.data.stream
        folders.add(written.data.stream.folder)
    assert len(folders) == 1


def test_the_readers_file_is_written_once_for_the_same_stream(tmp_path: Path) -> None:
    given = settings(batch_size=16)
    plan = decided(stream(), folder_of(), batch_size=16)
    first, again = (write_stream_spec(plan, given, [], OPTIONS, tmp_path) for _ in range(2))
    assert first == again
    assert first.data.stream
    assert plan.data.stream
    assert plan.data.stream.folder == ""
    file = load_stream(Path(first.data.stream.folder))
    assert file.options == OPTIONS
    assert file.spec.window_rows == 16 * plan.data.stream.steps_per_window


def test_data_that_was_read_in_full_has_no_file(tmp_path: Path) -> None:
    plan = decided(in_memory(*chats(300)), folder_of())
    assert write_stream_spec(plan, settings(), [], OPTIONS, tmp_path) is plan
    assert not list(tmp_path.iterdir())
