"""Compile level: how much of a model the compiler fuses."""

from enum import StrEnum


class CompileLevel(StrEnum):
    """From nothing to whole layers; each includes the one before it."""

    NOTHING = "nothing"
    OPERATIONS = "operations"  # norms, and the gradient of the loss
    LAYERS = "layers"  # each decoder layer as one graph

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled."""
        return self is not CompileLevel.NOTHING
