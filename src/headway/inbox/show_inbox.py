"""Inbox display: status, the list of jobs, and the daemon's notices, as lines of any width."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headway.base.errors import four_parts
from headway.base.units import count, plural, seconds, size
from headway.inbox.inbox_status import InboxStatus
from headway.inbox.jobs.inbox_job import InboxJob, JobState, Learned
from headway.inbox.notices import InboxNotice, NoticeKind
from headway.inbox.recall.still_known import KnownFile, StillKnown
from headway.ui.show_run import phase_line, step_line
from headway.ui.text_layout import cells, cut, flow, fold, loss_text, printable, table

_MOST_WAITING = 10
_MOST_KNOWN = 20
_SHORTEST_NAME = 12  # cells of a file's name in a table


def inbox_lines(status: InboxStatus, width: int) -> list[str]:
    """The output of `headway inbox status`."""
    facts = [printable(status.folder), status.state]
    facts += [f"for {seconds(status.since_s)}"] if status.since_s is not None else []
    facts += [f"process {status.pid}"] if status.pid else []
    lines = flow(facts, width)
    lines += fold(printable(status.why), width) if status.why else []
    if status.state == "not started" and not status.waiting:
        return lines
    if status.training:
        lines += ["", *fold(f"now: {status.training}", width)]
        run = status.run
        if run and not run.ended and run.state != "planned":
            lines.append(f"  {phase_line(run, width - 2)}")
        if run and run.step:
            lines.append(f"  {step_line(run, width - 2)}")
    lines += _waiting_lines(status, width)
    if status.last:
        ago = f"{seconds(status.last_file_s or 0)} ago"
        lines += [
            "",
            *flow([f"last: {printable(status.last.name)}", *_result(status.last), ago], width),
        ]
    lines += known_lines(status.still_known, width) if status.still_known else []
    done = ", ".join(f"{count(number)} {state}" for state, number in status.counts.items())
    where = f"model: global step {count(status.global_step)}"
    lines += ["", *flow([where, *([done] if done else [])], width)]
    if status.held_back:
        lines += fold(f"current_model is older than the newest model: {status.held_back}", width)
    return lines + ([printable(status.checkpoint)] if status.checkpoint else [])


def known_lines(known: StillKnown, width: int) -> list[str]:
    """The table of what was learned from, and what of it is still known."""
    files = known.files
    shown = {
        *sorted(range(len(files)), key=lambda i: (not files[i].is_forgotten, -i))[:_MOST_KNOWN]
    }
    rows = [["learned from", "rows", "learned", "still known"]]
    rows += [_known_row(one) for place, one in enumerate(files) if place in shown]
    lines = ["", *(cut(line, width) for line in _fitted(rows, 0, width, 1))]
    more, unmeasured = len(files) - len(shown), known.num_not_looked_at
    lines += [f"and {count(more)} more"] if more else []
    lines += [f"{plural(unmeasured, 'other file')} not measured this time"] if unmeasured else []
    return lines + [line for one in known.warnings for line in fold(f"warning: {one}", width)]


def _known_row(one: KnownFile) -> list[str]:
    kind = "held out" if one.are_held_out else "trained"
    rows = f"{one.now.rows} {kind}" if one.now else ""
    learned = loss_text(one.learned.mean) if one.learned else ""
    since = one.since_learned
    now = loss_text(one.now.mean) if one.now else one.problem
    if since and one.is_forgotten:
        now += f" forgotten (± {loss_text(since.spread)})"
    return [printable(one.name), rows, learned, now]


def _waiting_lines(status: InboxStatus, width: int) -> list[str]:
    waiting = status.waiting
    if not waiting:
        return ["", "no files waiting"]
    lines = ["", plural(len(waiting), "file waiting", "files waiting") + ":"]
    for number, one in enumerate(waiting[:_MOST_WAITING], 1):
        why = f" · {one.why}" if one.why else ""
        lines.append(cut(f"  {number}  {one.name} · {size(one.bytes)}{why}", width))
    more = len(waiting) - _MOST_WAITING
    return lines + ([f"     and {count(more)} more"] if more > 0 else [])


def jobs_table(jobs: Sequence[InboxJob], width: int) -> list[str]:
    """The output of `headway inbox list`: one line per file, the newest last."""
    header = ["job", "file", "state", "steps", "loss", "where"]
    rows = [header, *(_row(job) for job in jobs)]
    lines: list[str] = []
    for dropped, is_cut in (((), False), (("where",), False), (("where",), True)):
        columns = [i for i, name in enumerate(header) if name not in dropped]
        shown = [[row[i] for i in columns] for row in rows]
        lines = _fitted(shown, 1, width, 0) if is_cut else table(shown, right=[0])
        if max(map(cells, lines)) <= width:
            return lines
    return [cut(line, width) for line in lines]


def _fitted(rows: Sequence[list[str]], place: int, width: int, right: int) -> list[str]:
    """A table with the names in one column cut so far that it fits, if enough of them is left."""
    lines = table(rows, right=[right])
    room = max(cells(row[place]) for row in rows) + width - max(map(cells, lines))
    room = max(room, _SHORTEST_NAME)
    cut_rows = [[*row[:place], cut(row[place], room), *row[place + 1 :]] for row in rows]
    return table(cut_rows, right=[right])


def _row(job: InboxJob) -> list[str]:
    learned = job.learned if job.state is JobState.DONE else None
    return [
        str(job.number),
        printable(job.name),
        job.state.value,
        f"{count(learned.first_step)} -> {count(learned.last_step)}" if learned else "",
        _losses(learned) if learned else "",
        printable(job.place) or ("processing/" if job.state is JobState.CLAIMED else ""),
    ]


def _losses(learned: Learned) -> str:
    if learned.loss_before is None or learned.loss_after is None:
        return ""
    return f"{loss_text(learned.loss_before)} -> {loss_text(learned.loss_after)}"


def _result(job: InboxJob) -> list[str]:
    if job.state is JobState.DONE and job.learned:
        return ["done", job.learned.line]
    return [job.state.value, *([printable(job.finding.what)] if job.finding else [])]


def notice_lines(notice: InboxNotice) -> list[str]:
    """What the daemon says, and the four parts of why a file failed."""
    finding = notice.finding
    if notice.kind is not NoticeKind.FAILED or finding is None:
        return [printable(notice.text)]
    parts = four_parts(finding.what, finding.have, finding.need, finding.remedies)
    return [printable(notice.text), *(f"  {printable(line)}" for line in parts)]


def notice_json(notice: InboxNotice) -> str:
    """The same as one object: `event` is `inbox`."""
    plain: dict[str, Any] = {"event": "inbox"} | msgspec.to_builtins(notice)
    return msgspec.json.encode(plain).decode()
