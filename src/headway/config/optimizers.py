"""Optimizers: the table of those that train, and what each keeps for every weight.

What makes them is in `training/optimizer.py`, by the same names. A new one is a row here and a
function there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class OptimizerKind:
    """What is known of an optimizer without torch.

    Attributes:
        source: where it is described.
        besides: what it leaves to another optimizer; "" if it trains all.
        matrix_bytes: of its state, for each weight of a hidden layer's matrix.
        other_bytes: of its state, for each other weight.
        needs_whole: why it cannot train a model in shards; "" if it can.
        package: the package that has it, besides torch.
        is_paged: a GPU's driver moves its state to the host's memory when the GPU's is full.
    """

    source: str
    besides: str = ""
    matrix_bytes: float = 8
    other_bytes: float = 8
    needs_whole: str = ""
    package: str = ""
    is_paged: bool = False

    def state_bytes(self, num_matrix: int, num_other: int) -> int:
        """Bytes of its state.

        Args:
            num_matrix: weights in matrices of hidden layers.
            num_other: all other trained weights.
        """
        return round(self.matrix_bytes * num_matrix + self.other_bytes * num_other)


_ADAMW = OptimizerKind(source="Loshchilov and Hutter 2019, arXiv:1711.05101")
_IN_8BIT = 2 + 2 * 4 / 256  # bytes: two codes, and two fp32 scales for a block of 256
_ADAMW_8BIT = OptimizerKind(
    source="Dettmers et al. 2021, arXiv:2110.02861",
    matrix_bytes=_IN_8BIT,
    other_bytes=_IN_8BIT,
    needs_whole="its moments are coded in blocks of whole tensors",
    package="bitsandbytes",
)
OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "adamw": _ADAMW,
    "adamw_8bit": _ADAMW_8BIT,
    "paged_adamw": replace(
        _ADAMW,
        needs_whole="its memory is one GPU's",
        package="bitsandbytes",
        is_paged=True,
    ),
    "paged_adamw_8bit": replace(_ADAMW_8BIT, is_paged=True),
    "muon": OptimizerKind(
        source="Jordan et al. 2024, kellerjordan.github.io/posts/muon; "
        "Liu et al. 2025, arXiv:2502.16982",
        besides="AdamW for all but matrices of hidden layers",
        matrix_bytes=4,
        needs_whole="it orthogonalizes whole matrices",
    ),
}
# What a checkpoint has of each tensor that was updated, under one of these names: KIND/TENSOR.
FIRST_MOMENTS = ("exp_avg", "momentum_buffer")
