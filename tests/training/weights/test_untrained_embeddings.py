"""New tokens: embeddings that nobody trained, and that adapters leave as they are, are told."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import VOCAB, byte_level, causal, folder_start, run, save_model, text_store
from tests.training.jobs import planned

from headway.base.errors import Cause
from headway.base.events import Noted
from headway.model.load import from_folder, with_lora
from headway.training.weights.untrained_embeddings import advise_new_tokens

NEW = 105  # one of the ids that every store of the tests has
LORA = {"r": 2, "alpha": 4.0, "dropout": 0.0, "seed": 1}


def harmed(how: str) -> Any:
    """A model one of whose tokens has an embedding as new tokens have."""
    model = causal("llama", scale=1.0)
    weight = model.get_input_embeddings().weight.data
    others = torch.cat([weight[:NEW], weight[NEW + 1 :]])
    match how:
        case "zeros":
            weight[NEW] = 0.0
        case "the mean":
            weight[NEW] = others.mean(0)
        case "the mean and noise":
            weight[NEW] = others.mean(0) + 1e-5 * torch.randn(weight.shape[1])
    return model


def adapted(model: Any, *targets: str) -> Any:
    return with_lora(model, target_modules=targets or ("all-linear",), **LORA)


@pytest.mark.parametrize("how", ["zeros", "the mean", "the mean and noise"])
def test_l09_frozen_embeddings_of_new_tokens_are_told(tmp_path: Path, how: str) -> None:
    finding = advise_new_tokens(adapted(harmed(how)), text_store(tmp_path / "store", 400))
    assert finding is not None
    assert finding.what == f"the model cannot learn 1 new token: {byte_level().token_of(NEW)}"
    assert finding.cause is Cause.EMBEDDINGS_UNTRAINED
    assert finding.remedies


def test_l09_embeddings_that_train_are_nothing_to_tell(tmp_path: Path) -> None:
    store = text_store(tmp_path / "store", 400)
    assert advise_new_tokens(harmed("zeros"), store) is None  # all weights
    assert advise_new_tokens(adapted(harmed("zeros"), "embed_tokens", "q_proj"), store) is None


def test_l09_no_alarm_for_trained_embeddings_or_tokens_that_the_data_lacks(tmp_path: Path) -> None:
    store = text_store(tmp_path / "store", 400)
    assert advise_new_tokens(adapted(causal("llama")), store) is None
    model = causal("llama")
    model.get_input_embeddings().weight.data[VOCAB - 1] = 0.0
    assert advise_new_tokens(adapted(model), store) is None


def test_l09_as_transformers_makes_new_tokens(tmp_path: Path) -> None:
    """What `resize_token_embeddings` adds is found, and old rows are not."""
    model: Any = causal("llama", scale=1.0, vocab_size=NEW)
    model.resize_token_embeddings(VOCAB)
    finding = advise_new_tokens(adapted(model), text_store(tmp_path / "store", 400))
    assert finding is not None
    assert "new tokens" in finding.what


@pytest.mark.parametrize("lora", [True, False])
def test_l09_a_run_tells_it_once_before_its_first_step(tmp_path: Path, lora: bool) -> None:
    text_store(tmp_path / "text", 300)
    save_model(tmp_path / "base")
    model: Any = from_folder(tmp_path / "base", trust_remote_code=False)
    model.get_input_embeddings().weight.data[NEW] = 0.0
    model.save_pretrained(tmp_path / "base")
    plan = planned(
        tmp_path, "text", folder_start(tmp_path / "base"), max_steps=2, lora=lora, lora_r=2
    )
    noted = run(tmp_path / "run", plan).of(Noted)
    causes = [one.finding.cause for one in noted]
    assert causes.count(Cause.EMBEDDINGS_UNTRAINED) == lora
