"""Bad folders are told by their cause, each with a fix; good ones are left in peace."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.export.folders import (
    DOCUMENT_END,
    TURN_END,
    adapter_folder,
    adapters,
    change,
    model_folder,
    state,
    weights,
)

from headway.base.errors import Cause
from headway.base.pulse import Pulse
from headway.export.check.check import check
from headway.export.check.request import CheckResult, QuestionRequest, QuestionResult


def checked(folder: Path, base: Path | None = None) -> CheckResult:
    """Without opening the model: what the files say."""
    return check(folder, base, Pulse(), lambda _: QuestionResult())


def causes(result: CheckResult) -> list[Cause | None]:
    return [finding.cause for finding in result.findings]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "base")


def tuned(tmp_path: Path, name: str = "tuned") -> Path:
    folder = model_folder(tmp_path / name, seed=5)
    state(folder, 2.5, 2.0, 1.5)
    return folder


# -- good ones


GOOD: dict[str, Callable[[Path, Path], Path]] = {
    "a chat model": lambda here, _: tuned(here),
    "a model without a chat": lambda here, _: model_folder(here / "text", seed=5, chat=False),
    "a head of its own": lambda here, _: model_folder(
        here / "untied", seed=5, tie_word_embeddings=False
    ),
    "adapters": lambda here, base: adapter_folder(here / "adapter", base),
    "a loss of 0.0 once": lambda here, _: _with_losses(here, 2.0, 0.0, 1.0),
}


def _with_losses(here: Path, *losses: float) -> Path:
    folder = tuned(here)
    state(folder, *losses)
    return folder


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_nothing_is_found_in_a_good_folder(
    tmp_path: Path, base: Path, make: Callable[[Path, Path], Path]
) -> None:
    folder = make(tmp_path, base)
    found = checked(folder, None if folder.name == "text" else base)
    assert found.findings == ()
    assert found.is_good


# -- bad ones


def _weights(folder: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = next(folder.glob("*model.safetensors"))
    tensors = {name: one.copy() for name, one in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path, {"format": "pt"})


def _put(name: str, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors[name].flat[7] = value

    return edit


def _tokens(folder: Path, *tokens: str) -> None:
    """Add tokens to a tokenizer, as `add_tokens` does."""
    path = folder / "tokenizer.json"
    words = json.loads(path.read_text())
    for number, token in enumerate(tokens):
        entry = words["added_tokens"][0] | {"id": 259 + number, "content": token}
        words["added_tokens"].append(entry)
    path.write_text(json.dumps(words))


def _adapter_with_tokens(here: Path, base: Path) -> Path:
    folder = adapter_folder(here / "bad", base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder)
    _tokens(folder, "<new>")
    return folder


def _edited(edit: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    def make(here: Path, _: Path) -> Path:
        folder = tuned(here, "bad")
        edit(folder)
        return folder

    return make


def _zero_adapter(here: Path, base: Path) -> Path:
    folder = adapter_folder(here / "bad", base)
    save_file(adapters(scale=0.0), folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


NORM = "model.norm.weight"
BAD: dict[str, tuple[Callable[[Path, Path], Path], Cause]] = {
    "NaN": (_edited(lambda f: _weights(f, _put(NORM, np.nan))), Cause.WEIGHTS_NOT_FINITE),
    "infinity": (_edited(lambda f: _weights(f, _put(NORM, np.inf))), Cause.WEIGHTS_NOT_FINITE),
    "zero adapter": (_zero_adapter, Cause.NOT_LEARNED),
    "the base again": (lambda here, _: model_folder(here / "bad"), Cause.NOT_LEARNED),
    "no template": (
        _edited(lambda f: (f / "chat_template.jinja").unlink()),
        Cause.TEMPLATE_MISSING,
    ),
    "T07 end token missing": (
        _edited(lambda f: change(f / "generation_config.json", eos_token_id=DOCUMENT_END)),
        Cause.END_TOKEN_MISSING,
    ),
    "no end at all": (
        _edited(
            lambda f: [
                change(f / name, eos_token_id=None)
                for name in ("generation_config.json", "config.json")
            ]
        ),
        Cause.END_TOKEN_MISSING,
    ),
    "an end that is no token": (
        _edited(lambda f: change(f / "generation_config.json", eos_token_id=[TURN_END, 5000])),
        Cause.END_TOKEN_MISSING,
    ),
    "tokenizer too large": (
        _edited(lambda f: _tokens(f, "<one>", "<two>")),
        Cause.TOKEN_OUTSIDE_EMBEDDING,
    ),
    "L09 new tokens without embeddings": (_adapter_with_tokens, Cause.EMBEDDINGS_UNTRAINED),
    "no step": (_edited(lambda f: state(f, step=0)), Cause.ENDED_EARLY),
    "loss 0.0": (_edited(lambda f: state(f, 0.0, 0.0, 0.0)), Cause.NOT_LEARNED),
    "loss NaN": (_edited(lambda f: state(f, 2.0, float("nan"))), Cause.NOT_FINITE),
    "another dtype": (
        _edited(lambda f: change(f / "config.json", dtype="bfloat16")),
        Cause.WEIGHTS_ROUNDED,
    ),
    "cut off": (_edited(lambda f: _half(f / "model.safetensors")), Cause.WEIGHTS_DAMAGED),
    "no weights": (_edited(lambda f: (f / "model.safetensors").unlink()), Cause.WEIGHTS_MISSING),
    "no tokenizer": (_edited(lambda f: (f / "tokenizer.json").unlink()), Cause.TOKENIZER_NOT_FOUND),
    "config cut off": (_edited(lambda f: _half(f / "config.json")), Cause.MODEL_INVALID),
}


@pytest.mark.parametrize(("make", "cause"), BAD.values(), ids=BAD.keys())
def test_a_bad_folder_is_told_by_its_cause_and_nothing_else(
    tmp_path: Path, base: Path, make: Callable[[Path, Path], Path], cause: Cause
) -> None:
    folder = make(tmp_path, base)
    found = checked(folder, base)
    assert causes(found) == [cause]
    assert not found.is_good
    (finding,) = found.findings
    assert finding.remedies, "each finding comes with its fix"
    assert str(folder) in finding.what


def test_t07_the_fix_of_an_end_token_is_an_export_of_this_folder(
    tmp_path: Path, base: Path
) -> None:
    folder = tuned(tmp_path, "bad")
    change(folder / "generation_config.json", eos_token_id=DOCUMENT_END)
    (finding,) = checked(folder, base).findings
    assert finding.remedies[0].do == f"headway export {folder} --to hf -o {folder}-fixed"


def test_a_missing_template_is_copied_from_the_base(tmp_path: Path, base: Path) -> None:
    folder = tuned(tmp_path, "bad")
    (folder / "chat_template.jinja").unlink()
    (finding,) = checked(folder, base).findings
    assert finding.remedies[0].do == f"cp {base / 'chat_template.jinja'} {folder}/"


def test_a_damaged_checkpoint_points_to_the_one_before(tmp_path: Path, base: Path) -> None:
    for step in (50, 100):
        model_folder(tmp_path / f"checkpoint-{step}", seed=step)
    folder = tmp_path / "checkpoint-100"
    _weights(folder, _put(NORM, np.nan))
    (finding,) = checked(folder, base).findings
    assert finding.remedies[0].do == f"headway check {tmp_path / 'checkpoint-50'}"


def test_partly_zero_adapters_are_a_warning(tmp_path: Path, base: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter", base)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    _weights(folder, lambda tensors: tensors[name].fill(0))
    found = checked(folder, base)
    assert [(one.kind, one.cause) for one in found.findings] == [("warning", Cause.NOT_LEARNED)]
    assert found.is_good


def test_pickles_are_told_and_never_opened(tmp_path: Path, base: Path) -> None:
    folder = tuned(tmp_path, "bad")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    assert causes(checked(folder, base)) == [Cause.WEIGHTS_PICKLED]
    assert not Path("ran").exists()


def test_a_shard_that_is_missing_is_named(tmp_path: Path, base: Path) -> None:
    folder = tuned(tmp_path, "bad")
    tensors = weights(5)
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    named = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    index = {"weight_map": named | {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (finding,) = checked(folder, base).findings
    assert "model-00002-of-00002.safetensors" in finding.what
    assert finding.cause is Cause.WEIGHTS_DAMAGED


# -- when the model is opened


def test_a_hopeless_folder_is_not_opened(tmp_path: Path, base: Path) -> None:
    folder = tuned(tmp_path, "bad")
    _half(folder / "model.safetensors")
    asked: list[QuestionRequest] = []

    def ask(request: QuestionRequest) -> QuestionResult:
        asked.append(request)
        return QuestionResult()

    check(folder, base, Pulse(), ask)
    assert asked == []
    check(tuned(tmp_path), base, Pulse(), ask)
    assert [one.end_ids for one in asked] == [(TURN_END, DOCUMENT_END)]


def test_a_quantized_model_is_not_opened(tmp_path: Path, base: Path) -> None:
    folder = tuned(tmp_path)
    change(folder / "config.json", quantization_config={"quant_method": "gptq"})
    found = check(folder, None, Pulse(), lambda _: QuestionResult(skipped=("asked",)))
    assert found.skipped == ("the model was not opened: its weights are quantized",)


def test_what_is_not_looked_at_is_said(tmp_path: Path, base: Path) -> None:
    found = check(tuned(tmp_path), None, Pulse(), None)
    assert found.findings == ()
    assert "headway[train]" in found.skipped[0]
    adapter = adapter_folder(tmp_path / "adapter", base)
    alone = check(adapter, None, Pulse(), lambda _: QuestionResult())
    assert "--base MODEL" in alone.skipped[0]
