"""Cross-entropy of the trained positions alone, summed in fp32.

`forward` is the one way a micro-batch goes through a model: for training, for probes and for
evaluation. T is tokens of a document, N of a micro-batch, M the trained ones of these, V the
vocabulary.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn

from headway.model import attention
from headway.model.attention import Groups


class Packed(Protocol):
    """What `forward` needs of a micro-batch; every tensor is on the model's device."""

    @property
    def ids_N(self) -> Tensor: ...  # noqa: D102
    @property
    def positions_N(self) -> Tensor: ...  # noqa: D102
    @property
    def trained_at_M(self) -> Tensor: ...  # noqa: D102
    @property
    def targets_M(self) -> Tensor: ...  # noqa: D102
    @property
    def documents(self) -> Groups: ...  # noqa: D102


class Forward:
    """How micro-batches run through one model.

    Attributes:
        model: a transformers causal model, with adapters or without.
        compute_dtype: of the matrix products; sums, norms and losses stay fp32.
        own_attention: the implementation it was loaded with.
        separately: each document runs by itself, for a model whose layers let documents in one
            row see each other in spite of the attention.
    """

    def __init__(self, model: nn.Module, compute_dtype: torch.dtype = torch.float32) -> None:
        self.model = model
        self.compute_dtype = compute_dtype
        self.own_attention = attention.implementation(model)
        self.separately = False
        attention.use(model)

    def run_separately(self, yes: bool = True) -> None:
        """Run documents one by one through the model's own attention, or packed again."""
        self.separately = yes
        attention.use(self.model, self.own_attention if yes else attention.NAME)

    def losses(self, micro: Packed) -> Tensor:
        """(M,) fp32 cross-entropy of each trained target, in nats."""
        device = micro.ids_N.device.type
        enabled = self.compute_dtype != torch.float32
        with torch.autocast(device, dtype=self.compute_dtype, enabled=enabled):
            logits_MV = self._one_by_one(micro) if self.separately else self._packed(micro)
        return F.cross_entropy(logits_MV.float(), micro.targets_M, reduction="none")

    def _packed(self, micro: Packed) -> Tensor:
        return self._logits(
            micro.ids_N, micro.positions_N, micro.trained_at_M, documents=micro.documents
        )

    def _one_by_one(self, micro: Packed) -> Tensor:
        logits: list[Tensor] = []
        begin = 0
        for length in (t for t, num in micro.documents for _ in range(num)):
            inside = (micro.trained_at_M >= begin) & (micro.trained_at_M < begin + length)
            if bool(inside.any()):
                here = slice(begin, begin + length)
                at = micro.trained_at_M[inside] - begin
                logits.append(self._logits(micro.ids_N[here], micro.positions_N[here], at))
            begin += length
        return torch.cat(logits)

    def _logits(self, ids: Tensor, positions: Tensor, keep: Tensor, **documents: Groups) -> Tensor:
        output: Any = self.model(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=keep,
            **documents,
        )
        return output.logits[0]
