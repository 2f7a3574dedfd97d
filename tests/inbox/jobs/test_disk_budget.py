"""What a disk budget deletes: the least useful first, and never what is needed."""

import itertools

import pytest

from headway.inbox.jobs.disk_budget import ModelUse, Pruning, StoredModel, choose_pruned

LEFT, OLDER, NEEDED = ModelUse.LEFT_OVER, ModelUse.OLDER, ModelUse.NEEDED


def models(*uses: ModelUse) -> list[StoredModel]:
    return [StoredModel(number, 10, use) for number, use in enumerate(uses, 1)]


@pytest.mark.parametrize(
    ("uses", "num_kept", "budget", "gone", "excess"),
    [
        ((), 2, 0, (), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), None, None, (), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), 3, None, (1,), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), None, 40, (), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), None, 39, (1,), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), None, 20, (1, 2), 0),
        ((OLDER, OLDER, NEEDED, NEEDED), 3, 20, (1, 2), 0),
        # What nothing continues from goes before what undo could go back to.
        ((OLDER, LEFT, OLDER, LEFT, NEEDED), None, 40, (2,), 0),
        ((OLDER, LEFT, OLDER, LEFT, NEEDED), None, 25, (1, 2, 4), 0),
        # It does not count as one of those that are kept, and stays while there is room.
        ((OLDER, LEFT, NEEDED, NEEDED), 2, None, (1,), 0),
        # A gate keeps current_model at an old one.
        ((NEEDED, OLDER, OLDER, NEEDED, NEEDED), 2, None, (2, 3), 0),
        # The only good checkpoint stays, whatever the budget.
        ((NEEDED,), None, 0, (), 10),
        ((OLDER, LEFT, NEEDED, NEEDED), 2, 5, (1, 2), 15),
    ],
)
def test_what_is_deleted(
    uses: tuple[ModelUse, ...],
    num_kept: int | None,
    budget: int | None,
    gone: tuple[int, ...],
    excess: int,
) -> None:
    assert choose_pruned(models(*uses), num_kept, budget) == Pruning(frozenset(gone), excess)


def test_what_is_needed_stays_in_every_case() -> None:
    for uses in itertools.product(ModelUse, repeat=5):
        for num_kept, budget in itertools.product((None, 2, 3), (None, 0, 15, 35)):
            stored = models(*uses)
            found = choose_pruned(stored, num_kept, budget)
            gone = [one for one in stored if one.number in found.numbers]
            assert all(one.use is not NEEDED for one in gone)
            left = sum(one.bytes for one in stored) - sum(one.bytes for one in gone)
            assert found.excess == (max(left - budget, 0) if budget is not None else 0)
            if found.excess:  # everything that could go is gone
                assert len(gone) == sum(one.use is not NEEDED for one in stored)
