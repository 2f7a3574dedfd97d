"""Learning: only what is certain is told."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.export.folders import change, model_folder, state, weights

from headway.base.errors import Cause
from headway.export.check.folder_facts import read_folder
from headway.export.check.rules.learning import learning


def found(folder: Path, base: Path | None = None) -> list[Cause | None]:
    facts = read_folder(folder, read_folder(base) if base else None)
    return [finding.cause for finding in learning(facts)]


def test_one_weight_that_moved_is_a_model_of_its_own(tmp_path: Path) -> None:
    base, same = model_folder(tmp_path / "base"), model_folder(tmp_path / "same")
    assert found(same, base) == [Cause.NOT_LEARNED]
    moved = weights()
    moved["model.norm.weight"] = np.nextafter(moved["model.norm.weight"], 2).astype(np.float32)
    save_file(moved, same / "model.safetensors", {"format": "pt"})
    assert found(same, base) == []


def test_a_base_beside_itself_and_a_base_of_another_shape_prove_nothing(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    other = model_folder(tmp_path / "other", hidden_size=32)
    assert found(base, base) == []
    assert found(base, other) == []


@pytest.mark.parametrize(
    ("loss", "cause"),
    [(0.0, [Cause.NOT_LEARNED]), (float("nan"), [Cause.NOT_FINITE]), (1.5, [])],
)
def test_a_trainer_that_logged_nothing_but_its_mean(
    tmp_path: Path, loss: float, cause: list[Cause]
) -> None:
    folder = model_folder(tmp_path / "model")
    state(folder, step=10)
    change(folder / "trainer_state.json", log_history=[{"train_loss": loss, "step": 10}])
    assert found(folder) == cause


@pytest.mark.parametrize(
    ("losses", "fields", "cause"),
    [
        ((2.0, 1.0), {}, []),
        ((0.0, 0.0), {}, [Cause.NOT_LEARNED]),
        ((2.0, 0.0), {}, []),  # it had a gradient
        ((2.0, 0.0), {"grad_norm": 0.0}, [Cause.NOT_LEARNED]),
        ((2.0, 0.0, 1.5), {"grad_norm": 0.0}, []),
        ((2.0, float("inf")), {}, [Cause.NOT_FINITE]),
        ((), {}, [Cause.ENDED_EARLY]),
    ],
)
def test_losses_that_no_model_has(
    tmp_path: Path, losses: tuple[float, ...], fields: dict[str, float], cause: list[Cause]
) -> None:
    folder = model_folder(tmp_path / "model")
    state(folder, *losses, **fields)
    assert found(folder) == cause
