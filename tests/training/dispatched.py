"""What a piece of work asks of a device: launches, and reads that wait for it."""

import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_NO_WORK = {
    *("empty", "empty_like", "empty_strided"),
    *("_record_function_enter_new", "_record_function_exit"),
}


class HostReads(TorchDispatchMode):
    """Finds the operations for which a CPU would wait until a GPU has computed everything.

    Lines that read on a CPU alone, which ask `is_cuda` first, are not among them.
    """

    READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._lists = _Lists(self.found)

    def __enter__(self) -> "HostReads":
        self._lists.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._lists.__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.READS and "is_cuda" not in self._line():
            self.found.append(name)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _line() -> str:
        """Of ours, the line that reads."""
        ours = [one for one in traceback.extract_stack() if "/headway/" in one.filename]
        return ours[-1].line or ""


class _Lists(TorchFunctionMode):
    """Finds reads of whole tensors, which no operation shows."""

    READS = (Tensor.tolist, Tensor.numpy, Tensor.cpu)

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.READS:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Launches(TorchDispatchMode):
    """Counts the operations that would each be one launch on a GPU, or a few for a list."""

    def __init__(self) -> None:
        super().__init__()
        self.num = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        results = [one.alias_info for one in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in results)
        if not is_view and name not in _NO_WORK:
            self.num[name] += 1
        return func(*args, **(kwargs or {}))


def launches(do: Callable[[], Any]) -> Counter[str]:
    """The operations of a piece of work."""
    with Launches() as counted:
        do()
    return counted.num
