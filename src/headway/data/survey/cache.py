"""Finished stores, kept for the next time: look up, publish, prune.

    <key>/              a store, named by its content and by what shaped it
    .seen/<what>        the key that sources with these names, sizes and times had
    .making-*/          a store on its way

All of it is safe to delete, and safe with two processes at once: a store appears by one rename.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import MachineError, Remedy
from headway.base.units import size
from headway.data.survey.store import Store

MOST_BYTES = 5_000_000_000
UNUSED_S = 86_400.0  # a store that was used since is kept in any case


@dataclass(frozen=True)
class Kept:
    """A folder in the cache."""

    path: Path
    bytes: int
    used_s: float  # seconds since 1970


class Cache:
    """The folder of stores.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def seen_before(self, what: str) -> Store | None:
        """The store that these sources gave the last time; None when there is none (any more)."""
        try:
            return self._open((self.folder / ".seen" / what).read_text())
        except OSError:
            return None

    def _open(self, key: str) -> Store | None:
        folder = self.folder / key
        try:
            store = Store(folder)
            os.utime(folder)  # used now
        except (OSError, EOFError, ValueError):
            return None
        # after a power cut a file may be shorter than it was
        return store if len(store.ids) == store.survey.tokens == store.starts[-1] else None

    @contextlib.contextmanager
    def new_folder(self) -> Generator[Path]:
        """An empty folder for a store on its way; it is gone afterwards, however this ends.

        Raises:
            MachineError: in place of an OSError.
        """
        making = None
        try:
            (self.folder / ".seen").mkdir(parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=".making-", dir=self.folder))
            yield making
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            if making:
                shutil.rmtree(making, ignore_errors=True)

    def publish(self, making: Path, key: str, seen: str | None) -> Store:
        """Give a finished store its name, unless another process was first.

        Args:
            making: the folder from `new_folder`, with a finished store.
            key: its name.
            seen: what to find it by without reading the sources again; None: nothing.
        """
        final = self.folder / key
        store = self._open(key)
        if store is None:
            shutil.rmtree(final, ignore_errors=True)
            with contextlib.suppress(OSError):
                making.rename(final)
            store = Store(final)
        if seen:
            (self.folder / ".seen" / seen).write_text(key)
        self._prune()
        return store

    def _prune(self) -> None:
        folders = [p for p in self.folder.iterdir() if p.name != ".seen" and p.is_dir()]
        for kept in to_delete([_kept(path) for path in folders], time.time()):
            shutil.rmtree(kept.path, ignore_errors=True)
        for seen in (self.folder / ".seen").iterdir():
            with contextlib.suppress(OSError):  # of another process, which prunes too
                if not (self.folder / seen.read_text()).is_dir():
                    seen.unlink()

    def _unwritable(self, error: OSError) -> MachineError:
        reason = error.strerror or str(error)
        place = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        return MachineError(
            f"tokenised data cannot be kept in {self.folder}",
            have=f"{reason}, {size(shutil.disk_usage(place).free)} free",
            need="a folder to write to",
            remedies=(Remedy("export XDG_CACHE_HOME=DIR", "a folder with more room"),),
        )


def to_delete(
    kept: Sequence[Kept], now_s: float, most_bytes: int = MOST_BYTES, unused_s: float = UNUSED_S
) -> list[Kept]:
    """Leftovers of processes that were killed, and the least recently used stores.

    So many that the rest is small enough, but none that was used a short while ago.
    """
    old = sorted((k for k in kept if k.used_s < now_s - unused_s), key=lambda k: k.used_s)
    left = sum(k.bytes for k in kept)
    deleted: list[Kept] = []
    for one in old:
        if one.path.name.startswith(".making-") or left > most_bytes:
            deleted.append(one)
            left -= one.bytes
    return deleted


def _kept(folder: Path) -> Kept:
    num_bytes = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        num_bytes = sum(entry.stat().st_size for entry in entries)
    try:
        return Kept(folder, num_bytes, folder.stat().st_mtime)
    except OSError:  # another process deleted it just now
        return Kept(folder, 0, 0.0)
