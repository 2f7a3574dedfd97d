"""Headway: language-model training with receipts that can be checked."""

from typing import TYPE_CHECKING

from headway.base.version import __version__

__all__ = ["HeadwayCallback", "__version__", "plan", "train"]

if TYPE_CHECKING:
    from headway.api import plan, train
    from headway.integrations.transformers_callback import HeadwayCallback


def __getattr__(name: str) -> object:
    # Lazily, so that `headway --help` pays for nothing it does not use.
    if name in ("plan", "train"):
        from headway import api

        return getattr(api, name)
    if name == "HeadwayCallback":
        return _callback()
    raise AttributeError(f"module 'headway' has no attribute {name!r}")


def _callback() -> object:
    """The callback for transformers' Trainer, where there is transformers."""
    try:
        from headway.integrations.transformers_callback import HeadwayCallback
    except ModuleNotFoundError as error:
        from headway.base.host.packages import missing_package

        refusal = missing_package(error)
        raise (refusal or error) from None
    return HeadwayCallback
