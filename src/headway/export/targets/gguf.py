"""Target gguf: one file for llama.cpp and what is built on it, compared in llama.cpp."""

from pathlib import Path

from headway.base.pulse import Phase, Pulse
from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.plan import file_name, plan_file, unsupported
from headway.export.gguf.write import write_gguf
from headway.export.request import ExportOptions, ExportVerification, WrittenFiles
from headway.export.source import ExportSource
from headway.export.verify.verify import verify_gguf

_METADATA_BYTES = 1 << 20  # of all but the tokens
_TOKENS_TIMES = 3  # the tokens in the file are at most so many times those in tokenizer.json


class GgufTarget:
    """See `Target`."""

    verifies_with: tuple[str, ...] = ("xllamacpp",)

    def num_bytes(self, source: ExportSource, options: ExportOptions) -> int:
        """See `Target`."""
        tokens = sum(map(len, source.tokenizer.files.values())) * _TOKENS_TIMES
        planned = plan_file(source, options)
        return sum(one.format.num_bytes for one in planned.tensors) + tokens + _METADATA_BYTES

    def write(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> WrittenFiles:
        """See `Target`."""
        planned = plan_file(source, options)
        name = file_name(options)
        total = sum(one.format.num_bytes for one in planned.tensors)
        with pulse.phase(Phase.EXPORTING, total=total, unit="bytes"):
            try:
                write_gguf(
                    folder / name,
                    planned.architecture.name,
                    planned.metadata,
                    planned.architecture.tensors,
                    planned.tensors,
                    source.read_tensors(),
                    pulse.progress,
                )
            except UnsupportedModelError as error:
                raise unsupported(source, error) from error
        return WrittenFiles(
            (name,),
            merged=source.base is not None,
            findings=(*planned.architecture.findings, *planned.vocabulary.findings),
        )

    def verify(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> ExportVerification:
        """See `Target`."""
        file = folder / file_name(options)
        planned = plan_file(source, options)
        return verify_gguf(file, source, planned, options.quantize, pulse).verification
