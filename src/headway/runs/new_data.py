"""New files beside those that a run has trained, and the command that trains only them."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import Finding, Remedy
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan

_MOST_NAMED = 20  # files in a command; with more, it names the sources as they were typed
_LONGEST_CHAIN = 10_000  # runs that continue each other


@dataclass(frozen=True)
class NewData:
    """Files that a finished run has not trained, beside files that it has.

    Attributes:
        run: that trained the others, by itself or through the runs that it continues.
        files: that are new, as they can be typed.
        num_trained: of the others.
    """

    run: RunFolder
    files: tuple[str, ...]
    num_trained: int

    def command(self, plan: Plan, run_name: str) -> str:
        """What to type to train them on top of that run."""
        few = len(self.files) <= _MOST_NAMED
        words = [*(self.files if few else plan.data.sources), "--continue", self.run.path.name]
        words += ["--run-name", run_name]
        folder = str(self.run.path.parent)
        words += ["--output-dir", folder] if folder != "runs" else []
        return "headway train " + " ".join(map(shlex.quote, words))

    def finding(self, plan: Plan, run_name: str) -> Finding:
        """What a person should know before the old files are trained once more."""
        name, again = self.run.path.name, "again" if plan.model.parent else "from scratch"
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return Finding(
            "warning",
            f"run {name} has trained {self.num_trained} of these files"
            f" already; this run trains all {self.num_trained + len(self.files)} {again}",
            have=f"new: {', '.join(self.files[:3])}{more}",
            need="",
            remedies=(
                Remedy(self.command(plan, run_name), f"trains what is new, on top of {name}"),
            ),
        )


def find_new_data(runs: list[RunFolder], plan: Plan) -> NewData | None:
    """The newest of some runs that has trained a part of a plan's files, all of them unchanged.

    Args:
        runs: that may have, the newest last.
        plan: of a run that is about to start.
    """
    for run in reversed(runs):
        before, root = _trained(run)
        now = plan.data.contents
        is_part = before and all(now.get(name) == content for name, content in before.items())
        if not is_part or len(before) == len(now) or not run.is_finished:
            continue
        if plan.model.parent or (root and _is_same_start(root, plan)):
            new = tuple(name for name in now if name not in before)
            return NewData(run, new, len(before))
    return None


def _trained(run: RunFolder) -> tuple[dict[str, str], Plan | None]:
    """The files that a run and those it continues have trained, and the first plan of them."""
    contents: dict[str, str] = {}
    root: Plan | None = None
    for _ in range(_LONGEST_CHAIN):
        plan = run.plan()
        if plan is None:
            break
        root, contents = plan, {**plan.data.contents, **contents}
        if plan.model.parent is None:
            break
        run = RunFolder(Path(plan.model.parent.run))
    return contents, root


def _is_same_start(root: Plan, plan: Plan) -> bool:
    """Whether both train the same weights, or new ones."""
    first, now = root.model, plan.model
    return (first.source, first.weights_sha256) == (now.source, now.weights_sha256)
