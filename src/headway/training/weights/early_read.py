"""Early read: a model folder that is loaded while the plan is being made."""

import contextlib
from pathlib import Path

import transformers
from torch import nn

from headway.model.load import from_folder, is_adapter
from headway.model.safetensors_index import weight_files

MOST_BYTES = 256 << 20  # on the disk; for more, a plan has to say first that it fits


class EarlyRead:
    """Reads model folders, as `from_folder` does; one of them has been read by then.

    Args:
        folder: that will probably be asked for; None for none. Whatever is wrong with it is told
            when it is.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._model: nn.Module | None = None
        with contextlib.suppress(Exception):
            if folder and not is_adapter(folder) and _num_bytes(folder) <= MOST_BYTES:
                transformers.utils.logging.disable_progress_bar()
                self._model = from_folder(folder, trust_remote_code=False)

    def __call__(self, path: Path, *, trust_remote_code: bool) -> nn.Module:
        """The model in a folder; the one that was read is given away once.

        Raises:
            UsageError: it cannot be loaded as a causal language model.
        """
        found, self._model = self._model, None
        if found is not None and path == self._folder and not trust_remote_code:
            return found
        return from_folder(path, trust_remote_code=trust_remote_code)


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in weight_files(folder))
