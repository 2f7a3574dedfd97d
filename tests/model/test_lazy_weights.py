"""Weights that stay in their files are the ones that transformers loads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import llama

from headway.base.errors import Cause, UsageError
from headway.model.lazy_weights import LazyWeights, StoredTensors
from headway.model.load import from_config, from_folder, trainable, with_lora

LORA: dict[str, Any] = {"r": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ("all-linear",)}


def saved(folder: Path, *, tied: bool = True, size: str = "1GB") -> Path:
    model: Any = from_config(llama(tie_word_embeddings=tied), 3)
    model.save_pretrained(folder, max_shard_size=size)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_the_one_that_is_loaded_and_takes_no_memory_before(
    tmp_path: Path, tied: bool
) -> None:
    folder = saved(tmp_path, tied=tied, size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    lazy = LazyWeights()
    model, loaded = (
        read(folder, trust_remote_code=False) for read in (lazy.from_folder, from_folder)
    )
    expected = dict(loaded.named_parameters())
    assert dict(model.named_parameters()).keys() == expected.keys()
    for name, placeholder in model.named_parameters():
        found = lazy.read(placeholder)
        assert found is not None
        assert torch.equal(found, expected[name]), name
        assert placeholder.untyped_storage().nbytes() <= 4
    for name, buffer in loaded.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name


def test_a_weight_in_bf16_is_read_as_fp32(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = folder / "model.safetensors"
    save_file({n: t.bfloat16() for n, t in load_file(file).items()}, file, {"format": "pt"})
    lazy = LazyWeights()
    model = lazy.from_folder(folder, trust_remote_code=False)
    placeholder = next(model.parameters())
    found = lazy.read(placeholder)
    assert found is not None
    assert found.dtype == torch.float32
    assert torch.equal(found, next(iter(StoredTensors(folder).values())).float())


def test_adapters_on_placeholders_are_those_on_the_weights_themselves(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    lazy = LazyWeights()
    ours, theirs = (
        trainable(with_lora(read(folder, trust_remote_code=False), **LORA, seed=5))
        for read in (lazy.from_folder, from_folder)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
    assert lazy.read(next(iter(ours.values()))) is None


def test_weights_under_other_names_are_refused_with_a_way_to_train_them(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = folder / "model.safetensors"
    renamed = {name.removeprefix("model."): t for name, t in load_file(file).items()}
    save_file(renamed, file, {"format": "pt"})
    with pytest.raises(UsageError) as refused:
        LazyWeights().from_folder(folder, trust_remote_code=False)
    assert refused.value.cause is Cause.MODEL_UNSUPPORTED
    assert refused.value.remedies[0].do == "--reduction tree"


def test_a_weight_that_the_model_has_no_place_for_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"model.more": torch.zeros(3)}, file, {"format": "pt"})
    with pytest.raises(UsageError) as refused:
        LazyWeights().from_folder(folder, trust_remote_code=False)
    assert refused.value.cause is Cause.WEIGHTS_UNUSED


def test_a_file_that_became_shorter_is_an_error_not_other_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    stored = StoredTensors(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(OSError, match="shorter"):
        dict(stored)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
