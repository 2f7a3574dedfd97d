"""Run display: status, events, refusals, and the table of runs.

Nothing here knows the terminal; callers give the width.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from headway.base.errors import Refusal, four_parts, message_of
from headway.base.events import (
    AttemptStarted,
    Ended,
    Evaluated,
    Event,
    LogEntry,
    Noted,
    PhaseEntered,
    Probed,
    Refined,
    Resumed,
    Sampled,
    Saved,
    Stalled,
    StallEnded,
    StepDone,
    StepPrinted,
    StopAsked,
)
from headway.base.host.utilization import Shares
from headway.base.pulse import Phase
from headway.base.units import count, learning_rate, plural, seconds, share, size
from headway.supervise.progress import Status
from headway.ui.styled import StyledLine, finding_lines, styled
from headway.ui.text_layout import (
    DOT,
    MARKS,
    cells,
    cut,
    flow,
    fold,
    loss_text,
    narrowed,
    one_line,
    printable,
    table,
)

WIDE = 10_000  # columns: no limit
SAMPLE_LINES = 4
SILENT_S = 5.0  # a longer time without news is shown

_SIGNALS = {"SIGINT": "Ctrl+C"}
_STALL_ENDS = {
    "itself": "it is moving again",
    "death": "the process that stalled ended",
    "restart": "the process that stalled is replaced",
    "stop": "the run stops because of the stall",
}


def step_line(status: Status, width: int = WIDE) -> str:
    """The step and its loss: 'step 3/100 · loss 2.45 (avg 2.61) · 4,589 tok/s · 4 min left'."""
    steps = f"/{count(status.steps)}" if status.steps else ""
    parts = [(0, f"step {count(status.step)}{steps}")]
    if status.global_step != status.step:
        reached = f"{count(status.global_step)}/{count(status.target_global_step)}"
        parts.append((5, f"global {reached}"))
    if status.loss is not None:
        parts.append((0, f"loss {loss_text(status.loss)}"))
    if status.loss_average is not None:
        parts.append((3, f"(avg {loss_text(status.loss_average)})"))
    if status.tokens_per_second is not None:
        parts.append((2, f"{count(status.tokens_per_second)} tok/s"))
    if status.tokens:
        parts.append((6, f"{count(status.tokens)} tokens"))
    if status.skipped:
        parts.append((4, f"{count(status.skipped)} skipped"))
    if status.seconds_left:
        parts.append((1, f"{_coarse(status.seconds_left)} left"))
    return narrowed(parts, width)


def _coarse(duration_s: float) -> str:
    """An estimated duration: whole minutes from two minutes on."""
    return seconds(duration_s if duration_s < 120 else 60 * round(duration_s / 60))


def phase_line(status: Status, width: int = WIDE, age: Callable[[float], str] = seconds) -> str:
    """The phase, its progress and its age: 'saving · 2.1 of 3.0 MB · 0.4 s'.

    Args:
        status: of a run that has not ended.
        width: columns.
        age: formats a duration in seconds.
    """
    parts = [(0, "stopping")] if status.state == "stopping" else []
    parts.append((3 if status.waiting_for else 0, status.phase))
    if status.done or status.total:
        parts.append((2, _amount(status.done, status.total, status.unit)))
        if status.unit == "bytes" and status.done and status.phase_since_s >= 1:
            parts.append((5, f"{size(status.done / status.phase_since_s)}/s"))
    if status.state == "planning":
        parts += [(4, plural(status.rows, "row"))] if status.rows else []
        parts += [(5, plural(status.tokens, "token"))] if status.tokens else []
        parts += [(6, f"{count(status.skipped)} skipped")] if status.skipped else []
    if status.waiting_for:
        # A long name is cut, so that the age always fits.
        what = cut(printable(status.waiting_for), max(width - 24, 8))
        if status.rows_read:
            rows, tokens = plural(status.rows_read, "row"), plural(status.tokens_read, "token")
            what = f"data, {what}: {rows}, {tokens} so far,"
        parts.append((0, f"waiting for {what} {age(status.waiting_since_s)}"))
    else:
        parts.append((0, age(status.phase_since_s)))
        if status.last_news_s is not None and status.last_news_s >= SILENT_S:
            parts.append((1, f"no news for {age(status.last_news_s)}"))
    if status.stall:
        parts.append((1, one_line(status.stall.what)))
    return narrowed(parts, width)


def stall_lines(status: Status, width: int) -> list[StyledLine]:
    """Why nothing is new, for how long, and what to do; nothing while a run makes progress."""
    stall = status.stall
    if stall is None:
        return []
    facts = [f"{stall.role}: {one_line(stall.what)}", f"for {seconds(stall.since_s)}"]
    lines = flow([*facts, *([stall.then] if stall.then else [])], width)
    tries = [f"  try   {cut(one_line(one), max(width - 8, 8))}" for one in stall.tries]
    tries += [f"  see   {stall.file}"] if stall.file else []
    return styled(lines, "yellow" if stall.is_stall else "dim") + styled(tries)


def _amount(done: int, total: int, unit: str) -> str:
    if unit == "bytes":
        have, need = size(done), size(total)
        shared = " " + need.partition(" ")[2]
        return f"{have.removesuffix(shared)} of {need}" if done and total else size(done or total)
    return f"{count(done)} of {count(total)} {unit}" if total else f"{count(done)} {unit}"


def status_lines(status: Status, width: int) -> list[str]:
    """The output of `headway status`: what a run is doing and for how long."""
    ago = f"{seconds(status.phase_since_s)} ago"
    facts = [status.run or "a new run"]
    match status.state:
        case "died":
            facts.append(f"died {ago}" + f" while {status.phase}" * (status.phase != "died"))
        case "finished" | "interrupted" | "failed":
            facts.append(f"{status.state} {ago}")
        case state:
            facts.append(state)
    facts += [f"attempt {status.attempt}"] if status.attempt > 1 else []
    facts += [f"process {status.pid}"] if status.pid and not status.ended else []
    lines = flow(facts, width)
    if not status.ended and status.state != "planned":
        lines.append(phase_line(replace(status, stall=None), width))
        lines += [line.text for line in stall_lines(status, width)]
    if status.step or status.state == "training":
        lines += fold(step_line(status), width)
    if status.slowed_by:
        lines += flow([f"slowed: {status.slowed_by[0]}", *status.slowed_by[1:]], width)
    if status.held_out_first is not None and status.held_out_last is not None:
        first, last = loss_text(status.held_out_first), loss_text(status.held_out_last)
        lines.append(f"held out {first} -> {last}")
    if status.state == "died" and not status.line:
        lines += flow(["run the same command again to resume from the last checkpoint"], width)
    lines += flow([status.line], width) if status.line else []
    return lines + ([printable(status.folder)] if status.folder else [])


def worker_lines(status: Status, width: int) -> list[str]:
    """The output of `headway status --workers`: which ones compute, wait or are late."""
    if not status.workers:
        return ["one worker: it has nobody to wait for"]
    last = max(worker.step for worker in status.workers)
    lines: list[str] = []
    for worker in status.workers:
        facts = [f"worker {worker.rank}", f"process {worker.pid}"]
        if worker.waiting_for:
            waited = seconds(worker.waiting_since_s)
            facts.append(f"waiting for {worker.waiting_for} for {waited}")
        else:
            facts.append(f"{worker.phase} for {seconds(worker.phase_since_s)}")
        facts += _time_shares(worker.shares)
        behind = last - worker.step
        facts.append(f"after step {count(worker.step)}" + f", {behind} behind" * (behind > 1))
        if worker.last_news_s > SILENT_S:
            facts.append(f"silent for {seconds(worker.last_news_s)}")
        lines += flow(facts, width)
    return lines


def _time_shares(shares: Shares) -> list[str]:
    """What a worker's time went to; nothing before its first step."""
    parts = {
        "computing": shares.computing,
        "waiting for data": shares.data,
        "waiting for workers": shares.peers,
        "saving": shares.saving,
    }
    shown = [f"{share(part)} {what}" for what, part in parts.items() if part >= 0.005]
    return [", ".join(shown)] if shown else []


def stopped_line(status: Status, how_to_resume: str) -> str:
    """The last line of `headway stop`.

    Args:
        status: of the run, whose process has ended.
        how_to_resume: for a run that left no closing line.
    """
    end = {"finished": "has finished", "failed": "has failed"}.get(status.state, "has stopped")
    name = printable(status.run) or "a new run"
    return f"{name} {end} · {one_line(status.line) or how_to_resume}"


def event_line(event: Event) -> str:
    """One event in a line, for `headway logs` and plain output."""
    return DOT.join(_event_facts(event))


def _event_facts(event: Event) -> list[str]:
    match event:
        case StepDone():
            return _step_facts(event)
        case StepPrinted():
            return _printed_facts(event)
        case AttemptStarted(restarts=number) if number:
            return _restart_facts(event)
        case AttemptStarted(run, version, _, from_global_step, resumed_from):
            where = (
                f"resumed from {resumed_from} at global step {count(from_global_step)}"
                if resumed_from
                else f"started after global step {count(from_global_step)}"
                if from_global_step
                else "started"
            )
            return [f"{run} {where}", f"headway {version}"]
        case Resumed(checkpoint, global_step):
            return [f"continuing from {checkpoint} at global step {count(global_step)}"]
        case PhaseEntered(phase):
            return [phase]
        case Probed(when, train_probe, held_out):
            end = "" if held_out is None else f", held out {loss_text(held_out)}"
            return [f"{when} training: loss {loss_text(train_probe)}{end}"]
        case Refined(whole_s):
            return [f"measured: about {_coarse(whole_s)} in total"]
        case StopAsked(by, doing):
            then = ": finishing the step and saving" if doing == Phase.TRAINING else ""
            during = f" while {printable(doing)}" if doing else ""
            return [f"stop requested by {_SIGNALS.get(by, by)}{during}{then}"]
        case Noted(finding):
            return [MARKS[finding.kind] + one_line(finding.what)]
        case Ended(outcome, exit_code, line, _):
            return [f"{outcome}, exit {exit_code}", one_line(line)]
        case _:
            return _pause_facts(event)


def _printed_facts(event: StepPrinted) -> list[str]:
    """What another program's output said of a step."""
    total = f"/{count(event.total)}" if event.total else ""
    facts = (
        "" if event.step is None else f"step {count(event.step)}{total}",
        "" if event.epoch is None else f"epoch {event.epoch:g}",
        "" if event.loss is None else f"loss {loss_text(event.loss)}",
        ""
        if event.learning_rate is None
        else f"learning rate {learning_rate(event.learning_rate)}",
    )
    return [fact for fact in facts if fact]


def _restart_facts(event: AttemptStarted) -> list[str]:
    """What happened to the workers, and where new ones continue."""
    source = event.resumed_from or "the start"
    where = f"new workers continue from {source} at global step {count(event.from_global_step)}"
    return [f"{one_line(event.after)}: {where}", f"restart {count(event.restarts)}"]


def _step_facts(event: StepDone) -> list[str]:
    facts = (
        f"step {count(event.step)}",
        f"global {count(event.global_step)}" if event.global_step != event.step else "",
        _attendance(event),
        f"loss {loss_text(event.loss)}",
        f"gradient norm {loss_text(event.grad_norm)}",
        f"learning rate {learning_rate(event.learning_rate)}",
        plural(event.rows, "row"),
        plural(event.trained_tokens, "token"),
        seconds(event.seconds),
    )
    return [fact for fact in facts if fact]


def _attendance(event: StepDone) -> str:
    """How many groups and workers computed a step, of how many; "" for a single one."""
    if event.all_workers == 1:
        return ""
    groups = f"{event.groups}/{plural(event.all_groups, 'group')}"
    return f"{groups}, {event.workers}/{plural(event.all_workers, 'worker')}"


def _pause_facts(event: Event) -> list[str]:
    """What happens between two steps, or keeps a run from the next one."""
    match event:
        case Stalled(_, role, _, silent_s, doing, finding):
            since = f"no progress for {seconds(silent_s)} while {printable(doing)}"
            return [f"{role} stalled: {one_line(finding.what)}", since]
        case StallEnded(_, _, lasted_s, by):
            return [f"{_STALL_ENDS.get(by, 'the stall is over')} after {seconds(lasted_s)}"]
        case Saved(_, checkpoint, num_bytes, spent_s):
            return [f"saved {checkpoint}", size(num_bytes), seconds(spent_s)]
        case Evaluated(global_step, held_out, rows, spent_s):
            found = f"held out {loss_text(held_out)} after step {count(global_step)}"
            return [found, plural(rows, "row"), seconds(spent_s)]
        case Sampled(global_step, prompt, text):
            return [f"sample after step {count(global_step)}: {one_line(prompt + text)}"]
        case _:
            return [type(event).__name__]


def news_lines(event: Event, width: int) -> list[StyledLine]:
    """The lines about an event that stay on the screen; most events have none."""
    match event:
        case AttemptStarted(resumed_from="", from_global_step=0, restarts=0):
            return []
        case PhaseEntered() | StepDone() | StepPrinted():
            return []
        case Resumed() | Ended():  # shown by the attempt's line and by the receipt or refusal
            return []
        case Noted(finding):
            return [] if finding.kind == "ok" else finding_lines(finding, width)
        case Stalled(diagnosis=finding, file=file):
            told = flow(_event_facts(event), width)
            _, *parts = finding_lines(finding, width)
            seen = styled([f"  see   {file}"] if file else [])
            return [*styled(told, "yellow"), *parts, *seen]
        case StopAsked():
            return styled(flow([f"{event_line(event)} (again to quit immediately)"], width))
        case Sampled():
            room = SAMPLE_LINES * (width - 8)  # wrapping between words leaves some columns empty
            return styled(fold(cut(event_line(event), room), width))
        case _:
            return styled(flow(_event_facts(event), width))


def refusal_lines(refusal: Refusal, width: int) -> list[StyledLine]:
    """The four parts of a refusal, or of each one of several."""
    lines: list[StyledLine] = []
    for finding in message_of(refusal).findings:
        _, *rest = four_parts(finding.what, finding.have, finding.need, finding.remedies, width)
        lines += styled(fold(finding.what, width), "red") + styled(map(printable, rest))
    return lines


def log_line(entry: LogEntry) -> str:
    """One line of `headway logs`: the time (UTC), the attempt, the event."""
    attempt = f"#{entry.attempt} " if entry.attempt > 1 else ""
    return f"{entry.at[:10]} {entry.at[11:19]}  {attempt}{event_line(entry.event)}"


def runs_table(statuses: Sequence[Status], width: int) -> list[str]:
    """The output of `headway runs`: one line per run, with fewer columns where it is narrow."""
    header = ["run", "state", "step", "loss", "held out", "tokens", "when"]
    rows = [header, *(_run_row(status) for status in statuses)]
    for dropped in ((), ("tokens",), ("tokens", "held out"), ("tokens", "held out", "when")):
        columns = [i for i, name in enumerate(header) if name not in dropped]
        right = [n for n, i in enumerate(columns) if header[i] in header[2:6]]
        lines = table([[row[i] for i in columns] for row in rows], right)
        if max(map(cells, lines)) <= width:
            return lines
    return [cut(line, width) for line in lines]


def _run_row(status: Status) -> list[str]:
    steps = f"{count(status.step)}/{count(status.steps)}" if status.steps else ""
    if status.ended:
        when = f"{seconds(status.phase_since_s)} ago"
    elif status.state == "training" and status.seconds_left is not None:
        when = f"{_coarse(status.seconds_left)} left"
    else:
        when = f"for {seconds(status.phase_since_s)}" if status.state != "planned" else ""
    held_out = "" if status.held_out_last is None else loss_text(status.held_out_last)
    return [
        printable(status.run) or "a new run",
        status.state,
        steps,
        "" if status.loss is None else loss_text(status.loss),
        held_out,
        count(status.tokens) if status.tokens else "",
        when,
    ]
