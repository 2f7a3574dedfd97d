"""Every architecture in every number format computes in llama.cpp what it computes in PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.export.models import (
    ARCHITECTURES,
    chat_loss,
    fine_tuned,
    model_folder,
    source_of,
)

from headway.base.errors import BrokenContract, Cause, UsageError
from headway.base.pulse import Phase, Pulse
from headway.export.export import export
from headway.export.gguf.plan import file_name, plan_file
from headway.export.gguf.write import write_gguf
from headway.export.request import (
    FORMATS,
    ExportOptions,
    ExportRequest,
    ExportResult,
    ExportVerification,
)
from headway.export.source import ExportSource
from headway.export.targets import gguf
from headway.export.targets.gguf import GgufTarget
from headway.export.verify.checks import LIMITS
from headway.model.gguf.container import read_gguf
from headway.model.gguf.convert import gguf_folder
from headway.model.load import from_folder


def written(folder: Path, place: Path, quantize: str = "f16") -> tuple[Path, ExportSource]:
    """Write a file."""
    source = source_of(folder, place / "scratch")
    given = ExportOptions("gguf", quantize=quantize, name=folder.name)
    files = GgufTarget().write(source, given, place, Pulse()).files
    assert files == (file_name(given),)
    return place / file_name(given), source


def compared(folder: Path, place: Path, quantize: str) -> tuple[Path, ExportVerification]:
    """Write a file, and compare it."""
    path, source = written(folder, place, quantize)
    given = ExportOptions("gguf", quantize=quantize, name=folder.name)
    found = GgufTarget().verify(source, given, place, Pulse())
    assert found.failure is None, found.failure
    assert len(found.checks) >= 8
    assert all(check.passed for check in found.checks)
    return path, found


TRAINED = ("fresh", "full", "lora")
BACK = ("llama", "mistral", "qwen2", "qwen3")  # that Headway reads, too
# Each model once; each format at least twice.
TABLE = [
    (kind, trained, FORMATS[(2 * row + 3 * column) % len(FORMATS)])
    for row, kind in enumerate(ARCHITECTURES)
    for column, trained in enumerate(TRAINED)
]
PRODUCT = [
    (kind, trained, quantize)
    for kind in ARCHITECTURES
    for trained in TRAINED
    for quantize in FORMATS
    if (kind, trained, quantize) not in TABLE
]


class Models:
    """Models of all kinds, each made when it is first needed."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def folder(self, kind: str, trained: str) -> Path:
        folder = self.place / f"{kind}-{trained}"
        if folder.exists():
            return folder
        if trained == "fresh":
            return model_folder(folder, kind)
        return fine_tuned(folder, self.folder(kind, "fresh"), lora=trained == "lora")


@pytest.fixture(scope="module")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def there_and_back(models: Models, kind: str, trained: str, quantize: str, place: Path) -> None:
    """Export a model, compare it in llama.cpp, hear its answer there, and read the file."""
    folder = models.folder(kind, trained)
    path, found = compared(folder, place, quantize)
    if trained != "fresh":
        (reply,) = (one for one in found.checks if one.what.startswith("an answer in a chat"))
        assert (reply.what, reply.detail[:6]) == ("an answer in a chat stops by itself", "Paris.")
    if kind in BACK:
        source = source_of(folder, place / "again")
        with torch.no_grad():
            before = float(chat_loss(source.load_model(), source.tokenizer))
            back: Any = from_folder(gguf_folder(path, Pulse()), trust_remote_code=False).eval()
            after = float(chat_loss(back, source.tokenizer))
        assert after == pytest.approx(before, abs=LIMITS[quantize])


@pytest.mark.parametrize(("kind", "trained", "quantize"), TABLE)
def test_a_model_in_a_format(
    kind: str, trained: str, quantize: str, small_models: Models, tmp_path: Path
) -> None:
    there_and_back(small_models, kind, trained, quantize, tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize(("kind", "trained", "quantize"), PRODUCT)
def test_every_model_in_every_format(
    kind: str, trained: str, quantize: str, small_models: Models, tmp_path: Path
) -> None:
    there_and_back(small_models, kind, trained, quantize, tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
        },
        {"num_key_value_heads": 4, "num_attention_heads": 4},
        {"rows": 512},
    ],
    ids=lambda one: next(iter(one)),
)
def test_variants_of_llama(config: dict[str, Any], tmp_path: Path) -> None:
    compared(model_folder(tmp_path / "llama", **config), tmp_path, "f32")


def whole_export(folder: Path, output: Path) -> ExportResult:
    request = ExportRequest(str(folder), str(output), ExportOptions("gguf", name="mill"))
    return export(request, Pulse())


def test_what_passed_is_beside_the_file(tmp_path: Path) -> None:
    result = whole_export(model_folder(tmp_path / "model"), tmp_path / "out")
    assert (tmp_path / "out" / "mill-f16.gguf").is_file()
    note = json.loads((tmp_path / "out" / "export.json").read_bytes())
    assert "llama.cpp" in note["verification"]["judge"]
    checks = {one["what"]: one for one in note["verification"]["checks"]}
    assert all(one["passed"] for one in checks.values())
    assert checks["top-5 log-probabilities at 64 positions"]["measured"] < 2e-3
    assert result.verification is not None
    assert result.verification.failure is None


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a line of the writer were gone: the chat template."""

    def without_template(path: Path, name: str, metadata: dict[str, Any], *others: Any) -> None:
        kept = {key: value for key, value in metadata.items() if "template" not in key}
        write_gguf(path, name, kept, *others)

    monkeypatch.setattr(gguf, "write_gguf", without_template)
    with pytest.raises(BrokenContract) as caught:
        whole_export(model_folder(tmp_path / "model"), tmp_path / "out")
    assert caught.value.cause is Cause.EXPORT_DIFFERS
    assert "the file has none" in caught.value.have
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mistral", "mistral", sliding_window=200)
    path, _ = compared(folder, tmp_path, "f32")
    assert read_gguf(path).metadata["llama.context_length"] == 200
    source = source_of(folder, tmp_path / "again")
    (finding,) = plan_file(source, ExportOptions("gguf")).architecture.findings
    assert "200" in finding.what


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_there_and_back_the_weights_are_the_same_bits(kind: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / kind, kind)
    path, _ = written(folder, tmp_path, "f32")
    back = gguf_folder(path, Pulse())
    ours = from_folder(folder, trust_remote_code=False).state_dict()
    theirs = from_folder(back, trust_remote_code=False).state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert json.loads((back / "generation_config.json").read_bytes())["eos_token_id"]


def test_its_progress_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    pulse = Pulse()
    monkeypatch.setattr(
        pulse, "progress", lambda done: seen.append((pulse._phase, done, pulse.total))
    )
    source = source_of(model_folder(tmp_path / "model"), tmp_path / "scratch")
    options = ExportOptions("gguf", quantize="q8_0")
    GgufTarget().write(source, options, tmp_path, pulse)
    phases, done, totals = zip(*seen, strict=True)
    assert set(phases) == {Phase.EXPORTING}
    assert sorted(done) == list(done)
    assert done[-1] == totals[-1] > 0
    size = (tmp_path / file_name(options)).stat().st_size
    assert size <= GgufTarget().num_bytes(source, options)


@pytest.mark.parametrize(
    ("kind", "config", "have"),
    [
        ("llama", {"hidden_act": "gelu"}, "the activation gelu in a llama"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rotary embeddings scaled by dynamic",
        ),
        ("gemma3_text", {"query_pre_attn_scalar": 32}, "query_pre_attn_scalar 32"),
        (
            "gemma3_text",
            {"layer_types": ["full_attention"] * 7},
            "another order of layers that see everything",
        ),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    kind: str, config: dict[str, Any], have: str, tmp_path: Path
) -> None:
    source = source_of(model_folder(tmp_path / "model", kind, **config), tmp_path / "scratch")
    with pytest.raises(UsageError) as caught:
        GgufTarget().num_bytes(source, ExportOptions("gguf"))
    assert caught.value.cause is Cause.MODEL_UNSUPPORTED
    assert caught.value.have == have
    assert caught.value.remedies[0].do == (
        f"python convert_hf_to_gguf.py {tmp_path / 'model'} --outfile model.gguf"
    )


def test_another_architecture_is_refused_with_the_tool_that_can(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_bytes()) | {"model_type": "olmo2"}
    (folder / "config.json").write_text(json.dumps(config))
    source = source_of(folder, tmp_path / "scratch")
    with pytest.raises(UsageError) as caught:
        GgufTarget().num_bytes(source, ExportOptions("gguf"))
    assert caught.value.have == "the architecture olmo2"


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = model_folder(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = 70000
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError) as caught:
        written(folder, tmp_path, "f16")
    assert "model.layers.1.mlp.up_proj.weight" in caught.value.have
    assert caught.value.need == "--quantize bf16, or f32"
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match="cannot be written as GGUF"):
        written(folder, tmp_path, "f32")
