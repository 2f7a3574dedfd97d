"""Findings about jobs: why a file failed or was skipped, and refusals to undo or retry."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Finding, Remedy, UsageError
from headway.base.lock import is_held
from headway.base.units import plural, size
from headway.config.command_line import parse
from headway.config.settings import normalize
from headway.inbox.folder import ERROR, RECEIPT, InboxFolder
from headway.inbox.jobs.inbox_job import InboxJob

_LONGEST = 80  # characters of what is put in parentheses


def with_new_path(finding: Finding, before: Path, now: Path) -> Finding:
    """A finding whose lines to type name a file where it is now, not where it was trained."""

    def moved(text: str) -> str:
        return text.replace(str(before), str(now))

    return replace(
        finding,
        what=moved(finding.what),
        have=moved(finding.have),
        need=moved(finding.need),
        remedies=tuple(Remedy(moved(one.do), moved(one.gives)) for one in finding.remedies),
    )


def with_retry(finding: Finding, inbox: InboxFolder, job: InboxJob) -> Finding:
    """A finding that also says how the file is trained once the reason is gone.

    Flags of a training command become lines of the inbox's settings, where they are read.
    """
    again = f"headway inbox retry {shlex.quote(job.place)} {_typed(inbox)}"
    remedies = (line for one in finding.remedies for line in _in_settings(one))
    return replace(finding, remedies=(*remedies, Remedy(again, "once the problem is fixed")))


def _in_settings(remedy: Remedy) -> Iterator[Remedy]:
    """A remedy whose flags, if it is made of flags, are lines of headway.yaml instead."""
    if not remedy.do.startswith("--"):
        yield remedy
        return
    given = parse(shlex.split(remedy.do), {}, settings=True).given
    if not given:
        yield remedy
    for number, one in enumerate(given):
        gives = remedy.gives if number == 0 else ""
        where = "in headway.yaml, read at the next start" + (f": {gives}" if gives else "")
        yield Remedy(f"{normalize(one.name.lstrip('-'))}: {one.value}", where)


def in_one_line(finding: Finding) -> str:
    """What is wrong and, in parentheses, what there is: a line that stands for itself."""
    have = ", ".join(finding.have.splitlines())
    return f"{finding.what} ({have})" if have and len(have) <= _LONGEST else finding.what


def already_trained(job: InboxJob, before: InboxJob) -> Finding:
    """What is said of a file whose content was trained under another name."""
    steps = before.learned.last_step if before.learned else 0
    return Finding(
        "warning",
        f"{job.name} has the same content as {before.name}, which was trained",
        f"sha256 {job.sha256[:12]}, {size(job.size)}, trained up to global step {steps:,}",
        "content that has not been trained yet",
        (Remedy("on_duplicate: train", "in the section inbox: of headway.yaml, trains it again"),),
        Cause.ALREADY_TRAINED,
    )


def undone(inbox: InboxFolder, job: InboxJob, place: str) -> Finding:
    """What is said of a file whose training was taken back."""
    first = job.learned.first_step if job.learned else 0
    again = f"headway inbox retry {shlex.quote(place)} {_typed(inbox)}"
    return Finding(
        "warning",
        f"{job.name} was undone: the model is as it was before it",
        f"global step {first:,}",
        "a file to learn from",
        (Remedy(again, "trains it on top of what is there"),),
        Cause.UNDONE,
    )


def not_readable(error: OSError) -> Finding:
    """What is said where the system refuses something that usually works."""
    return Finding("refused", f"the inbox cannot be read: {error}", cause=Cause.SOURCE_UNREADABLE)


def nothing_to_undo(inbox: InboxFolder) -> UsageError:
    """The refusal to undo where nothing was trained."""
    return UsageError(
        f"nothing in {inbox.path} can be undone",
        cause=Cause.RUN_NOT_FOUND,
        have="no file that was trained",
        need="one that was",
        remedies=(Remedy(f"headway inbox list {_typed(inbox)}", "shows what was done"),),
    )


def half_trained(inbox: InboxFolder, half: InboxJob) -> UsageError:
    """The refusal to undo what a file in processing/ is being trained on top of."""
    finishes = f"headway inbox start {_typed(inbox)} --once"
    if is_held(inbox.lock):  # by a daemon that is paused: else nobody gets this far
        finishes = f"headway inbox resume {_typed(inbox)}"
    return UsageError(
        f"{half.name} is half trained on top of the file to undo",
        cause=Cause.RUN_ACTIVE,
        have=f"job {half.number}, which continues from it",
        need="no file in processing/",
        remedies=(Remedy(finishes, "finishes it; then undo both"),),
    )


def model_deleted(inbox: InboxFolder, before: InboxJob) -> UsageError:
    """The refusal to go back to a model that is not there any more."""
    return UsageError(
        f"the model after {before.name} was deleted",
        cause=Cause.NO_CHECKPOINT,
        have=f"no checkpoint in {inbox.runs / before.run}, and no backup of it",
        need="the model to go back to: keep_models says how many are kept, before_file: backup "
        "keeps all of them",
        remedies=(Remedy(f"headway inbox list {_typed(inbox)}", "shows what was done"),),
    )


def not_in_failed(inbox: InboxFolder, name: str) -> UsageError:
    """The refusal to retry a file that is not there."""
    there = sorted(
        path.name
        for path in inbox.failed.iterdir()
        if not path.name.endswith((RECEIPT, ERROR)) and not path.name.startswith(".")
    )
    shown = f"headway inbox retry {shlex.quote(there[0])} {_typed(inbox)}" if there else ""
    return UsageError(
        f"{name} is not in {inbox.failed}",
        cause=Cause.SOURCE_NOT_FOUND,
        have=", ".join(there[:6]) or "nothing there",
        need="a file that failed",
        remedies=(Remedy(shown or f"headway inbox list {_typed(inbox)}"),),
    )


def crashed_often(job: InboxJob, last: Finding) -> Finding:
    """What is said of a file whose training died again and again."""
    return Finding(
        "refused",
        f"training {job.name} died {plural(job.crashes, 'time')}; the model is unchanged",
        "\n".join(filter(None, (last.what, last.have))),
        last.need or "a file that can be trained",
        last.remedies,
        last.cause,
    )


def content_changed(job: InboxJob, now: str) -> Finding:
    """What is said of a file that is not what was claimed."""
    return Finding(
        "refused",
        f"{job.name} changed after it was taken; the model is unchanged",
        f"sha256 {job.sha256} before\nsha256 {now or 'unreadable'} after",
        "a file that nobody writes to",
        (Remedy("write to NAME.part, then rename it", "it is taken once it is complete"),),
        Cause.SOURCE_CHANGED,
    )


def vanished(job: InboxJob) -> Finding:
    """What is said of a file that somebody took out of processing/."""
    return Finding(
        "refused",
        f"{job.name} was removed while it was being processed; the model is unchanged",
        f"no processing/{job.name}",
        "the file",
        (Remedy("put it back into the inbox", "it is trained from its first row"),),
        Cause.SOURCE_NOT_FOUND,
    )


def is_empty(job: InboxJob) -> Finding:
    """What is said of a file without a byte."""
    return Finding(
        "refused",
        f"{job.name} is empty: there is nothing to train",
        "0 B",
        "at least one record",
        (
            Remedy(
                "write to NAME.part, then rename it",
                "if it was taken before its content was written",
            ),
        ),
        Cause.NO_USABLE_RECORDS,
    )


def not_a_file(name: str, kind: str) -> Finding:
    """What is said of a link, a pipe or a device."""
    return Finding(
        "refused",
        f"{name} is {kind}, and was not opened",
        kind,
        "a regular file or folder: links are not followed, pipes and devices not opened",
        (Remedy("copy the data itself into the inbox", "instead of a link to it"),),
        Cause.NOT_DATA,
    )


def _typed(inbox: InboxFolder) -> str:
    """The inbox as it can be typed."""
    return shlex.quote(str(inbox.path))
