"""Python interface: plan() and train() for scripts and notebooks."""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from headway.base.errors import BrokenContract, Cause, ComeBack, Exit, Refusal, Remedy
from headway.base.host import packages
from headway.base.process import Stop, raise_now
from headway.config.python_errors import in_python
from headway.config.python_spelling import ORIGIN
from headway.config.resolve import resolve
from headway.config.settings import Given
from headway.config.values import check_utf8, working_folder
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt
from headway.supervise.supervisor import Request, Result, Supervisor
from headway.ui.output import PATIENCE_S
from headway.ui.screens import make_screen
from headway.ui.standard_streams import standard_streams

Data = str | Path | Sequence[str | Path]


def plan(data: Data, **settings: Any) -> Plan:
    """Read the data and decide everything; train nothing.

    During the call, signals are handled in the main thread; afterwards, the previous handlers are
    restored.

    Args:
        data: a file, folder or pattern, or several.
        settings: named as in docs/configuration.md: max_length=128, learning_rate=2e-4, ...

    Raises:
        Refusal: the plan is impossible; the text says what, have, need and try.
        KeyboardInterrupt: Ctrl+C.
        ComeBack: SIGTERM or SIGUSR1 arrived first.
    """
    with _python_spelling():
        packages.require("plan", packages.READING)
        request, stop = _request(data, settings), Stop()
        screen = make_screen(*standard_streams(), quiet=True)
        try:
            with stop.listening(raise_now):
                result = Supervisor(request, screen, stop).plan()
        finally:
            screen.close(1.0 if stop.by else PATIENCE_S)
    if result.plan is None:
        _raise_stopped(stop, "planning")
    return result.plan


def train(data: Data, *, quiet: bool = False, **settings: Any) -> Receipt:
    """Plan, train and verify; the run's folder is created under `output_dir`.

    Needs no `if __name__ == "__main__"` guard: the trainer is a separate process.

    Ctrl+C, SIGTERM and SIGUSR1 finish the step, save, and raise, so that a script does not start
    its next run; the same call resumes this one. The exception has the receipt, whose outcome is
    "interrupted", as its attribute `receipt`; None if nothing was saved. A second signal abandons
    the call at once: its processes are killed, and the last checkpoint remains. During the call,
    signals are handled in the main thread; afterwards, the previous handlers are restored.

    Args:
        data: a file, folder or pattern, or several.
        quiet: print only the closing line.
        settings: named as in docs/configuration.md.

    Raises:
        Refusal: training was impossible. If a run ended with a receipt, the receipt is returned,
            whatever its verdict: check `receipt.contract.verdict`.
        KeyboardInterrupt: Ctrl+C.
        ComeBack: SIGTERM or SIGUSR1.
        SystemExit: SIGTERM or SIGUSR1 as a second signal.
    """
    with _python_spelling():
        packages.require("train", packages.TRAINING)
        request, stop = _request(data, settings), Stop()
        screen = make_screen(*standard_streams(), quiet=quiet)
        try:
            with stop.listening(raise_now):
                result = Supervisor(request, screen, stop).train()
        finally:
            screen.close(1.0 if stop.by else PATIENCE_S)
    receipt = result.receipt
    if result.stopped_for:  # a stall, with on_stall="stop"
        error = in_python(result.stopped_for)
        vars(error)["receipt"] = receipt
        raise error
    if stop.by and (receipt is None or receipt.outcome == "interrupted"):
        _raise_stopped(stop, "training", receipt)
    if receipt is None:
        raise _no_receipt(result)
    return receipt


@contextlib.contextmanager
def _python_spelling() -> Generator[None]:
    """Let refusals say what to type in Python: max_length=128 instead of --max-length 128."""
    try:
        yield
    except Refusal as refusal:
        raise in_python(refusal).with_traceback(refusal.__traceback__) from refusal.__cause__


def _request(data: Data, settings: dict[str, Any]) -> Request:
    sources = (data,) if isinstance(data, str | Path) else tuple(data)
    check_utf8([str(one) for one in (*sources, *settings.values(), working_folder())])
    given = [Given(name, value, ORIGIN) for name, value in settings.items()]
    return Request(tuple(str(source) for source in sources), resolve(given), ("headway.train",))


def _raise_stopped(stop: Stop, doing: str, receipt: Receipt | None = None) -> NoReturn:
    saved = receipt.steps.applied if receipt else 0
    refusal = ComeBack(
        f"{doing} was stopped by {stop.by}",
        cause=Cause.STOPPED,
        have=f"saved after step {saved}" if saved else "nothing was saved",
        need="a process that is allowed to finish",
        remedies=(
            Remedy("the same call again", f"resumes from step {saved}" if saved else "starts over"),
        ),
    )
    error = KeyboardInterrupt() if stop.code is Exit.INTERRUPTED else refusal
    vars(error)["receipt"] = receipt  # Python's own class has no such attribute
    raise error


def _no_receipt(result: Result) -> BrokenContract:
    return BrokenContract(
        "the run ended without a receipt",
        cause=Cause.NO_RECEIPT,
        have=f"exit code {result.code}",
        need="a run that ends",
        remedies=(Remedy(f"headway logs {result.folder}", "what happened"),),
    )
