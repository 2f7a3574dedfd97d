"""Models that a trial must see through, for the tests of the trials."""

from typing import Any

from tests.helpers import causal
from torch import Tensor, nn

DOCUMENTS = (1, 1, 3, 5, 9, 12)


class Running(nn.Module):
    """A layer that carries state along the row: each token is told of all before it."""

    def __init__(self, inside: nn.Module, share: float) -> None:
        super().__init__()
        self.inside, self.share = inside, share

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inside(hidden) + self.share * hidden.cumsum(dim=1)


def leaky(share: float = 0.1, scale: float = 5.0) -> Any:
    model = causal("llama", scale=scale)
    model.model.layers[0].mlp = Running(model.model.layers[0].mlp, share)
    return model


def convolutions(scale: float = 5.0) -> Any:
    return causal("lfm2", scale=scale, layer_types=["conv", "full_attention"])


class Drawing(nn.Module):
    """A layer whose dropout no config tells of."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.dropout(self.inside(hidden), 0.5, self.training)
