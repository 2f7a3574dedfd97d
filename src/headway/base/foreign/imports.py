"""Imports of torch and transformers, which are most of the time until a process can compute.

transformers makes a table of what its model files export, and reads all 1,600 of them three times
to make it: 0.7 of the 3.2 s of processor time that the imports take (transformers 5.23).
"""

import gc
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_TABLE = "transformers.utils.import_utils"  # the module that makes it
_MAKER = "create_import_structure_from_path"  # the function in it


@contextmanager
def quick_imports() -> Generator[None]:
    """Import large libraries within: the same modules, sooner.

    For processes of our own only: it changes how transformers is imported afterwards, too.
    """
    if _TABLE not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    gc.disable()  # modules are never garbage; searching them takes a quarter of the import time
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Finder(MetaPathFinder):
    """Finds the module that makes the table, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _read_once(module)


def _read_once(module: Any) -> None:
    """Have the table made from one look at each file, and at the end of it."""
    if not hasattr(module, "fetch__all__") or not hasattr(module, _MAKER):
        return  # another version of transformers: it is imported as it is
    names_in: Callable[[str], list[str]] = module.fetch__all__
    table_of: Callable[[str], Any] = getattr(module, _MAKER)

    def names_in_end(text: str) -> list[str]:
        # The last line that begins with it counts, whatever is before.
        return names_in(text[max(text.rfind("\n__all__"), 0) :])

    def table_of_folder(path: str | os.PathLike[str]) -> Any:
        # It keeps what it read, but by the path as it is given: a folder, or a file in it.
        given = Path(path)
        return table_of(str(given.parent if given.is_file() else given))

    module.fetch__all__ = names_in_end
    setattr(module, _MAKER, table_of_folder)
