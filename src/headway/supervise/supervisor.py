"""Supervisor: start, run placement and stop of planner and trainer.

The supervisor imports no torch and shares no interpreter with the processes that do: whatever
they are stuck in, it keeps watching and answering. It starts the planner and the trainer at once,
so torch is imported while the data is read; the trainer then waits for its plan.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headway.base.addresses import hide_credentials
from headway.base.errors import Exit, Refusal, RefusalMessage, refusal_from
from headway.base.events import Ended, EventLog
from headway.base.files import make_folder
from headway.base.host.launcher import check_started_once
from headway.base.lock import RunLock
from headway.base.process import ChildProcess, Spawn, Stop
from headway.base.process_id import ProcessId
from headway.base.pulse import read_pulse
from headway.config.settings import Settings
from headway.config.values import AUTO
from headway.data.sources.descriptors import inherited, reads_standard_input
from headway.planning.parent_settings import parent_run, with_parent_settings
from headway.runs.folder import RunFolder
from headway.runs.placement import Placement, move_aside, place
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, how_to_resume, load_receipt
from headway.runs.settled import Settled, load_settled
from headway.runs.workers import Go, WorkerTree
from headway.supervise.attempts.opening import open_attempt, write_run
from headway.supervise.attempts.restart import Restart, Restarts, follow_attempts
from headway.supervise.attempts.running_attempt import RunningAttempt, newest_receipt
from headway.supervise.attempts.workers import Workers
from headway.supervise.child import child_environment, death_refusal
from headway.supervise.live.live_jobs import LiveJob
from headway.supervise.live.runtime_folder import LiveFolder
from headway.supervise.live.shared_memory import shared_memory_errors
from headway.supervise.planner import PlanRequest
from headway.supervise.planner_watch import PlannerWatch
from headway.supervise.progress import Aim, Progress
from headway.supervise.screen import Screen
from headway.supervise.stalls.due import StallRules
from headway.supervise.warm_start import NO_WARM_START, WarmStart
from headway.supervise.watch import Watch


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        sources: what to train on.
        settings: as given.
        argv: what was typed.
        verbose: show the last lines of a trainer that died.
        chosen_anew: settings that a continued run's planner chose and this one's chooses again.
    """

    sources: tuple[str, ...]
    settings: Settings
    argv: tuple[str, ...]
    verbose: bool = False
    chosen_anew: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """How a job ended."""

    code: int
    plan: Plan | None = None
    receipt: Receipt | None = None
    folder: Path | None = None
    stopped_for: Refusal | None = None  # why it was stopped, if nobody asked for it


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A stop was requested before the run started; nothing was written."""


class Supervisor:
    """One job from its request to its exit code.

    Args:
        request: what a person asked for.
        screen: what they see.
        stop: where the program requests a stop. The supervisor installs no signal handlers.
        warm: where its processes come from.
        meanwhile: called when the trainer has its plan.
        planner_ahead: gives a planner that has read the data already, told where its request and
            its pulse are; None if there is none.
    """

    def __init__(
        self,
        request: Request,
        screen: Screen,
        stop: Stop,
        warm: WarmStart = NO_WARM_START,
        meanwhile: Callable[[], None] = lambda: None,
        planner_ahead: Callable[[Path, Path], ChildProcess | None] = lambda *_: None,
    ) -> None:
        self._warm, self._meanwhile = warm, meanwhile
        self._planner_ahead = planner_ahead
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

    def save(self) -> Result:
        """Plan, and write the folder of a run whose workers a launcher will start."""
        with self._cleanup():
            check_started_once(os.environ, self.request.argv)
            try:
                where, plan, settled = self._place(self._make_plan(train=True), saves=True)
            except Stopped:
                return self._stopped()
            if where.kind == "done":
                return self._already_trained(where.folder, plan)
            make_folder(where.folder.path)
            with RunLock(where.folder.lock, str(self.live)):
                self._write(where, plan, settled)
            return Result(Exit.KEPT, where.shown(plan, settled), folder=where.folder.path)

    def train(self) -> Result:
        """Plan, place the run, train."""
        with self._cleanup():
            check_started_once(os.environ, self.request.argv)
            asked = self.request.settings
            # They import torch while the plan is being made, unless it decides how many there are,
            # or somebody else is about to have imported it.
            tree = WorkerTree(asked.nproc, asked.groups) if asked.nproc != AUTO else None
            workers = None
            if tree and self._warm.is_ready:
                workers = self._start_workers(tree, self._model_to_continue())
            try:
                where, plan, settled = self._place(self._make_plan(train=True))
            except Stopped:
                return self._stopped()
            if where.kind == "done":
                return self._already_trained(where.folder, plan)
            self.screen.plan(where.shown(plan, settled))
            workers = workers or self._start_workers(_tree_of(settled))
            return self._run(where, plan, settled, workers)

    # -- planning ----------------------------------------------------------------------------

    def _make_plan(self, *, train: bool) -> Plan:
        asked = self.request
        settings = with_parent_settings(asked.settings, asked.chosen_anew)
        self.request = replace(asked, settings=settings)
        request = PlanRequest(self.request.sources, self.request.settings, train)
        file = self.live / "request.json"
        with shared_memory_errors():
            file.write_bytes(msgspec.json.encode(request))
        planner = self._planner_ahead(file, self.live / "planner.pulse")
        if planner:
            self._children.append(planner)
        else:
            planner = self._start_planner(file)
        watch = Watch(self.screen, self.live, Progress(self.job.run, pid=os.getpid()))
        stalls = PlannerWatch(planner, self.live, self.request.settings.on_stall, self.screen)
        for _ in watch.follow(planner):
            if self.stop.by:
                raise Stopped
            stalls.look()
        stalls.close()
        plan = planner.answer(Plan)
        if plan is None:
            raise death_refusal(planner, "planning", self._reading())
        return plan

    def _start_planner(self, request: Path) -> ChildProcess:
        sources = self.request.sources
        return self._start(
            "headway.supervise.planner",
            [str(request)],
            name="planner",
            environment=child_environment(),
            stdin=None if reads_standard_input(sources) else subprocess.DEVNULL,
            descriptors=inherited(sources),
            spawn=self._warm.planner,
        )

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

    def _place(self, plan: Plan, *, saves: bool = False) -> tuple[Placement, Plan, Settled]:
        """The run's folder, and its plan and settled values there."""
        settings = self.request.settings
        named, fresh = bool(settings.run_name), settings.fresh
        where = place(plan, Path(settings.output_dir), named=named, fresh=fresh, saves=saves)
        if where.note:
            self.screen.say(where.note)
        where, plan, settled = where.resumed(plan)
        aside = move_aside(where.folder) if fresh else None
        if aside:
            self.screen.say(f"moved the old run to {aside}")
        return where, plan, settled

    def _write(self, where: Placement, plan: Plan, settled: Settled) -> None:
        """Write the files that a worker starts from."""
        if where.kind == "new":
            write_run(where.folder, plan, self.request.settings, self.request.sources)
        elif settled != load_settled(where.folder.path, plan):
            settled.save(where.folder.path)

    def _already_trained(self, folder: RunFolder, plan: Plan) -> Result:
        receipt = load_receipt(folder.path)
        self.screen.receipt(receipt)
        self.screen.say("already trained, 0 new steps")
        # A contract that was broken the first time is still broken.
        return Result(Exit.KEPT if receipt.is_sound else Exit.BROKEN, plan, receipt, folder.path)

    def _run(self, where: Placement, plan: Plan, settled: Settled, workers: Workers) -> Result:
        folder = where.folder
        make_folder(folder.path)
        with RunLock(folder.lock, str(self.live)) as lock:
            self._write(where, plan, settled)
            note = where.note if where.kind == "resume" else ""
            log, reader = open_attempt(folder, plan, lock, self.began_s, note)
            aim = Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
            progress = Progress(folder.path.name, str(folder.path), aim, pid=os.getpid())
            job = replace(self.job, run=folder.path.name, folder=str(folder.path.resolve()))
            with shared_memory_errors():
                job.publish()
            watch = Watch(self.screen, self.live, progress, reader, folder.path)
            about = f"{plan.model.parameters}|{plan.machine.device}"
            rules = StallRules(settled.on_stall, folder.path, about)

            def start(restart: Restart) -> RunningAttempt:
                began_s = time.monotonic()
                self._end_children()
                others = self._start_workers(_tree_of(settled))
                others.stalls.begin(rules)
                log, _ = open_attempt(folder, plan, lock, began_s, restart=restart)
                return self._begin(folder, others, watch, log, settled)

            workers.stalls.begin(rules)
            first = self._begin(folder, workers, watch, log, settled)
            restarts = Restarts(self.request.settings.max_restarts)
            code = follow_attempts(first, restarts, lambda: bool(self.stop.by), start)
        receipt = None if code == Exit.BUG else newest_receipt(folder)
        if receipt:
            self.screen.receipt(receipt)
        return Result(code, plan, receipt, folder.path, _why_stopped(progress.ended))

    def _begin(
        self, folder: RunFolder, workers: Workers, watch: Watch, log: EventLog, settled: Settled
    ) -> RunningAttempt:
        """Tell the workers to train."""
        spent_s = log.began_s - self.began_s
        go = Go(str(folder.path.resolve()), log.attempt, log.began_s, spent_s)
        workers.send(go, settled.reduction)
        self._meanwhile()
        return RunningAttempt(
            folder,
            workers,
            watch,
            log,
            self.stop,
            settled.grace_s,
            self.screen,
            verbose=self.request.verbose,
        )

    # -- processes ---------------------------------------------------------------------------

    def _model_to_continue(self) -> str:
        """The newest checkpoint of the run that is continued; "" for none, which planning tells."""
        with contextlib.suppress(Refusal, OSError):
            run = parent_run(self.request.settings)
            return str(run.model.resolve(strict=True)) if run else ""
        return ""

    def _start_workers(self, tree: WorkerTree, early: str = "") -> Workers:
        adapters = self.request.settings.lora
        workers = Workers(tree, self.live, adapters=adapters, early=early, spawn=self._warm.worker)
        self._children += workers.processes
        return workers

    def _end_children(self) -> None:
        for child in self._children:
            child.end()
        self._children.clear()

    def _start(
        self,
        module: str,
        arguments: list[str],
        *,
        name: str,
        environment: dict[str, str],
        stdin: int | None,
        descriptors: tuple[int, ...] = (),
        spawn: Spawn = subprocess.Popen,
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
            spawn=spawn,
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
                self._end_children()
                self._live_folder.remove()

    def _abandon(self) -> None:
        """The little that must happen before the process ends at once."""
        for child in self._children:
            child.send_signal(signal.SIGKILL)
        self.screen.close(0.2)
        self._live_folder.remove()


def _why_stopped(ended: Ended | None) -> Refusal | None:
    """Why a run was stopped that nobody asked to stop; None for all others."""
    if ended is None or ended.finding is None or ended.outcome != "interrupted":
        return None
    return refusal_from(RefusalMessage(ended.exit_code, (ended.finding,)))


def _tree_of(settled: Settled) -> WorkerTree:
    return WorkerTree(settled.workers, settled.groups)
