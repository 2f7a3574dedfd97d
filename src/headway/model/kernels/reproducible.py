"""Reproducible kernels: the same bits each time, on devices that have faster ones, too."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from headway.base.errors import Cause, Refusal, Remedy, UsageError

# Buffers of a fixed size for cuBLAS, with which it is deterministic: 8 of 4,096 KiB. It reads
# this when it is first used.
_CUBLAS_VARIABLE, _CUBLAS_BUFFERS = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def set_up_kernels(threads: int, device: str, *, deterministic: bool) -> None:
    """Set how this process computes. Comes before its first operation on a device.

    On a CPU every kernel gives the same bits each time, so there is nothing to choose.

    Args:
        threads: of the CPU.
        device: that it trains on.
        deterministic: an operation that has no deterministic kernel raises RuntimeError.
    """
    torch.set_num_threads(threads)
    if deterministic and device != "cpu":
        os.environ.setdefault(_CUBLAS_VARIABLE, _CUBLAS_BUFFERS)
        torch.use_deterministic_algorithms(True)


@contextmanager
def named_if_it_fails(again: Callable[[], object]) -> Generator[None]:
    """Around a computation: if an operation has no deterministic kernel, the error names it.

    torch raises a plain RuntimeError, of which nobody knows what it is about. So what failed is run
    once more, each operation by itself, and the one that fails is tried with other kernels allowed.

    Args:
        again: the same computation, whose result is of no use.

    Raises:
        UsageError: an operation has no deterministic kernel, and they are asked for.
        Exception: whatever else the computation raised.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        if torch.are_deterministic_algorithms_enabled():
            _examine(again)
        raise


def _examine(again: Callable[[], object]) -> None:
    try:
        with _Examined():
            again()
    except Refusal:
        raise
    except Exception:
        return  # of the two errors, the first one counts


class _Examined(TorchDispatchMode):
    """Tries each operation that fails with other kernels allowed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError as error:
            torch.use_deterministic_algorithms(False)
            try:
                func(*args, **(kwargs or {}))
            except RuntimeError:
                raise error from None
            finally:
                torch.use_deterministic_algorithms(True)
            raise _without_kernel(func.overloadpacket.__name__) from error


def _without_kernel(operation: str) -> UsageError:
    return UsageError(
        f"the operation {operation} of this model has no deterministic kernel",
        cause=Cause.NOT_DETERMINISTIC,
        have=f"torch {torch.__version__}, and --deterministic",
        need="operations that give the same bits each time on this device",
        remedies=(
            Remedy(
                "the same command without --deterministic",
                "bits may differ from time to time, within rounding",
            ),
            Remedy("--device cpu", "gives the same bits each time"),
        ),
    )
