"""Where the number format is why probabilities differ, and where something else is."""

from pathlib import Path

import pytest
import torch
from tests.export.models import adapters, model_folder, source_of

from headway.base.pulse import Pulse
from headway.export.gguf.plan import file_name, plan_file
from headway.export.gguf.write import write_gguf
from headway.export.request import ExportOptions
from headway.export.source import ExportSource
from headway.export.targets.gguf import GgufTarget
from headway.export.verify import checks
from headway.export.verify.checks import Difference
from headway.export.verify.rounding import AGAIN, MORE, put_weights, rounds
from headway.export.verify.verify import FileVerdict, verify_gguf
from headway.export.verify.weights import WeightProblem
from headway.model.gguf.layout import tensor_layout

FARTHEST = "the farthest of them"
Q8 = ExportOptions("gguf", quantize="q8_0")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    place = tmp_path_factory.mktemp("model")
    folder = adapters(place / "lora", model_folder(place / "plain"))
    return source_of(folder, place / "scratch", quantize="q8_0")


@pytest.fixture(scope="module")
def file(lora: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("file")
    GgufTarget().write(lora, Q8, place, Pulse())
    return place / file_name(Q8)


def judged(file: Path, source: ExportSource) -> FileVerdict:
    return verify_gguf(file, source, plan_file(source, Q8), "q8_0", Pulse())


@pytest.fixture(scope="module")
def farthest(lora: ExportSource, file: Path) -> float:
    """The difference that 8 bits make in this model, at a single token."""
    verification = judged(file, lora).verification
    assert verification.failure is None
    measured = {one.what: one.measured for one in verification.checks}
    assert AGAIN not in measured
    found = measured[FARTHEST]
    assert found
    return found


def test_a_sensitive_model_is_exported_with_a_warning(
    file: Path, lora: ExportSource, farthest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 0.7 * farthest / 20
    monkeypatch.setitem(checks.LIMITS, "q8_0", limit)
    found = judged(file, lora)
    assert found.verification.failure is None
    (finding,) = (one for one in found.verification.findings if "more than usual" in one.what)
    assert finding.remedies[0].do == "--quantize f16"
    by_what = {one.what: one for one in found.verification.checks}
    assert by_what[FARTHEST].limit == pytest.approx(MORE * 0.7 * farthest)
    assert 0 < (by_what[AGAIN].measured or 0) < limit
    assert by_what["weights, merged here once more"].passed


def test_a_format_that_changes_the_answers_is_refused(
    file: Path, lora: ExportSource, farthest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checks.LIMITS, "q8_0", 0.9 * farthest / 20 / MORE)
    found = judged(file, lora)
    assert found.differences == (Difference.ROUNDING,)
    failure = found.verification.failure
    assert failure is not None
    assert f"{FARTHEST}: {farthest:.3g}, limit" in failure.have
    assert failure.remedies[0].do.startswith("headway export ")
    assert failure.remedies[0].do.endswith("--quantize f32")


def test_wrong_weights_are_no_rounding(lora: ExportSource, tmp_path: Path) -> None:
    plain = source_of(lora.whole, tmp_path / "scratch", quantize="q8_0")
    GgufTarget().write(plain, Q8, tmp_path, Pulse())  # without the adapters
    found = judged(tmp_path / file_name(Q8), lora)
    assert found.weight is not None
    assert found.weight.problem is WeightProblem.OTHER
    assert Difference.ROUNDING not in found.differences


def test_another_computation_is_no_rounding(lora: ExportSource, tmp_path: Path) -> None:
    """Right weights, and another rotary frequency."""
    planned = plan_file(lora, Q8)
    assert planned.architecture.metadata["llama.rope.freq_base"] == 10000.0
    write_gguf(
        tmp_path / "wrong.gguf",
        planned.architecture.name,
        {**planned.metadata, "llama.rope.freq_base": 100.0},
        planned.architecture.tensors,
        planned.tensors,
        lora.read_tensors(),
        lambda _: None,
    )
    assert Difference.PROBABILITIES in judged(tmp_path / "wrong.gguf", lora).differences


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_a_model_gets_the_weights_of_a_file(model_type: str, tmp_path: Path) -> None:
    source = source_of(model_folder(tmp_path / "a", model_type), tmp_path / "s", quantize="f32")
    options = ExportOptions("gguf", quantize="f32")
    GgufTarget().write(source, options, tmp_path, Pulse())
    model, other = source.load_model(), source.load_model()
    for weight in other.state_dict().values():
        weight.zero_()
    architecture = plan_file(source, options).architecture
    layout = tensor_layout(architecture.config, architecture.name)
    put_weights(tmp_path / file_name(options), layout, other)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_only_f32_rounds_nothing() -> None:
    assert [one for one in checks.LIMITS if not rounds(one)] == ["f32"]
