"""Processes side by side: forked here, ended here, with what each of them found."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

LIMIT_S = 120  # that they wait for each other, or are waited for


class Meeting(Protocol):
    """A point that all come to before any goes on."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others."""
        ...


def side_by_side(num: int, act: Callable[[int, Meeting], Any]) -> list[Any]:
    """What each of `num` processes returned, by rank.

    Args:
        num: of processes.
        act: takes the rank and the meeting point of all.

    Raises:
        RuntimeError: one of them failed, or hung.
    """
    context = multiprocessing.get_context("fork")
    meeting = context.Barrier(num, timeout=LIMIT_S)
    pipes = [context.Pipe(duplex=False) for _ in range(num)]
    processes = [
        context.Process(target=_report, args=(act, rank, meeting, end), daemon=True)
        for rank, (_, end) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, end in pipes:
        end.close()
    try:
        return [_result(rank, ours) for rank, (ours, _) in enumerate(pipes)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _report(
    act: Callable[[int, Meeting], Any], rank: int, meeting: Meeting, end: Connection
) -> None:
    try:
        end.send((True, act(rank, meeting)))
    except BaseException:
        end.send((False, traceback.format_exc()))


def _result(rank: int, ours: Connection) -> Any:
    if not ours.poll(LIMIT_S):
        raise RuntimeError(f"process {rank} hung")
    try:
        worked, found = ours.recv()
    except EOFError:
        raise RuntimeError(f"process {rank} is gone") from None
    if not worked:
        raise RuntimeError(f"process {rank} failed:\n{found}")
    return found
