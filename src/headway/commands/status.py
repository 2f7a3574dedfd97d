"""Commands status, runs, logs and stop: inspection and control of runs."""

import os
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.commands.deletion import delete_runs
from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    number,
    one_run,
    output_dir,
    print_json,
    print_lines,
    print_text,
    terminal_width,
    unexpected,
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.supervise.progress import Status

POLL_S = 0.05
FOLLOW_S = 0.2
WATCH_S = 1.0
WHOLE_LOG = 1 << 62  # lines


def status(arguments: Arguments) -> int:
    """What a run is doing and since when, once or until it ends."""
    from headway.supervise.live.live_jobs import find_status
    from headway.ui.show_run import status_lines, worker_lines

    by_worker = arguments.on("workers")
    found = _with_other_work(find_status(one_run(arguments), output_dir(arguments)))
    if arguments.on("watch"):
        _watch(found, json=arguments.on("json"))
    elif arguments.on("json"):
        print_json(found)
    else:
        lines = status_lines(found, terminal_width())
        print_lines(lines + (worker_lines(found, terminal_width()) if by_worker else []))
    return Exit.KEPT


def _with_other_work(found: "Status") -> "Status":
    """The status of a live run with what else takes time from this machine."""
    from headway.base.host.contention import sample_other_work
    from headway.base.process_id import is_alive

    if not found.pid or found.ended or not is_alive(found.pid):
        return found
    other = sample_other_work((found.pid,))
    return replace(found, slowed_by=tuple(other.facts() if other else ()))


def _watch(found: "Status", *, json: bool) -> None:
    """Show a status again and again until the run has ended or nobody reads.

    On a terminal in place; elsewhere a line whenever it changes; as JSON, an object per line.
    """
    from headway.supervise.live.live_jobs import same_run

    in_place, shown = sys.stdout.isatty() and not json, list[str]()
    while True:
        lines = _watched(found, json=json, in_place=in_place)
        back = f"\x1b[{len(shown)}F\x1b[J" if in_place and shown else ""
        if (json or lines != shown) and not print_text(back + "\n".join(lines) + "\n"):
            return
        shown = lines
        if found.ended or found.state == "planned":
            return
        time.sleep(WATCH_S)
        found = _with_other_work(same_run(found))


def _watched(found: "Status", *, json: bool, in_place: bool) -> list[str]:
    import msgspec

    from headway.ui.output import columns
    from headway.ui.show_run import phase_line, status_lines, step_line
    from headway.ui.text_layout import cut

    width = terminal_width()
    if json:
        return [msgspec.json.encode(found).decode()]
    if in_place:  # a line that wraps would be two to go back over
        widest = columns(sys.stdout, os.environ)
        return [cut(line, widest) for line in status_lines(found, width)]
    if found.ended or found.state == "planned":
        return status_lines(found, width)
    return [step_line(found, width) if found.state == "training" else phase_line(found, width)]


def runs(arguments: Arguments) -> int:
    """List the runs."""
    from headway.supervise.live.live_jobs import all_statuses
    from headway.ui.show_run import runs_table

    if arguments.on("delete"):
        return delete_runs(arguments)
    if arguments.words:
        raise unexpected("runs", arguments.words)
    folder = output_dir(arguments)
    found = all_statuses(folder)
    if arguments.on("json"):
        print_json(found)
    elif found:
        print_lines(runs_table(found, terminal_width()))
    else:
        print_lines([f"no runs in {folder} yet; headway demo creates one"])
    return Exit.KEPT


def logs(arguments: Arguments) -> int:
    """What happened, line by line."""
    from headway.base.events import EventReader, entry_json, read_events
    from headway.base.lock import is_held
    from headway.runs.folder import find_run
    from headway.ui.show_run import log_line

    folder, json = find_run(one_run(arguments), output_dir(arguments)), arguments.on("json")
    most = int(number(arguments.switches, "lines", WHOLE_LOG))
    if not folder.events.exists():
        raise _no_log(folder.path)
    if not arguments.on("follow"):
        if json:
            lines = folder.events.read_text(encoding="utf-8").splitlines()
        else:
            lines = [log_line(entry) for entry in read_events(folder.events)]
        if lines[-most:] and most:
            print_lines(lines[-most:])
        return Exit.KEPT
    reader = EventReader(folder.events)
    while True:
        running = is_held(folder.lock)  # checked first: then a dead owner's last lines are there
        new = [entry_json(e).decode() if json else log_line(e) for e in reader.new()]
        new, most = new[-most:] if most else [], WHOLE_LOG  # of what there was at first
        if (new and not print_lines(new)) or not running:
            return Exit.KEPT
        time.sleep(FOLLOW_S)


def _no_log(folder: Path) -> UsageError:
    return UsageError(
        f"{folder.name} has no log",
        cause=Cause.LOG_DELETED,
        have=f"no events.jsonl in {folder}: it was deleted, or nothing was started",
        need="events.jsonl",
        remedies=(Remedy(f"headway status {shlex.quote(str(folder))}", "what else is known"),),
    )


def stop(arguments: Arguments) -> int:
    """Save and stop a run; waits until it has ended and says every second what it does."""
    from headway.runs.folder import RunFolder
    from headway.runs.receipt import how_to_resume
    from headway.runs.watched.watched_run import is_watched
    from headway.supervise.live.live_jobs import find_process, find_status, same_run
    from headway.ui.show_run import phase_line, stopped_line

    found = find_status(one_run(arguments), output_dir(arguments))
    process = None if found.ended else find_process(found)
    if process is None or not process.send_signal(signal.SIGTERM):
        print_lines([f"{found.run} is not running"])
        return Exit.KEPT
    # Whether a program that is only watched saves is its own affair.
    to_do = "stop" if found.folder and is_watched(Path(found.folder)) else "save and stop"
    print_lines([f"asked {found.run} (process {process.pid}) to {to_do}"])
    printed_s = time.monotonic()
    while process.is_alive:
        if time.monotonic() - printed_s > 1.0:
            printed_s, found = time.monotonic(), same_run(found)
            print_lines([phase_line(found, terminal_width())])
        time.sleep(POLL_S)
    last = same_run(found)
    saved_step = RunFolder(Path(last.folder)).last_saved_step() if last.folder else 0
    print_lines([stopped_line(last, how_to_resume(saved_step))])
    return Exit.KEPT


VERBS = {
    "runs": Verb(
        "runs [--delete RUN...]",
        "list the runs, or delete some",
        runs,
        {
            **OUTPUT_DIR,
            "delete": Switch("delete the named runs, after asking", subject="deleting"),
            "yes": Switch("delete without asking", short="y", subject="deleting"),
        },
        group="look",
        about="Lists every run in the folder: live runs first, then the newest, each with its "
        "state, steps and losses. With --delete, it deletes the runs that you name, if none is "
        "live or needed by another; their backups are kept.",
        examples=(
            ("headway runs", "the runs in ./runs"),
            ("headway runs -o /data/runs", "the runs in another folder"),
            ("headway runs --delete notes notes-2", "two of them, after asking"),
        ),
    ),
    "status": Verb(
        "status [RUN]",
        "show what a run is doing, and for how long",
        status,
        {
            **OUTPUT_DIR,
            "watch": Switch("refresh every second until it ends", short="w"),
            "workers": Switch("also show each worker: what it does, and which it waits for"),
        },
        group="look",
        about="Shows what a run is doing and for how long, how far along it is, and what it is "
        "waiting for. It only reads, so it works while a trainer is stuck, and cannot disturb it.",
        examples=(
            ("headway status", "the newest live run"),
            ("headway status notes --watch", "the run notes, until it ends"),
            ("headway status --json", "every number, for programs"),
        ),
    ),
    "logs": Verb(
        "logs [RUN]",
        "show what happened in a run, line by line",
        logs,
        {
            **OUTPUT_DIR,
            "follow": Switch("keep printing until the run ends", short="f"),
            "lines": Switch("start with only the last N lines", "N", short="n"),
        },
        group="look",
        about="Prints what happened in a run, line by line, with the time in UTC: steps, saves, "
        "evaluations, samples, warnings and how it ended.",
        examples=(
            ("headway logs", "the newest run"),
            ("headway logs notes -f -n 20", "the last 20 lines, then what follows"),
            ("headway logs notes --json", "one object per line, for programs"),
        ),
    ),
    "stop": Verb(
        "stop [RUN]",
        "save and stop a run",
        stop,
        OUTPUT_DIR,
        group="look",
        about="Asks a run to finish its step, save and stop, and waits until it has. The same "
        "train command resumes it where it stopped.",
        examples=(
            ("headway stop", "the newest run"),
            ("headway stop notes", "the run notes"),
            ("headway stop -o /data/runs", "the newest run in another folder"),
        ),
    ),
}
