"""Facts: the thread that a process began with, even where none could be read."""

from headway.diagnose.evidence.facts import ProcessFacts, ThreadFacts


def test_the_main_thread_is_the_first() -> None:
    main = ThreadFacts(10, "MainThread", "R")
    assert ProcessFacts(10, threads=(main, ThreadFacts(7))).main_thread == main


def test_without_threads_nothing_is_claimed_of_it() -> None:
    thread = ProcessFacts(10).main_thread
    assert (thread.tid, thread.frames, thread.holds_gil, thread.cpu) == (10, (), False, 0.0)
