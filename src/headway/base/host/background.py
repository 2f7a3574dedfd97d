"""Background work: a function in a thread of its own, whose result or error is never lost."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_background(name: str, work: Callable[[], T]) -> "Future[T]":
    """Run a function in a daemon thread, which the end of the process does not wait for.

    An executor's threads are joined when the interpreter ends, so one that waits for a disk or for
    another machine would keep a process that is told to end.

    Args:
        name: of the thread, as stacks show it.
        work: the function.

    Returns:
        What gives its result, or raises what it raised.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return future
