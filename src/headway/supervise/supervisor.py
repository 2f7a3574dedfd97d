"""Supervisor: start, run placement and stop of planner and trainer.

The supervisor imports no torch and shares no interpreter with the processes that do: whatever
they are stuck in, it keeps watching and answering. It starts the planner and the trainer at once,
so torch is imported while the data is read; the trainer then waits for its plan.
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

from headway.base.addresses import hide_credentials
from headway.base.disk import disk_errors
from headway.base.errors import (
    Exit,
    Finding,
    MachineError,
    Refusal,
    RefusalMessage,
    refusal_from,
)
from headway.base.events import AttemptStarted, Ended, EventLog, EventReader, Noted, StopAsked
from headway.base.files import make_folder, write_whole
from headway.base.host.launcher import check_started_once
from headway.base.lock import RunLock
from headway.base.process import ChildProcess, Stop
from headway.base.process_id import ProcessId
from headway.base.pulse import read_pulse
from headway.base.units import plural, seconds
from headway.base.version import __version__
from headway.config.settings import Settings
from headway.config.yaml_file import write_settings
from headway.data.sources.descriptors import inherited, reads_standard_input
from headway.planning.parent_settings import with_parent_settings
from headway.runs.folder import RunFolder
from headway.runs.placement import Placement, carry_over, move_aside, place
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, how_to_resume, load_receipt
from headway.runs.settled import Settled, load_settled
from headway.runs.workers import Go, WorkerTree
from headway.supervise.child import child_environment, death_refusal
from headway.supervise.live_jobs import LiveJob
from headway.supervise.planner import PlanRequest
from headway.supervise.progress import Aim, Progress
from headway.supervise.runtime_folder import LiveFolder
from headway.supervise.screen import Screen
from headway.supervise.shared_memory import shared_memory_errors
from headway.supervise.watch import Watch, log_deleted
from headway.supervise.workers import Workers

_EXIT_S = 5.0  # for a trainer to end after its last event
_DEATH_S = 2.0  # for a killed one to be gone


@dataclass(frozen=True)
class Request:
    """What a person asked for."""

    sources: tuple[str, ...]
    settings: Settings
    argv: tuple[str, ...]
    verbose: bool = False


@dataclass(frozen=True)
class Result:
    """How a job ended."""

    code: int
    plan: Plan | None = None
    receipt: Receipt | None = None
    folder: Path | None = None


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A stop was requested before the run started; nothing was written."""


class Supervisor:
    """One job from its request to its exit code.

    Args:
        request: what a person asked for.
        screen: what they see.
        stop: where the program requests a stop. The supervisor installs no signal handlers.
    """

    def __init__(self, request: Request, screen: Screen, stop: Stop) -> None:
        self.request = request
        self.screen = screen
        self.stop = stop
        self.began_s = time.monotonic()
        with shared_memory_errors():
            self._live_folder = LiveFolder()
        self.live = self._live_folder.path
        self.job = LiveJob(
            run=request.settings.run_name or "",
            folder="",
            output_dir=str(Path(request.settings.output_dir).resolve()),
            argv=request.argv,
            process=ProcessId.mine(),
            live=str(self.live),
            started_at=datetime.now(UTC).isoformat(),
        )
        with shared_memory_errors():
            self.job.publish()
        self._children: list[ChildProcess] = []

    def plan(self) -> Result:
        """Plan, train nothing."""
        with self._cleanup():
            try:
                return Result(Exit.KEPT, self._make_plan(train=False))
            except Stopped:
                return self._stopped()

    def train(self) -> Result:
        """Plan, place the run, train."""
        with self._cleanup():
            check_started_once(os.environ, self.request.argv)
            settings = self.request.settings
            tree = WorkerTree(settings.nproc, settings.groups)
            workers = Workers(tree, self.live, adapters=settings.lora)
            self._children += workers.processes
            try:
                plan = self._make_plan(train=True)
            except Stopped:
                return self._stopped()
            return self._place(plan, workers)

    # -- planning ----------------------------------------------------------------------------

    def _make_plan(self, *, train: bool) -> Plan:
        self.request = replace(self.request, settings=with_parent_settings(self.request.settings))
        request = PlanRequest(self.request.sources, self.request.settings, train)
        file = self.live / "request.json"
        with shared_memory_errors():
            file.write_bytes(msgspec.json.encode(request))
        planner = self._start(
            "headway.supervise.planner",
            [str(file)],
            name="planner",
            environment=child_environment(),
            stdin=None if reads_standard_input(self.request.sources) else subprocess.DEVNULL,
            descriptors=inherited(self.request.sources),
        )
        watch = Watch(self.screen, self.live, Progress(self.job.run, pid=os.getpid()))
        for _ in watch.follow(planner):
            if self.stop.by:
                raise Stopped
        plan = planner.answer(Plan)
        if plan is None:
            raise death_refusal(planner, "planning", self._reading())
        return plan

    def _reading(self) -> str:
        """What the planner was last seen reading."""
        pulse = read_pulse(self.live / "planner.pulse")
        data = " ".join(map(hide_credentials, self.request.sources[:3]))
        model = self.request.settings.model or self.request.settings.continue_run
        return f"{pulse.phase} {data}" + (f", for {model}" if model else "") if pulse else ""

    def _stopped(self) -> Result:
        then = how_to_resume(0)
        self.screen.say(f"{self.stop.by}: stopped before step 1, nothing was written · {then}")
        return Result(self.stop.code)

    # -- training ----------------------------------------------------------------------------

    def _place(self, plan: Plan, workers: Workers) -> Result:
        settings = self.request.settings
        output_dir = Path(settings.output_dir)
        where = place(plan, output_dir, named=bool(settings.run_name), fresh=settings.fresh)
        if where.note:
            self.screen.say(where.note)
        if where.kind == "done":
            return self._already_trained(where.folder, plan)
        settled = Settled.from_plan(plan)
        if where.kind == "resume":
            where, plan, settled = _resumed(where, plan)
        if settings.fresh:
            aside = move_aside(where.folder)
            if aside:
                self.screen.say(f"moved the old run to {aside}")
        told = (*plan.findings, *([where.finding] if where.finding else []))
        self.screen.plan(replace(settled.applied_to(plan), findings=told))
        return self._run(where, plan, settled, workers)

    def _already_trained(self, folder: RunFolder, plan: Plan) -> Result:
        receipt = load_receipt(folder.path)
        self.screen.receipt(receipt)
        self.screen.say("already trained, 0 new steps")
        # A contract that was broken the first time is still broken.
        sound = receipt.contract.verdict == "kept" and receipt.learning.verdict != "not"
        return Result(Exit.KEPT if sound else Exit.BROKEN, plan, receipt, folder.path)

    def _run(self, where: Placement, plan: Plan, settled: Settled, workers: Workers) -> Result:
        folder = where.folder
        make_folder(folder.path)
        with RunLock(folder.lock, str(self.live)) as lock:
            log, reader = self._open_run(where, plan, settled, lock)
            aim = Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
            progress = Progress(folder.path.name, str(folder.path), aim, pid=os.getpid())
            job = replace(self.job, run=folder.path.name, folder=str(folder.path.resolve()))
            with shared_memory_errors():
                job.publish()
            watch = Watch(self.screen, self.live, progress, reader, folder.path)
            workers.send(Go(str(folder.path.resolve()), log.attempt, self.began_s))
            if self._follow(workers, watch, log, settled.grace_s):
                self._log_overdue(folder, watch, log, settled.grace_s)
            code = self._finish(folder, workers.root, watch, log)
        receipt = None if code == Exit.BUG else _newest_receipt(folder)
        if receipt:
            self.screen.receipt(receipt)
        return Result(code, plan, receipt, folder.path)

    def _open_run(
        self, where: Placement, plan: Plan, settled: Settled, lock: RunLock
    ) -> tuple[EventLog, EventReader]:
        """Write the files an attempt starts with, and its first event."""
        folder = where.folder
        if where.kind == "new":
            settings, sources = (
                self.request.settings,
                tuple(map(hide_credentials, self.request.sources)),
            )
            write_whole(folder.path / "run.yaml", write_settings(settings, sources))
            rejected = Path(plan.data.store, "rejected.jsonl")
            if rejected.exists() and not plan.data.stream:  # a stream's are found as it is read
                with disk_errors(folder.path / "rejected.jsonl"):
                    shutil.copyfile(rejected, folder.path / "rejected.jsonl")
            plan.save(folder.path)
        elif settled != load_settled(folder.path, plan):
            settled.save(folder.path)
        (folder.path / "receipt.json").unlink(missing_ok=True)
        reader = EventReader(folder.events)
        num_attempts = sum(isinstance(entry.event, AttemptStarted) for entry in reader.new())
        log = EventLog(folder.events, num_attempts + 1, began_s=self.began_s)
        checkpoints = folder.checkpoints()
        newest = checkpoints[-1] if checkpoints else None
        log.write(
            AttemptStarted(
                run=folder.path.name,
                version=__version__,
                pid=os.getpid(),
                from_global_step=newest.global_step if newest else plan.steps.first,
                resumed_from=newest.path.name if newest else "",
            )
        )
        if where.kind == "resume" and where.note:
            log.write(Noted(Finding("adjusted", where.note)))
        if lock.broken_owner:
            what = f"took over the lock of process {lock.broken_owner.pid}, which is gone"
            log.write(Noted(Finding("ok", what)))
        return log, reader

    def _follow(self, workers: Workers, watch: Watch, log: EventLog, grace_s: float) -> bool:
        """Show the run until its root ends; forward a stop to it, once.

        The root is killed when the grace period after a stop is over, and when it has not ended
        some seconds after its last event. It ends by itself when another worker is gone.

        Returns:
            Whether a stop ended it before its last event.
        """
        worker = workers.root
        forwarded, ended_s, killed_s = False, 0.0, 0.0
        for _ in watch.follow(worker):
            now_s = time.monotonic()
            self._note_lost_log(watch, log)
            for finding in workers.take_losses():
                log.write(Noted(finding))
            if self.stop.by and not forwarded:
                forwarded = True
                log.write(StopAsked(self.stop.by, watch.doing()))
                worker.send_signal(self.stop.signal or signal.SIGTERM)
            ended_s = ended_s or (now_s if watch.progress.ended else 0.0)
            hangs = bool(ended_s) and now_s - ended_s > _EXIT_S
            if not killed_s and (hangs or self.stop.since_s() > grace_s):
                killed_s = now_s
                worker.send_signal(signal.SIGKILL)
            if killed_s and now_s - killed_s > _DEATH_S:
                break  # the kernel holds it: it dies when its disk or device answers
        self._note_lost_log(watch, log)
        was_killed = killed_s > 0 and worker.exit_code in (None, -signal.SIGKILL)
        return was_killed and watch.progress.ended is None

    def _log_overdue(self, folder: RunFolder, watch: Watch, log: EventLog, grace_s: float) -> None:
        """Write the last event of a worker that did not stop within the grace period."""
        saved, done = folder.last_saved_step(), watch.progress.job_step
        kept = f"step {saved:,} is saved" if saved else "nothing was saved"
        lost = f", {plural(done - saved, 'step')} lost" if done > saved else ""
        line = (
            f"stopped by {self.stop.by}: the trainer did not save within {seconds(grace_s)} "
            f"and was killed · {kept}{lost} · {how_to_resume(saved)}"
        )
        with contextlib.suppress(MachineError):
            log.write(Ended("interrupted", int(self.stop.code), line))
        watch.take_events()

    def _note_lost_log(self, watch: Watch, log: EventLog) -> None:
        if watch.take_log_loss():
            with contextlib.suppress(MachineError):  # its folder may be gone, too
                log.write(Noted(log_deleted(log.path)))

    def _finish(self, folder: RunFolder, worker: ChildProcess, watch: Watch, log: EventLog) -> int:
        """The exit code; a worker that died without a last event gets one."""
        last = watch.progress.ended
        if last is not None:
            if last.finding:
                message = RefusalMessage(last.exit_code, (last.finding,))
                self.screen.refusal(refusal_from(message))
            elif not (folder.path / "receipt.json").exists():  # stopped before step 1
                self.screen.say(last.line)
            return last.exit_code
        refusal = death_refusal(worker, f"training {folder.path.name}")
        finding = refusal.finding()
        code = int(refusal.code)
        with contextlib.suppress(MachineError):  # the disk that ended it may be the log's
            log.write(Ended("failed", code, finding.what, finding))
        watch.take_events()
        self._show_death(refusal, worker)
        return code

    def _show_death(self, refusal: Refusal, worker: ChildProcess) -> None:
        self.screen.refusal(refusal)
        if self.request.verbose:
            for line in worker.last_words():
                self.screen.say(line)

    # -- processes ---------------------------------------------------------------------------

    def _start(
        self,
        module: str,
        arguments: list[str],
        *,
        name: str,
        environment: dict[str, str],
        stdin: int | None,
        descriptors: tuple[int, ...] = (),
    ) -> ChildProcess:
        # Ctrl+C reaches the program alone, which forwards it in order.
        child = ChildProcess(
            module,
            arguments,
            environment=environment,
            pulse=self.live / f"{name}.pulse",
            log=self.live / f"{name}.err",
            log_stdout=True,
            stdin=stdin,
            descriptors=descriptors,
        )
        self._children.append(child)
        return child

    @contextlib.contextmanager
    def _cleanup(self) -> Generator[None]:
        """Leave no process and no file of this job outside its run folder."""
        with self.stop.before_leaving(self._abandon):
            try:
                yield
            finally:
                for child in self._children:
                    child.end()
                self._live_folder.remove()

    def _abandon(self) -> None:
        """The little that must happen before the process ends at once."""
        for child in self._children:
            child.send_signal(signal.SIGKILL)
        self.screen.close(0.2)
        self._live_folder.remove()


def _resumed(where: Placement, requested: Plan) -> tuple[Placement, Plan, Settled]:
    """The plan of the first start, and its settled values with what a resume may change."""
    plan = where.folder.plan() or requested
    settled, note = carry_over(load_settled(where.folder.path, plan), requested)
    return replace(where, note=note), plan, settled


def _newest_receipt(folder: RunFolder) -> Receipt | None:
    try:
        return load_receipt(folder.path)
    except (OSError, msgspec.MsgspecError):
        return None
