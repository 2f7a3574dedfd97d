"""Mutants of the inbox: each breaks one promise, and the test of that promise notices it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.inbox import test_daemon, test_service
from tests.inbox.ended import test_finisher
from tests.inbox.jobs import test_outcomes
from tests.inbox.world import World

from headway.inbox.arriving.arrivals import ArrivalKind, FileWriter
from headway.inbox.jobs.inbox_job import InboxJob, JobState
from headway.inbox.jobs.queue import Queue

INBOX = "headway.inbox"
Test = Callable[[Path], None]
NOTICED = AssertionError, pytest.fail.Exception


def of_world(test: Callable[[World], None]) -> Test:
    return lambda folder: test(World(folder))


def with_link(test: Callable[[World, Path, str], None]) -> Test:
    return lambda folder: test(World(folder), folder, "link")


def killed(folder: Path) -> None:
    """The test of kills, before and after each change: one of them has to notice."""
    for before in (True, False):
        (folder / str(before)).mkdir()
        test_daemon.test_f49_killed_at_every_change_each_file_is_trained_once(
            folder / str(before), before
        )


def killed_beside(folder: Path) -> None:
    """The same, while files are measured beside the next one."""
    for before in (True, False):
        (folder / str(before)).mkdir()
        test_finisher.test_f49_killed_at_every_change_while_files_are_measured_beside(
            folder / str(before), before
        )


def late(queue: Queue, job: InboxJob) -> InboxJob:
    """Records the end of a job only once its file was moved."""
    if job.state is JobState.CLAIMED or job.is_settled:
        return _write(queue, job)
    queue.jobs = [job if one.number == job.number else one for one in queue.jobs]
    return job


_write: Callable[[Queue, InboxJob], InboxJob] = Queue._write  # pyright: ignore[reportPrivateUsage]

MUTANTS: dict[str, tuple[dict[str, Any], Test]] = {
    "F23 an empty file is trained": (
        {f"{INBOX}.daemon.Daemon._ends_at_once": lambda *_: False},
        of_world(test_daemon.test_f23_an_empty_file_fails_and_the_next_is_trained),
    ),
    "F25 each file goes on from the first model": (
        {f"{INBOX}.jobs.queue.Queue.head": None},
        of_world(test_daemon.test_f25_files_are_learned_one_on_top_of_the_other),
    ),
    "R01 a file that took no step counts as trained": (
        {f"{INBOX}.jobs.outcomes.is_trained": lambda receipt: receipt is not None},
        lambda folder: test_outcomes.test_what_follows_from_an_end(folder, "R01 no step"),
    ),
    "F46 a writer is not noticed": (
        dict.fromkeys(
            (f"{INBOX}.arriving.listing.writer_of", f"{INBOX}.jobs.queue.writer_of"),
            lambda _: FileWriter.NONE,
        ),
        of_world(test_daemon.test_f46_a_file_that_is_being_written_is_not_taken),
    ),
    "D10 F46 a change is not noticed": (
        {f"{INBOX}.daemon.Daemon._changed": lambda *_: None},
        of_world(
            test_daemon.test_d10_f46_a_file_that_changes_after_it_was_taken_fails_with_both_hashes
        ),
    ),
    "F48 nobody asks for the lock": (
        {f"{INBOX}.service.RunLock": lambda *_, **__: nullcontext()},
        test_service.test_f48_a_second_daemon_is_refused_and_told_of_the_first,
    ),
    "F49 nothing is finished after a kill": (
        {f"{INBOX}.jobs.queue.Queue.recover": lambda _: []},
        killed,
    ),
    "F49 a file is moved before its end is recorded": (
        {f"{INBOX}.jobs.queue.Queue._write": late},
        killed,
    ),
    "F49 a trained file is put back while it is measured": (
        {f"{INBOX}.jobs.queue.Queue.unsettled": ()},
        killed_beside,
    ),
    "F49 a file that was not measured when it was killed never is": (
        {f"{INBOX}.jobs.queue.Queue.unmeasured": ()},
        killed_beside,
    ),
    "F50 no crash is one too many": (
        {f"{INBOX}.daemon.MOST_CRASHES": 10**9},
        of_world(test_daemon.test_f50_a_file_that_kills_the_process_three_times_fails),
    ),
    "F59 a link is taken for a file": (
        {f"{INBOX}.arriving.listing._KINDS": dict.fromkeys(range(1 << 16), ArrivalKind.FILE)},
        with_link(test_daemon.test_f59_what_is_no_file_is_refused_unopened),
    ),
    "F59 a folder that is a link is followed": (
        {f"{INBOX}.folder.InboxFolder.check": lambda _: None},
        lambda folder: test_daemon.test_f59_a_folder_of_the_inbox_that_is_a_link_is_refused(
            World(folder), folder
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    changes, test = MUTANTS[name]
    (tmp_path / "as it is").mkdir()
    test(tmp_path / "as it is")
    for place, changed in changes.items():
        monkeypatch.setattr(place, changed)
    (tmp_path / "changed").mkdir()
    with pytest.raises(NOTICED):
        test(tmp_path / "changed")
