"""Model download from the Hugging Face Hub into the standard Hub cache."""

import contextlib
import re
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.base.errors import Cause, ComeBack, MachineError, Refusal, Remedy, UsageError
from headway.base.foreign.answers import whole_number
from headway.base.network.hub import host, translate_hub_error, unreachable
from headway.base.network.retry import Abandoned, RetryPolicy, TransientError, retry_call, retrying
from headway.base.pulse import Phase, Pulse
from headway.base.units import size
from headway.model.safetensors_index import INDEX, WHOLE, weight_files

LOOKUP_RETRY = RetryPolicy(max_attempts=3)
# The library times out and resumes by itself, and reports progress every 10 MB. A stalled call
# holds a lock that the next one would wait for.
DOWNLOAD_RETRY = RetryPolicy(max_attempts=4, stall_timeout_s=600.0, retry_stalls=False)
_LOOKUP_TIMEOUT_S = 10.0
_SMALL_FILE = re.compile(
    r"(adapter_)?config\.json|generation_config\.json|tokenizer(_config)?\.json|tokenizer\.model"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.\w+"
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_PICKLE = re.compile(r"\.(bin|pt|pth|ckpt|pkl)$")


@dataclass(frozen=True)
class DownloadedModel:
    """A model in the cache of this machine.

    Attributes:
        folder: with config.json, tokenizer and weights.
        commit: of the Hub's repository.
    """

    folder: Path
    commit: str


@dataclass(frozen=True)
class _Listing:
    """What the Hub has of a model.

    Attributes:
        folder: of the commit in the cache.
        commit: the newest one.
        files: bytes by name, without those in folders.
    """

    folder: Path
    commit: str
    files: dict[str, int]


def download_model(
    name: str,
    pulse: Pulse,
    *,
    with_code: bool = False,
    lookup_retry: RetryPolicy = LOOKUP_RETRY,
    download_retry: RetryPolicy = DOWNLOAD_RETRY,
) -> DownloadedModel:
    """Download a model, or find it in the cache if the Hub does not respond.

    Args:
        name: owner/name.
        pulse: shows bytes and waits.
        with_code: download Python files too.
        lookup_retry: for the list of files.
        download_retry: for the files.

    Raises:
        UsageError: the model does not exist, is gated, or has no safetensors.
        MachineError: the disk is too small for it.
        ComeBack: the Hub does not respond and the cache is incomplete.
    """
    with pulse.phase(Phase.LOOKING_UP_MODEL):
        try:
            listing = retry_call(
                lambda: _list_files(name), name=name, host=host(), pulse=pulse, retry=lookup_retry
            )
        except ComeBack as refusal:
            folder = _cached_snapshot(name)
            if folder is None and refusal.cause is Cause.OFFLINE:
                raise
            if folder is None:
                raise unreachable("model", name, refusal.have) from refusal
            return DownloadedModel(folder, folder.name)
    wanted = _wanted_files(name, listing.files, with_code=with_code)
    missing = {file: num for file, num in wanted.items() if not _is_cached(name, file, listing)}
    if missing:
        _check_disk(name, sum(missing.values()), listing)
        _download_files(name, listing.commit, missing, pulse, download_retry)
    return DownloadedModel(listing.folder, listing.commit)


def download_config(name: str, pulse: Pulse, *, retry: RetryPolicy = LOOKUP_RETRY) -> Path:
    """Download a model's config.json alone, or find it in the cache if the Hub does not respond.

    Args:
        name: owner/name.
        pulse: shows waits.
        retry: for the request.

    Raises:
        UsageError: the model does not exist, or is gated.
        ComeBack: the Hub does not respond, and the cache does not have it.
    """
    with pulse.phase(Phase.LOOKING_UP_MODEL):
        try:
            listing = retry_call(
                lambda: _list_files(name), name=name, host=host(), pulse=pulse, retry=retry
            )
            return listing.folder / "config.json"
        except ComeBack:
            cached = _hub().try_to_load_from_cache(name, "config.json")
            if not isinstance(cached, str):
                raise
            return Path(cached)


def _list_files(name: str) -> _Listing:
    """Ask the Hub, and download config.json, so that the cache knows the newest commit."""
    with _hub_errors(name):
        api = _hub().HfApi()
        info = api.model_info(name, timeout=_LOOKUP_TIMEOUT_S, files_metadata=True)
        files = {
            one.rfilename: whole_number(one.size) or 0
            for one in info.siblings or ()
            if "/" not in one.rfilename
        }
        commit = str(info.sha)
        if "config.json" not in files:
            raise _no_safetensors(name, files)
        config = Path(api.hf_hub_download(name, "config.json", etag_timeout=_LOOKUP_TIMEOUT_S))
        return _Listing(config.parent.with_name(commit), commit, files)


def _wanted_files(name: str, files: dict[str, int], *, with_code: bool) -> dict[str, int]:
    """Small files first: a snapshot whose last weights are cached is complete.

    Raises:
        UsageError: there are no weights that load without running code.
    """
    weights = [INDEX, *filter(_SHARD.fullmatch, files)] if INDEX in files else [WHOLE]
    if not all(file in files for file in weights):
        if "adapter_config.json" not in files:
            raise _no_safetensors(name, files)
        weights = []
    small = [f for f in files if _SMALL_FILE.fullmatch(f) or (with_code and f.endswith(".py"))]
    return {file: files[file] for file in [*sorted(small), *sorted(weights, reverse=True)]}


def _download_files(
    name: str, commit: str, missing: dict[str, int], pulse: Pulse, retry: RetryPolicy
) -> None:
    def download(_: int, put_total: Callable[[int], None]) -> None:
        before = 0
        for file, num_bytes in missing.items():
            bar = _progress_bar(lambda n, before=before: put_total(before + n))
            with _hub_errors(name):
                _hub().hf_hub_download(name, file, revision=commit, tqdm_class=bar)
            before += num_bytes
            put_total(before)

    with pulse.phase(Phase.DOWNLOADING_MODEL, total=sum(missing.values()), unit="bytes"):
        totals = retrying(download, name=name, host=host(), pulse=pulse, retry=retry)
        for num_bytes in totals:
            pulse.progress(num_bytes)


def _progress_bar(report: Callable[[int], None]) -> type:
    """A progress bar class for the library that reports the bytes of a file instead."""
    from tqdm import tqdm

    class Bar(tqdm):  # pyright: ignore[reportMissingTypeArgument]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            report(int(self.n))

    return Bar


def _hub() -> Any:
    import huggingface_hub
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its warnings contain URLs, which may be signed
    return huggingface_hub


# ---- the cache -------------------------------------------------------------------------------


def _is_cached(name: str, file: str, listing: _Listing) -> bool:
    return isinstance(_hub().try_to_load_from_cache(name, file, revision=listing.commit), str)


def _cached_snapshot(name: str) -> Path | None:
    """The newest snapshot in the cache, if it is complete: weights are downloaded last."""
    config = _hub().try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    with contextlib.suppress(ValueError):
        files = weight_files(folder)
        return folder if files and all(file.exists() for file in files) else None
    return None


def _check_disk(name: str, num_bytes: int, listing: _Listing) -> None:
    folder = next(parent for parent in listing.folder.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise MachineError(
            f"the model {name} does not fit on this disk",
            cause=Cause.DISK_FULL,
            have=f"{size(free)} free in {folder}",
            need=size(num_bytes),
            remedies=(Remedy("export HF_HOME=DIR", "a cache on a larger disk"),),
        )


# ---- errors ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _hub_errors(name: str) -> Generator[None]:
    """Raise the library's errors as `TransientError` or as a refusal."""
    try:
        yield
    except (Refusal, TransientError, Abandoned):
        raise
    except Exception as error:
        translated = translate_hub_error(error, "model", name)
        if isinstance(translated, Refusal) and translated.cause is Cause.MODEL_NOT_FOUND:
            translated = translate_hub_error(error, "model", name, _similar_models(name))
        if translated is error:
            raise
        raise translated from error


def _similar_models(name: str) -> tuple[str, ...]:
    with contextlib.suppress(Exception):  # optional: the refusal is complete without it
        found = _hub().HfApi().list_models(search=name.partition("/")[2], limit=3)
        return tuple(f"--model {one.id}" for one in found)
    return ()


def _no_safetensors(name: str, files: Iterable[str]) -> UsageError:
    pickles = sorted(file for file in files if _PICKLE.search(file))
    have = f"{pickles[0]}, which can run code when it is loaded" if pickles else "none of these"
    return UsageError(
        f"the model {name} has no safetensors",
        cause=Cause.WEIGHTS_PICKLED if pickles else Cause.WEIGHTS_MISSING,
        have=have,
        need="config.json and model.safetensors, or its shards with their index",
        remedies=(Remedy("--preset mini", "train a model from scratch"),),
    )
