"""A replay plan, as it stands in a plan.json."""

import msgspec

from headway.data.replay_plan import ReplayPlan, ReplaySource


def test_it_is_read_as_it_was_written() -> None:
    source = ReplaySource("0001-a", "/runs/0001-a/kept_rows.json", "5e" * 32, 100)
    plan = ReplayPlan(0.1, 8, 42, (source,), 248, 2**64 - 1)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=ReplayPlan) == plan
