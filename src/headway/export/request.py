"""Export request and result, as they travel between processes and into `export.json`. No torch."""

from dataclasses import dataclass
from typing import Literal

from headway.base.errors import Finding

SCHEMA = "headway.export/1"
NOTE = "export.json"  # beside what was exported

TargetName = Literal["hf", "gguf", "ollama"]
TARGETS: tuple[TargetName, ...] = ("hf", "gguf", "ollama")
FORMATS = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")  # of a GGUF file's weights


@dataclass(frozen=True)
class ExportOptions:
    """What to write, whoever reads it.

    Attributes:
        to: the program it is for.
        quantize: number format of the weights, one of `FORMATS`; of a transformers folder one of
            the first three.
        adapter_only: hf: the PEFT adapter alone, not merged.
        name: of the model, in its card, as a file name and in Ollama; checked to be a plain name.
        system: ollama: instructions that come before every conversation.
        num_ctx: ollama: tokens of context; 0: the model's own, as far as usual machines hold it.
        verify: compare the result with the model that was trained: if what that needs is installed,
            in any case, or not at all.
    """

    to: TargetName
    quantize: str = "f16"
    adapter_only: bool = False
    name: str = "model"
    system: str = ""
    num_ctx: int = 0
    verify: Literal["if possible", "always", "never"] = "if possible"


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        folder: of the model or the adapters.
        output: absolute path of the folder to write.
        options: what to write.
        run: the folder of the run that it comes from; "" for a model that Headway did not train.
        base: where a person says that the adapters' base model is.
        trust_remote_code: run code that comes with the model.
    """

    folder: str
    output: str
    options: ExportOptions
    run: str = ""
    base: str = ""
    trust_remote_code: bool = False


@dataclass(frozen=True)
class ExportCheck:
    """One comparison of the exported file with the model that was trained.

    Attributes:
        what: that was compared, in a few words: "logits at 64 positions".
        passed: whether it is within its limit.
        measured: the number; None for a comparison that has none.
        limit: what it may be at most (or at least, where more is better).
        detail: more about it, for people: where it differs first.
    """

    what: str
    passed: bool
    measured: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class ExportVerification:
    """What came of comparing an exported file with the model that was trained.

    Attributes:
        judge: the program that read the file: "transformers 5.23 in a fresh process".
        checks: all comparisons, in order.
        failure: why the export is not used, in four parts; None if every check passed.
        findings: what a person should know, though the export is used.
        seconds: that it took.
    """

    judge: str
    checks: tuple[ExportCheck, ...] = ()
    failure: Finding | None = None
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class BaseModel:
    """The model that adapters were merged into, or belong to.

    Attributes:
        name: of its folder, or on the Hub.
        folder: where it is on this machine.
        sha256: over its weight files.
    """

    name: str
    folder: str
    sha256: str


@dataclass(frozen=True)
class WrittenFiles:
    """What a target wrote, before it is compared.

    Attributes:
        files: names in the folder that it was given.
        merged: adapters were merged into their base model.
        findings: what a person should know.
    """

    files: tuple[str, ...]
    merged: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ExportResult:
    """What was exported: `export.json`.

    Attributes:
        schema: of this file.
        at: UTC.
        headway: its version.
        options: what was asked for.
        source: folder of the model or the adapters that were exported.
        sha256: over the weight files in there.
        run: folder of the run that trained it; "" for a model that Headway did not train.
        base: the model that the adapters belong to; None for a whole model.
        dequantized: the number format that the weights were in before; "" for whole numbers.
        merged: adapters were merged, in fp32.
        files: that were written, without this one and the manifest.
        end_tokens: every token that ends an answer, by id.
        verification: how they were compared; None if they were not.
        findings: what a person should know.
        output: the folder; not in the file, which may be moved.
    """

    schema: str
    at: str
    headway: str
    options: ExportOptions
    source: str
    sha256: str
    run: str
    base: BaseModel | None
    dequantized: str
    merged: bool
    files: tuple[str, ...]
    end_tokens: dict[str, str]
    verification: ExportVerification | None
    findings: tuple[Finding, ...] = ()
    output: str = ""
