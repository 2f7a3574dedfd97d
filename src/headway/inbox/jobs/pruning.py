"""Pruning of an inbox: checkpoints that are no longer wanted are deleted, as jobs end."""

from collections.abc import Sequence

from headway.base.files import delete_folder
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.disk_budget import ModelUse, StoredModel, choose_pruned
from headway.inbox.jobs.inbox_job import InboxJob, JobState, newest_promoted, open_job
from headway.runs.folder import RunFolder

FEWEST_MODELS = 2  # the newest one, and the one that undo goes back to


def prune(
    inbox: InboxFolder, jobs: Sequence[InboxJob], num_kept: int | None, budget: int | None = None
) -> int:
    """Delete checkpoints that are no longer wanted; plans, logs and receipts stay.

    What is needed to continue, and to undo the last file, is never deleted.

    Args:
        inbox: whose runs they are.
        jobs: all of them, in the order in which they were taken.
        num_kept: how many models may stay, the current one among them; None: all.
        budget: bytes that all checkpoints may take; None: any number.

    Returns:
        Bytes that they take above the budget all the same.
    """
    if num_kept is None and budget is None:
        return 0  # without a look at every run
    runs = {job.number: RunFolder(inbox.runs / job.run) for job in jobs if job.run}
    stored = [(number, run.checkpoints()) for number, run in runs.items()]
    uses = _uses(jobs)
    pruning = choose_pruned(
        [
            StoredModel(number, sum(one.num_bytes for one in found), uses[number])
            for number, found in stored
            if found
        ],
        num_kept,
        budget,
    )
    for number in pruning.numbers:
        for checkpoint in runs[number].checkpoints():
            delete_folder(checkpoint.path)
        runs[number].delete_leftovers()
    return pruning.excess


def _uses(jobs: Sequence[InboxJob]) -> dict[int, ModelUse]:
    """What the model of each job is still good for, by its number."""
    done = [job for job in jobs if job.state is JobState.DONE]
    needed = {job.number for job in done[-FEWEST_MODELS:]}
    needed |= {job.number for job in done if not job.is_settled}  # still to be measured
    needed |= {job.number for job in (newest_promoted(jobs), open_job(jobs)) if job}
    older = {job.number for job in done}
    return {
        job.number: ModelUse.NEEDED
        if job.number in needed
        else ModelUse.OLDER
        if job.number in older
        else ModelUse.LEFT_OVER
        for job in jobs
    }
