"""Watch clock: what the receipt says of time."""

from headway.integrations.watch_clock import WatchClock


def test_a_run_with_steps() -> None:
    clock = WatchClock(
        began_s=100.0,
        watching_s=3.0,
        mark_s=0.0,
        watching_before_s=1.0,
        watching_last_s=2.5,
        first_batch_s=101.0,
        first_update_s=103.0,
        last_update_s=150.0,
    )
    found = clock.result(160.0, 2.0)
    assert (found.total, found.to_first_step, found.max_silence) == (60.0, 3.0, 2.0)
    assert (found.watching, found.watching_steps, found.steps) == (3.0, 1.5, 49.0)


def test_a_run_without_a_step() -> None:
    found = WatchClock(100.0, 1.0, 100.0).result(101.0, 0.5)
    assert (found.to_first_step, found.steps, found.watching_steps) == (None, 0.0, 0.0)
