"""A transformers folder computes what the model computes; a folder that does not is caught."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.folders import DOCUMENT_END, TURN_END, adapter_folder, change, model_folder
from tests.export.peft_models import adapted, base_folder

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.export.hf import model_folder as target_module
from headway.export.hf.model_folder import ModelFolder
from headway.export.hf.reload import reload
from headway.export.request import ExportOptions, ExportRequest, ExportVerification
from headway.export.source import ExportSource, open_source

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that opens the export costs seconds; `test_reload.py` starts one."""

    def ask(_: str, request: Any, *__: object, **___: object) -> Any:
        return reload(request, Pulse())

    monkeypatch.setattr(target_module, "ask_child", ask)


def opened(folder: Path, scratch: Path, **options: Any) -> tuple[ExportSource, ExportOptions]:
    scratch.mkdir()
    asked = ExportOptions("hf", **({"quantize": "f32", "name": "small"} | options))
    return open_source(ExportRequest(str(folder), "out", asked), scratch, Pulse()), asked


def exported(
    folder: Path, out: Path, edit: Callable[[Path], object] = lambda _: None, **options: Any
) -> ExportVerification:
    """Write, change what was written, and compare."""
    source, asked = opened(folder, out.with_name(f"{out.name}-scratch"), **options)
    out.mkdir()
    target = ModelFolder()
    written = target.write(source, asked, out, Pulse())
    assert set(written.files) == {path.name for path in out.iterdir()}
    assert sum(path.stat().st_size for path in out.iterdir()) <= target.num_bytes(source, asked)
    edit(out)
    return target.verify(source, asked, out, Pulse())


def the_failed(found: ExportVerification) -> list[str]:
    return [check.what for check in found.checks if not check.passed]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return base_folder(tmp_path / "base")


@pytest.fixture
def adapters(tmp_path: Path, base: Path) -> Path:
    return adapted(base, tmp_path / "adapter")


# -- right ones


@pytest.mark.parametrize("quantize", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("kind", ["whole", "adapters"])
def test_x03_what_is_written_opens_as_what_was_trained(
    tmp_path: Path, base: Path, adapters: Path, kind: str, quantize: str
) -> None:
    folder = base if kind == "whole" else adapters
    found = exported(folder, tmp_path / "out", quantize=quantize)
    assert found.failure is None, the_failed(found)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[quantize]
    assert config["dtype"] == str(dtype).removeprefix("torch.")
    assert {t.dtype for t in load_file(tmp_path / "out" / WEIGHTS).values()} == {dtype}
    if quantize == "f32":
        assert max(check.measured or 0 for check in found.checks) < 2e-5


def test_adapters_alone_are_the_file_itself_and_their_base_by_its_place(
    tmp_path: Path, base: Path, adapters: Path
) -> None:
    found = exported(adapters, tmp_path / "out", adapter_only=True)
    assert found.failure is None
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (adapters / name).read_bytes()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_whole_model_has_no_adapters_to_export_alone(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UsageError) as refused:
        exported(base, tmp_path / "out", adapter_only=True)
    assert refused.value.cause is Cause.CONTRADICTION


def test_t07_every_end_of_turn_token_is_in_the_generation_config(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    change(folder / "generation_config.json", eos_token_id=DOCUMENT_END)
    change(folder / "config.json", eos_token_id=DOCUMENT_END)
    assert exported(folder, tmp_path / "out").failure is None
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert sorted(generation["eos_token_id"]) == [DOCUMENT_END, TURN_END]


def test_fresh_adapters_are_exported_and_said_to_change_nothing(tmp_path: Path, base: Path) -> None:
    fresh = adapter_folder(tmp_path / "fresh", base)
    file = fresh / "adapter_model.safetensors"
    zero = {n: t * 0 if "lora_B" in n else t for n, t in load_file(file).items()}
    save_file(zero, file)
    found = exported(fresh, tmp_path / "out")
    assert found.failure is None
    assert [finding.cause for finding in found.findings] == [Cause.NOT_LEARNED]


def test_the_card_has_what_is_known(tmp_path: Path, adapters: Path) -> None:
    exported(adapters, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# small" in card
    assert "merged in fp32 into base" in card
    assert "`<|im_end|>` (2)" in card
    assert "Not trained by Headway" in card


# -- mutants


def _weights(out: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(out / WEIGHTS)
    edit(tensors)
    save_file({n: t.contiguous() for n, t in tensors.items()}, out / WEIGHTS, {"format": "pt"})


def _transpose(tensors: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].t()


def _merged_in_bf16(tensors: dict[str, torch.Tensor]) -> None:
    for name, one in tensors.items():
        tensors[name] = one.bfloat16().float()


def _two_embeddings(out: Path) -> None:
    _weights(out, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 1.01}))
    change(out / "config.json", tie_word_embeddings=False)


def _another_split(out: Path) -> None:
    path = out / "tokenizer.json"
    words = json.loads(path.read_text())
    words["pre_tokenizer"]["add_prefix_space"] = True
    path.write_text(json.dumps(words))


MUTANTS: dict[str, Callable[[Path], object]] = {
    "merge in bf16": lambda out: _weights(out, _merged_in_bf16),
    "a tensor transposed": lambda out: _weights(out, _transpose),
    "the base again": lambda out: None,
    "two embeddings": _two_embeddings,
    "no template": lambda out: (out / "chat_template.jinja").write_text("{{ 'Hi' }}"),
    "end token missing": lambda out: change(
        out / "generation_config.json", eos_token_id=DOCUMENT_END
    ),
    "another split": _another_split,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_x02_a_mutant_is_caught(tmp_path: Path, base: Path, adapters: Path, mutant: str) -> None:
    edit = MUTANTS[mutant]
    if mutant == "the base again":
        stored = load_file(base / WEIGHTS)

        def edit(out: Path) -> None:
            _weights(out, lambda tensors: tensors.update(stored))

    found = exported(adapters, tmp_path / "out", edit)
    assert found.failure is not None
    assert found.failure.cause is Cause.EXPORT_DIFFERS
    assert found.failure.remedies


def test_x03_a_tensor_that_is_missing_is_refused_by_the_fresh_process(
    tmp_path: Path, adapters: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        exported(adapters, tmp_path / "out", lambda out: _weights(out, lambda t: t.popitem()))
    assert refused.value.cause is Cause.WEIGHTS_MISSING
