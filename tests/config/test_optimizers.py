"""The table of optimizers: each can be asked for, is made by its name, and says what it keeps."""

import pytest
import torch
from tests.helpers import causal

from headway.config.optimizers import FIRST_MOMENTS, OPTIMIZERS
from headway.config.settings import Settings
from headway.model.load import trainable
from headway.runs.plan import LearningPlan
from headway.training.optimizer import hidden_matrices, make_optimizer, moments


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_says_what_the_optimizer_keeps(name: str) -> None:
    sizes = {"hidden_size": 128, "head_dim": 64, "intermediate_size": 64}
    model = causal("llama", tie_word_embeddings=True, **sizes)
    parameters, hidden = trainable(model), hidden_matrices(model)
    plan = LearningPlan(name, 1e-3, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
    optimizer = make_optimizer(parameters, plan, hidden)
    for p in parameters.values():
        p.grad = torch.ones_like(p)
    optimizer.step()
    kept = {n: t for n, t in moments(optimizer, parameters).items() if not n.startswith("step/")}
    num_matrix = sum(p.numel() for n, p in parameters.items() if n in hidden)
    num_other = sum(p.numel() for p in parameters.values()) - num_matrix
    counted = sum(t.numel() * t.element_size() for t in kept.values())
    # Vectors are too small for moments in 8 bits.
    wanted = OPTIMIZERS[name].state_bytes(num_matrix, num_other)
    assert counted == pytest.approx(wanted, rel=0.02 if "8bit" in name else 0)
    firsts = {n.partition("/")[2] for n in kept if n.partition("/")[0] in FIRST_MOMENTS}
    assert firsts == set(parameters)


def test_the_first_is_what_is_taken_if_nobody_asks() -> None:
    assert Settings().optim == next(iter(OPTIMIZERS)) == "adamw"
