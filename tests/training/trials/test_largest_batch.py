"""Largest batch: no micro-batch of the job is larger than the one that is tried (B07)."""

from pathlib import Path

import pytest
from tests.helpers import chat_store, order_of, plan_of

from headway.data.batching.batches import make_batch
from headway.data.batching.rows import rows_of
from headway.runs.settled import Settled
from headway.training.trials.largest_batch import largest


@pytest.mark.parametrize("tokens", [24, 48, 100, 1000])
def test_b07_no_micro_batch_of_the_job_is_larger(tmp_path: Path, tokens: int) -> None:
    flags = ["." * (i % 7 + 1) + "x" * (37 * i % 30 + 1) for i in range(40)]
    store = chat_store(tmp_path / "chats", *flags)
    plan = plan_of(store, micro_batch_tokens=tokens, batch_size=8, num_train_epochs=2)
    rows, order = rows_of(store, plan.data.max_length), order_of(plan, store)
    found = largest(plan, Settled.from_plan(plan), rows, order)
    batches = (
        make_batch(rows, order, step, leaves=2, micro_batch_tokens=tokens, device="cpu")
        for step in range(1, plan.steps.num + 1)
    )
    most = max(len(m.ids_N) for batch in batches for leaf in batch.leaves for m in leaf)
    assert len(found.ids_N) > 0.9 * most  # no rows together may fill the budget to the last token
    longest = max(group.length for group in found.documents)
    assert longest == rows.lengths().max()
