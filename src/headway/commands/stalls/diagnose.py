"""Command diagnose: why a run, or any process, is not making progress."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Remedy, UsageError
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
)
from headway.config.command_line import Arguments, Switch

if TYPE_CHECKING:
    from headway.diagnose.answer import DiagnosisAnswer
    from headway.supervise.progress import Status

WATCH_S = 2.0  # between the beginnings of two looks


def diagnose(arguments: Arguments) -> int:
    """Say why a run or a process is not making progress; 4 if nobody can tell."""
    from headway.diagnose.bundle import check_name

    bundle = arguments.switches.get("bundle")
    if bundle is not None:
        check_name(Path(bundle))
        if arguments.on("watch"):
            raise _contradiction(f"--bundle {bundle}", "--watch", "one of the two")
    ask, folder = _question(arguments)
    if arguments.on("watch"):
        return _watch(ask, json=arguments.on("json"))
    answer = ask()
    if bundle is not None:
        _write_bundle(Path(bundle), answer, folder())
    elif arguments.on("json"):
        print_json(answer)
    else:
        verbose, quiet = arguments.on("verbose"), arguments.on("quiet")
        print_lines(_first_line(answer) if quiet else _lines(answer, verbose=verbose))
    return answer.exit_code


def _question(
    arguments: Arguments,
) -> "tuple[Callable[[], DiagnosisAnswer], Callable[[], Path | None]]":
    """What to ask, again and again, and the folder of the run that it is about."""
    from headway.supervise.live.live_jobs import find_status, same_run

    if arguments.on("pid"):
        pid = int(number(arguments.switches, "pid", 1))
        if arguments.words:
            raise _contradiction(f"--pid {pid}", shlex.quote(arguments.words[0]), "one job")
        _check_process(pid)
        return lambda: _of_process(pid), lambda: None
    found = [find_status(one_run(arguments), output_dir(arguments))]

    def ask() -> "DiagnosisAnswer":
        found.append(same_run(found.pop()))
        return _of_run(found[0])

    return ask, lambda: Path(found[0].folder) if found[0].folder else None


def _of_process(pid: int) -> "DiagnosisAnswer":
    from headway.diagnose.answer import SCHEMA, DiagnosisAnswer
    from headway.diagnose.examine import examine
    from headway.diagnose.explain import explain

    evidence = examine([pid], folders=[Path.cwd()])
    if not evidence.processes:
        return DiagnosisAnswer(SCHEMA, f"process {pid}", "ended", running=False)
    return DiagnosisAnswer.of(f"process {pid}", "running", evidence, explain(evidence))


def _of_run(status: "Status") -> "DiagnosisAnswer":
    from headway.diagnose.answer import SCHEMA, DiagnosisAnswer
    from headway.diagnose.examine import examine
    from headway.diagnose.explain import explain
    from headway.supervise.live.live_jobs import find_process, job_processes

    name = status.run or "a new run"
    # Its number alone may be that of another process: of another machine, or by now.
    if status.ended or status.state == "planned" or find_process(status) is None:
        return DiagnosisAnswer(SCHEMA, name, status.state, running=False)
    job = job_processes(status)
    folders = [Path(status.folder)] if status.folder else []
    evidence = examine(
        list(job.roles),
        roles=job.roles,
        pulses=job.pulses,
        folders=folders,
        silent_s=status.last_news_s or 0.0,
        missing=job.missing,
    )
    if not evidence.processes:  # it ended meanwhile
        return DiagnosisAnswer(SCHEMA, name, "ended", running=False)
    return DiagnosisAnswer.of(name, status.state, evidence, explain(evidence))


def _watch(ask: "Callable[[], DiagnosisAnswer]", *, json: bool) -> int:
    """Look again and again until nothing runs any more or nobody reads.

    On a terminal in place; elsewhere whenever the cause changes; as JSON, an object per look.
    """
    import msgspec

    from headway.ui.output import columns
    from headway.ui.text_layout import cut

    in_place, shown, cause = sys.stdout.isatty() and not json, list[str](), ""
    widest = columns(sys.stdout, os.environ)
    while True:
        began_s, answer = time.monotonic(), ask()
        now = str(answer.diagnosis.cause) if answer.diagnosis else "ended"
        lines = _lines(answer, verbose=False)
        if json:
            text = msgspec.json.encode(answer).decode()
        elif in_place:  # a line that wraps would be two to go back over
            back = f"\x1b[{len(shown)}F\x1b[J" if shown else ""
            text = back + "\n".join(cut(line, widest) for line in lines)
        else:
            text = "\n".join(lines) if now != cause else ""
        if text and not print_text(text + "\n"):
            return answer.exit_code
        shown, cause = lines, now
        if not answer.running:
            return answer.exit_code
        time.sleep(max(WATCH_S - (time.monotonic() - began_s), 0.0))


def _lines(answer: "DiagnosisAnswer", *, verbose: bool) -> list[str]:
    from headway.diagnose.report import report_text
    from headway.supervise.progress import ENDED
    from headway.ui.show_diagnosis import diagnosis_lines

    if answer.diagnosis is None or answer.evidence is None:
        more = f"  try   headway status {shlex.quote(answer.job)}   how it ended"
        return [_not_running(answer), *([more] if answer.state in ENDED else [])]
    lines = [line.text for line in diagnosis_lines(answer, terminal_width())]
    if verbose:
        lines += ["", *report_text(answer.evidence, answer.diagnosis).splitlines()]
    return lines


def _first_line(answer: "DiagnosisAnswer") -> list[str]:
    from headway.ui.text_layout import fold

    what = answer.diagnosis.finding.what if answer.diagnosis else _not_running(answer)
    return fold(what, terminal_width())


def _not_running(answer: "DiagnosisAnswer") -> str:
    """One line that says so, and how it ended."""
    how = "nothing was started" if answer.state == "planned" else answer.state
    return f"{answer.job} is not running: {how}"


def _write_bundle(path: Path, answer: "DiagnosisAnswer", folder: Path | None) -> None:
    from headway.base.units import size
    from headway.commands.stalls.bundle_parts import bundle_parts
    from headway.diagnose.bundle import write_bundle
    from headway.ui.text_layout import fold

    parts = bundle_parts(answer, folder)
    num_bytes = write_bundle(path, parts)
    told = f"wrote {path} ({size(num_bytes)}): {', '.join(parts)}"
    warning = "Passwords, keys and tokens are left out. Read it before you send it."
    width = terminal_width()
    print_lines([*fold(told, width), *fold(warning, width)])


def _check_process(pid: int) -> None:
    from headway.base.process_id import is_alive

    if pid < 1 or not is_alive(pid):
        raise UsageError(
            f"no process {pid}",
            cause=Cause.PROCESS_NOT_FOUND,
            have=f"--pid {pid}",
            need="the number of a process that runs on this machine",
            remedies=(Remedy("pgrep -af python", "lists them"),),
        )


def _contradiction(one: str, other: str, need: str) -> UsageError:
    return UsageError(
        f"{one} and {other} exclude each other",
        cause=Cause.CONTRADICTION,
        have=f"{one} and {other}",
        need=need,
        remedies=(Remedy(f"headway diagnose {one}"), Remedy(f"headway diagnose {other}")),
    )


VERBS = {
    "diagnose": Verb(
        "diagnose [RUN]",
        "find out why a run or any process is not making progress",
        diagnose,
        {
            **OUTPUT_DIR,
            "pid": Switch("any process with its children, instead of a run", "N"),
            "watch": Switch("look again every two seconds until it ends", short="w"),
            "bundle": Switch(
                "write all evidence to a .tar.gz or .txt file, for a bug report", "FILE"
            ),
        },
        group="look",
        about="Reads from outside what every process of a run is doing, names the cause if the run "
        "is stuck, and says what to do. It takes less than two seconds, changes nothing, and works "
        "for any Python process. Exit code 4: the run is stuck, and the cause is unknown.",
        examples=(
            ("headway diagnose", "the newest live run"),
            ("headway diagnose --pid 4242", "any other training"),
            ("headway diagnose notes --bundle stall.tar.gz", "a file for a bug report"),
        ),
    ),
}
