"""Guard: runs a command as a shell would, watches it, and judges how it ended."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import Cause, Exit, Finding, Remedy
from headway.base.network.webhook import Notice, Notifier
from headway.base.units import count, plural, seconds
from headway.diagnose.diagnosis import Diagnosis
from headway.guard.attempts import AttemptBudget
from headway.guard.command.command_streams import CommandStreams
from headway.guard.command.keeper import Happened, Keeper, KeeperNews, Launch
from headway.guard.command.orphans import find_orphans, kill_all
from headway.guard.command.program import find_program
from headway.guard.command.relay import CommandEnd, Relay
from headway.guard.command.surroundings import Surroundings
from headway.guard.facts import GuardFacts, Orphan, SeenStall
from headway.guard.output_lines import OutputLines
from headway.guard.run_record import RunRecord
from headway.guard.watch.rhythm import Rhythm
from headway.guard.watch.touched_files import TouchedFiles, output_folders
from headway.guard.watch.watcher import Watcher, WatchListener
from headway.ui.output import columns, text_width
from headway.ui.styled import finding_lines
from headway.ui.text_layout import DOT, loss_text

GRACE_S = 30.0  # between SIGTERM and SIGKILL
_ORPHANS_S = 0.5  # that a process may take to end after its command
_NOTICE_S = 5.0  # at the end, for notices that are under way


@dataclass(frozen=True)
class GuardRequest:
    """What a person asked for.

    Attributes:
        command: the program and its arguments.
        name: of the run.
        output_dir: the folder with the runs.
        restarts: at most, after a crash or a stall; None: it is never ended or started again.
        timeout_s: after which it is ended; 0: never.
        stall_after_s: patience; 0: learned.
        notify: a webhook, "" for none.
        quiet: whether to say only what went wrong, at the end.
        silent: whether to say nothing at all: it is in the run's events.
        grace_s: between SIGTERM and SIGKILL.
    """

    command: tuple[str, ...]
    name: str
    output_dir: Path
    restarts: int | None = None
    timeout_s: float = 0.0
    stall_after_s: float = 0.0
    notify: str = ""
    quiet: bool = False
    silent: bool = False
    grace_s: float = GRACE_S


def guard_command(request: GuardRequest) -> int:
    """Run a command under the guard; returns the exit code.

    Raises:
        UsageError: there is no such program.
    """
    surroundings = Surroundings.of_this_process()
    program = find_program(request.command, surroundings.environment)
    here = Path.cwd()
    folders = (here, *output_folders(request.command, here))
    files = TouchedFiles(folders)
    streams = CommandStreams.of_this_process(quiet=request.quiet or request.silent)
    launch = Launch(
        program,
        request.command,
        streams.given,
        surroundings,
        terminal=streams.terminal.slave if streams.terminal else -1,
        foreground=streams.foreground,
    )
    # Before there are threads, and before anything is open that it must not hold.
    keeper = Keeper(launch, streams.ours, streams.restore)
    streams.close_given()
    return _Guard(request, streams, keeper, files).run()


class _Guard:
    """One guarded command, from its first attempt to the verdict."""

    def __init__(
        self, request: GuardRequest, streams: CommandStreams, keeper: Keeper, files: TouchedFiles
    ) -> None:
        self._request, self._streams, self._keeper = request, streams, keeper
        self._files = files
        self._began_s, self._started_s = time.monotonic(), time.time()
        self._record = RunRecord.open(request.name, request.command, request.output_dir)
        self._notifier = Notifier(request.notify, self._notice_failed)
        self._outlet = streams.outlet
        self._budget = AttemptBudget(request.restarts or 0)
        self._cpu_s = 0.0
        self._diagnosis: Diagnosis | None = None  # of the stall that it was ended for
        self._ending = CommandEnd(request.grace_s)
        self._lines = OutputLines()
        listener = WatchListener(self._stalled, self._must_end, self._finding_lines)
        self._watcher = Watcher(
            self._lines,
            keeper.pid,
            self._record,
            self._outlet,
            Rhythm(request.stall_after_s),
            listener,
            files.folders,
            is_blocked=lambda: self._outlet.is_blocked,
        )
        self._lines.on_record = self._watcher.take
        self._relay = Relay(
            keeper,
            self._outlet,
            streams.sources,
            streams.terminal,
            self._take_output,
            self._watcher.paused,
            self._ending,
            streams.foreground,
        )

    def run(self) -> int:
        """Run it to its end; returns the exit code."""
        self._relay.listen()
        self._watcher.start()
        try:
            ended = self._attempts()
            self._lines.finish()
            orphans = self._orphans()
        finally:
            self._watcher.attempt_ended()
            self._watcher.close()
            self._relay.close()
            self._keeper.close()
        return self._conclude(ended, orphans)

    def _take_output(self, data: bytes, stream: int) -> None:
        try:
            self._record.output(data)
            self._lines.feed(data, stream)
        except Exception as error:  # whatever fails here, the command continues
            self._record.problem = self._record.problem or f"cannot read its output: {error}"

    # -- attempts

    def _attempts(self) -> KeeperNews:
        """Run the command as often as restarts allow; how the last one ended."""
        while True:
            began_s = time.monotonic()
            self._watcher.attempt_began()
            ended = self._relay.run(self._deadline_s)
            self._watcher.attempt_ended()
            self._cpu_s += ended.cpu_s
            if ended.happened is Happened.FAILED or not self._may_restart(ended):
                return ended
            why_not = self._budget.take(self._watcher.best_step, time.monotonic() - began_s)
            after = self._how_it_ended(ended)
            if why_not:
                self._say([f"headway: {after}; not started again: {why_not}"])
                return ended
            if not self._restart(after):
                return ended

    @property
    def _deadline_s(self) -> float:
        """When it is ended, by the monotonic clock; 0: never."""
        timeout_s = self._request.timeout_s
        return self._began_s + timeout_s if timeout_s else 0.0

    def _may_restart(self, ended: KeeperNews) -> bool:
        if self._request.restarts is None or self._ending.asked or self._ending.timed_out:
            return False
        return bool(self._diagnosis) or ended.value != 0

    def _how_it_ended(self, ended: KeeperNews) -> str:
        if self._diagnosis:
            return f"ended because of a stall: {self._diagnosis.finding.what}"
        return f"the command ended with {ended.value}"

    def _restart(self, after: str) -> bool:
        """Make room for the next attempt and wait a moment; False if a stop was asked for."""
        kill_all(self._keeper.pid)
        number, most = self._budget.number, self._request.restarts or 0
        line = f"{after}; starting it again, {number} of {plural(most, 'restart')}"
        self._say([f"headway: {line}"])
        self._record.note(Finding("warning", line))
        self._notifier.post(Notice("restart", self._record.name, f"{self._name}: {line}"))
        until_s = time.monotonic() + self._budget.pause_s
        while time.monotonic() < until_s and not self._ending.asked:
            time.sleep(0.05)
        if self._ending.asked:
            return False
        self._diagnosis = None
        self._ending.reset()
        self._record.restarted(number)
        self._record.save(restarts=number)
        return True

    # -- what the watcher tells

    def _stalled(self, stall: SeenStall, finding: Finding) -> None:
        text = "\n".join(self._finding_lines(finding))
        title = f"{self._name}: no progress for {seconds(stall.silent_s)}"
        facts = {"cause": stall.cause, "silent_s": stall.silent_s}
        notice = Notice("stall", self._record.name, title, text, facts, is_problem=True)
        self._notifier.post(notice)

    def _must_end(self, diagnosis: Diagnosis) -> None:
        if self._request.restarts is not None:
            self._diagnosis = diagnosis
            self._ending.request()

    def _notice_failed(self, why: str) -> None:
        self._say([f"headway: {why}"])

    def _say(self, lines: Sequence[str], *, last: bool = False) -> None:
        if not self._request.silent:
            self._outlet.say(lines, last=last)

    def _finding_lines(self, finding: Finding) -> list[str]:
        width = text_width(columns(sys.stderr, os.environ))
        return [line.text for line in finding_lines(finding, width)]

    @property
    def _name(self) -> str:
        return self._record.name or self._request.name

    # -- the end

    def _orphans(self) -> tuple[Orphan, ...]:
        if self._ending.requested:
            kill_all(self._keeper.pid)
            return ()
        return tuple(find_orphans(self._keeper.pid, _ORPHANS_S))

    def _conclude(self, ended: KeeperNews, orphans: tuple[Orphan, ...]) -> int:
        """Judge it, print the findings, and write the record."""
        if ended.happened is Happened.FAILED:
            findings: tuple[Finding, ...] = (self._failed_to_start(ended),)
            own = code = int(Exit.USAGE)
        else:
            own = ended.value
            findings = self._findings(self._facts(own, orphans))
            code = self._exit_code(own, findings)
        line = self._last_line(own, code)
        for finding in findings:
            self._record.note(finding)
            if finding.kind != "ok":
                self._say(self._finding_lines(finding), last=True)
        watcher = self._watcher
        if self._outlet.on_terminal and (watcher.latest.step is not None or findings):
            self._say([f"\x1b[2mheadway: {line}\x1b[0m"])
        refused = next((one for one in findings if one.kind == "refused"), None)
        self._record.save(
            ended_at=_now(),
            seconds=time.monotonic() - self._began_s,
            exit_code=code,
            own_exit_code=own,
            usual_s=watcher.rhythm.usual_s,
            patience_s=watcher.rhythm.patience_s,
            lines=self._lines.num_lines,
            lines_not_read=self._lines.num_unread,
            step=watcher.latest.step,
            total=watcher.latest.total,
            loss=watcher.latest.loss,
            stalls=tuple(watcher.stalls),
            orphans=tuple(shlex.join(one.command) for one in orphans),
            findings=findings,
        )
        self._record.end(self._outcome(code), code, line, refused)
        title = f"{self._name}: {line}"
        facts = {"exit_code": code, "own_exit_code": own}
        text = "\n".join(text for one in findings for text in self._finding_lines(one))
        self._notifier.post(
            Notice("end", self._record.name, title, text, facts, is_problem=code != 0)
        )
        self._notifier.wait(_NOTICE_S)
        return code

    def _facts(self, own: int, orphans: tuple[Orphan, ...]) -> GuardFacts:
        lines, watcher = self._lines, self._watcher
        return GuardFacts(
            command=self._request.command,
            folder=Path.cwd(),
            started_s=self._started_s,
            seconds=time.monotonic() - self._began_s,
            exit_code=own,
            was_ended=self._ending.requested,
            was_asked_to_stop=bool(self._ending.asked),
            restarts=self._budget.number,
            records=lines.records,
            records_left_out=lines.records_left_out,
            num_lines=lines.num_lines,
            files=self._files.find(self._record.folder),
            output_folders=self._files.folders[1:],
            memory=tuple(watcher.memory),
            stalls=tuple(watcher.stalls),
            orphans=orphans,
            head=lines.head,
            tail=lines.tail,
            cpu_seconds=self._cpu_s,
        )

    def _findings(self, facts: GuardFacts) -> tuple[Finding, ...]:
        found: list[Finding] = []
        if self._ending.timed_out:
            found.append(_timed_out(self._request))
        # here: it reads what the command left on disk
        from headway.guard.judge.judge import judge

        with contextlib.suppress(OSError):  # a folder that has vanished: nothing to read there
            found += judge(facts)
        return tuple(found)

    def _exit_code(self, own: int, findings: tuple[Finding, ...]) -> int:
        if self._ending.timed_out:
            return Exit.COME_BACK
        if self._diagnosis:
            return self._diagnosis.exit_code
        if own:
            return own
        return Exit.BROKEN if any(one.kind == "refused" for one in findings) else Exit.KEPT

    def _outcome(self, code: int) -> str:
        if code == 0:
            return "finished"
        return "interrupted" if self._ending.asked or self._ending.timed_out else "failed"

    def _last_line(self, own: int, code: int) -> str:
        latest = self._watcher.latest
        took = seconds(time.monotonic() - self._began_s)
        facts = [f"finished in {took}" if not own else f"ended with {own} after {took}"]
        if latest.step is not None:
            total = f" of {count(latest.total)}" if latest.total else ""
            facts.append(f"step {count(latest.step)}{total}")
        if latest.loss is not None:
            facts.append(f"loss {loss_text(latest.loss)}")
        facts += [plural(self._budget.number, "restart")] if self._budget.number else []
        stalls = len(self._watcher.stalls)
        facts += [plural(stalls, "stall")] if stalls else []
        facts += [f"exit {code}"] if code != own else []
        return DOT.join(facts + ([str(self._record.folder)] if self._record.folder else []))

    def _failed_to_start(self, ended: KeeperNews) -> Finding:
        program = self._request.command[0]
        return Finding(
            "refused",
            f"cannot start {program}: {os.strerror(ended.value)}",
            have=f"{program}: {os.strerror(ended.value)}",
            need="a program that this system can run",
            remedies=(Remedy(f"file -L $(command -v {shlex.quote(program)})", "what it is"),),
            cause=Cause.INVALID_VALUE,
        )


def _timed_out(request: GuardRequest) -> Finding:
    command = shlex.join(request.command)
    return Finding(
        "warning",
        f"the command was ended after {seconds(request.timeout_s)}, as --timeout asked for",
        have=f"it was still running after {seconds(request.timeout_s)}",
        need="an end within that time",
        remedies=(
            Remedy(
                f"headway guard --timeout {round(2 * request.timeout_s)} -- {command}",
                "twice the time",
            ),
        ),
        cause=Cause.STOPPED,
    )


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()
