"""An export as it travels and is written down: the same value on both sides."""

import msgspec

from headway.base.errors import Cause, Finding, Remedy
from headway.export.request import (
    FORMATS,
    NOTE,
    SCHEMA,
    TARGETS,
    BaseModel,
    ExportCheck,
    ExportOptions,
    ExportRequest,
    ExportResult,
    ExportVerification,
)

FINDING = Finding("warning", "w", "h", "n", (Remedy("do", "gives"),), Cause.EXPORT_UNVERIFIED)
RESULT = ExportResult(
    schema=SCHEMA,
    at="2026-11-30T00:00:00+00:00",
    headway="1",
    options=ExportOptions("hf", "f32", name="notes"),
    source="/models/a",
    sha256="ab" * 32,
    run="",
    base=BaseModel("base", "/models/base", "cd" * 32),
    dequantized="bitsandbytes nf4",
    merged=True,
    files=("config.json",),
    end_tokens={"2": "<|im_end|>"},
    verification=ExportVerification("transformers", (ExportCheck("logits", True, 1e-7, 2e-5),)),
    findings=(FINDING,),
    output="/out",
)


def test_requests_and_results_come_back_as_they_were() -> None:
    request = ExportRequest("/models/a", "/out", RESULT.options, base="/models/base")
    assert msgspec.json.decode(msgspec.json.encode(request), type=ExportRequest) == request
    assert msgspec.json.decode(msgspec.json.encode(RESULT), type=ExportResult) == RESULT


def test_the_first_formats_are_those_of_every_program() -> None:
    assert FORMATS[:3] == ("f32", "f16", "bf16")
    assert TARGETS == ("hf", "gguf", "ollama")
    assert NOTE == "export.json"
