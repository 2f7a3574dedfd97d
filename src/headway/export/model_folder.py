"""Target hf: a transformers folder, with the adapters merged, or the adapters alone."""

from pathlib import Path

from headway.base.pulse import Pulse
from headway.export.request import ExportOptions, Verification, Written
from headway.export.source import ExportSource


class ModelFolder:
    """See `Target`."""

    verifies_with = ()

    def num_bytes(self, source: ExportSource, options: ExportOptions) -> int:
        """See `Target`."""
        raise NotImplementedError

    def write(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> Written:
        """See `Target`."""
        raise NotImplementedError

    def verify(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> Verification:
        """See `Target`."""
        raise NotImplementedError
