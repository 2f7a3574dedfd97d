"""Model source: a preset, a transformers folder, a GGUF file, a run, or the Hugging Face Hub."""

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.files import MANIFEST, cached_hash
from headway.base.foreign.boundary import Boundary
from headway.base.foreign.lfs import check_fetched
from headway.base.network.hub import is_id
from headway.base.pulse import Phase, Pulse
from headway.config.resolve import adapters_on_random_weights
from headway.config.settings import Settings, printed_name, spellings
from headway.model.gguf.container import is_gguf
from headway.model.gguf.convert import gguf_folder
from headway.model.model_config import read_config, read_object
from headway.model.presets import vocab_size
from headway.model.safetensors_index import no_weights, stored_tensors, weight_files
from headway.model.sizes import count_parameters, embedding_rows, stored_bytes
from headway.planning.hub_download import download_model
from headway.planning.parent_settings import model_path
from headway.runs.base_model import ADAPTERS, find_base_model, joined_hash
from headway.runs.checkpoint_state import FILE, read_state
from headway.runs.folder import RunFolder, find_run, is_run
from headway.runs.plan import LoraPlan, Parent

BYTE_LEVEL_BELOW = 1_000_000  # bytes of text; less has too few pairs to merge


@dataclass(frozen=True)
class InitialModel:
    """The weights to start from, as far as they are known without loading them.

    Attributes:
        source: where they come from.
        name: of the preset, the folder or the run.
        path: of the folder; "" for a preset.
        config: transformers' config.json; empty for a preset.
        parameters: how many; 0 for a preset.
        weights_sha256: over the weight files.
        adapter: LoRA settings of the adapters that training continues.
        adapter_parameters: how many they have.
        parent: the run that training continues.
        commit: of a model from the Hugging Face Hub.
        base: folder of the model that continued adapters belong to.
        stored_bytes: of a weight in the files; 0 for a preset.
    """

    source: Literal["preset", "folder", "run"]
    name: str
    path: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    parameters: int = 0
    weights_sha256: str = ""
    adapter: LoraPlan | None = None
    adapter_parameters: int = 0
    parent: Parent | None = None
    commit: str = ""
    base: str = ""
    stored_bytes: int = 0


@dataclass(frozen=True)
class ModelSource:
    """The weights to start from, and what the data must fit.

    Attributes:
        initial: the weights.
        tokenizer: a folder or tokenizer.json; None: train one on the data.
        vocab_size: of a tokenizer that is trained on the data.
        embedding_rows: ids must be smaller; None if the embedding is made for them.
    """

    initial: InitialModel
    tokenizer: Path | None
    vocab_size: int
    embedding_rows: int | None


def find_model_source(settings: Settings, num_bytes: int, pulse: Pulse) -> ModelSource:
    """Find the model and read what the plan needs, without loading the weights.

    Args:
        settings: model, continue_run or preset; without them, a preset by the size of the data.
        num_bytes: of the data, as far as known.
        pulse: shows downloads and hashing.

    Raises:
        UsageError: the model does not exist or cannot be used.
        MachineError: the disk is too small to download it.
        ComeBack: the Hub does not respond.
    """
    if settings.continue_run:
        run = find_run(settings.continue_run, Path(settings.output_dir))
        return _from_run(run, settings, pulse)
    if settings.model:
        return _from_model(settings.model, settings, pulse)
    name = settings.preset or ("tiny" if num_bytes < BYTE_LEVEL_BELOW else "mini")
    if settings.lora:
        raise adapters_on_random_weights(name)
    return ModelSource(
        initial=InitialModel("preset", name, ""),
        tokenizer=_existing_tokenizer(settings.tokenizer),
        vocab_size=settings.vocab_size or vocab_size(name),
        embedding_rows=None,
    )


def _from_model(model: str, settings: Settings, pulse: Pulse) -> ModelSource:
    path = model_path(model, settings.output_dir)
    if is_run(path):
        return _from_run(RunFolder(path), settings, pulse)
    if (path / FILE).is_file():
        return _from_checkpoint(path.resolve(), settings, pulse)
    if is_id(model) and not path.exists() and not path.parent.is_dir():
        return _from_hub(model, settings, pulse)
    if is_gguf(path):
        found = _from_folder(gguf_folder(path, pulse), model, pulse)
        return replace(found, initial=replace(found.initial, name=path.name))
    return _from_folder(path, model, pulse)


def _from_hub(name: str, settings: Settings, pulse: Pulse) -> ModelSource:
    try:
        model = download_model(name, pulse, with_code=settings.trust_remote_code)
    except Refusal as refusal:
        # a folder with a similar name may be meant
        raise type(refusal)(
            refusal.what,
            cause=refusal.cause,
            have=refusal.have,
            need=refusal.need,
            remedies=(*_similar_folders(Path(name)), *refusal.remedies),
        ) from refusal
    found = _from_folder(model.folder, name, pulse)
    return replace(found, initial=replace(found.initial, name=name, commit=model.commit))


def _from_run(run: RunFolder, settings: Settings, pulse: Pulse) -> ModelSource:
    pulse.enter(Phase.VERIFYING_CHECKPOINT)
    checkpoint, problems = run.newest_verified()
    if checkpoint is None:
        raise UsageError(
            f"run {run.path.name} has no checkpoint to continue from",
            cause=Cause.NO_CHECKPOINT,
            have=str(problems[0]) if problems else "no checkpoint",
            need="an intact checkpoint",
            remedies=(Remedy(f"headway status {run.path}", "its state"),),
        )
    return _from_checkpoint(checkpoint.path.resolve(), settings, pulse)


def _from_checkpoint(path: Path, settings: Settings, pulse: Pulse) -> ModelSource:
    """Continue from a checkpoint, with its moments and global step."""
    moved = Path(settings.model) if settings.continue_run and settings.model else None
    if moved and not (path / ADAPTERS).is_file():
        raise _no_second_model(path, moved)
    with _not_a_checkpoint(path)():
        global_step = read_state(path).global_step
        manifest_sha256 = cached_hash(path / MANIFEST).sha256
        adapter, adapter_parameters, base = _adapter(path, moved)
    if adapter:
        _check_adapter_settings(settings, adapter, path)
    config, tensors = _read_model(base)
    initial = InitialModel(
        source="run",
        name=str(path.parent.name),
        path=str(path),
        config=config,
        parameters=count_parameters(tensors),
        weights_sha256=_weights_hash(path, pulse),
        adapter=adapter,
        adapter_parameters=adapter_parameters,
        base=str(base.resolve()) if adapter else "",
        stored_bytes=stored_bytes(tensors),
        parent=Parent(
            run=str(path.parent),
            checkpoint=str(path),
            global_step=global_step,
            manifest_sha256=manifest_sha256,
            # Moments of all weights are none for new adapters on them.
            keeps_optimizer=not settings.reset_optimizer
            and (adapter is not None or not settings.lora)
            and _is_trained_by(path, settings.optim),
        ),
    )
    return ModelSource(initial, path, 0, embedding_rows(tensors, config))


def _is_trained_by(checkpoint: Path, optim: str) -> bool:
    """Whether a checkpoint's moments are of this optimizer, as far as its run says."""
    plan = RunFolder(checkpoint.parent).plan()
    return plan is None or _state_of(plan.learning.optim) == _state_of(optim)


def _state_of(optim: str) -> str:
    """An optimizer by what it keeps: a paged one keeps it elsewhere."""
    return optim.removeprefix("paged_")


def _from_folder(path: Path, model: str, pulse: Pulse) -> ModelSource:
    if path.is_file():
        raise _not_a_model(path, "a file")
    if not path.is_dir():
        raise _model_not_found(path, model)
    if (path / "adapter_config.json").is_file():
        base = read_object(path / "adapter_config.json").get("base_model_name_or_path")
        raise UsageError(
            f"{model} has adapters of another trainer, not a model",
            cause=Cause.MODEL_INVALID,
            have="adapter_config.json",
            need="a whole model, or a run of Headway",
            remedies=(
                Remedy(f"--model {base or 'DIR'} --lora", "new adapters on their base model"),
                Remedy(f"headway export {shlex.quote(str(path))} --to hf", "merges them first"),
            ),
        )
    config, tensors = _read_model(path)
    initial = InitialModel(
        source="folder",
        name=path.resolve().name,
        path=str(path.resolve()),
        config=config,
        parameters=count_parameters(tensors),
        weights_sha256=_weights_hash(path, pulse),
        stored_bytes=stored_bytes(tensors),
    )
    return ModelSource(initial, path, 0, embedding_rows(tensors, config))


def _read_model(path: Path) -> tuple[dict[str, Any], Mapping[str, tuple[str, tuple[int, ...]]]]:
    """config.json and the headers of the weights.

    Raises:
        UsageError: it is not a model folder, or its files do not match.
    """
    if not (path / "config.json").is_file():
        raise _not_a_model(path, "no config.json")
    check_fetched(path)
    try:
        tensors = stored_tensors(path)
    except (OSError, ValueError) as error:
        raise _not_a_model(path, str(error)) from error
    if not tensors:
        raise no_weights(path)
    return read_config(path, tensors), tensors


def _not_a_model(path: Path, have: str) -> Refusal:
    return UsageError(
        f"{path} is not a model folder",
        cause=Cause.MODEL_INVALID,
        have=have,
        need="config.json, *.safetensors and tokenizer.json, as save_pretrained writes them",
        remedies=(Remedy("--preset tiny", "train a model from scratch"),),
    )


def _model_not_found(path: Path, model: str) -> Refusal:
    return UsageError(
        f"model folder {model} does not exist",
        cause=Cause.MODEL_NOT_FOUND,
        have="no such folder",
        need="a folder with config.json, *.safetensors and tokenizer.json, a GGUF file, or "
        "owner/name on the Hub",
        remedies=_similar_folders(path) or (Remedy("--preset mini", "train a model from scratch"),),
    )


def _similar_folders(path: Path) -> tuple[Remedy, ...]:
    """Folders whose names are similar to one that does not exist."""
    parent = path.parent if path.parent.is_dir() else Path()
    folders = [p.name for p in parent.iterdir() if p.is_dir()]
    close = difflib.get_close_matches(path.name, folders, n=2)
    return tuple(Remedy(f"--model {parent / name}") for name in close)


def _no_second_model(path: Path, moved: Path) -> UsageError:
    name = path.parent.name
    return UsageError(
        "--continue and --model cannot be combined",
        cause=Cause.CONTRADICTION,
        have=f"--continue {name}, which has all its weights, and --model {moved}",
        need="one model to start from",
        remedies=(Remedy(f"--continue {name}"), Remedy(f"--model {moved}")),
    )


def _adapter(path: Path, moved: Path | None) -> tuple[LoraPlan | None, int, Path]:
    """The adapters in a checkpoint, their weights, and the folder of the model they adapt."""
    if not (path / "adapter_config.json").is_file():
        return None, 0, path
    config = read_object(path / "adapter_config.json")
    targets = config["target_modules"]
    plan = LoraPlan(
        r=config["r"],
        alpha=config["lora_alpha"],
        dropout=config["lora_dropout"],
        target_modules=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
    )
    base = find_base_model(path, moved)
    return plan, count_parameters(stored_tensors(path)), base


def _check_adapter_settings(settings: Settings, adapter: LoraPlan, path: Path) -> None:
    """Check that training can continue with the adapters of a checkpoint: their shape is fixed.

    Raises:
        UsageError: other adapters, or none, were asked for.
    """
    wanted = {
        "lora": (settings.lora, True),
        "lora_r": (settings.lora_r, adapter.r),
        "lora_alpha": (settings.lora_alpha, adapter.alpha),
        "lora_dropout": (settings.lora_dropout, adapter.dropout),
        "lora_target_modules": (
            tuple(sorted(settings.lora_target_modules)),
            adapter.target_modules,
        ),
    }
    known, name_of_run = spellings(), path.parent.name
    differing = [
        f"{printed_name(known[name])} {_shown(now)}, {_shown(there)} in {name_of_run}"
        for name, (now, there) in wanted.items()
        if settings.given(name) and name not in settings.inherited and now != there
    ]
    if not differing:
        return
    raise UsageError(
        f"{name_of_run} has adapters, and training continues with them unchanged",
        cause=Cause.CONTRADICTION,
        have="; ".join(differing),
        need="the same adapters, or new ones on their base model",
        remedies=(
            Remedy("leave out the lora settings", f"they are those of {name_of_run}"),
            Remedy("--model DIR --lora", "new adapters on a whole model, without --continue"),
        ),
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", value)))
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _not_a_checkpoint(path: Path) -> Boundary:
    record = shlex.quote(str(path / FILE))
    return Boundary(
        f"{path} is not a checkpoint, though it holds {FILE}",
        cause=Cause.CHECKPOINT_MISMATCH,
        need="all files of a checkpoint, as Headway writes them",
        remedies=(Remedy(f"mv {record} {record}.old", "then it is a model without a run"),),
    )


def _weights_hash(path: Path, pulse: Pulse) -> str:
    """One hash over the weight files; the hash of an unchanged file is cached."""
    files = weight_files(path)
    with pulse.phase(Phase.HASHING_MODEL, total=len(files), unit="files"):
        hashes: list[str] = []
        for file in files:
            hashes.append(cached_hash(file).sha256)
            pulse.progress(len(hashes))
    return joined_hash(hashes)


def _existing_tokenizer(path: str | None) -> Path | None:
    if path is None or Path(path).exists():
        return Path(path) if path else None
    raise UsageError(
        f"tokenizer {path} does not exist",
        cause=Cause.TOKENIZER_NOT_FOUND,
        have="no such file or folder",
        need="a tokenizer.json, or a folder with one",
        remedies=(Remedy("leave out --tokenizer", "one is trained on the data"),),
    )
