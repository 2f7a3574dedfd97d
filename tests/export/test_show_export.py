"""What an export prints: where it is, what it came from, and how it was compared."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.export.test_request import RESULT

from headway.export.request import ExportCheck, ExportOptions, ExportResult, ExportVerification
from headway.export.show_export import export_lines

CHECKS = (
    ExportCheck("logits at 120 positions", True, 3.1e-7, 2e-5),
    ExportCheck("loss of the probe", True, 1e-8, 2e-5),
    ExportCheck("rendered chat", True),
)


@pytest.fixture
def result(tmp_path: Path) -> ExportResult:
    (tmp_path / "config.json").write_bytes(bytes(2000))
    compared = ExportVerification("transformers 5.23 in a fresh process", CHECKS, seconds=3.0)
    return replace(RESULT, output=str(tmp_path), verification=compared, findings=())


def test_it_ends_with_the_same_answers_and_the_numbers(result: ExportResult) -> None:
    lines = export_lines(result, 200)
    assert lines[-2] == (
        "same answers in transformers: logits at 120 positions 3.1e-07 · loss of the probe 1e-08"
    )
    assert lines[-1] == f"  headway check {result.output}"
    text = "\n".join(lines)
    assert "merged in fp32 into base (weights cdcdcdcdcdcd)" in text
    assert "from bitsandbytes nf4" in text
    assert "<|im_end|> (2)" in text
    assert "rendered chat: same" in text


def test_without_a_comparison_it_says_so(result: ExportResult) -> None:
    options = ExportOptions("gguf", "q8_0")
    alone = replace(result, verification=None, options=options, base=None, dequantized="")
    lines = export_lines(replace(alone, findings=RESULT.findings), 80)
    assert lines[-1] == "not compared in llama.cpp"
    assert "warning: w" in lines
    assert not any("adapters" in line for line in lines)


def test_an_export_for_ollama_is_compared_in_llama_cpp_and_says_so(result: ExportResult) -> None:
    lines = export_lines(replace(result, options=ExportOptions("ollama", "q8_0")), 200)
    assert lines[-1].startswith("same answers in llama.cpp: ")


def test_lines_fit(result: ExportResult) -> None:
    assert all(len(line) <= 60 for line in export_lines(result, 60) if result.output not in line)
