"""One step of a finished RUN under torch's profiler; the heaviest operators go into FILE."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from headway.base.pulse import Pulse
from headway.data.batching.batches import make_batch
from headway.runs.folder import RunFolder
from headway.runs.settled import load_settled
from headway.training.optimizer import learning_rate
from headway.training.setup import set_up
from headway.training.step import Stepper

_OPERATORS = 20
_WARM = 2  # steps before


def main(run: Path, result: Path) -> None:
    """Take steps as the run did; profile the last of them."""
    plan = RunFolder(run).plan()
    assert plan is not None
    settled, device = load_settled(run, plan), plan.machine.device
    setup = set_up(plan, settled, Pulse(None))
    setup.forward.compute_in(getattr(torch, settled.compute_dtype))
    stepper = Stepper(
        setup.forward,
        setup.optimizer,
        setup.parameters,
        rate=partial(learning_rate, plan.learning, num_steps=plan.steps.num),
        max_grad_norm=plan.learning.max_grad_norm,
        first=0,
        seed=plan.seed,
        pulse=Pulse(None),
    )
    batch = make_batch(
        setup.rows,
        setup.order,
        1,
        leaves=plan.steps.leaves,
        micro_batch_tokens=settled.micro_batch_tokens,
        device=device,
        share=settled.share_prefixes,
    )
    for _ in range(_WARM):
        stepper.take_step(batch)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    began_s = time.perf_counter()
    with profile(activities=kinds) as found:
        stepper.take_step(batch)
        if device == "cuda":
            torch.cuda.synchronize()
    took_s = time.perf_counter() - began_s
    order = f"self_{device}_time_total"
    result.write_text(found.key_averages().table(sort_by=order, row_limit=_OPERATORS))
    print(json.dumps({"step, s": took_s, "tokens/s": batch.num_computed / took_s}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
