"""How a job on foreign things ends: trained, or refused in four parts that name what is wrong."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from tests.helpers import settings

from headway.base.errors import Exit, Refusal, exit_code
from headway.base.pulse import Pulse
from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.runs.order import order_of
from headway.runs.settled import Settled
from headway.supervise.planner import PlanRequest, make_plan
from headway.training.trials.rows_to_try import first_rows
from headway.training.trials.settle import settle_forward
from headway.training.weights.initial_weights import starting_model


@dataclass(frozen=True)
class End:
    """How it ended.

    Attributes:
        code: 0 if a gradient was computed.
        said: the refusal as a person reads it; "" if there is none.
        refusal: None if there is none.
    """

    code: int
    said: str = ""
    refusal: Refusal | None = None

    def is_told(self, name: str) -> bool:
        """Whether the refusal has its four parts and names the thing."""
        labels = {line[2:6] for line in self.said.splitlines() if line.startswith("  ")}
        return {"have", "need", "try "} <= labels and name in self.said.replace("\n        ", " ")


def end_of(data: Path, model: Path | None, output_dir: Path) -> End:
    """Plan a job, load its model, run the trials, compute a gradient: all in this process.

    Raises:
        Exception: what nobody foresaw.
    """
    chosen = {"model": str(model)} if model else {"preset": "tiny"}
    asked = settings(bf16=False, max_steps=2, output_dir=str(output_dir), **chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries think of odd files
        try:
            plan = make_plan(PlanRequest((str(data),), asked, train=False), Pulse())
            forward = Forward(starting_model(plan))
            rows = rows_of(Store(Path(plan.data.store)), plan.data.max_length)
            micro, prefixed = first_rows(rows, order_of(plan), plan)
            settle_forward(plan, Settled.from_plan(plan), forward, micro, prefixed)
            loss = forward.loss(micro, len(micro.targets_M))
        except Refusal as refusal:
            return End(exit_code(refusal), str(refusal), refusal)
        if loss.requires_grad and torch.isfinite(loss):
            loss.backward()
        return End(Exit.KEPT)
