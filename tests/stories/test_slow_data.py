"""Rows that come slowly: whoever asks to stop while they are awaited is heard."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from tests.mutants import site
from tests.web_server import Fault, WebServer

from headway.runs.folder import RunFolder
from headway.supervise.live.live_jobs import run_status

from .conftest import Headway, until

WORDS = ("--preset", "tiny", "--max-length", "32", "--batch-size", "4", "--threads", "1")
STEPS = 40
TRAIN = (*WORDS, "--survey-exact", "1000", "--max-steps", STEPS, "--val-size", "3")
GIVEN = 16  # steps that the rows in the first bytes are enough for
# The plan lays out windows of two steps, so that a small file has many.
PLANNER = """
if "headway.supervise.planner" in sys.orig_argv:
    import headway.planning.data_ledger
    headway.planning.data_ledger._WINDOW_TOKENS = 256
"""
DEAF = """
if "headway.training.worker" in sys.orig_argv:
    import headway.data.batching.batches
    real = headway.data.batching.batches.prefetch
    headway.data.batching.batches.prefetch = lambda *given, on_wait: real(*given)
"""


class SlowServer(WebServer):
    """Gives the plan all it asks for; a run some rows, and the rest once it is let."""

    def __init__(self, run: RunFolder) -> None:
        rows = (json.dumps({"text": f"Row {n} tells of {n * 7 % 31}. "}) for n in range(1000))
        super().__init__("".join(row + "\n" for row in rows).encode())
        self.run = run
        self.let = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.run.plan() and not self.let.is_set():
            self.script = [Fault("stall", at=4000)]
        super().answer(handler)


@pytest.fixture
def server(headway: Headway) -> Iterator[SlowServer]:
    slow = SlowServer(RunFolder(headway.here / "runs" / "data"))
    with slow:
        yield slow


def awaiting(headway: Headway, server: SlowServer, mutant: str = "") -> "subprocess.Popen[str]":
    """A run that has trained all rows there are and waits for those of the next step."""
    folder = headway.here / "mutant"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(site(PLANNER + mutant))
    process = headway.start("train", server.url(), *TRAIN, PYTHONPATH=str(folder))

    def waits() -> bool:
        assert process.poll() is None, process.communicate()
        return run_status(server.run).waiting_for == f"the rows of step {GIVEN + 1}"

    until(waits)
    return process


def steps_done(headway: Headway) -> int:
    return sum(event["event"] == "step_done" for event in headway.events("data"))


def assert_stops(
    headway: Headway, server: SlowServer, process: "subprocess.Popen[str]", grace_s: float
) -> None:
    """Within the grace, saved, to come back."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=grace_s)
    assert process.returncode == 75, err
    newest, problems = server.run.newest_verified()
    assert problems == []
    assert newest is not None
    assert newest.global_step == steps_done(headway) == GIVEN
    receipt = headway.receipt("data")
    assert (receipt["outcome"], receipt["contract"]["verdict"]) == ("interrupted", "kept")


def test_o03_asked_to_stop_while_rows_are_awaited_it_saves_and_goes_on_later(
    headway: Headway, server: SlowServer
) -> None:
    process = awaiting(headway, server)
    assert_stops(headway, server, process, grace_s=10)
    server.let.set()
    again = headway("train", server.url(), *TRAIN, PYTHONPATH=str(headway.here / "mutant"))
    assert again.code == 0, again.err
    rows = headway.receipt("data")["rows"]
    assert (rows["applications"], rows["row_sum"]) == (STEPS * 4, rows["row_sum_planned"])


def test_o03_a_wait_for_rows_that_does_not_listen_is_noticed(
    headway: Headway, server: SlowServer
) -> None:
    process = awaiting(headway, server, DEAF)
    with pytest.raises(subprocess.TimeoutExpired):
        assert_stops(headway, server, process, grace_s=4)
