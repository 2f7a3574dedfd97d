"""Export source: a model as it was trained, with its configuration, tokenizer and tensors.

Whoever writes a model for another program takes it from here, one tensor after the other, so that
no more than one has to be in memory. Adapters are merged on the way, in fp32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from headway.base.errors import Cause, Finding
from headway.base.pulse import Phase, Pulse
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.tokenizer import Tokenizer
from headway.data.examples.tokenizer_files import WORDS
from headway.export.reading.adapters import put_adapters, read_kind
from headway.export.reading.as_trained import AS_TRAINED, folder_as_trained
from headway.export.reading.base_folder import find_base
from headway.export.reading.dequantize import dequantized_folder, quantization_of
from headway.export.reading.end_tokens import end_ids_of
from headway.export.reading.merging import merged_source
from headway.export.reading.new_tokens import check_words
from headway.export.reading.run_verdict import run_findings
from headway.export.reading.tensor_source import Shapes, StoredSource, TensorSource
from headway.export.request import BaseModel, ExportRequest
from headway.model.load import from_folder, is_adapter
from headway.model.model_config import CONFIG, read_object
from headway.model.safetensors_index import check_folder
from headway.model.sizes import embedding_shape, shape_of
from headway.runs.base_model import weights_hash
from headway.runs.checkpoint_state import is_on_4bit

_GENERATION = "generation_config.json"
_MERGED = "merged"  # in the scratch folder
_TIED = "tie_word_embeddings"


@dataclass(frozen=True)
class ExportSource:
    """A whole model, as it was trained.

    Attributes:
        name: for people and for file names.
        folder: of its weights, or of its adapters.
        sha256: over the weight files in there.
        config: of the whole model, as config.json has it: without what a quantizer left there,
            and with the vocabulary and `tie_word_embeddings` of the tensors.
        generation: as generation_config.json has it, with every end-of-turn token.
        words: the folder of its tokenizer and chat template.
        tokenizer: loaded from there.
        end_ids: every token that ends an answer: of the generation config, of the tokenizer, and
            the one that the chat template writes behind an answer.
        base: that its adapters belong to; None for a whole model.
        dequantized: the number format that its weights were in before; "" if they were not
            quantized.
        tensors: of the whole model, by name.
        whole: folder of the whole model, or of the adapters' base; in fp32 if it was quantized.
        run: folder of the run that trained it; None for a model that Headway did not train.
        trust_remote_code: run code that comes with the model.
        findings: what a person should know about it.
    """

    name: str
    folder: Path
    sha256: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    words: Path
    tokenizer: Tokenizer
    end_ids: tuple[int, ...]
    base: BaseModel | None
    dequantized: str
    tensors: TensorSource
    whole: Path
    run: Path | None = None
    trust_remote_code: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor by its name, as transformers stores it."""
        return self.tensors.shapes

    def read_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, one at a time, in the order of `shapes`.

        In the number format that it is stored in; fp32 where an adapter was merged into it, and
        where it was dequantized.
        """
        return self.tensors.read()

    @property
    def num_embeddings(self) -> int:
        """Rows of the input embedding: ids are smaller."""
        return _num_rows(self.shapes) or shape_of(self.config).vocab

    def load_model(self) -> nn.Module:
        """The model as it was trained, in fp32 and eval mode, its adapters beside their layers.

        This is what an export is compared with: no weight of it was merged.
        """
        model = from_folder(self.whole, trust_remote_code=self.trust_remote_code)
        return (put_adapters(model, self.folder) if self.base else model).eval()


def open_source(request: ExportRequest, scratch: Path, pulse: Pulse) -> ExportSource:
    """Open what is exported.

    Args:
        request: names it.
        scratch: an empty folder, for a model that cannot be read tensor by tensor: it is first
            written there. It must stay as long as the source is used.
        pulse: shows hashing, and what is converted.

    Raises:
        UsageError: it is no model, is damaged, or is of a kind that cannot be exported.
    """
    folder, whole, base = Path(request.folder), Path(request.folder), None
    run = Path(request.run) if request.run else None
    check_folder(folder)
    with pulse.phase(Phase.HASHING_MODEL):
        digest = weights_hash(folder)
    if is_adapter(folder):
        read_kind(folder)
        base = find_base(folder, request.base, pulse)
        whole = Path(base.folder)
    check_folder(whole)
    dequantized = quantization_of(whole)
    if dequantized:
        whole = dequantized_folder(whole, _made(scratch / "dequantized"), pulse)
    elif base and is_on_4bit(folder):
        dequantized = AS_TRAINED
        made = _made(scratch / "dequantized")
        whole = folder_as_trained(whole, made, pulse, trust_remote_code=request.trust_remote_code)
    if base:
        trusts = request.trust_remote_code
        merged = _made(scratch / _MERGED)
        tensors = merged_source(whole, folder, merged, trust_remote_code=trusts)
    else:
        tensors = StoredSource(whole)
    words = folder if (folder / WORDS).is_file() else whole
    tokenizer, findings = _tokenizer(words, whole)
    check_words(tokenizer, _num_rows(tensors.shapes), folder)
    ends = end_ids_of(tuple(dict.fromkeys((folder, whole))), tokenizer)
    return ExportSource(
        name=request.options.name,
        folder=folder,
        sha256=digest,
        config=_config(whole, tensors.shapes, scratch / _MERGED),
        generation=_generation((folder, whole), ends),
        words=words,
        tokenizer=tokenizer,
        end_ids=ends,
        base=base,
        dequantized=dequantized,
        tensors=tensors,
        whole=whole,
        run=run,
        trust_remote_code=request.trust_remote_code,
        findings=(*run_findings(run), *_findings(dequantized), *findings),
    )


def _tokenizer(words: Path, whole: Path) -> tuple[Tokenizer, tuple[Finding, ...]]:
    """The tokenizer; adapters that were saved without a chat template get their base model's."""
    own = tokenizers.load(words)
    if own.chat_template is not None or words == whole or not (whole / WORDS).is_file():
        return own, ()
    template = tokenizers.load(whole).chat_template
    if template is None:
        return own, ()
    finding = Finding(
        "adjusted",
        "the chat template is that of the base model",
        have=f"a tokenizer without a chat template in {words}",
        need="the template that the adapters were trained with",
        cause=Cause.TEMPLATE_MISSING,
    )
    return own.with_template(template), (finding,)


def _num_rows(shapes: Shapes) -> int:
    """Rows of the input embedding; 0 if no tensor has its name."""
    found = embedding_shape({name: ("", shape) for name, shape in shapes.items()})
    return found[0] if found else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _config(folder: Path, shapes: Shapes, merged: Path) -> dict[str, Any]:
    """The configuration, with what merging changed: rows of the embedding, a head of its own."""
    config = read_object(folder / CONFIG)
    if (merged / CONFIG).is_file():
        config[_TIED] = read_object(merged / CONFIG).get(_TIED, config.get(_TIED, True))
    rows = _num_rows(shapes)
    inner = config.get("text_config")
    for part in (config, *([inner] if isinstance(inner, dict) else [])):
        if "vocab_size" in part and rows:
            part["vocab_size"] = rows
    return config


def _generation(folders: tuple[Path, ...], ends: tuple[int, ...]) -> dict[str, Any]:
    """The first generation config that there is, with every end-of-turn token."""
    found = next((one / _GENERATION for one in folders if (one / _GENERATION).is_file()), None)
    config = read_object(found) if found else {}
    return config | ({"eos_token_id": ends[0] if len(ends) == 1 else list(ends)} if ends else {})


def _findings(dequantized: str) -> tuple[Finding, ...]:
    if not dequantized:
        return ()
    return (
        Finding(
            "adjusted",
            f"the weights were dequantized from {dequantized}",
            have="4 or 8 bits for each weight, as they were trained on",
            need="whole numbers to merge and to convert; the file is larger than the folder",
            cause=Cause.WOULD_ADJUST,
        ),
    )
