"""Cache of example stores: lookup, publishing and pruning.

    <key>/              a store, named by a hash of its content and the options that shaped it
    .aliases/<alias>    the key of the store made from sources with these names, sizes and times
    .partial-*/         a store that is being written

All of it is safe to delete, and safe to use from two processes: a store appears atomically.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.disk import write_refusal
from headway.base.errors import MachineError, Remedy
from headway.data.survey.store import Store

MAX_BYTES = 5_000_000_000
KEEP_S = 86_400.0  # a store used within this time is never pruned

_ALIASES = ".aliases"
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class CachedFolder:
    """A folder in the cache."""

    path: Path
    num_bytes: int
    used_s: float  # last use, in seconds since 1970


class StoreCache:
    """The cache folder that holds stores.

    Args:
        folder: created on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, alias: str) -> Store | None:
        """The store published under an alias, or None."""
        try:
            return self.open((self.folder / _ALIASES / alias).read_text(encoding="utf-8"))
        except OSError:
            return None

    def open(self, key: str) -> Store | None:
        """The store of a name, or None."""
        folder = self.folder / key
        try:
            store = Store(folder)
            os.utime(folder)  # marks it as used
        except (OSError, EOFError, ValueError):
            return None
        # Files may be truncated after a power failure.
        return store if len(store.ids) == store.survey.tokens == store.starts[-1] else None

    @contextlib.contextmanager
    def new_folder(self) -> Generator[Path]:
        """An empty folder to write a store in; always removed on exit.

        Raises:
            MachineError: instead of an OSError.
        """
        partial = None
        try:
            (self.folder / _ALIASES).mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
            yield partial
        except OSError as error:
            raise self._not_writable(error) from error
        finally:
            if partial:
                shutil.rmtree(partial, ignore_errors=True)

    def publish(self, partial: Path, key: str, alias: str | None) -> Store:
        """Move a finished store to its final name, unless another process was faster.

        Args:
            partial: the folder from `new_folder`, with a finished store.
            key: the final name.
            alias: finds the store without reading the sources again; None: no alias.
        """
        final = self.folder / key
        store = self.open(key)
        if store is None:
            shutil.rmtree(final, ignore_errors=True)
            with contextlib.suppress(OSError):
                partial.rename(final)
            store = Store(final)
        if alias:
            self.add_alias(alias, store)
        self._prune()
        return store

    def add_alias(self, alias: str, store: Store) -> None:
        """Let a store be found under one more alias.

        Raises:
            OSError: it cannot be written.
        """
        (self.folder / _ALIASES / alias).write_text(store.folder.name, encoding="utf-8")

    def _prune(self) -> None:
        folders = [p for p in self.folder.iterdir() if p.name != _ALIASES and p.is_dir()]
        for old in folders_to_delete([_cached_folder(path) for path in folders], time.time()):
            shutil.rmtree(old.path, ignore_errors=True)
        for alias in (self.folder / _ALIASES).iterdir():
            with contextlib.suppress(OSError):  # another process may be pruning too
                if not (self.folder / alias.read_text(encoding="utf-8")).is_dir():
                    alias.unlink()

    def _not_writable(self, error: OSError) -> MachineError:
        elsewhere = Remedy("export XDG_CACHE_HOME=DIR", "a folder with more space")
        return write_refusal(error, self.folder, elsewhere)


def folders_to_delete(
    folders: Sequence[CachedFolder],
    now_s: float,
    max_bytes: int = MAX_BYTES,
    keep_s: float = KEEP_S,
) -> list[CachedFolder]:
    """Partial stores of killed processes, and least recently used stores beyond `max_bytes`.

    Folders used within the last `keep_s` seconds are never deleted.
    """
    old = sorted((f for f in folders if f.used_s < now_s - keep_s), key=lambda f: f.used_s)
    num_bytes = sum(f.num_bytes for f in folders)
    deleted: list[CachedFolder] = []
    for folder in old:
        if folder.path.name.startswith(_PARTIAL) or num_bytes > max_bytes:
            deleted.append(folder)
            num_bytes -= folder.num_bytes
    return deleted


def _cached_folder(path: Path) -> CachedFolder:
    num_bytes = 0
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        num_bytes = sum(entry.stat().st_size for entry in entries)
    try:
        return CachedFolder(path, num_bytes, path.stat().st_mtime)
    except OSError:  # another process just deleted it
        return CachedFolder(path, 0, 0.0)
