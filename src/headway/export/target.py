"""Export target: a program that weights are written for, and compared in."""

from pathlib import Path
from typing import Protocol

from headway.base.pulse import Pulse
from headway.export.request import ExportOptions, ExportVerification, TargetName, WrittenFiles
from headway.export.source import ExportSource


class Target(Protocol):
    """Writes a model for one program, and compares what that program computes.

    All three methods raise refusals for what they cannot do. Only `folder` is written to.

    Attributes:
        verifies_with: modules that `verify` imports, as they are called.
    """

    verifies_with: tuple[str, ...]

    def num_bytes(self, source: ExportSource, options: ExportOptions) -> int:
        """How much disk `write` needs, at most."""
        ...

    def write(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> WrittenFiles:
        """Write the files into an empty folder, under plain names."""
        ...

    def verify(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> ExportVerification:
        """Compare what was written with the model that was trained.

        A `failure` in it means that the files are not used: they never get their final name.
        """
        ...


def target_of(name: TargetName) -> Target:
    """The target of this name."""
    if name == "hf":
        from headway.export.hf.model_folder import ModelFolder

        return ModelFolder()
    if name == "gguf":
        from headway.export.targets.gguf import GgufTarget

        return GgufTarget()
    from headway.export.targets.ollama import OllamaTarget

    return OllamaTarget()
