"""Attention layout of a packed row: which tokens attend to each other.

Built once per micro-batch and shared by all layers. A micro-batch is one long row of tokens without
padding, in which documents follow each other. N is the row's tokens, P the row's tokens with blocks
padded, B the documents of a block, T the tokens of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, count
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.base.documents import DocumentGroup, RowSpan

_NUMBERS = count(1)
_LAYOUTS: "WeakValueDictionary[int, AttentionLayout]" = WeakValueDictionary()
_KEPT = "headway.attention_layout"

SHORT = 256  # tokens; matrix products beat a fused kernel on documents of up to this length


class AttentionLayout:
    """How a row is attended: in blocks, or document by document.

    Args:
        documents: groups in the row's order, a shared prefix before its documents.
        device: of the row's tensors.

    Attributes:
        handle: a number, on the CPU, by which a compiled graph names the layout: graphs take
            tensors, and would be compiled again for each other number that is none.
    """

    def __init__(
        self, documents: Sequence[DocumentGroup], device: torch.device | str = "cpu"
    ) -> None:
        self.documents = tuple(documents)
        self.device = torch.device(device)
        number = next(_NUMBERS)
        self.handle = torch.tensor(number)
        _LAYOUTS[number] = self

    @staticmethod
    def find(handle: Tensor) -> "AttentionLayout":
        """The layout of a handle, which somebody must still hold."""
        return _LAYOUTS[int(handle)]

    def keep_for_backward(self, output: Tensor) -> Tensor:
        """Hold this layout for as long as the graph behind a pass's output exists."""
        if output.grad_fn is not None:
            cast("Any", output.grad_fn).metadata[_KEPT] = self
        return output

    @cached_property
    def blocks(self) -> "Blocks":
        """For batched attention."""
        return Blocks(self.documents, self.device)

    @cached_property
    def varlen(self) -> "VarlenLayout":
        """For a kernel that takes documents of different lengths."""
        return VarlenLayout.of(self.documents, self.device)


@dataclass(frozen=True)
class Block:
    """Documents that are attended as one batch.

    Attributes:
        num_documents: in the batch.
        length: tokens of each document, padded to the longest.
        prefix_block: index of the block whose only document is their shared prefix, or None.
    """

    num_documents: int
    length: int
    prefix_block: int | None

    @property
    def is_short(self) -> bool:
        """Whether matrix products are the faster way."""
        return self.length <= SHORT


class Blocks:
    """A row as blocks of documents of similar lengths.

    Shorter documents of a block are padded at the end with copies of their last token. Causal
    attention never looks there, and nothing reads the copies.

    Args:
        documents: groups in the row's order.
        device: of the row's tensors.

    Attributes:
        each: the blocks, in the order of the padded row.
        sizes: tokens of each block in the padded row.
        at_P: (P,) index in the row of each token of the padded row; None: both rows are the same.
        where_N: (N,) index in the padded row of each token of the row.
    """

    def __init__(self, documents: Sequence[DocumentGroup], device: torch.device) -> None:
        self.device = device
        self._masks: dict[tuple[int, int, int, torch.dtype], Tensor] = {}
        prefixes = {group.prefix for group in documents if group.prefix}
        prefix_blocks: dict[RowSpan, int] = {}
        blocks: list[Block] = []
        at: list[NDArray[np.int64]] = []
        where: list[NDArray[np.int64]] = []
        begin = padded = 0
        for group in documents:
            length, num = group.length, group.count
            span = RowSpan(begin, begin + group.num_tokens)
            is_prefix = span in prefixes
            prefix_block = prefix_blocks[group.prefix] if group.prefix else None
            width = length if is_prefix else _padded_length(length)
            joins = blocks and len(blocks) - 1 not in prefix_blocks.values() and not is_prefix
            if joins and (blocks[-1].length, blocks[-1].prefix_block) == (width, prefix_block):
                num_documents = blocks[-1].num_documents + num
                blocks[-1] = replace(blocks[-1], num_documents=num_documents)
            else:
                blocks.append(Block(num, width, prefix_block))
            if is_prefix:
                prefix_blocks[span] = len(blocks) - 1
            documents_B, tokens_T = np.arange(num)[:, None], np.arange(width)[None]
            at.append((begin + documents_B * length + np.minimum(tokens_T, length - 1)).ravel())
            where.append((padded + documents_B * width + tokens_T[:, :length]).ravel())
            begin, padded = span.end, padded + num * width
        self.each = tuple(blocks)
        self.sizes = [block.num_documents * block.length for block in blocks]
        self.at_P: Tensor | None = None
        self.where_N: Tensor | None = None
        if padded > begin:
            self.at_P = to_device(torch.from_numpy(np.concatenate(at)), device)
            self.where_N = to_device(torch.from_numpy(np.concatenate(where)), device)

    def mask(self, block: Block, window: int | None, dtype: torch.dtype) -> Tensor:
        """The mask of a block's scores: 0 where a token may look, -inf where not.

        Returns:
            (T, T); (T, S + T) where a sliding window ends inside the shared prefix of S tokens.
        """
        prefix = 0 if block.prefix_block is None else self.each[block.prefix_block].length
        if not window or window >= prefix + block.length:
            prefix, window = 0, block.length
        key = (prefix, block.length, window, dtype)
        if key not in self._masks:
            at = torch.arange(prefix + block.length, device=self.device)
            back = at[prefix:, None] - at[None, :]
            hidden = (back < 0) | (back >= window)
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=self.device)
            self._masks[key] = zeros.masked_fill_(hidden, float("-inf"))
        return self._masks[key]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a new tensor; a GPU copies it from pinned memory, and nobody waits for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _padded_length(length: int) -> int:
    """Tokens that a short document is padded to: four lengths per doubling."""
    if length > SHORT:
        return length
    step = max(8, 1 << max(length.bit_length() - 3, 0))
    return -(-length // step) * step


@dataclass(frozen=True)
class VarlenLayout:
    """Where each document's queries, keys and values begin, for FlashAttention.

    Attributes:
        queries: (documents + 1,) int32, cumulative tokens.
        keys: (documents + 1,) int32, cumulative tokens, shared prefixes included.
        at: index in the row of each key; None: the keys are the row itself.
        longest: tokens of the longest document: queries, keys.
    """

    queries: Tensor
    keys: Tensor
    at: Tensor | None
    longest: tuple[int, int]

    @staticmethod
    def of(documents: Sequence[DocumentGroup], device: torch.device) -> "VarlenLayout":
        """From a row's groups."""
        each = [group for group in documents for _ in range(group.count)]
        begins = [0, *accumulate(group.length for group in each)]
        num_keys = [group.length + (group.prefix.length if group.prefix else 0) for group in each]
        at = None
        if any(group.prefix for group in each):
            parts = [
                np.r_[group.prefix.slice if group.prefix else slice(0), begin:end]
                for group, begin, end in zip(each, begins, begins[1:], strict=False)
            ]
            at = to_device(torch.from_numpy(np.concatenate(parts).astype(np.int64)), device)
        sums = (begins, [0, *accumulate(num_keys)])
        queries, keys = (to_device(torch.tensor(s, dtype=torch.int32), device) for s in sums)
        return VarlenLayout(queries, keys, at, (max(g.length for g in each), max(num_keys)))
