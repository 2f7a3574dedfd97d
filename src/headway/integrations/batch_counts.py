"""Batch counts: rows, tokens and contents of a micro-batch, counted on the device it is on.

Nothing here waits for the device. The counts stay tensors until a step is over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

IGNORED = -100  # the label of a token that is not trained
UNKNOWN = -1


@dataclass(frozen=True)
class BatchCounts:
    """What a micro-batch holds.

    Attributes:
        rows: None if several rows were made one.
        numbers_3: input, trained and padding tokens; `UNKNOWN` where the batch does not tell.
        contents_B: a number for the tokens of each row, equal for equal ones; None if unknown.
    """

    rows: int | None
    numbers_3: Tensor
    contents_B: Tensor | None = None


@dataclass(frozen=True)
class StepCounts:
    """What the micro-batches of a step hold; None where one of them does not tell."""

    rows: int | None = None
    input: int | None = None
    trained: int | None = None
    padding: int | None = None
    contents: tuple[int, ...] | None = None


def count_batch(inputs: object, *, shifted: bool) -> BatchCounts | None:
    """Count a micro-batch; None if it is nothing that could be counted.

    Args:
        inputs: as the Trainer passes them to the model.
        shifted: whether the model predicts the next token, so that the first label of a row is
            never used.
    """
    if not isinstance(inputs, Mapping):
        return None
    named = cast("Mapping[str, Any]", inputs)
    ids_BT = named.get("input_ids")
    if not isinstance(ids_BT, Tensor) or ids_BT.dim() != 2:
        return _rows_alone(named)
    mask_BT = _mask(named, ids_BT)
    is_joined = mask_BT is None and isinstance(named.get("position_ids"), Tensor)
    trained = _num_trained(named.get("labels"), shifted=shifted)
    if mask_BT is None:
        padding = torch.tensor(0 if is_joined else UNKNOWN, device=ids_BT.device)
        real = torch.tensor(ids_BT.numel() if is_joined else UNKNOWN, device=ids_BT.device)
    else:
        real = mask_BT.sum()
        padding = ids_BT.numel() - real
    numbers_3 = torch.stack([real, trained.to(ids_BT.device), padding])
    contents_B = None if is_joined else _contents(ids_BT, mask_BT)
    return BatchCounts(None if is_joined else ids_BT.shape[0], numbers_3, contents_B)


def add_up(batches: Iterable[BatchCounts | None]) -> StepCounts:
    """What the micro-batches of a step hold together. Waits for the device."""
    counted = list(batches)
    known = [one for one in counted if one is not None]
    if not known or len(known) < len(counted):
        return StepCounts()
    numbers = [cast("list[int]", one.numbers_3.tolist()) for one in known]
    rows = [one.rows for one in known]
    contents = [one.contents_B for one in known]
    return StepCounts(
        None if None in rows else sum(row or 0 for row in rows),
        *(_sum_known([row[i] for row in numbers]) for i in range(3)),
        contents=None
        if any(one is None for one in contents)
        else tuple(number for one in contents if one is not None for number in one.tolist()),
    )


def _sum_known(numbers: list[int]) -> int | None:
    return None if UNKNOWN in numbers else sum(numbers)


def _rows_alone(named: Mapping[str, Any]) -> BatchCounts | None:
    """A batch without tokens: pictures, numbers."""
    tensors = [value for value in named.values() if isinstance(value, Tensor) and value.dim()]
    if not tensors:
        return None
    numbers_3 = torch.full((3,), UNKNOWN, device=tensors[0].device)
    return BatchCounts(tensors[0].shape[0], numbers_3)


def _mask(named: Mapping[str, Any], ids_BT: Tensor) -> Tensor | None:
    """Which tokens are not padding; None if the batch does not say."""
    mask = named.get("attention_mask")
    if isinstance(mask, Tensor) and mask.shape == ids_BT.shape:
        return mask != 0
    return None


def _num_trained(labels: object, *, shifted: bool) -> Tensor:
    if not isinstance(labels, Tensor):
        return torch.tensor(UNKNOWN)
    used = labels[..., 1:] if shifted and labels.dim() > 1 else labels
    return (used != IGNORED).sum()


def _contents(ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
    """A linear hash of each row's tokens, the same however the row is padded."""
    if mask_BT is None:
        keys_T = _keys(ids_BT.shape[1], ids_BT.device)
        return ((ids_BT.long() + 1) * keys_T).sum(1)
    places_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
    keys_BT = _keys(ids_BT.shape[1], ids_BT.device)[places_BT]
    return ((ids_BT.long() + 1) * keys_BT * mask_BT).sum(1)


@lru_cache(maxsize=64)
def _keys(length: int, device: torch.device) -> Tensor:
    """Random odd 64-bit numbers, the same in every process; those of a shorter row are a prefix."""
    numbers_T = np.random.default_rng(0x4EAD).integers(-(2**62), 2**62, length)
    return torch.from_numpy(2 * numbers_T + 1).to(device)
