"""Loss history: losses by step, for other programs' plots.

events.jsonl is the only source: trainer_state.json in each checkpoint (`log_history`, as
transformers writes it) and losses.csv in the run's folder are made from it. Steps that a later
attempt repeated are in it once, so both are the same whether a run was stopped or not.
"""

import csv
import io
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from headway.base.events import (
    AttemptStarted,
    Evaluated,
    Event,
    EventReader,
    Probed,
    Resumed,
    StepDone,
)
from headway.base.files import write_whole
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.plan import Plan

FILE = "losses.csv"
MOST_LOGGED = 2_000  # entries of each kind in trainer_state.json: some 300 kB per checkpoint
MOST_ROWS = 100_000  # of losses.csv: some 10 MB


@dataclass(frozen=True)
class LossRow:
    """A row of losses.csv: a step or, in long runs, several; or an evaluation alone."""

    step: int  # global, the last one of several
    epoch: float
    loss: float | None  # nats per trained token, mean over the steps
    learning_rate: float | None
    grad_norm: float | None
    tokens: int | None  # trained so far in this job
    eval_loss: float | None  # on held-out rows, after this step


@dataclass
class LossHistory:
    """What events.jsonl says of losses, read as it grows.

    Args:
        events: the log of the run.
        first: global step before the job.
        steps_per_epoch: of the job.
    """

    events: Path
    first: int
    steps_per_epoch: int
    _steps: "array[int]" = field(default_factory=lambda: array("q"))
    _losses: "array[float]" = field(default_factory=lambda: array("d"))
    _rates: "array[float]" = field(default_factory=lambda: array("d"))
    _grad_norms: "array[float]" = field(default_factory=lambda: array("d"))
    _tokens: "array[int]" = field(default_factory=lambda: array("q"))  # so far
    _evaluated: dict[int, float] = field(default_factory=dict[int, float])
    _last: tuple[int, float] | None = None  # evaluated at the end of the attempt

    def __post_init__(self) -> None:
        self._reader = EventReader(self.events)

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> "LossHistory":
        """The history of a run."""
        return cls(folder / "events.jsonl", plan.steps.first, plan.steps.per_epoch)

    def read(self) -> None:
        """Read what is new in the log."""
        for entry in self._reader.new():
            self._take(entry.event)

    def rows(self, most: int, up_to: int | None = None) -> list[LossRow]:
        """At most `most` rows of steps, and the evaluations, by step.

        Above `most` steps, a row stands for 2, 4, 8, ... of them, as with transformers'
        `logging_steps`: the mean of their losses, the last one's rate and norm.

        Args:
            most: rows of steps.
            up_to: the last global step; all if it is None.
        """
        num = len(self._steps) if up_to is None else self._num_until(up_to)
        found = {row.step: row for row in self._step_rows(num, stride(num, most))}
        for step, loss in self._evaluations(up_to):
            alone = LossRow(step, self._epoch(step), None, None, None, None, None)
            found[step] = replace(found.get(step, alone), eval_loss=loss)
        return [found[step] for step in sorted(found)]

    def log_history(self, up_to: int) -> list[dict[str, float]]:
        """The entries of transformers' `TrainerState.log_history`.

        Args:
            up_to: the last global step.
        """
        entries: list[dict[str, float]] = []
        num = self._num_until(up_to)
        for row in self._step_rows(num, stride(num, MOST_LOGGED)):
            assert row.loss is not None
            assert row.grad_norm is not None
            assert row.learning_rate is not None
            entries.append(
                {
                    "epoch": row.epoch,
                    "grad_norm": row.grad_norm,
                    "learning_rate": row.learning_rate,
                    "loss": row.loss,
                    "step": row.step,
                }
            )
        evaluations = [e for e in self._evaluations(up_to) if math.isfinite(e[1])]
        apart = stride(len(evaluations), MOST_LOGGED)
        for step, loss in evaluations[::-apart]:
            entries.append({"epoch": self._epoch(step), "eval_loss": loss, "step": step})
        return sorted(entries, key=lambda entry: (entry["step"], "eval_loss" in entry))

    def trainer_state(self, plan: Plan, state: CheckpointState) -> Mapping[str, Any]:
        """The content of a checkpoint's trainer_state.json, by transformers' names."""
        num = self._num_until(state.global_step)
        return {
            "epoch": state.epoch,
            "global_step": state.global_step,
            "max_steps": plan.steps.last,
            "logging_steps": stride(num, MOST_LOGGED),
            "eval_steps": plan.evaluation.eval_steps or plan.steps.num,
            "save_steps": plan.saves.every_steps,
            "train_batch_size": plan.steps.batch_size,
            "num_train_epochs": math.ceil(plan.steps.epochs),
            "num_input_tokens_seen": state.input_tokens,
            "log_history": self.log_history(state.global_step),
            "best_metric": None,
            "best_global_step": None,
            "best_model_checkpoint": None,
            "is_local_process_zero": True,
            "is_world_process_zero": True,
        }

    def write_csv(self, folder: Path, up_to: int | None = None) -> None:
        """Replace losses.csv, if there is a step to write.

        Args:
            folder: of the run.
            up_to: the last global step; all if it is None.

        Raises:
            MachineError: it cannot be written.
        """
        rows = self.rows(MOST_ROWS, up_to)
        if not any(row.loss is not None for row in rows):
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column.name for column in fields(LossRow))
        writer.writerows(astuple(row) for row in rows)
        write_whole(folder / FILE, text.getvalue())

    def _take(self, event: Event) -> None:
        match event:
            case AttemptStarted(from_global_step=step) | Resumed(global_step=step):
                self._forget_after(step)
                self._last = None  # measured where the attempt before was stopped
            case StepDone():
                self._forget_after(event.global_step - 1)
                before = self._tokens[-1] if self._tokens else 0
                self._steps.append(event.global_step)
                self._losses.append(event.loss)
                self._rates.append(event.learning_rate)
                self._grad_norms.append(event.grad_norm)
                self._tokens.append(before + event.trained_tokens)
            case Evaluated(global_step=step, held_out=loss):
                self._evaluated[step] = loss
            case Probed(when="before", held_out=float() as loss):
                self._evaluated[self.first] = loss
            case Probed(when="after", held_out=float() as loss) if self._steps:
                self._last = self._steps[-1], loss
            case _:
                pass

    def _forget_after(self, step: int) -> None:
        """Forget later steps: the run was resumed from before them."""
        num = self._num_until(step)
        for column in (self._steps, self._losses, self._rates, self._grad_norms, self._tokens):
            del column[num:]
        for later in [one for one in self._evaluated if one > step]:
            del self._evaluated[later]

    def _num_until(self, step: int) -> int:
        """How many of the steps are not after this one."""
        num = len(self._steps)
        while num and self._steps[num - 1] > step:
            num -= 1
        return num

    def _step_rows(self, num: int, every: int) -> Iterator[LossRow]:
        begin = 0
        while begin < num:
            group, end = (self._steps[begin] - self.first - 1) // every, begin
            while end < num and (self._steps[end] - self.first - 1) // every == group:
                end += 1
            losses, last = self._losses[begin:end], end - 1
            yield LossRow(
                self._steps[last],
                self._epoch(self._steps[last]),
                sum(losses) / len(losses) if len(losses) > 1 else losses[0],
                self._rates[last],
                self._grad_norms[last],
                self._tokens[last],
                None,
            )
            begin = end

    def _evaluations(self, up_to: int | None) -> list[tuple[int, float]]:
        found = self._evaluated | (dict([self._last]) if self._last else {})
        return sorted((s, loss) for s, loss in found.items() if up_to is None or s <= up_to)

    def _epoch(self, step: int) -> float:
        return (step - self.first) / self.steps_per_epoch


def stride(num: int, most: int) -> int:
    """The smallest power of two that leaves at most `most` of `num` entries."""
    every = 1
    while math.ceil(num / every) > most:
        every *= 2
    return every
