"""Start the workers, follow their pulses, stop.

The supervisor imports no torch and shares no interpreter with those that do: whatever they are
stuck in, it goes on looking and answering. It starts the planner and the trainer at once, so that
torch is imported while the data is read; the trainer then waits for its plan.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Exit, Finding, MachineError, Refusal, RefusalMessage, refusal_from
from headway.base.events import (
    AttemptStarted,
    Ended,
    EventLog,
    EventReader,
    LogEntry,
    Noted,
    StopAsked,
)
from headway.base.files import make_folder, write_whole
from headway.base.lock import Lock
from headway.base.process import Go, Stop
from headway.base.version import __version__
from headway.config.settings import Settings
from headway.config.yaml_file import write_settings
from headway.data.sources.source import shown
from headway.runs.folder import RunFolder
from headway.runs.placement import Placement, carried_on, move_aside, place
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, load_receipt
from headway.supervise.child import Child, died
from headway.supervise.live_jobs import LiveJob, copy_pulses, read_pulses
from headway.supervise.planner import PlanAnswer, PlanRequest
from headway.supervise.progress import Aim, Progress
from headway.supervise.screen import Screen
from headway.supervise.shared_memory import room_to_tell

LOOK_S = 0.05
COPY_S = 1.0


@dataclass(frozen=True)
class Request:
    """What a person asked for."""

    sources: tuple[str, ...]
    settings: Settings
    argv: tuple[str, ...]
    verbose: bool = False


@dataclass(frozen=True)
class Result:
    """How it ended."""

    code: int
    plan: Plan | None = None
    receipt: Receipt | None = None
    folder: Path | None = None


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked to stop before anything was begun; nothing was written."""


class Supervisor:
    """One job from the command line to its exit code.

    Args:
        order: what a person asked for.
        screen: what they see.
        stop: where its program says that it should stop. The supervisor itself takes no signals.
    """

    def __init__(self, order: Request, screen: Screen, stop: Stop) -> None:
        self.order = order
        self.screen = screen
        self.stop = stop
        self.began_s = time.monotonic()
        self.job = LiveJob(
            run=order.settings.run_name or "",
            folder="",
            output_dir=str(Path(order.settings.output_dir).resolve()),
            argv=order.argv,
            pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(),
        )
        with room_to_tell():
            self.live = self.job.publish()
        self.progress = Progress(self.job.run, pid=os.getpid())
        self.planner: Child | None = None
        self.worker: Child | None = None

    def plan(self) -> Result:
        """Plan, train nothing."""
        with self._cleaning():
            try:
                return Result(Exit.KEPT, self._planned(train=False))
            except Stopped:
                return self._stopped()

    def train(self) -> Result:
        """Plan, place, train; the receipt tells the rest."""
        with self._cleaning():
            self.worker = Child(
                "headway.training.worker",
                ["-", *(["--adapters"] if self.order.settings.lora else [])],
                self.live,
                "rank-0",
                subprocess.PIPE,
            )
            try:
                plan = self._planned(train=True)
            except Stopped:
                return self._stopped()
            return self._placed(plan)

    # -- planning ----------------------------------------------------------------------------

    def _planned(self, *, train: bool) -> Plan:
        request = PlanRequest(self.order.sources, self.order.settings, train)
        with room_to_tell():
            (self.live / "request.json").write_bytes(msgspec.json.encode(request))
        stdin = None if "-" in self.order.sources else subprocess.DEVNULL
        self.planner = Child(
            "headway.supervise.planner", [str(self.live)], self.live, "planner", stdin
        )
        self._watch(self.planner)
        try:
            answer = msgspec.json.decode((self.live / "answer.json").read_bytes(), type=PlanAnswer)
        except OSError:
            raise died(self.planner, "planning") from None
        if answer.plan is None:
            assert answer.refused is not None, "no plan comes with its reasons"
            raise refusal_from(answer.refused)
        return answer.plan

    def _watch(self, child: Child) -> None:
        """Show what goes on until the child ends; what is begun here can be left at once."""
        while child.running:
            if self.stop.by:
                raise Stopped
            self._show()
            time.sleep(LOOK_S)

    def _stopped(self) -> Result:
        self.screen.say(f"{self.stop.by}: stopped before step 1, nothing was written")
        return Result(self.stop.code)

    def _show(self) -> None:
        status = self.progress.status(read_pulses(self.live), time.monotonic(), wall_s=time.time())
        self.screen.status(status)

    # -- training ----------------------------------------------------------------------------

    def _placed(self, plan: Plan) -> Result:
        settings = self.order.settings
        output_dir = Path(settings.output_dir)
        where = place(plan, output_dir, named=bool(settings.run_name), fresh=settings.fresh)
        if where.note:
            self.screen.say(where.note)
        if where.kind == "done":
            receipt = load_receipt(where.folder.path)
            self.screen.receipt(receipt)
            self.screen.say("already trained, 0 new steps")
            # What was broken the first time is not kept by looking at it again.
            sound = receipt.contract.verdict == "kept" and receipt.learning.verdict != "not"
            code = Exit.KEPT if sound else Exit.BROKEN
            return Result(code, plan, receipt, where.folder.path)
        if where.kind == "resume":
            where, plan = _resumed(where, plan)
        if settings.fresh:
            aside = move_aside(where.folder)
            if aside:
                self.screen.say(f"moved the old run to {aside}")
        self.screen.plan(plan)
        return self._run(where, plan)

    def _run(self, where: Placement, plan: Plan) -> Result:
        folder = where.folder
        make_folder(folder.path)
        with Lock(folder.lock, str(self.live)) as lock:
            log, reader = self._open(where, plan, lock)
            self.progress = Progress(
                folder.path.name, str(folder.path), _aim(plan), pid=os.getpid()
            )
            self.job = replace(self.job, run=folder.path.name, folder=str(folder.path.resolve()))
            with room_to_tell():
                self.job.publish()
            self._go(folder, log)
            self._follow(reader, log)
            code = self._ended(folder, log, reader)
        receipt = _receipt_since(folder, code)
        if receipt:
            self.screen.receipt(receipt)
        return Result(code, plan, receipt, folder.path)

    def _open(self, where: Placement, plan: Plan, lock: Lock) -> tuple[EventLog, EventReader]:
        """Write what a run begins with; find out where it stands."""
        folder = where.folder
        if where.kind == "new":
            settings, sources = self.order.settings, tuple(map(shown, self.order.sources))
            write_whole(folder.path / "run.yaml", write_settings(settings, sources))
            rejected = Path(plan.data.store, "rejected.jsonl")
            if rejected.exists() and not plan.data.stream:  # a flow's are found as it is read
                with disk_errors(folder.path / "rejected.jsonl"):
                    shutil.copyfile(rejected, folder.path / "rejected.jsonl")
        plan.save(folder.path)
        (folder.path / "receipt.json").unlink(missing_ok=True)
        reader = EventReader(folder.events)
        earlier = sum(isinstance(e.event, AttemptStarted) for e in reader.new())
        log = EventLog(folder.events, earlier + 1, began_s=self.began_s)
        checkpoints = folder.checkpoints()
        newest = checkpoints[-1] if checkpoints else None
        start = newest.global_step if newest else plan.steps.first
        log.write(
            AttemptStarted(
                run=folder.path.name,
                version=__version__,
                pid=os.getpid(),
                from_global_step=start,
                resumed_from=newest.path.name if newest else "",
            )
        )
        if where.kind == "resume" and where.note:
            log.write(Noted(Finding("adjusted", where.note)))
        if lock.broken_owner:
            what = f"the lock of process {lock.broken_owner.pid}, which is gone, was taken over"
            log.write(Noted(Finding("ok", what)))
        return log, reader

    def _go(self, folder: RunFolder, log: EventLog) -> None:
        assert self.worker is not None, "training starts its worker first"
        assert self.worker.process.stdin is not None, "which reads its Go from a pipe"
        go = Go(str(folder.path.resolve()), log.attempt, self.began_s)
        try:
            self.worker.process.stdin.write(msgspec.json.encode(go) + b"\n")
            self.worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died while importing; `_ended` tells why

    def _follow(self, reader: EventReader, log: EventLog) -> None:
        """Show the run until its worker ends; pass on what is asked of it."""
        assert self.worker is not None, "there is a run to follow"
        told, copied_s = "", 0.0
        while self.worker.running:
            if self.stop.by and not told:
                told = self.stop.by
                log.write(StopAsked(told))
                self.worker.tell(self.stop.signal or signal.SIGTERM)
            self._take(reader)
            self._show()
            if time.monotonic() - copied_s >= COPY_S:
                copied_s = time.monotonic()
                copy_pulses(self.live, Path(self.job.folder))
            time.sleep(LOOK_S)
        self._take(reader)

    def _take(self, reader: EventReader) -> None:
        for entry in reader.new():
            self._take_one(entry)

    def _take_one(self, entry: LogEntry) -> None:
        self.progress.take(entry)
        self.screen.event(entry)

    def _ended(self, folder: RunFolder, log: EventLog, reader: EventReader) -> int:
        """The exit code; where the worker could not say why it ended, say it for it."""
        assert self.worker is not None, "there was a run"
        last = self.progress.ended
        if last is not None:
            if last.finding:
                self.screen.refusal(ended_refusal(last))
            elif not (folder.path / "receipt.json").exists():  # it was stopped before it began
                self.screen.say(last.line)
            return last.exit_code
        refusal = died(self.worker, f"training {folder.path.name}")
        finding = refusal.finding()
        exit_code = int(refusal.code)
        with contextlib.suppress(MachineError):  # the disk that ended it may be the log's
            log.write(Ended("failed", exit_code, finding.what, finding))
        self._take(reader)
        self.screen.refusal(refusal)
        if self.order.verbose:
            for line in self.worker.last_words():
                self.screen.say(line)
        return exit_code

    # -- the end -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _cleaning(self) -> Generator[None]:
        """Leave no process and no file of this job outside its run folder."""
        with self.stop.before_leaving(self._abandon):
            try:
                yield
            finally:
                self._clean()

    def _abandon(self) -> None:
        """The little that must be done before the process ends at once."""
        for child in (self.planner, self.worker):
            if child:
                child.tell(signal.SIGKILL)
        self.screen.close()
        shutil.rmtree(self.live, ignore_errors=True)

    def _clean(self) -> None:
        for child in (self.planner, self.worker):
            if child:
                child.end()
                if child.process.stdin:
                    child.process.stdin.close()
        shutil.rmtree(self.live, ignore_errors=True)


def _resumed(where: Placement, plan: Plan) -> tuple[Placement, Plan]:
    """What was decided at the first start, but for what may change on the way."""
    before = where.folder.plan()
    if before is None:
        return where, plan
    now, note = carried_on(before, plan)
    return replace(where, note=note), now


def ended_refusal(ended: Ended) -> Refusal:
    """How a run ended, as the refusal it was."""
    assert ended.finding is not None, "asked only where there is one"
    return refusal_from(RefusalMessage(ended.exit_code, (ended.finding,)))


def _receipt_since(folder: RunFolder, code: int) -> Receipt | None:
    if code == Exit.BUG:
        return None
    try:
        return load_receipt(folder.path)
    except (OSError, msgspec.MsgspecError):
        return None


def _aim(plan: Plan) -> Aim:
    return Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
