"""Sampled rows: what they show, and that looking changes nothing."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.integrations.trainers import collate, rows
from torch.utils.data import IterableDataset

from headway.integrations import sample_rows as sampling
from headway.integrations.sample_rows import NotSampled, SampledRows, sample_rows


def sampled(data: Any, collator: Any = collate, **given: Any) -> SampledRows | NotSampled:
    return sample_rows(data, collator, 4, **{"shifted": True, "end_id": 2} | given)


def test_all_of_a_small_data_set_is_looked_at() -> None:
    data = rows(6)
    data[4] |= {"labels": [-100] * len(data[4]["labels"])}
    data[5]["input_ids"][0] = 63
    for row in data[:3]:
        row["input_ids"].append(2)
        row["labels"].append(2 if row is data[0] else -100)
    found = sampled(data)
    assert isinstance(found, SampledRows)
    assert (found.num, found.masked, found.first_masked) == (6, 1, 4)
    assert (found.ends, found.ends_trained, found.max_id) == (3, 1, 63)
    assert found.input == sum(len(row["input_ids"]) for row in data)
    assert found.padding
    assert found.fingerprint


def test_rows_of_a_large_one_are_spread_over_it() -> None:
    seen: list[int] = []

    class Large:
        def __len__(self) -> int:
            return 10_000

        def __getitem__(self, number: int) -> dict[str, list[int]]:
            seen.append(number)
            return {"input_ids": [number % 60 + 3, 4], "labels": [4, 4]}

    found = sampled(Large())
    assert isinstance(found, SampledRows)
    assert (found.num, len(seen), seen[0]) == (64, 64, 0)
    assert seen[-1] > 9_800


def test_fingerprints_tell_data_apart() -> None:
    prints = [sampled(data).fingerprint for data in (rows(8), rows(8), rows(9), rows(8, seed=1))]  # type: ignore[union-attr]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert sampled([]).fingerprint == ""  # type: ignore[union-attr]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("read")


def broken(_: Any) -> Any:
    raise KeyError("labels")


@pytest.mark.parametrize(
    ("data", "collator", "why"),
    [
        (Stream(), collate, "only be read once"),
        (None, collate, "only be read once"),
        (rows(4), broken, "KeyError: 'labels'"),
    ],
)
def test_what_cannot_be_looked_at_says_why(data: Any, collator: Any, why: str) -> None:
    found = sampled(data, collator)
    assert isinstance(found, NotSampled)
    assert why in found.why


def test_looking_takes_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(sampling.time, "monotonic", lambda: float(next(now)))
    found = sampled(rows(64))
    assert isinstance(found, SampledRows)
    assert found.num == 12  # 1 s each
    assert found.fingerprint == ""


class Noisy:
    """A collator with generators of its own, as some of transformers' have."""

    def __init__(self) -> None:
        self.torch = torch.Generator().manual_seed(1)
        self.numpy = np.random.default_rng(1)
        self.python = random.Random(1)
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        self.draw()
        random.random()
        np.random.rand()
        torch.rand(1)
        for row in batch:
            del row["labels"]  # takes its rows apart
        return {"input_ids": torch.tensor([row["input_ids"][:4] for row in batch])}

    def draw(self) -> tuple[Any, ...]:
        drawn = torch.rand(1, generator=self.torch).item()
        return drawn, self.numpy.random(), self.python.random()


class Wrapping:
    def __init__(self, inner: Noisy) -> None:
        self.data_collator = inner

    def __call__(self, batch: Any) -> Any:
        return self.data_collator(batch)


def test_looking_changes_no_generator_no_collator_and_no_row() -> None:
    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]

    data, before = rows(8), state()
    for wrap in (lambda one: one, Wrapping):
        noisy = Noisy()
        found = sampled(data, wrap(noisy))
        assert isinstance(found, SampledRows)
        assert found.num == 8
        assert noisy.draw() == Noisy().draw()
    assert state() == before
    assert data == rows(8)
