"""Facts of a folder come with bounds: nothing in it is trusted."""

import json
import os
from pathlib import Path

import pytest
from tests.export.folders import TURN_END, adapter_folder, model_folder, state

from headway.export.check import folder_facts
from headway.export.check.folder_facts import read_folder


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    state(folder, 2.0, 1.0)
    facts = read_folder(folder)
    assert facts.bad == ()
    assert facts.num_embeddings == 259
    assert facts.end_ids == (TURN_END, 0)
    assert facts.vocabulary["<|im_end|>"] == facts.added["<|im_end|>"] == TURN_END
    assert "<|im_start|>" in facts.template
    assert facts.state is not None
    assert facts.state.global_step == 2
    assert not facts.is_adapter
    assert read_folder(adapter_folder(tmp_path / "adapter", folder)).is_adapter


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[1]", b'"text"', b"[" * 100_000, b'{"eos_token_id": 1e999}'],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "trainer_state.json"])
def test_a_file_that_is_no_object_is_told_and_ends_nothing(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / name).write_bytes(content)
    facts = read_folder(folder)
    is_object = content.startswith(b'{"')
    bad = [one.name for one in facts.bad]
    assert bad == ([] if is_object and name != "trainer_state.json" else [name])


def test_links_pipes_and_long_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/hostname")
    (folder / "generation_config.json").unlink()
    os.mkfifo(folder / "generation_config.json")
    monkeypatch.setattr(folder_facts, "_MAX_JSON_BYTES", 1000)
    facts = read_folder(folder)
    assert sorted(one.name for one in facts.bad) == ["config.json", "tokenizer.json"]
    assert "generation_config.json" not in facts.names, "a pipe is no file"


def test_an_index_leads_nowhere_else(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors", "b": "/etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    facts = read_folder(folder)
    assert facts.tensors == {}
    assert sorted(one.name for one in facts.bad) == ["../outside.safetensors", "/etc/passwd"]


def test_optimizers_and_states_are_no_pickled_weights(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"):
        (folder / name).touch()
    assert read_folder(folder).pickles == ()
    (folder / "pytorch_model.bin").touch()
    assert read_folder(folder).pickles == ("pytorch_model.bin",)
