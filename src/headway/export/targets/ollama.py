"""Target ollama: a GGUF file that was compared in llama.cpp, and the Modelfile beside it."""

from pathlib import Path

from headway.base.errors import Finding
from headway.base.pulse import Phase, Pulse
from headway.export.gguf.plan import file_name, plan_file
from headway.export.ollama.client import server_address
from headway.export.ollama.create import create_in_ollama
from headway.export.ollama.modelfile import NAME, Modelfile, check_model_name, modelfile_of
from headway.export.request import ExportOptions, WrittenFiles
from headway.export.source import ExportSource
from headway.export.targets.gguf import GgufTarget


class OllamaTarget(GgufTarget):
    """See `Target`."""

    def num_bytes(self, source: ExportSource, options: ExportOptions) -> int:
        """See `Target`. What a person asked for is checked here, before anything is written."""
        check_model_name(options.name)
        _modelfile(source, options)
        return super().num_bytes(source, options)

    def write(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> WrittenFiles:
        """See `Target`."""
        written = super().write(source, options, folder, pulse)
        (folder / NAME).write_text(_modelfile(source, options).text(), encoding="utf-8")
        return WrittenFiles((*written.files, NAME), written.merged, written.findings)


def hand_over(source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse) -> Finding:
    """Create the model in the Ollama that runs here, and ask it; says what came of it.

    Args:
        source: of the model.
        options: with its name.
        folder: with the GGUF file and the Modelfile, finished.
        pulse: shows how much was sent.
    """
    modelfile = _modelfile(source, options)
    total = (folder / modelfile.file).stat().st_size
    with pulse.phase(Phase.EXPORTING, total=total, unit="bytes"):
        address = server_address()
        return create_in_ollama(folder, options.name, modelfile, address, pulse.progress).finding


def _modelfile(source: ExportSource, options: ExportOptions) -> Modelfile:
    planned = plan_file(source, options)
    name = planned.architecture.name
    return modelfile_of(
        file_name(options),
        end_tokens=[source.tokenizer.token_of(one) or "" for one in source.end_ids],
        context=int(planned.architecture.metadata[f"{name}.context_length"]),
        has_template=source.tokenizer.chat_template is not None,
        num_ctx=options.num_ctx,
        system=options.system,
    )
