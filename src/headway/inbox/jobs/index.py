"""Index of jobs: SQLite made from their records, and made again whenever it is lost or damaged.

The records are the truth. The index answers what would otherwise mean to search all of them, and
other programs can ask it: `sqlite3 inbox/.headway/index.sqlite 'select name, state from jobs'`.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from headway.inbox.jobs.inbox_job import InboxJob, JobState

T = TypeVar("T")
_PATIENCE_S = 10.0  # with another process that writes
_TABLE = """
create table if not exists jobs (
    number integer primary key,
    name text not null,
    sha256 text not null,
    state text not null,
    attempt integer not null,
    run text not null,
    parent text not null,
    global_step integer,
    claimed_at text not null,
    ended_at text not null,
    place text not null
) without rowid;
create index if not exists by_content on jobs (sha256, state);
"""
# A writer that was overtaken changes nothing: the row of a later attempt stays.
_PUT = """
insert into jobs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (number) do update set
    state = excluded.state, attempt = excluded.attempt, parent = excluded.parent,
    global_step = excluded.global_step, ended_at = excluded.ended_at, place = excluded.place
where excluded.attempt >= jobs.attempt
"""
_FIND = "select number from jobs where sha256 = ? and state = ? order by number limit 1"


class JobIndex:
    """The index of an inbox.

    Args:
        file: made if it is missing; None: in memory.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._jobs: tuple[InboxJob, ...] = ()  # to make it from again
        self._connection: sqlite3.Connection | None = None

    def rebuild(self, jobs: Iterable[InboxJob]) -> None:
        """Make it from the records."""
        self._jobs = tuple(jobs)

        def fill(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("delete from jobs")
                connection.executemany(_PUT, map(_row, self._jobs))

        self._do(fill)

    def put(self, job: InboxJob) -> None:
        """Add a job, or what is new of it."""
        self._jobs = (*(one for one in self._jobs if one.number != job.number), job)

        def add(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute(_PUT, _row(job))

        self._do(add)

    def trained(self, sha256: str) -> int | None:
        """The number of the first job that has trained this content; None if there is none."""

        def find(connection: sqlite3.Connection) -> int | None:
            found = connection.execute(_FIND, (sha256, JobState.DONE.value)).fetchone()
            return int(found[0]) if found else None

        return self._do(find)

    def close(self) -> None:
        """Close the file."""
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _do(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Ask it; if it is damaged, make it again; where SQLite cannot write, in memory."""
        for repair in (self._remove, self._keep_in_memory):
            try:
                return ask(self._open())
            except (sqlite3.Error, OSError):
                self.close()
                repair()
        return ask(self._open())

    def _open(self) -> sqlite3.Connection:
        is_lost = self._file is not None and not self._file.exists()
        if self._connection and not is_lost:
            return self._connection
        self.close()
        self._connection = sqlite3.connect(self._file or ":memory:", timeout=_PATIENCE_S)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(_TABLE)
        with self._connection:
            self._connection.executemany(_PUT, map(_row, self._jobs))
        return self._connection

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm") if self._file else ():
            with contextlib.suppress(OSError):
                Path(f"{self._file}{end}").unlink()

    def _keep_in_memory(self) -> None:
        self._file = None


def _row(job: InboxJob) -> tuple[object, ...]:
    steps = job.learned.last_step if job.learned else None
    return (
        *(job.number, job.name, job.sha256, job.state.value, job.attempts, job.run, job.parent),
        *(steps, job.claimed_at, job.ended_at, job.place),
    )
