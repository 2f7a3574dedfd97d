"""Commands status, runs, logs and stop: inspection and control of runs."""

import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    one_run,
    output_dir,
    print_json,
    print_lines,
    print_text,
    terminal_width,
)
from headway.config.command_line import Arguments, Switch

POLL_S = 0.05
FOLLOW_S = 0.2


def status(arguments: Arguments) -> int:
    """What a run is doing and since when."""
    from headway.base.host.contention import sample_other_work
    from headway.base.process_id import is_alive
    from headway.supervise.live_jobs import find_status
    from headway.ui.show_run import status_lines

    found = find_status(one_run(arguments), output_dir(arguments))
    if found.pid and is_alive(found.pid) and not found.ended:
        other = sample_other_work((found.pid,))
        found = replace(found, slowed_by=tuple(other.facts() if other else ()))
    if arguments.on("json"):
        print_json(found)
    else:
        print_lines(status_lines(found, terminal_width()))
    return Exit.KEPT


def runs(arguments: Arguments) -> int:
    """List the runs."""
    from headway.supervise.live_jobs import all_statuses
    from headway.ui.show_run import runs_table

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
    if not folder.events.exists():
        raise _no_log(folder.path)
    if not arguments.on("follow"):
        if json:
            print_text(folder.events.read_text(encoding="utf-8"))
        else:
            print_lines([log_line(entry) for entry in read_events(folder.events)])
        return Exit.KEPT
    reader = EventReader(folder.events)
    while True:
        running = is_held(folder.lock)  # checked first: then a dead owner's last lines are there
        new = [entry_json(e).decode() if json else log_line(e) for e in reader.new()]
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
    from headway.supervise.live_jobs import find_process, find_status, same_run
    from headway.ui.show_run import phase_line, stopped_line

    found = find_status(one_run(arguments), output_dir(arguments))
    process = None if found.ended else find_process(found)
    if process is None or not process.send_signal(signal.SIGTERM):
        print_lines([f"{found.run} is not running"])
        return Exit.KEPT
    print_lines([f"asked {found.run} (process {process.pid}) to save and stop"])
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
    "runs": Verb("runs", "list the runs", runs, OUTPUT_DIR),
    "status": Verb("status [RUN]", "what it is doing right now and since when", status, OUTPUT_DIR),
    "logs": Verb(
        "logs [RUN]",
        "what happened, line by line",
        logs,
        {**OUTPUT_DIR, "follow": Switch("keep printing until the run ends")},
    ),
    "stop": Verb("stop [RUN]", "save and stop it", stop, OUTPUT_DIR),
}
