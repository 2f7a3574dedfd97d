"""A GGUF file becomes a model folder once, with the same weights, tokens and ends."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from tests.model.gguf.gguf_files import CHATML, small_model, write_gguf

from headway.base.errors import Cause, MachineError, Refusal, UsageError
from headway.base.host.packages import missing_package
from headway.base.pulse import Phase, Pulse
from headway.data.examples.tokenizer import TURN_END, load
from headway.model.gguf import convert
from headway.model.gguf.convert import gguf_folder
from headway.model.load import from_folder

TYPES = {
    "llama": {},
    "llama biased": {"attention_bias": True, "mlp_bias": True},
    "llama tied": {"tie_word_embeddings": True},
    "llama, as many keys": {"num_key_value_heads": 4, "num_attention_heads": 4},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "headway" / "models"


def folder_of(path: Path) -> Path:
    return gguf_folder(path, Pulse())


def refused(path: Path) -> Refusal:
    with pytest.raises(UsageError) as caught:
        folder_of(path)
    assert path.name in caught.value.what
    assert caught.value.have
    assert caught.value.need
    assert caught.value.remedies
    return caught.value


@pytest.mark.parametrize("kind", TYPES)
def test_the_weights_are_the_same_bits(kind: str, tmp_path: Path) -> None:
    model = small_model(kind.split()[0].rstrip(","), **TYPES[kind])
    folder = folder_of(write_gguf(tmp_path / "a.gguf", model))
    loaded: Any = from_folder(folder, trust_remote_code=False)
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    ids = torch.arange(1, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("kind", "stored", "error"),
    [
        *(("F16", "float16", 1e-3), ("Q8_0", "float32", 2e-2), ("Q4_1", "float32", 0.2)),
        ("Q5_0", "float32", 0.1),
    ],
)
def test_half_precision_stays_and_quantized_weights_become_fp32(
    kind: str, stored: str, error: float, tmp_path: Path
) -> None:
    model = small_model()
    folder = folder_of(write_gguf(tmp_path / "a.gguf", model, kind=kind))
    name = "model.layers.1.self_attn.q_proj.weight"
    found = load_file(folder / "model.safetensors")
    assert found[name].dtype == stored
    assert found["model.norm.weight"].dtype == "float32"
    theirs = model.state_dict()[name].numpy()
    assert 0 < abs(found[name].astype("float32") - theirs).max() < error


def test_bf16_stays(tmp_path: Path) -> None:
    model = small_model()
    folder = folder_of(write_gguf(tmp_path / "a.gguf", model, kind="BF16"))
    loaded = from_folder(folder, trust_remote_code=False).state_dict()
    name = "model.layers.1.self_attn.k_proj.weight"
    assert torch.equal(loaded[name], model.state_dict()[name].bfloat16().float())
    assert (folder / "model.safetensors").stat().st_size < 500_000


def test_the_folder_has_its_tokenizer_template_and_ends(tmp_path: Path) -> None:
    folder = folder_of(write_gguf(tmp_path / "a.gguf", small_model()))
    words = load(folder)
    assert words.chat_template == CHATML
    assert words.end_token == TURN_END
    assert words.decode(words.encode(["cab"])[0]) == "cab"
    assert len(words.encode(["cab"])[0]) == 2
    generation = json.loads((folder / "generation_config.json").read_bytes())
    assert generation["eos_token_id"] == words.end_id
    assert json.loads((folder / "config.json").read_bytes())["eos_token_id"] == words.end_id


def test_the_same_file_is_converted_once(tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())
    folder = folder_of(path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(path, tmp_path / "elsewhere" / "b.gguf")
    assert folder_of(copy) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    other = folder_of(write_gguf(tmp_path / "c.gguf", small_model(num_hidden_layers=1)))
    assert sorted(cache.iterdir()) == sorted([folder, other])


def test_a_damaged_folder_is_made_again(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())
    weights = folder_of(path) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert folder_of(path) == weights.parent
    assert weights.read_bytes() == whole


def test_what_a_killed_process_left_is_deleted(tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())
    folder = folder_of(path)
    shutil.rmtree(folder)
    old, new = (cache / f".{folder.name}.{name}" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir()
    os.utime(old, (0, 0))
    folder_of(path)
    assert sorted(cache.iterdir()) == sorted([folder, new])


def test_its_progress_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    pulse = Pulse()
    monkeypatch.setattr(
        pulse, "progress", lambda done: seen.append((pulse._phase, done, pulse.total))
    )
    folder = gguf_folder(write_gguf(tmp_path / "a.gguf", small_model()), pulse)
    phases, done, totals = zip(*seen, strict=True)
    assert set(phases) == {Phase.CONVERTING_MODEL}
    assert sorted(done) == list(done)
    assert done[-1] == totals[-1] > 0
    assert (folder / "model.safetensors").stat().st_size > totals[-1]


def test_a_disk_that_is_too_small_is_told_before_writing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError) as caught:
        folder_of(path)
    assert caught.value.cause is Cause.DISK_FULL
    assert caught.value.remedies[0].do == "export XDG_CACHE_HOME=DIR"
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file")
    with pytest.raises(MachineError) as caught:
        folder_of(path)
    assert caught.value.remedies[0].do == "export XDG_CACHE_HOME=DIR"


# ---- files that are damaged, or of another kind ------------------------------------------------


def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "a.gguf", small_model(num_hidden_layers=1)).read_bytes()
    path = tmp_path / "short.gguf"
    for num in [0, 3, 4, 7, *range(8, len(whole) - 40, 997), len(whole) - 40]:
        path.write_bytes(whole[:num])
        assert refused(path).cause is Cause.MODEL_INVALID, num


def test_a_file_with_other_bytes_converts_or_is_refused(tmp_path: Path) -> None:
    """Bytes of the header; what is done to weights shows in their values only."""
    whole = write_gguf(tmp_path / "a.gguf", small_model(num_hidden_layers=1)).read_bytes()
    path, draws = tmp_path / "odd.gguf", Random(0)
    said: list[str] = []
    for _ in range(150):
        odd = bytearray(whole)
        for _ in range(draws.choice((1, 1, 8))):
            odd[draws.randrange(8000)] = draws.choice((0, 1, 255, draws.randrange(256)))
        path.write_bytes(odd)
        with contextlib.suppress(UsageError):
            folder_of(path)
            continue
        said.append(refused(path).what)
    assert len(said) > 50


def test_a_missing_package_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model())

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="gguf")

    monkeypatch.setattr(convert.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError) as caught:
        folder_of(path)
    refusal = missing_package(caught.value)  # as where the process ends
    assert refusal is not None
    assert refusal.remedies[0].do == "pip install 'headway[export]'"


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"general.architecture": "gemma3"}, "the architecture 'gemma3'"),
        ({"tokenizer.ggml.pre": "tekken"}, "the pre-tokenizer 'tekken'"),
        ({"tokenizer.ggml.pre": None}, "no pre-tokenizer"),
        ({"tokenizer.ggml.model": "llama"}, "a tokenizer of the kind 'llama'"),
        ({"llama.expert_count": 8}, "llama.expert_count 8"),
        ({"split.count": 3}, "one of 3 parts of a model"),
    ],
)
def test_what_is_not_supported_is_named(changes: dict[str, Any], have: str, tmp_path: Path) -> None:
    refusal = refused(write_gguf(tmp_path / "a.gguf", small_model(), metadata=changes))
    assert refusal.cause is Cause.MODEL_UNSUPPORTED
    assert refusal.have == have
    assert [remedy.do for remedy in refusal.remedies] == ["--model DIR", "--preset tiny"]
