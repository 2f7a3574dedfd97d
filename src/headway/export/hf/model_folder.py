"""Target hf: a transformers folder with all weights, or the PEFT adapters alone."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.process import ChildProcess
from headway.base.pulse import Phase, Pulse
from headway.export.hf.card import write_card
from headway.export.hf.comparison import Trained, compare
from headway.export.hf.probes import MESSAGES, NASTY_TEXT, ExportProbes, logits_of, make_probes
from headway.export.hf.reload import LOGITS, Reloaded, ReloadRequest
from headway.export.request import ExportOptions, ExportVerification, WrittenFiles
from headway.export.source import ExportSource
from headway.model.lazy_weights import TYPES
from headway.model.load import load_tensors
from headway.model.model_config import CONFIG, read_object
from headway.model.safetensors_file import SafetensorsFile, num_bytes
from headway.model.safetensors_index import ADAPTER, WHOLE
from headway.model.sizes import context_of
from headway.runs.base_model import ADAPTERS
from headway.supervise.request_process import ask_child

GENERATION = "generation_config.json"
KINDS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}  # of a transformers folder
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_FILES_BYTES = 64 << 20  # tokenizer and configuration, at most
_POLL_S = 0.1


class ModelFolder:
    """See `Target`."""

    verifies_with: tuple[str, ...] = ()

    def num_bytes(self, source: ExportSource, options: ExportOptions) -> int:
        """See `Target`."""
        if options.adapter_only:
            return (source.folder / ADAPTER).stat().st_size + _FILES_BYTES
        kinds = _kinds(source, options)
        return _FILES_BYTES + sum(num_bytes(s, kinds[n]) for n, s in source.shapes.items())

    def write(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> WrittenFiles:
        """See `Target`."""
        if options.adapter_only:
            _write_adapters(source, folder)
        else:
            _write_weights(source, options, folder, pulse)
            config = _with_dtype(source.config, _DTYPES[options.quantize])
            _write_json(folder / CONFIG, config)
            _copy_code(source, folder)
        source.tokenizer.save(folder)
        if source.generation:
            _write_json(folder / GENERATION, source.generation)
        merged = source.base is not None and not options.adapter_only
        write_card(source, _DTYPES[options.quantize], folder, merged=merged)
        return WrittenFiles(tuple(sorted(path.name for path in folder.iterdir())), merged)

    def verify(
        self, source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
    ) -> ExportVerification:
        """See `Target`."""
        context = context_of(source.config)
        probes = make_probes(source.tokenizer, source.num_embeddings, context)
        trained = _trained(source, probes)
        found, logits_NV = _reload(source, probes, folder, pulse)
        return compare(probes, trained, found, logits_NV, options.quantize)


def _kinds(source: ExportSource, options: ExportOptions) -> dict[str, str]:
    """The number format of each tensor: what is no fraction stays as it is."""
    wanted = KINDS[options.quantize]
    return {
        name: wanted if TYPES[kind].is_floating_point else kind
        for name, kind in source.tensors.kinds.items()
    }


def _write_weights(
    source: ExportSource, options: ExportOptions, folder: Path, pulse: Pulse
) -> None:
    shapes, kinds = source.shapes, _kinds(source, options)
    total = sum(num_bytes(shape, kinds[name]) for name, shape in shapes.items())
    done = 0
    with (
        pulse.phase(Phase.EXPORTING, total=total, unit="bytes"),
        SafetensorsFile(folder / WHOLE, shapes, kinds) as file,
    ):
        for name, tensor in source.read_tensors():
            file.add(name, tensor)
            done += num_bytes(shapes[name], kinds[name])
            pulse.progress(done)


def _write_adapters(source: ExportSource, folder: Path) -> None:
    """The adapters as they are, with the place of their base model on this machine."""
    if source.base is None:
        raise UsageError(
            f"{source.folder} has no adapters to export alone",
            cause=Cause.CONTRADICTION,
            have="a whole model",
            need="adapters, as --lora trains them",
            remedies=(Remedy("remove --adapter-only", "exports the whole model"),),
        )
    shutil.copyfile(source.folder / ADAPTER, folder / ADAPTER)
    is_local = Path(source.base.name).name == source.base.name
    base = source.base.folder if is_local else source.base.name
    config = read_object(source.folder / ADAPTERS)
    _write_json(folder / ADAPTERS, config | {"base_model_name_or_path": base})


def _with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A configuration that names the number format of the weights, under each name for it."""
    changed = {**config} | {
        name: dtype for name in ("dtype", "torch_dtype") if name in config or name == "dtype"
    }
    for name, part in config.items():
        if isinstance(part, dict) and ("dtype" in part or "torch_dtype" in part):
            changed[name] = _with_dtype(cast("dict[str, Any]", part), dtype)
    return changed


def _copy_code(source: ExportSource, folder: Path) -> None:
    """A model's own code, which transformers looks for beside its weights."""
    if not source.trust_remote_code:
        return
    for path in sorted(source.whole.glob("*.py")):
        shutil.copyfile(path, folder / path.name)


def _trained(source: ExportSource, probes: ExportProbes) -> Trained:
    """What the trained model answers; it is let go before a fresh process loads another one."""
    model: Any = source.load_model()
    logits_NV, base_NV = logits_of(model, probes.rows), None
    if source.base:
        with model.disable_adapter():
            base_NV = logits_of(model, probes.rows)
    return Trained(logits_NV, base_NV, source.end_ids, source.tokenizer)


def _reload(
    source: ExportSource, probes: ExportProbes, folder: Path, pulse: Pulse
) -> tuple[Reloaded, Tensor]:
    """What a fresh process finds in the folder."""
    logits = folder.parent / LOGITS
    request = ReloadRequest(
        folder=str(folder),
        rows=probes.rows,
        text=NASTY_TEXT,
        messages=MESSAGES if probes.chat else (),
        logits=str(logits),
        base=str(source.whole) if source.base else "",
        trust_remote_code=source.trust_remote_code,
    )

    def wait(process: ChildProcess, _: Path) -> None:
        while process.is_running:
            pulse.beat()
            time.sleep(_POLL_S)

    try:
        found = ask_child(
            "headway.export.hf.reload", request, Reloaded, wait, doing="opening the export"
        )
        return found, load_tensors(logits)["logits"]
    finally:
        logits.unlink(missing_ok=True)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
