"""A dry run computes gradients as a step does, and leaves nothing of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import causal, chat_store

from headway.data.batching.batches import evaluation_micro_batches
from headway.data.batching.rows import rows_of
from headway.model.forward import Forward
from headway.training.trials.dry_run import compute_gradients, nothing_trained


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_there_inside_and_gone_outside(
    tmp_path: Path, dtype: torch.dtype, fails: bool
) -> None:
    rows = rows_of(chat_store(tmp_path, "....xxxx", "..xxxxx"), 32)
    (micro,) = evaluation_micro_batches(rows, np.arange(2), 64, "cpu")
    forward = Forward(causal("llama"))
    forward.compute_in(dtype)
    forward.model.eval()
    draws, inside = torch.get_rng_state(), 0.0

    def run() -> None:
        nonlocal inside
        with nothing_trained(forward):
            assert forward.model.training
            torch.rand(3)
            compute_gradients(forward, micro)
            once = [p.grad.norm() for p in forward.weights.parameters() if p.grad is not None]
            compute_gradients(forward, micro)
            again = [p.grad.norm() for p in forward.weights.parameters() if p.grad is not None]
            assert torch.equal(torch.stack(once), torch.stack(again))  # not added up
            inside = float(sum(again))
            if fails:
                raise RuntimeError("out of memory")

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            run()
    else:
        run()
    assert inside > 0
    assert all(p.grad is None for p in forward.weights.parameters())
    assert not forward.model.training
    assert torch.equal(torch.get_rng_state(), draws)
