"""Command inbox: a folder whose files are trained one after another."""

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, ComeBack, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.commands.services.inbox_switches import OPTIONS, SWITCHES
from headway.commands.verb import Verb, number, print_json, print_lines, print_text, terminal_width
from headway.config.command_line import Arguments

if TYPE_CHECKING:
    from headway.inbox.folder import InboxFolder
    from headway.inbox.jobs.queue import Queue
    from headway.inbox.notices import InboxNotice

_POLL_S = 0.05
_OF_START = (*OPTIONS, "once", "print_systemd", "metrics_port")


def inbox(arguments: Arguments) -> int:
    """Do what the first word says."""
    action = arguments.words[0] if arguments.words else ""
    if action not in _ACTIONS:
        raise _unknown_action(action)
    if action != "start":
        _check_no_settings(arguments, action)
    return _ACTIONS[action](arguments)


def _start(arguments: Arguments) -> int:
    """Serve an inbox until it is asked to stop."""
    from headway.base.lock import is_held
    from headway.config.resolve import raise_problems
    from headway.inbox.jobs.inbox_job import load_jobs, stands_on_first_model
    from headway.inbox.options import read_inbox_settings
    from headway.inbox.service import serve
    from headway.inbox.training_process import Output

    folder = _folder(arguments, 1)
    raise_problems(arguments.problems)
    if arguments.config:
        raise _other_file(arguments.config, folder)
    packages.require("inbox", packages.TRAINING)
    folder.check()
    is_served = is_held(folder.lock)  # then it is refused below
    jobs = [] if is_served else load_jobs(folder.jobs)
    settings = read_inbox_settings(
        folder,
        arguments.given,
        {name: arguments.switches[name] for name in OPTIONS if name in arguments.switches},
        has_trained=stands_on_first_model(folder.runs, jobs),
    )
    if arguments.on("print_systemd"):
        return _print_unit(arguments, folder)
    output = Output(arguments.on("quiet"), arguments.on("json"), arguments.on("verbose"))
    say = speaker(output.quiet, output.json)
    if not (output.quiet or output.json or is_served):
        print_lines([f"headway inbox · {folder.path} · drop files here; Ctrl+C saves and stops"])
    port = int(number(arguments.switches, "metrics_port", 0))
    return serve(
        folder,
        settings,
        output,
        say,
        once=arguments.on("once"),
        port=port if arguments.on("metrics_port") else None,
    )


def _print_unit(arguments: Arguments, folder: "InboxFolder") -> int:
    """Print a systemd unit for this very command; nothing is started."""
    from headway.inbox.options import settings_as_words
    from headway.inbox.systemd import unit

    words = ["inbox", "start", str(folder.path), *settings_as_words(arguments.given)]
    for name in (*OPTIONS, "metrics_port"):
        if arguments.on(name):
            words += [f"--{name.replace('_', '-')}", arguments.switches[name]]
    print_text(unit(folder, words))
    return Exit.KEPT


def speaker(quiet: bool, json: bool) -> "Callable[[InboxNotice], None]":
    """What prints the daemon's notices, in whole lines and never in its way."""
    from headway.inbox.notices import InboxNotice, NoticeKind
    from headway.inbox.show_inbox import notice_json, notice_lines
    from headway.ui.output import Lines, Silence

    out = Lines(sys.stdout, Silence(time.monotonic))

    def say(notice: InboxNotice) -> None:
        if json:
            out.write(notice_json(notice))
        elif not quiet or notice.kind is NoticeKind.FAILED:
            out.write(*notice_lines(notice))

    return say


def _status(arguments: Arguments) -> int:
    """What the inbox is doing, what waits, and where its model stands."""
    from headway.inbox.inbox_status import inbox_status
    from headway.inbox.show_inbox import inbox_lines

    found = inbox_status(_folder(arguments, 1))
    if arguments.on("json"):
        print_json(found)
    else:
        print_lines(inbox_lines(found, terminal_width()))
    return Exit.KEPT


def _list(arguments: Arguments) -> int:
    """Every file that was taken, with what became of it."""
    from headway.inbox.jobs.inbox_job import load_jobs
    from headway.inbox.show_inbox import jobs_table

    folder = _folder(arguments, 1)
    jobs = load_jobs(folder.jobs)
    if arguments.on("json"):
        print_json(jobs)
    elif jobs:
        print_lines(jobs_table(jobs, terminal_width()))
    else:
        print_lines([f"no files have been taken from {folder.path} yet"])
    return Exit.KEPT


def _retry(arguments: Arguments) -> int:
    """Put a file that failed back into the inbox."""
    if len(arguments.words) < 2:
        raise UsageError(
            "retry needs the name of a file",
            cause=Cause.MISSING_ARGUMENT,
            have="headway inbox retry",
            need="a file in failed/",
            remedies=(Remedy("headway inbox list", "shows what failed"),),
        )
    folder = _folder(arguments, 2)
    with _opened(folder) as queue:
        job = queue.retry(arguments.words[1])
    _print(arguments, f"{job.name} is back in {folder.path}", job)
    return Exit.KEPT


def _undo(arguments: Arguments) -> int:
    """Take the model back to before the last file."""
    from headway.base.lock import exclusive_lock

    folder = _folder(arguments, 1)
    _check_is_inbox(folder)
    with exclusive_lock(folder.work_lock, _at_work(folder)), _opened(folder) as queue:
        queue.recover()
        job = queue.undo()
        step = queue.head.learned.last_step if queue.head and queue.head.learned else 0
    _print(arguments, f"undone: {job.name} is in {job.place} · global step {step:,}", job)
    return Exit.KEPT


def _pause(arguments: Arguments) -> int:
    """Save what is being trained at its next step, and wait."""
    from headway.base.files import write_whole
    from headway.base.lock import is_held
    from headway.inbox.jobs.queue import utc_now

    folder = _folder(arguments, 1)
    _check_is_inbox(folder)
    if not folder.paused.exists():
        write_whole(folder.paused, f'{{"at": "{utc_now().isoformat()}"}}\n')
    daemon = "" if is_held(folder.lock) else "; no daemon is running"
    _print(arguments, f"{folder.path} is paused{daemon}", {"paused": True})
    return Exit.KEPT


def _resume(arguments: Arguments) -> int:
    """Go on after a pause."""
    from headway.base.lock import is_held

    folder = _folder(arguments, 1)
    _check_is_inbox(folder)
    folder.paused.unlink(missing_ok=True)
    daemon = "" if is_held(folder.lock) else "; no daemon is running"
    _print(arguments, f"{folder.path} is no longer paused{daemon}", {"paused": False})
    return Exit.KEPT


def _stop(arguments: Arguments) -> int:
    """Save what is being trained and end the daemon; waits until it has ended."""
    from headway.base.lock import is_held, running_owner

    folder = _folder(arguments, 1)
    daemon = running_owner(folder.lock)
    if daemon is None and is_held(folder.lock):
        raise UsageError(
            f"cannot tell which process serves {folder.path}",
            cause=Cause.RUN_ACTIVE,
            have=f"{folder.lock} does not name the process that holds it",
            need="the process that holds the lock",
            remedies=(Remedy(f"fuser -v {shlex.quote(str(folder.lock))}", "shows it"),),
        )
    if daemon is None or not daemon.send_signal(signal.SIGTERM):
        _print(arguments, f"no daemon is serving {folder.path}", {"stopped": False})
        return Exit.KEPT
    while daemon.is_alive:
        time.sleep(_POLL_S)
    _print(arguments, f"the daemon of {folder.path} has saved and stopped", {"stopped": True})
    return Exit.KEPT


# ---- words and folders -----------------------------------------------------------------------


def _folder(arguments: Arguments, num_before: int) -> "InboxFolder":
    """The inbox that is meant: as named, the working folder if it is one, or ./inbox."""
    from headway.inbox.folder import InboxFolder

    words = arguments.words[num_before:]
    if len(words) > 1:
        raise UsageError(
            "one inbox at a time",
            cause=Cause.UNEXPECTED_ARGUMENT,
            have=" ".join(words),
            need="one folder, or none for ./inbox",
            remedies=tuple(Remedy(word) for word in words[:2]),
        )
    here = InboxFolder(Path.cwd())
    if not words and here.is_inbox:
        return here
    return InboxFolder(Path(words[0] if words else "inbox").absolute())


def _check_is_inbox(folder: "InboxFolder") -> None:
    if not folder.is_inbox:
        start = f"headway inbox start {shlex.quote(str(folder.path))} --preset mini"
        raise UsageError(
            f"{folder.path} is not an inbox",
            cause=Cause.RUN_NOT_FOUND,
            have="it has no .headway folder" if folder.path.is_dir() else "no such folder",
            need="a folder on which headway inbox start has been run",
            remedies=(Remedy(start, "makes it one"),),
        )


@contextlib.contextmanager
def _opened(folder: "InboxFolder") -> Generator["Queue"]:
    from headway.inbox.folder import Disk
    from headway.inbox.jobs.queue import Queue

    _check_is_inbox(folder)
    folder.check()
    queue = Queue(folder, Disk())
    try:
        yield queue
    finally:
        queue.close()


def _print(arguments: Arguments, text: str, value: object) -> None:
    if arguments.on("json"):
        print_json(value)
    else:
        print_lines([text])


def _check_no_settings(arguments: Arguments, action: str) -> None:
    """Refuse what only a start has a use for."""
    odd = [one.origin.rstrip("=") for one in arguments.given]
    odd += [f"--{name.replace('_', '-')}" for name in _OF_START if arguments.on(name)]
    odd += [arguments.config] if arguments.config and action != "retry" else []
    if arguments.problems and not odd:
        raise arguments.problems[0]
    if odd:
        raise UsageError(
            f"headway inbox {action} takes no settings",
            cause=Cause.UNEXPECTED_ARGUMENT,
            have=" ".join(odd),
            need=f"headway inbox {action}",
            remedies=(Remedy("headway inbox start", "takes them"),),
        )


def _unknown_action(action: str) -> UsageError:
    from headway.config.typos import nearest

    near = nearest(action, _ACTIONS) if action else None
    names = [near] if near else ["start", "status"]
    return UsageError(
        f"headway inbox has no action {action}" if action else "headway inbox needs an action",
        cause=Cause.UNKNOWN_COMMAND if action else Cause.MISSING_ARGUMENT,
        have=action or "headway inbox",
        need=", ".join(_ACTIONS),
        remedies=tuple(Remedy(f"headway inbox {name}", _ABOUT[name]) for name in names),
    )


def _other_file(name: str, folder: "InboxFolder") -> UsageError:
    target = shlex.quote(str(folder.settings))
    return UsageError(
        "the settings of an inbox are in its headway.yaml",
        cause=Cause.UNEXPECTED_ARGUMENT,
        have=name,
        need=str(folder.settings),
        remedies=(Remedy(f"cp {shlex.quote(name)} {target}", "then start it without the file"),),
    )


def _at_work(folder: "InboxFolder") -> ComeBack:
    return ComeBack(
        f"a file in {folder.path} is being trained",
        cause=Cause.RUN_ACTIVE,
        have="the daemon is at work",
        need="an inbox that is idle, paused or stopped",
        remedies=(
            Remedy(f"headway inbox status {shlex.quote(str(folder.path))}", "shows how far it is"),
        ),
    )


_ACTIONS: dict[str, Callable[[Arguments], int]] = {
    "start": _start,
    "status": _status,
    "list": _list,
    "retry": _retry,
    "undo": _undo,
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
}
_ABOUT = {
    "start": "trains every file dropped into a folder",
    "status": "what is being trained, what is waiting, and the state of the model",
    "list": "every file, and what happened to it",
    "retry": "puts a failed file back",
    "undo": "restores the model from before the last file",
    "pause": "saves at the next step and waits",
    "resume": "continues after a pause",
    "stop": "saves and ends the daemon",
}

VERBS = {
    "inbox": Verb(
        "inbox start|status|list|retry|undo|pause|resume|stop [DIR]",
        "train every file dropped into a folder",
        inbox,
        SWITCHES,
        True,
        group="start",
        about="Trains the files in a folder one after the other, each on top of the model from the "
        "one before, and moves each with its receipt to done/ or, with the reason, to failed/. "
        "After a kill at any moment, starting it again continues; no file is trained twice. "
        "Settings are those of headway train, in DIR/headway.yaml or as flags.",
        examples=(
            (
                "headway inbox start ./inbox --preset mini",
                "starts with a new model; then cp FILE inbox/",
            ),
            ("headway inbox status ./inbox", "shows what it is doing, from another terminal"),
            ("headway inbox retry lesson2.jsonl ./inbox", "tries a failed file again"),
        ),
    ),
}
