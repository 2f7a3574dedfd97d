"""Sampled rows: a look at the data through the collator before the first step.

Looking must not change the run: random generators are put back as they were, and the collator is a
twin of the Trainer's, because some collators hold a generator of their own.
"""

import copy
import hashlib
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType, MethodType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from headway.integrations.batch_counts import IGNORED, count_batch

MOST_ROWS = 64
MOST_S = 2.0


@dataclass(frozen=True)
class SampledRows:
    """What some rows of the data hold, evenly spread over it.

    Attributes:
        num: rows that were looked at.
        input, trained, padding: tokens, collated in batches of the run's size; None if unknown.
        masked: rows of which no token is trained.
        first_masked: the first of them, by its number in the data; -1 if there is none.
        ends: rows that hold the end token.
        ends_trained: of which it is trained at least once.
        max_id: the highest token; -1 if there are none.
        max_id_row: the row that it is in.
        fingerprint: over these rows and the length of the data; "" if they have no tokens yet.
    """

    num: int = 0
    input: int | None = 0
    trained: int | None = 0
    padding: int | None = 0
    masked: int = 0
    first_masked: int = -1
    ends: int = 0
    ends_trained: int = 0
    max_id: int = -1
    max_id_row: int = -1
    fingerprint: str = ""

    @property
    def padding_share(self) -> float | None:
        """Of all tokens in the batches."""
        if self.input is None or self.padding is None or not self.input + self.padding:
            return None
        return self.padding / (self.input + self.padding)


@dataclass(frozen=True)
class NotSampled:
    """Why no row could be looked at."""

    why: str


def sample_rows(
    data: Any,
    collate: Callable[[list[Any]], Any],
    batch_size: int,
    *,
    shifted: bool,
    end_id: int | None,
) -> SampledRows | NotSampled:
    """Look at some rows of the data, for two seconds at most.

    Args:
        data: a dataset with a length that can be indexed.
        collate: makes a batch of rows.
        batch_size: rows of a micro-batch.
        shifted: whether the model predicts the next token.
        end_id: the end token; None if there is none.
    """
    if not isinstance(data, Sized) or not hasattr(data, "__getitem__"):
        return NotSampled("the data can only be read once, in order")
    num = len(data)
    numbers = [num * i // min(num, MOST_ROWS) for i in range(min(num, MOST_ROWS))]
    seen, digest, until_s = SampledRows(), hashlib.sha256(str(num).encode()), _until()
    has_tokens = bool(numbers)
    try:
        with untouched_randomness():
            twin = _twin(collate)
            for begin in range(0, len(numbers), batch_size):
                chosen = numbers[begin : begin + batch_size]
                # Copies: some collators take their rows apart.
                rows = [copy.deepcopy(cast("Any", data)[number]) for number in chosen]
                has_tokens = has_tokens and all(map(_has_tokens, rows))
                for row in rows if has_tokens else ():
                    digest.update(str(list(row["input_ids"])).encode())
                seen = _with_batch(seen, chosen, twin(rows), shifted=shifted, end_id=end_id)
                if time.monotonic() > until_s:
                    break
    except Exception as error:
        # A dataset or collator of somebody else: whatever it raises, training will meet it too.
        return NotSampled(f"{type(error).__name__}: {error}"[:200])
    whole = has_tokens and seen.num == len(numbers)
    return replace(seen, fingerprint=digest.hexdigest() if whole else "")


def _until() -> float:
    return time.monotonic() + MOST_S


def _has_tokens(row: object) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("input_ids"), Sequence | Tensor)


def _with_batch(
    seen: SampledRows,
    numbers: list[int],
    batch: Any,
    *,
    shifted: bool,
    end_id: int | None,
) -> SampledRows:
    """What was seen, and one batch more."""
    counts = count_batch(batch, shifted=shifted)
    if counts is None or counts.rows is None:
        return replace(seen, num=seen.num + len(numbers), input=None, trained=None, padding=None)
    totals = [None if n < 0 else n for n in cast("list[int]", counts.numbers_3.tolist())]
    names = ("input", "trained", "padding")
    sums = {
        name: None if more is None or (before := getattr(seen, name)) is None else before + more
        for name, more in zip(names, totals, strict=True)
    }
    seen = replace(seen, num=seen.num + len(numbers), **sums)
    ids, labels = batch.get("input_ids"), batch.get("labels")
    if not isinstance(ids, Tensor) or len(numbers) != len(ids):
        return seen
    seen = _with_highest(seen, numbers, ids)
    if isinstance(labels, Tensor) and labels.shape == ids.shape:
        seen = _with_labels(seen, numbers, labels[:, 1:] if shifted else labels)
        if end_id is not None:
            seen = _with_ends(seen, ids, labels, batch.get("attention_mask"), end_id)
    return seen


def _with_highest(seen: SampledRows, numbers: list[int], ids_BT: Tensor) -> SampledRows:
    if not ids_BT.numel():
        return seen
    highest_B = ids_BT.amax(1)
    row = int(highest_B.argmax())
    if int(highest_B[row]) <= seen.max_id:
        return seen
    return replace(seen, max_id=int(highest_B[row]), max_id_row=numbers[row])


def _with_labels(seen: SampledRows, numbers: list[int], used_BT: Tensor) -> SampledRows:
    masked = [
        n for n, row in zip(numbers, used_BT, strict=True) if not bool((row != IGNORED).any())
    ]
    first = seen.first_masked if seen.first_masked >= 0 or not masked else masked[0]
    return replace(seen, masked=seen.masked + len(masked), first_masked=first)


def _with_ends(
    seen: SampledRows, ids_BT: Tensor, labels_BT: Tensor, mask: object, end_id: int
) -> SampledRows:
    """Only rows that do hold an end token count: text may be cut anywhere on purpose."""
    is_end_BT = ids_BT == end_id
    if isinstance(mask, Tensor) and mask.shape == ids_BT.shape:
        is_end_BT = is_end_BT & (mask != 0)
    ends = int(is_end_BT.any(1).sum())
    trained = int((is_end_BT & (labels_BT != IGNORED)).any(1).sum())
    return replace(seen, ends=seen.ends + ends, ends_trained=seen.ends_trained + trained)


# -- randomness -------------------------------------------------------------------------------


@contextmanager
def untouched_randomness() -> Generator[None]:
    """Leave every global random generator as it was."""
    ours, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def _twin(collate: Any) -> Any:
    """A collator like this one, with generators of its own, and so for a collator that it wraps."""
    if not hasattr(collate, "__dict__") or isinstance(collate, FunctionType | MethodType):
        return collate
    twin = copy.copy(collate)
    for name, value in vars(collate).items():
        if isinstance(value, torch.Generator):
            setattr(twin, name, value.clone_state())
        elif isinstance(value, np.random.Generator | random.Random):
            setattr(twin, name, copy.deepcopy(value))
        elif name in ("data_collator", "collator", "collate_fn") and callable(value):
            setattr(twin, name, _twin(value))
    return twin
