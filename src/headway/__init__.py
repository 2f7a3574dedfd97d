"""Headway: language-model training with receipts that can be checked."""

from typing import TYPE_CHECKING

from headway.base.version import __version__

__all__ = ["__version__", "plan", "train"]

if TYPE_CHECKING:
    from headway.api import plan, train


def __getattr__(name: str) -> object:
    # Lazily, so that `headway --help` pays for nothing it does not use.
    if name in ("plan", "train"):
        from headway import api

        return getattr(api, name)
    raise AttributeError(f"module 'headway' has no attribute {name!r}")
