"""What each worker of a run is doing, for `headway status --workers`."""

from tests.ui.fixtures import pulse

from headway.base.host.utilization import Shares
from headway.supervise.worker_status import statuses_of


def test_several_workers_come_by_rank_with_what_their_time_went_to() -> None:
    busy = pulse(
        rank=1, activity="computing", activity_since=196.0, counted_since=100.0, computing_s=70.0
    )
    waiting = pulse(rank=0, waiting="worker 1", waiting_since=199.0, updated=199.5)
    first, second = statuses_of((busy, waiting), now_s=200.0)
    assert (first.rank, first.waiting_for, first.waiting_since_s) == (0, "worker 1", 1.0)
    assert (first.last_news_s, first.shares) == (0.5, Shares())
    assert second.shares == Shares(computing=0.74)


def test_one_worker_has_nobody_beside_it() -> None:
    assert statuses_of((pulse(),), now_s=1.0) == ()
