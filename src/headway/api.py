"""Python interface: plan() and train() for scripts and notebooks."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from headway.base.errors import BrokenContract, Cause, ComeBack, Exit, Remedy
from headway.base.process import Stop, raise_now
from headway.config.resolve import resolve
from headway.config.settings import Given
from headway.config.values import check_utf8, working_folder
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt
from headway.supervise.supervisor import Request, Result, Supervisor
from headway.ui.screens import make_screen

Data = str | Path | Sequence[str | Path]


def plan(data: Data, **settings: Any) -> Plan:
    """Read the data and decide everything; train nothing.

    Signals are handled for the length of the call, in the main thread; the handlers that were
    installed before are back when it ends.

    Args:
        data: a file, folder or pattern, or several.
        settings: by the names in docs/configuration.md: max_length=128, learning_rate=2e-4, ...

    Raises:
        Refusal: it cannot be done; the text says what, have, need and try.
        KeyboardInterrupt: Ctrl+C.
        ComeBack: SIGTERM or SIGUSR1 arrived first.
    """
    request, stop = _request(data, settings), Stop()
    screen = make_screen(sys.stdout, sys.stderr, quiet=True)
    try:
        with stop.listening(raise_now):
            result = Supervisor(request, screen, stop).plan()
    finally:
        screen.close()
    if result.plan is None:
        _raise_stopped(stop, "planning")
    return result.plan


def train(data: Data, *, quiet: bool = False, **settings: Any) -> Receipt:
    """Plan, train and prove; the run's folder is created under `output_dir`.

    Needs no `if __name__ == "__main__"` guard: the trainer is a process of its own.

    Ctrl+C, SIGTERM and SIGUSR1 finish the step, save, and return a receipt whose outcome is
    "interrupted"; the same call continues the run. A second signal abandons the call at once: its
    processes are killed and the last checkpoint stands. Signals are handled for the length of the
    call, in the main thread; the handlers that were installed before are back when it ends.

    Args:
        data: a file, folder or pattern, or several.
        quiet: print the closing line only.
        settings: by the names in docs/configuration.md.

    Raises:
        Refusal: it could not be done, or the run's contract is broken.
        KeyboardInterrupt: Ctrl+C before anything was saved, or a second Ctrl+C.
        ComeBack: SIGTERM or SIGUSR1 before anything was saved.
        SystemExit: SIGTERM or SIGUSR1 as a second signal.
    """
    request, stop = _request(data, settings), Stop()
    screen = make_screen(sys.stdout, sys.stderr, quiet=quiet)
    try:
        with stop.listening(raise_now):
            result = Supervisor(request, screen, stop).train()
    finally:
        screen.close()
    if result.receipt is None:
        if stop.by:
            _raise_stopped(stop, "training")
        raise _no_receipt(result)
    return result.receipt


def _request(data: Data, settings: dict[str, Any]) -> Request:
    sources = (data,) if isinstance(data, str | Path) else tuple(data)
    check_utf8([str(one) for one in (*sources, *settings.values(), working_folder())])
    given = [Given(name, value, "you") for name, value in settings.items()]
    return Request(tuple(str(source) for source in sources), resolve(given), ("headway.train",))


def _raise_stopped(stop: Stop, doing: str) -> NoReturn:
    if stop.code is Exit.INTERRUPTED:
        raise KeyboardInterrupt
    raise ComeBack(
        f"{doing} was stopped by {stop.by}",
        cause=Cause.STOPPED,
        have="nothing was saved",
        need="a process that is left to finish",
        remedies=(Remedy("the same call again", "starts over"),),
    )


def _no_receipt(result: Result) -> BrokenContract:
    return BrokenContract(
        "the run ended without a receipt",
        cause=Cause.NO_RECEIPT,
        have=f"exit code {result.code}",
        need="a run that ends",
        remedies=(Remedy(f"headway logs {result.folder}", "what happened"),),
    )
