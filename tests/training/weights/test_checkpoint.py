"""Checkpoints: whole or not at all, back bit by bit, and an ordinary folder for everybody else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import byte_level, causal, save_model
from tests.training.jobs import STATE

from headway.base import files
from headway.base.errors import MachineError
from headway.base.files import FileProblem, verify_folder
from headway.data.examples.chatml import CHATML
from headway.data.examples.tokenizer import load as load_tokenizer
from headway.model.forward import Forward
from headway.model.load import from_folder, trainable, with_adapter, with_lora
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint
from headway.runs.plan import LearningPlan
from headway.training.optimizer import make_optimizer, moments
from headway.training.weights.checkpoint import (
    Snapshot,
    load_moments,
    load_weights,
    stored_parameters,
)
from headway.training.weights.initial_weights import add_end_ids, end_ids_of, load_folder

LEARNING = LearningPlan("adamw", 1e-2, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
KINDS: dict[str, Callable[[Path], Any]] = {
    "llama": lambda _: causal("llama"),
    "llama, tied": lambda _: causal("llama", tie_word_embeddings=True),
    "gpt2": lambda _: causal("gpt2"),
    "mixtral": lambda _: causal("mixtral", num_local_experts=2, num_experts_per_tok=1),
    "adapters": lambda base: adapted(base),
}


def adapted(base: Path) -> Any:
    model = from_folder(base, trust_remote_code=False)
    return with_lora(model, r=2, alpha=4, dropout=0.0, target_modules=("all-linear",), seed=1)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer's folder, with a chat template."""
    folder = tmp_path / "words"
    folder.mkdir()
    byte_level().with_template(CHATML).save(folder)
    return folder


def stepped(model: Any) -> torch.optim.Optimizer:
    """An optimizer that has taken a step."""
    parameters = trainable(model)
    optimizer = make_optimizer(parameters, LEARNING)
    draws = torch.Generator().manual_seed(0)
    for p in parameters.values():
        p.grad = torch.randn(p.shape, generator=draws)
    optimizer.step()
    return optimizer


def save(
    final: Path, model: Any, words: Path, state: CheckpointState = STATE
) -> torch.optim.Optimizer:
    optimizer = stepped(model)
    taken(model, optimizer).write(final, state, words, {"global_step": 7})
    return optimizer


def taken(model: Any, optimizer: torch.optim.Optimizer) -> Snapshot:
    snapshot = Snapshot(model, optimizer, trainable(model))
    snapshot.take()
    return snapshot


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_weights_moments_and_state_come_back_bit_by_bit(
    tmp_path: Path, base: Path, words: Path, kind: str
) -> None:
    model, final = KINDS[kind](base), tmp_path / "checkpoint-7"
    Forward(model)  # as in training, with our attention in place
    optimizer = save(final, model, words)
    assert verify_folder(final) == []

    fresh = KINDS[kind](base)
    assert not torch.equal(*(next(iter(trainable(m).values())) for m in (fresh, model)))
    load_weights(fresh, final)
    for name, p in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], p), name
    wanted, found = moments(optimizer, trainable(model)), load_moments(final)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert Checkpoint(final, 7).state() == STATE


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path, words: Path) -> None:
    final, model = tmp_path / "checkpoint-7", causal("llama", tie_word_embeddings=True)
    save(final, model, words)
    assert "lm_head.weight" not in load_file(final / "model.safetensors")
    fresh = causal("llama", tie_word_embeddings=True, seed=2)
    load_weights(fresh, final)
    assert fresh.lm_head.weight is fresh.model.embed_tokens.weight


def test_weights_are_fp32_in_the_file(tmp_path: Path, words: Path) -> None:
    final = tmp_path / "checkpoint-7"
    save(final, causal("llama"), words)
    assert {t.dtype for t in load_file(final / "model.safetensors").values()} == {torch.float32}


# ---- for everybody else ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "llama, tied", "gpt2", "mixtral"])
def test_plain_transformers_loads_it(tmp_path: Path, base: Path, words: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, final = KINDS[kind](base), tmp_path / "checkpoint-7"
    own = model.config._attn_implementation
    forward = Forward(model)
    save(final, model, words)

    loaded: Any = AutoModelForCausalLM.from_pretrained(final)
    tokenizer: Any = AutoTokenizer.from_pretrained(final)
    ids = torch.tensor([tokenizer("A few words, and ümläuts.")["input_ids"]])
    assert ids[0].tolist() == byte_level().encode(["A few words, and ümläuts."])[0].tolist()
    forward.run_separately()
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids).logits
        assert torch.equal(loaded.eval()(input_ids=ids).logits, wanted)
    assert loaded.config._attn_implementation == own
    assert tokenizer.eos_token == byte_level().end_token
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nHi<|im_end|>\n"


def test_plain_peft_loads_the_adapters(tmp_path: Path, base: Path, words: Path) -> None:
    final, model = tmp_path / "checkpoint-7", adapted(base)
    save(final, model, words)
    told = json.loads((final / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(base)  # absolute, where it was loaded from
    loaded: Any = with_adapter(from_folder(base, trust_remote_code=False), final)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids).logits
        assert torch.equal(loaded.eval()(input_ids=ids).logits, wanted)


@pytest.mark.parametrize("kind", ["llama", "adapters"])
def test_the_tokens_that_end_answers_are_in_the_checkpoint(
    tmp_path: Path, base: Path, words: Path, kind: str
) -> None:
    final, model = tmp_path / "checkpoint-7", KINDS[kind](base)
    before = end_ids_of(model)
    add_end_ids(model, [7, 9, 7])
    save(final, model, words)
    told = json.loads((final / "generation_config.json").read_text())
    assert told["eos_token_id"] == [*before, 7, 9]
    assert end_ids_of(load_folder(final)) == [*before, 7, 9]
    assert set(load_tokenizer(final).end_ids) >= {7, 9}


@pytest.mark.parametrize("kind", ["llama", "adapters"])
def test_no_file_knows_our_attention(tmp_path: Path, base: Path, words: Path, kind: str) -> None:
    model, final = KINDS[kind](base), tmp_path / "checkpoint-7"
    Forward(model)
    save(final, model, words)
    for name in ("config.json", "generation_config.json", "adapter_config.json"):
        if (final / name).exists():
            assert "headway" not in (final / name).read_text().replace(str(base), "")


def test_every_file_of_the_tokenizer_goes_along(tmp_path: Path, words: Path) -> None:
    (words / "vocab.json").write_text("{}")
    (words / "ids.bin").write_text("what else a store holds")
    final = tmp_path / "checkpoint-7"
    save(final, causal("llama"), words)
    assert (final / "vocab.json").exists()
    assert not (final / "ids.bin").exists()


def test_the_trainers_own_state_is_there(tmp_path: Path, words: Path) -> None:
    final = tmp_path / "checkpoint-7"
    save(final, causal("llama"), words)
    assert json.loads((final / "trainer_state.json").read_text()) == {"global_step": 7}
    assert not (final / "README.md").exists()


# ---- whole or not at all -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_f30_weights_that_are_not_finite_are_never_written(
    tmp_path: Path, words: Path, value: float
) -> None:
    model, final = causal("llama"), tmp_path / "run" / "checkpoint-7"
    optimizer = stepped(model)
    model.model.norm.weight.data[3] = value
    with pytest.raises(MachineError) as refused:
        taken(model, optimizer).write(final, STATE, words, {})
    assert refused.value.what == "checkpoint-7 was not written: weights are not finite"
    assert refused.value.have == "NaN or Inf in model.norm.weight"
    assert not final.parent.exists()


@pytest.mark.parametrize("number", range(8))
def test_f35_a_write_that_fails_leaves_the_older_one(
    tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The disk fills up at each of the points where something is made durable."""
    older, newer = tmp_path / "checkpoint-5", tmp_path / "checkpoint-7"
    model = causal("llama")
    save(older, model, words, replace(STATE, global_step=5))
    calls = iter(range(1000))
    plain = files.os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == number:
            raise OSError(28, "No space left on device")
        plain(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        save(newer, model, words)
    monkeypatch.undo()
    assert not newer.exists()
    assert verify_folder(older) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-5", "words"]
    save(newer, model, words)  # and when there is room again, it goes on
    assert verify_folder(newer) == []


def test_c06_a_checkpoint_that_does_not_read_back_is_refused(
    tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing(folder: Path) -> list[FileProblem]:
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
        return verify_folder(folder)

    monkeypatch.setattr(files, "verify_folder", losing)
    with pytest.raises(MachineError, match="does not read back as it was written"):
        save(tmp_path / "checkpoint-7", causal("llama"), words)
    assert not (tmp_path / "checkpoint-7").exists()


def test_one_that_did_not_verify_is_written_anew(tmp_path: Path, words: Path) -> None:
    final = tmp_path / "checkpoint-7"
    final.mkdir()
    (final / "model.safetensors").write_bytes(b"half")
    save(final, causal("llama"), words)
    assert verify_folder(final) == []


# ---- other weights -----------------------------------------------------------------------------


def test_weights_of_another_shape_are_refused(tmp_path: Path, words: Path) -> None:
    final = tmp_path / "checkpoint-7"
    save(final, causal("llama"), words)
    for other in (causal("llama", num_hidden_layers=3), causal("llama", intermediate_size=64)):
        with pytest.raises(MachineError, match="checkpoint-7 does not match this model"):
            load_weights(other, final)


def test_x03_a_tensor_that_is_missing_is_not_drawn_by_chance(tmp_path: Path, words: Path) -> None:
    final = tmp_path / "checkpoint-7"
    save(final, causal("llama"), words)
    tensors = load_file(final / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, final / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MachineError, match="does not match this model"):
        load_weights(causal("llama"), final)


@pytest.mark.parametrize("lost", [True, False])
def test_x03_adapters_that_are_missing_or_unknown_are_refused(
    tmp_path: Path, base: Path, words: Path, lost: bool
) -> None:
    final = tmp_path / "checkpoint-7"
    save(final, adapted(base), words)
    tensors = load_file(final / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    tensors[name + "x"] = tensors[name].clone()
    if lost:
        del tensors[name], tensors[name + "x"]
    save_file(tensors, final / "adapter_model.safetensors")
    with pytest.raises(MachineError, match="does not match this model") as refused:
        load_weights(adapted(base), final)
    assert name in refused.value.have


def test_a_folder_without_moments_has_none(tmp_path: Path) -> None:
    assert load_moments(tmp_path) == {}


def test_parameters_are_read_as_they_are_stored(base: Path) -> None:
    model = from_folder(base, trust_remote_code=False)
    found = stored_parameters(base, trainable(model))
    assert found is not None
    assert all(torch.equal(found[name], p) for name, p in trainable(model).items())
    name, p = next(iter(trainable(model).items()))
    assert stored_parameters(base, {f"{name}.lora_A": p}) is None
    assert stored_parameters(base, {name: torch.nn.Parameter(p[:1])}) is None
