"""Export of one model: opened, written for its target, compared, and only then given its name."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headway.base.errors import BrokenContract, Cause, Finding, Remedy
from headway.base.host import packages
from headway.base.pulse import Phase, Pulse
from headway.base.version import __version__
from headway.export.output import check_files, check_output, check_room, publish, scratch_folder
from headway.export.request import (
    NOTE,
    SCHEMA,
    ExportOptions,
    ExportRequest,
    ExportResult,
    ExportVerification,
    WrittenFiles,
)
from headway.export.source import ExportSource, open_source
from headway.export.target import Target, target_of


def export(request: ExportRequest, pulse: Pulse, target: Target | None = None) -> ExportResult:
    """Export a model.

    Args:
        request: what, and where to.
        pulse: shows what is done.
        target: instead of the one that the request names.

    Raises:
        BrokenContract: what was written does not compute what the model computes; it is deleted.
        Refusal: it cannot be exported. Nothing is left behind.
    """
    options, output = request.options, Path(request.output)
    target = target or target_of(options.to)
    if options.verify == "always":
        packages.require("export --verify", target.verifies_with)
    check_output(output, Path(request.folder), options.to)
    results: list[ExportResult] = []
    with scratch_folder(output) as scratch:
        (scratch / "source").mkdir()
        source = open_source(request, scratch / "source", pulse)
        check_room(scratch, target.num_bytes(source, options), f"the export of {source.name}")

        def fill(folder: Path) -> None:
            with pulse.phase(Phase.EXPORTING):
                written = target.write(source, options, folder, pulse)
            check_files(folder, written.files)
            compared, missing = _compare(target, source, options, folder, pulse)
            result = _result(request, source, written, compared, missing)
            note = msgspec.json.format(msgspec.json.encode(result), indent=2)
            (folder / NOTE).write_bytes(note)
            results.append(replace(result, output=str(output)))
            pulse.enter(Phase.SAVING)  # made durable, and read back

        publish(output, scratch, options.to, fill)
        result = results[0]
        if options.to != "ollama":
            return result
        from headway.export.targets.ollama import hand_over

        delivered = hand_over(source, options, output, pulse)
        return replace(result, findings=(*result.findings, delivered))


def _compare(
    target: Target, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
) -> tuple[ExportVerification | None, tuple[Finding, ...]]:
    """Compare what was written with the model; without what that needs, say so.

    Raises:
        BrokenContract: it does not compute the same.
    """
    if options.verify == "never":
        return None, (_not_compared("--no-verify"),)
    missing = [name for name in target.verifies_with if not packages.is_installed(name)]
    if missing:
        return None, (_not_compared(f"headway without {', '.join(missing)}"),)
    began_s = time.monotonic()
    with pulse.phase(Phase.VERIFYING_EXPORT):
        found = target.verify(source, options, folder, pulse)
    if found.failure:
        failure = found.failure
        raise BrokenContract(
            failure.what,
            cause=failure.cause or Cause.EXPORT_DIFFERS,
            have=failure.have,
            need=failure.need,
            remedies=failure.remedies,
        )
    seconds = round(time.monotonic() - began_s, 3)
    return replace(found, findings=(), seconds=seconds), found.findings


def _not_compared(why: str) -> Finding:
    return Finding(
        "warning",
        "the export was not compared with the model that was trained",
        have=why,
        need="a comparison, before anybody relies on it",
        remedies=(
            Remedy("pip install 'headway[verify]'", "brings llama.cpp, which reads GGUF files"),
            Remedy("--verify", "refuses what cannot be compared"),
        ),
        cause=Cause.EXPORT_UNVERIFIED,
    )


def _result(
    request: ExportRequest,
    source: ExportSource,
    written: WrittenFiles,
    verification: ExportVerification | None,
    findings: tuple[Finding, ...],
) -> ExportResult:
    return ExportResult(
        schema=SCHEMA,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        headway=__version__,
        options=request.options,
        source=str(source.folder),
        sha256=source.sha256,
        run=request.run,
        base=source.base,
        dequantized=source.dequantized,
        merged=written.merged,
        files=written.files,
        end_tokens={str(one): source.tokenizer.token_of(one) or "" for one in source.end_ids},
        verification=verification,
        findings=(*source.findings, *written.findings, *findings),
    )
