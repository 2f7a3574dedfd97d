"""Watch over the inbox folder: one look after the other, and what follows from all of them."""

from collections.abc import Sequence
from pathlib import Path

from headway.inbox.arriving.arrivals import (
    ArrivalKind,
    Arrivals,
    Listed,
    SeenFile,
    names_to_probe,
    sort_out,
    watch,
)
from headway.inbox.arriving.listing import list_inbox, probe

SCAN_S = 1.0  # between two looks


class InboxWatch:
    """What lies in an inbox, and since when.

    Args:
        folder: of the inbox.
        priority: patterns of names that come first.

    Attributes:
        arrivals: by the last look that opened files.
    """

    def __init__(self, folder: Path, priority: Sequence[str] = ()) -> None:
        self._folder = folder
        self._priority = tuple(priority)
        self._seen: dict[str, SeenFile] = {}
        self._looked_s: float | None = None
        self.arrivals = Arrivals((), (), ())

    def look(self, now_s: float) -> Arrivals:
        """List the folder and open what is quiet; by the clock of `now_s`."""
        self._list(now_s)
        names = names_to_probe(self._seen, now_s)
        probed = {name: probe(self._folder / name, self._seen[name].listed.kind) for name in names}
        self.arrivals = sort_out(self._seen, probed, now_s, self._priority)
        return self.arrivals

    def glance(self, now_s: float) -> None:
        """List the folder once in a while, and open nothing: a file is being trained."""
        if self._looked_s is None or now_s - self._looked_s >= SCAN_S:
            self._list(now_s)

    def forget(self, listed: Listed) -> None:
        """Leave out what was taken."""
        self._seen.pop(listed.name, None)
        old = self.arrivals
        ready = tuple(one for one in old.ready if one != listed)
        refused = tuple(one for one in old.refused if one != listed)
        self.arrivals = Arrivals(ready, old.waiting, refused)

    @property
    def num_waiting(self) -> int:
        """Files that are there, ready or not."""
        return len(self.arrivals.ready) + len(self.arrivals.waiting)

    @property
    def next_file(self) -> str:
        """The path of the file that is taken next, as far as is known; "" if none is."""
        first = next(iter(self.arrivals.ready), None)
        is_file = first is not None and first.kind is ArrivalKind.FILE
        return str(self._folder / first.name) if first and is_file else ""

    def _list(self, now_s: float) -> None:
        self._looked_s = now_s
        self._seen = watch(self._seen, list_inbox(self._folder), now_s)
