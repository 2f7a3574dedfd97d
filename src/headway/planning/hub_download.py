"""A model by the hub's id: fetched into the ordinary cache, and only what a trainer may load."""

import contextlib
import re
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.base.errors import Cause, ComeBack, MachineError, Refusal, Remedy, UsageError
from headway.base.hub import host, translate_hub_error, unreachable
from headway.base.pulse import Phase, Pulse
from headway.base.retry import Abandoned, RetryPolicy, TransientError, retry_call, retrying
from headway.base.units import size
from headway.model.safetensors_index import INDEX, WHOLE, weight_files

LOOKUP_RETRY = RetryPolicy(max_attempts=3)
# The library goes on at the byte where it was cut, some times by itself. A call of it that hangs
# holds a lock that the next one would wait for.
DOWNLOAD_RETRY = RetryPolicy(max_attempts=4, stall_timeout_s=120.0, retry_stalls=False)
_ASKING_S = 10.0
_PIECE_BYTES = 1 << 18
_SMALL = re.compile(
    r"(adapter_)?config\.json|generation_config\.json|tokenizer(_config)?\.json|tokenizer\.model"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.\w+"
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True)
class Fetched:
    """A model on this machine.

    Attributes:
        folder: with config.json, tokenizer and weights.
        commit: of the hub's repository.
    """

    folder: Path
    commit: str


def fetch(
    name: str,
    pulse: Pulse,
    *,
    with_code: bool = False,
    asking: RetryPolicy = LOOKUP_RETRY,
    fetching: RetryPolicy = DOWNLOAD_RETRY,
) -> Fetched:
    """Bring a model here, or find it in the cache where the hub does not answer.

    Args:
        name: owner/name.
        pulse: told how many bytes have arrived, and of every wait.
        with_code: also the Python files beside the weights.
        asking: retry with the questions.
        fetching: retry with the files.

    Raises:
        UsageError: there is no such model, it is not open, or it is nothing we load.
        MachineError: the disk is too small for it.
        ComeBack: the hub does not answer and the cache does not have all of it.
    """
    with pulse.phase(Phase.LOOKING_UP_MODEL):
        try:
            listed = retry_call(
                lambda: _listed(name), name=name, host=host(), pulse=pulse, retry=asking
            )
        except ComeBack as refusal:
            folder = _cached(name)
            if folder is None and refusal.cause is Cause.OFFLINE:
                raise
            if folder is None:
                raise unreachable("model", name, refusal.have) from refusal
            return Fetched(folder, folder.name)
    wanted = _wanted(name, listed.files, with_code=with_code)
    missing = {file: num for file, num in wanted.items() if not _is_cached(name, file, listed)}
    if missing:
        _check_room(name, sum(missing.values()), listed)
        _download(name, listed.commit, missing, pulse, fetching)
    return Fetched(listed.folder, listed.commit)


@dataclass(frozen=True)
class _Listed:
    folder: Path
    commit: str
    files: dict[str, int]  # and their bytes, of the upper level


def _listed(name: str) -> _Listed:
    """What the hub has; config.json is fetched on the way, which notes the newest commit."""
    with _told(name):
        api = _hub().HfApi()
        info = api.model_info(name, timeout=_ASKING_S, files_metadata=True)
        files = {s.rfilename: s.size or 0 for s in info.siblings or () if "/" not in s.rfilename}
        commit = str(info.sha)
        if "config.json" not in files:
            raise _not_loadable(name, files)
        config = Path(api.hf_hub_download(name, "config.json", etag_timeout=_ASKING_S))
        return _Listed(config.parent.with_name(commit), commit, files)


def _wanted(name: str, files: dict[str, int], *, with_code: bool) -> dict[str, int]:
    """The small files first, so that with the last weights all is there.

    Raises:
        UsageError: there are no weights that are loaded without running code.
    """
    weights = [INDEX, *filter(_SHARD.fullmatch, files)] if INDEX in files else [WHOLE]
    if not all(file in files for file in weights):
        if "adapter_config.json" not in files:
            raise _not_loadable(name, files)
        weights = []
    small = [f for f in files if _SMALL.fullmatch(f) or (with_code and f.endswith(".py"))]
    return {file: files[file] for file in [*sorted(small), *sorted(weights, reverse=True)]}


def _download(
    name: str, commit: str, missing: dict[str, int], pulse: Pulse, fetching: RetryPolicy
) -> None:
    def work(_: int, put: Callable[[int], None]) -> None:
        before = 0
        for file, num_bytes in missing.items():
            with _told(name):
                bar = _bar(lambda n, before=before: put(before + n))
                _hub().hf_hub_download(name, file, revision=commit, tqdm_class=bar)
            before += num_bytes
            put(before)

    with pulse.phase(Phase.DOWNLOADING_MODEL, total=sum(missing.values()), unit="bytes"):
        arrived = retrying(work, name=name, host=host(), pulse=pulse, retry=fetching)
        for num_bytes in arrived:
            pulse.progress(num_bytes)


def _bar(tell: Callable[[int], None]) -> type:
    """What the library takes for a progress bar: it tells how many bytes of a file are here."""
    from tqdm import tqdm

    class Bar(tqdm):  # pyright: ignore[reportMissingTypeArgument]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            tell(int(self.n))

    return Bar


def _hub() -> Any:
    import huggingface_hub
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its warnings hold addresses, which may be signed
    # Of its own pieces of 10 MB a slow line brings none for minutes, and a cut one is lost.
    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = _PIECE_BYTES
    return huggingface_hub


def _is_cached(name: str, file: str, listed: _Listed) -> bool:
    return isinstance(_hub().try_to_load_from_cache(name, file, revision=listed.commit), str)


def _cached(name: str) -> Path | None:
    """The newest snapshot of the cache, where it is whole: the weights come last."""
    config = _hub().try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    with contextlib.suppress(ValueError):
        files = weight_files(folder)
        return folder if files and all(file.exists() for file in files) else None
    return None


@contextlib.contextmanager
def _told(name: str) -> Generator[None]:
    """The library's errors as `TransientError` or as a refusal."""
    try:
        yield
    except (Refusal, TransientError, Abandoned):
        raise
    except Exception as error:
        translated = translate_hub_error(error, "model", name)
        if isinstance(translated, Refusal) and translated.cause is Cause.MODEL_NOT_FOUND:
            translated = translate_hub_error(error, "model", name, _near(name))
        if translated is error:
            raise
        raise translated from error


def _near(name: str) -> tuple[str, ...]:
    """Models with a name like it."""
    with contextlib.suppress(Exception):  # a courtesy: the refusal stands without it
        found = _hub().HfApi().list_models(search=name.partition("/")[2], limit=3)
        return tuple(f"--model {one.id}" for one in found)
    return ()


def _check_room(name: str, need_bytes: int, listed: _Listed) -> None:
    place = next(p for p in listed.folder.parents if p.exists())
    free = shutil.disk_usage(place).free
    if free < need_bytes:
        raise MachineError(
            f"the model {name} does not fit on this disk",
            have=f"{size(free)} free in {place}",
            need=size(need_bytes),
            remedies=(Remedy("export HF_HOME=DIR", "a cache on a larger disk"),),
        )


def _not_loadable(name: str, files: Iterable[str]) -> UsageError:
    pickled = sorted(f for f in files if re.search(r"\.(bin|pt|pth|ckpt|pkl)$", f))
    have = f"{pickled[0]}, which can run code when it is read" if pickled else "none of these"
    return UsageError(
        f"the model {name} has nothing that is loaded here",
        have=have,
        need="config.json and model.safetensors, or its shards with their index",
        remedies=(Remedy("--preset mini", "a model from nothing"),),
    )
