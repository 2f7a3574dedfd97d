"""Stored tensors come one at a time, as they are in their files."""

import json
from pathlib import Path

import torch
from safetensors.numpy import save_file
from tests.export.folders import model_folder, weights

from headway.export.reading.tensor_source import StoredSource


def test_tensors_come_in_the_order_of_their_shapes(tmp_path: Path) -> None:
    source = StoredSource(model_folder(tmp_path / "model"))
    expected = weights()
    found = dict(source.read())
    assert list(found) == list(source.shapes) == list(source.kinds)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, torch.from_numpy(expected[name])), name
        assert source.shapes[name] == tuple(tensor.shape)
    assert set(source.kinds.values()) == {"F32"}


def test_shards_are_one_model_and_number_formats_stay(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    tensors = {name: one.astype("float16") for name, one in weights().items()}
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:5]}
    shards["model-00002-of-00002.safetensors"] = names[5:]
    for file, some in shards.items():
        save_file({name: tensors[name] for name in some}, folder / file, {"format": "pt"})
    index = {name: file for file, some in shards.items() for name in some}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    source = StoredSource(folder)
    assert source.shapes.keys() == tensors.keys()
    assert {tensor.dtype for _, tensor in source.read()} == {torch.float16}
