"""A worker that holds all of a model makes it, and reads checkpoints, as always."""

from pathlib import Path

import torch
from tests.training.jobs import planned

from headway.training.weights.holding import WHOLE
from headway.training.weights.initial_weights import starting_model


def test_the_whole_model_is_the_starting_model_and_runs_by_itself(here: Path) -> None:
    plan = planned(here)
    model, run = WHOLE.start(plan)
    assert run is None
    expected = dict(starting_model(plan).named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in model.named_parameters())
