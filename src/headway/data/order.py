"""Row order: which rows make which step, as a pure function of seed, epoch and step.

Nothing is shuffled or stored. A keyed permutation of the row numbers is computed on demand, so
seeking to any step of any epoch is arithmetic, for ten rows or ten billion, and the order is the
same for any number of workers.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_ROUNDS = 6
_CHUNK_ROWS = 1 << 18  # rows processed at a time
_HELD_OUT = 1 << 40  # takes the place of the epoch when held-out rows are drawn
_IDENTITY = 0x57EA  # takes the place of the seed in the identities of a stream's rows
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15
MASK_64_BIT = (1 << 64) - 1


class RowOrder(Protocol):
    """Which rows make which step, of a store (`StoreOrder`) or a stream (`StreamClient`)."""

    def rows(self, step: int) -> tuple[int, Numbers]:
        """The epoch (from 0) and the row numbers of a step of the job (from 1)."""
        ...

    def held_out(self) -> Numbers:
        """The rows that are never trained."""
        ...


@dataclass(frozen=True)
class StoreOrder:
    """The row order of a job that trains a store; of a stream, the planner's estimate.

    Attributes:
        seed: each seed gives a different order.
        num_full: full rows, numbered from 0.
        has_short: a text's remainder, row number `num_full`, joins the last batch of each epoch.
        num_held_out: full rows drawn by the seed and never trained.
        batch_size: rows per step.
        passed_over: places of the draw that are before the last held-out row and are trained,
            because an identical row is.
    """

    seed: int
    num_full: int
    has_short: bool
    num_held_out: int
    batch_size: int
    passed_over: tuple[int, ...] = ()

    @property
    def num_permuted(self) -> int:
        """Full rows that are trained."""
        return self.num_full - self.num_held_out

    @property
    def rows_per_epoch(self) -> int:
        """All rows that are trained."""
        return self.num_permuted + self.has_short

    @property
    def steps_per_epoch(self) -> int:
        """Steps never cross epochs; the last one may be smaller, or hold the short row as well."""
        return -(-self.num_permuted // self.batch_size)

    @property
    def last_batch(self) -> int:
        """Rows in the last step of an epoch."""
        before = (self.steps_per_epoch - 1) * self.batch_size
        return self.num_permuted - before + self.has_short

    def of_sample(self, num_rows: int) -> "StoreOrder":
        """The order of a sample: as it would be if there were no rows beyond `num_rows`."""
        if self.num_full + self.has_short <= num_rows:
            return self
        return replace(self, num_full=num_rows, has_short=False, num_held_out=0, passed_over=())

    def holding_out_only(self, allowed: NDArray[np.bool_]) -> "StoreOrder":
        """The order that holds out none but these rows: the first of them in the draw.

        Args:
            allowed: (num_full,) which rows may be held out; at least `num_held_out` of them.
        """
        places = np.flatnonzero(allowed[self._draw(np.arange(self.num_full))])
        held_out = places[: self.num_held_out]
        before = np.arange(held_out[-1] if len(held_out) else 0)
        passed_over = np.setdiff1d(before, held_out, assume_unique=True)
        return replace(self, passed_over=tuple(passed_over.tolist()))

    def rows(self, step: int) -> tuple[int, Numbers]:
        """The epoch (from 0) and the row numbers of a step of the job (from 1)."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        first = place * self.batch_size
        last = min(first + self.batch_size, self.num_permuted)
        rows = self._at_places(epoch, first, last)
        if self.has_short and last == self.num_permuted:
            rows = np.append(rows, self.num_full)
        return epoch, rows

    def held_out(self) -> Numbers:
        """The rows that are never trained, in ascending order."""
        places = np.arange(self.num_held_out + len(self.passed_over))
        return np.sort(self._draw(np.delete(places, self.passed_over)))

    def rows_in(self, num_steps: int) -> int:
        """Rows used by the first steps, counting repeats."""
        epochs, steps = divmod(num_steps, self.steps_per_epoch)
        return epochs * self.rows_per_epoch + min(steps * self.batch_size, self.num_permuted)

    def row_sum(self, num_steps: int) -> int:
        """The sum of `row_hash` over all rows of the first steps, modulo 2**64.

        Whole epochs are summed over the set of rows instead of the order, so that an error in the
        permutation does not cancel itself out.
        """
        epochs, steps = divmod(num_steps, self.steps_per_epoch)
        trained = np.arange(self.num_full + self.has_short)
        trained = np.delete(trained, self.held_out())
        total = sum(row_hash(trained, epoch) for epoch in range(epochs))
        rest = steps * self.batch_size  # rows of the unfinished epoch; the short row is not in it
        for first in range(0, rest, _CHUNK_ROWS):
            last = min(first + _CHUNK_ROWS, rest)
            total += row_hash(self._at_places(epochs, first, last), epochs)
        return total & MASK_64_BIT

    def _at_places(self, epoch: int, first: int, last: int) -> Numbers:
        """The rows at places [first, last) of an epoch, without the short row."""
        indices = permute(np.arange(first, last), self.num_permuted, mix_key(self.seed, epoch))
        return self._number(indices)

    def _number(self, indices: Numbers) -> Numbers:
        if not self.num_held_out:
            return indices
        places, passed_over = indices + self.num_held_out, np.array(self.passed_over, np.int64)
        is_before = indices < len(passed_over)
        places[is_before] = passed_over[indices[is_before]]
        return self._draw(places)

    def _draw(self, indices: Numbers) -> Numbers:
        return permute(indices, self.num_full, mix_key(self.seed, _HELD_OUT))


@dataclass(frozen=True)
class WindowOrder:
    """The row order of a stream inside one of its windows, which is permuted as a whole.

    Attributes:
        seed: each seed gives a different order.
        window: its number.
        num_full: full rows of the window.
        has_short: a text's remainder at the end of an epoch; it joins the last batch.
        batch_size: rows per step.
    """

    seed: int
    window: int
    num_full: int
    has_short: bool
    batch_size: int

    @property
    def num_steps(self) -> int:
        """Steps never cross windows; the last one may be smaller, or hold the short row as well."""
        return num_window_steps(self.num_full, self.batch_size)

    def places(self, step: int) -> Numbers:
        """The places in the window of the rows of its step (from 0)."""
        first = step * self.batch_size
        last = min(first + self.batch_size, self.num_full)
        key = mix_key(self.seed, self.window)
        places = permute(np.arange(first, last), self.num_full, key)
        is_last = step == self.num_steps - 1
        return np.append(places, self.num_full) if self.has_short and is_last else places


def num_window_steps(num_full: int, batch_size: int) -> int:
    """Steps of a window; a short row alone is a step too."""
    return max(1, -(-num_full // batch_size))


def row_identities(epoch: int, origins_R3: Numbers) -> Numbers:
    """Identities of a stream's rows: 63-bit hashes of where each one begins.

    Args:
        epoch: that the rows belong to, from 0.
        origins_R3: (R, 3) unit, record in the unit, and target in the record.
    """
    words = np.full(len(origins_R3), mix_key(_IDENTITY, epoch), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part_R in origins_R3.T:
            words = _mix(words + part_R.astype(np.uint64) + np.uint64(_GOLDEN))
    return (words >> np.uint64(1)).astype(np.int64)


def row_hash(rows: Numbers, epoch: int) -> int:
    """The sum of hash64(row, epoch) over `rows`, modulo 2**64: a fingerprint of a multiset.

    The sum does not depend on the order of addition. A missing, repeated or swapped row changes it.
    """
    with np.errstate(over="ignore"):
        words = _mix(rows.astype(np.uint64) + np.uint64(mix_key(0x5EED, epoch)))
        return int(words.sum(dtype=np.uint64))


def permute(indices: Numbers, size: int, key: int) -> Numbers:
    """Map each index through a keyed permutation of range(size).

    A Feistel network over the next power of four, repeated while the result is out of range
    (cycle walking: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"); fewer than
    four repetitions on average.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    out = indices.astype(np.uint64)
    outside = np.ones(len(out), dtype=bool)
    while outside.any():
        out[outside] = _feistel(out[outside], half, key)
        outside = out >= size
    return out.astype(np.int64)


def mix_key(seed: int, epoch: int) -> int:
    """Mix a seed and an epoch into one 64-bit key."""
    with np.errstate(over="ignore"):
        word = np.array([(seed * _GOLDEN + epoch + 1) & MASK_64_BIT], dtype=np.uint64)
        return int(_mix(word)[0])


def _feistel(values: NDArray[np.uint64], half: int, key: int) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    with np.errstate(over="ignore"):
        for number in range(_ROUNDS):
            salt = np.uint64((key + number * _GOLDEN) & MASK_64_BIT)
            left, right = right, left ^ (_mix(right + salt) & mask)
    return (left << bits) | right


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele et al. 2014): every bit depends on every bit."""
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))
