"""Optimizers: the table of those that train, and what each keeps for every weight.

What makes them is in `training/optimizer.py`, by the same names. A new one is a row here and a
function there.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerKind:
    """What is known of an optimizer without torch.

    Attributes:
        source: where it is described.
        besides: what it leaves to another optimizer; "" if it trains all.
        matrix_bytes: of its state, for each weight of a hidden layer's matrix.
        other_bytes: of its state, for each other weight.
        needs_whole: why it cannot train a model in shards; "" if it can.
    """

    source: str
    besides: str = ""
    matrix_bytes: int = 8
    other_bytes: int = 8
    needs_whole: str = ""

    def state_bytes(self, num_matrix: int, num_other: int) -> int:
        """Bytes of its state.

        Args:
            num_matrix: weights in matrices of hidden layers.
            num_other: all other trained weights.
        """
        return self.matrix_bytes * num_matrix + self.other_bytes * num_other


OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "adamw": OptimizerKind(
        source="Loshchilov and Hutter 2019, arXiv:1711.05101",
    ),
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
