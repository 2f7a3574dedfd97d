"""Which tokens of a row are attended together, said once per micro-batch for all layers.

A micro-batch is one long row of tokens without padding; its documents stand in it one after the
other. Here N is tokens of the row, P of the row with blocks filled up, B documents of a block, T
tokens of each, S tokens of what they all begin with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHORT = 256  # tokens of a document that matrix products attend faster than a fused kernel

# Tokens of a document, how many of them follow each other, and [begin, end) in the row of what
# they begin with, a group of one document: (0, 0) where they begin by themselves, as it does.
Group = tuple[int, int, tuple[int, int]]
_BY_ITSELF = (0, 0)


class Layout:
    """How a row is attended: as blocks, or document by document.

    Args:
        documents: groups in the row's order, what others begin with before them.
        device: of the row's tensors.
    """

    def __init__(self, documents: Sequence[Group], device: torch.device | str = "cpu") -> None:
        self.documents = tuple(documents)
        self.device = torch.device(device)

    @cached_property
    def blocks(self) -> "Blocks":
        """For batched attention."""
        return Blocks(self.documents, self.device)

    @cached_property
    def flat(self) -> "Flat":
        """For a kernel that takes documents of any lengths."""
        return Flat.of(self.documents, self.device)


@dataclass(frozen=True)
class Block:
    """Documents that are attended as one batch.

    Attributes:
        num: how many.
        length: tokens of each, filled up to the longest.
        begins: the number of the block whose only document they all begin with, or None.
    """

    num: int
    length: int
    begins: int | None

    @property
    def short(self) -> bool:
        """Matrix products are the faster way."""
        return self.length <= SHORT


class Blocks:
    """A row as blocks of documents of nearly one length, and which of their tokens may look where.

    A block's shorter documents are filled up at their end, where causal attention never looks, with
    their last token, which nobody reads.

    Args:
        documents: groups in the row's order.
        device: of the row's tensors.

    Attributes:
        each: in the order of the filled row.
        spans: tokens of each block in the filled row.
        at_P: (P,) which token of the row stands where in the filled row; None: both are the same.
        where_N: (N,) where in the filled row each token stands.
    """

    def __init__(self, documents: Sequence[Group], device: torch.device) -> None:
        self.device = device
        self._masks: dict[tuple[int, int, int, torch.dtype], Tensor] = {}
        wanted = {prefix for _, _, prefix in documents} - {_BY_ITSELF}
        opens: dict[tuple[int, int], int] = {}  # blocks that others begin with
        blocks: list[Block] = []
        at: list[NDArray[np.int64]] = []
        where: list[NDArray[np.int64]] = []
        begin = filled = 0
        for length, num, prefix in documents:
            span = (begin, begin + length * num)
            begins = None if prefix == _BY_ITSELF else opens[prefix]
            width = length if span in wanted else _width(length)
            joins = blocks and len(blocks) - 1 not in opens.values() and span not in wanted
            if joins and (blocks[-1].length, blocks[-1].begins) == (width, begins):
                blocks[-1] = replace(blocks[-1], num=blocks[-1].num + num)
            else:
                blocks.append(Block(num, width, begins))
            if span in wanted:
                opens[span] = len(blocks) - 1
            documents_B, tokens_T = np.arange(num)[:, None], np.arange(width)[None]
            at.append((begin + documents_B * length + np.minimum(tokens_T, length - 1)).ravel())
            where.append((filled + documents_B * width + tokens_T[:, :length]).ravel())
            begin, filled = span[1], filled + num * width
        self.each = tuple(blocks)
        self.spans = [block.num * block.length for block in blocks]
        self.at_P: Tensor | None = None
        self.where_N: Tensor | None = None
        if filled > begin:
            self.at_P = torch.from_numpy(np.concatenate(at)).to(device)
            self.where_N = torch.from_numpy(np.concatenate(where)).to(device)

    def mask(self, block: Block, window: int | None, dtype: torch.dtype) -> Tensor:
        """(T, T) 0 where a token of a block may look, -inf where not.

        (T, S + T) where a sliding window ends inside what the block begins with.
        """
        before = 0 if block.begins is None else self.each[block.begins].length
        if not window or window >= before + block.length:
            before, window = 0, block.length
        key = (before, block.length, window, dtype)
        if key not in self._masks:
            at = torch.arange(before + block.length, device=self.device)
            back = at[before:, None] - at[None, :]
            hidden = (back < 0) | (back >= window)
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=self.device)
            self._masks[key] = zeros.masked_fill_(hidden, float("-inf"))
        return self._masks[key]


def _width(length: int) -> int:
    """Tokens that a short document is filled up to: four widths for each doubling."""
    if length > SHORT:
        return length
    step = max(8, 1 << max(length.bit_length() - 3, 0))
    return -(-length // step) * step


@dataclass(frozen=True)
class Flat:
    """Where each document's queries, keys and values begin, for FlashAttention.

    Attributes:
        queries: (documents + 1,) int32, cumulative tokens.
        keys: (documents + 1,) int32, cumulative tokens with those that they begin with.
        at: which token of the row each key is; None: the keys are the row.
        longest: tokens of the longest document: queries, keys.
    """

    queries: Tensor
    keys: Tensor
    at: Tensor | None
    longest: tuple[int, int]

    @staticmethod
    def of(documents: Sequence[Group], device: torch.device) -> "Flat":
        """From a row's groups."""
        each = [(length, prefix) for length, num, prefix in documents for _ in range(num)]
        begins = [0, *accumulate(length for length, _ in each)]
        seen = [length + prefix[1] - prefix[0] for length, prefix in each]
        at = None
        if any(prefix != _BY_ITSELF for _, prefix in each):
            parts = [
                np.r_[slice(*prefix), begin : begin + length]
                for begin, (length, prefix) in zip(begins, each, strict=False)
            ]
            at = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)
        sums = (begins, [0, *accumulate(seen)])
        queries, keys = (torch.tensor(s, dtype=torch.int32, device=device) for s in sums)
        return Flat(queries, keys, at, (max(length for length, _ in each), max(seen)))
