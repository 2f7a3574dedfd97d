"""bitsandbytes, imported without what it says on the way.

Its 4-bit codes and its optimizers run on processors as well as on GPUs.
"""

import importlib
import logging
import warnings
from typing import Any


def import_bitsandbytes() -> Any:
    """The library.

    Raises:
        ModuleNotFoundError: it is not installed; the plan said so before.
    """
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it looks for optional kernels on the Hub, and says so
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which is deprecated
            return importlib.import_module("bitsandbytes")
    finally:
        logger.setLevel(level)
