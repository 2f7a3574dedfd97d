"""Hugging Face Hub datasets, streamed row by row by the `datasets` library."""

import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from headway.base.errors import Cause, DataRefused, Refusal, Remedy, UsageError
from headway.base.foreign.answers import whole_number
from headway.base.network.hub import host, is_id, translate_hub_error
from headway.base.network.retry import (
    DEFAULT_RETRY,
    Abandoned,
    RetryPolicy,
    TransientError,
    retry_call,
    retrying,
)
from headway.base.pulse import Pulse
from headway.base.units import count, plural
from headway.data.sources.source import Source

LOOKUP_RETRY = RetryPolicy(max_attempts=3)
_LISTING_S = 3600.0  # of any number of requests, each with its own timeout
Row = dict[str, Any]
_LOOKUP_TIMEOUT_S = 10.0
_WHOLE_BYTES = 64_000_000  # the default of survey_exact: smaller data is read completely


@dataclass(frozen=True)
class _Dataset:
    """A dataset opened by the library: its splits, and the files of each split, by name."""

    splits: Any
    files: dict[str, list[str]]


@dataclass(frozen=True)
class _Address:
    """hf://OWNER/NAME[/CONFIG][@SPLIT][#SHARD/SHARDS]."""

    id: str
    config: str | None
    split: str | None
    shard: int = 0  # counted from 1; 0: all shards
    shards: int = 0

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        split = f"@{self.split}" if self.split else ""
        shard = f"#{self.shard}/{self.shards}" if self.shard else ""
        return f"hf://{self.id}{config}{split}{shard}"


def find(address: str, pulse: Pulse, retry: RetryPolicy = LOOKUP_RETRY) -> list[Source]:
    """The shards of a dataset in its own order, pinned to the newest commit.

    Args:
        address: hf://OWNER/NAME[/CONFIG][@SPLIT]; the default split is `train`.
        pulse: shows every wait.
        retry: for requests to the Hub.

    Raises:
        UsageError: no such dataset, configuration or split; no access; `datasets` is missing.
        ComeBack: the Hub does not respond.
    """
    named = _parse_address(address)
    place = host()

    def look() -> list[Source]:
        with _translate_errors(named):
            about = _api().dataset_info(named.id, timeout=_LOOKUP_TIMEOUT_S, files_metadata=True)
        with _translate_errors(named, exists=True):
            commit = str(about.sha)
            opened = _open(named.id, named.config, commit)
            whole = _with_split(named, opened.splits)
            split = whole.split or ""
            num = int(opened.splits[split].num_shards)
        stored = {file.rfilename: whole_number(file.size) or 0 for file in about.siblings or ()}
        sizes = _sizes([str(file) for file in opened.files.get(split, ())], stored, num)
        return [_source(whole, n + 1, num, commit, sizes[n]) for n in range(num)]

    _require_datasets()
    patient = replace(retry, stall_timeout_s=_LISTING_S)
    return retry_call(look, name=str(named), host=place, pulse=pulse, retry=patient)


def rows(
    source: Source, pulse: Pulse, skip: int = 0, retry: RetryPolicy = DEFAULT_RETRY
) -> Iterator[Row]:
    """The rows of a shard in its own order.

    Args:
        source: from `find`.
        pulse: shows every wait.
        skip: rows to skip at the start.
        retry: for requests to the Hub.

    Raises:
        ComeBack: the Hub does not respond.
        DataRefused: a row cannot be read.
    """
    named = _parse_address(source.address)
    commit = str(source.stamp[0])

    def work(at: int, put: Callable[[Row], None]) -> None:
        number = at
        with _translate_errors(named, lambda: number + 1, exists=True):
            data = _open(named.id, named.config, commit).splits[named.split or ""]
            if named.shard:
                data = data.shard(num_shards=named.shards, index=named.shard - 1)
            for row in data.skip(at) if at else data:
                put(row)
                number += 1

    return retrying(work, name=source.name, host=host(), pulse=pulse, offset=skip, retry=retry)


def _source(whole: _Address, number: int, num: int, commit: str, num_bytes: int) -> Source:
    shard = _Address(whole.id, whole.config, whole.split, number, num) if num > 1 else whole
    return Source(str(shard), None, num_bytes, stamp=(commit,), address=str(shard))


def _sizes(files: list[str], stored: dict[str, int], num_shards: int) -> list[int]:
    """Stored bytes of each shard, or zeros where they would not predict the amount of data.

    Large datasets are compressed, so the bytes of some shards do not tell the number of rows.
    """
    names = [re.sub(r"^hf://datasets/[^/]+/[^/]+/", "", file) for file in files]
    sizes = [stored.get(name, 0) for name in names]
    if len(sizes) == num_shards and all(sizes) and sum(sizes) <= _WHOLE_BYTES:
        return sizes
    return [0] * num_shards


def _parse_address(address: str) -> _Address:
    said = re.fullmatch(
        r"(?:hf://)?(?:datasets/)?([^/@#]+/[^/@#]+)(?:/([^@#]+))?(?:@([^#]+))?(?:#(\d+)/(\d+))?",
        address,
    )
    if not said or not is_id(said[1]):
        raise UsageError(
            f"{address} is not a valid dataset address",
            cause=Cause.ADDRESS_INVALID,
            have="no OWNER/NAME after hf://",
            need="hf://OWNER/NAME, then /CONFIG and @SPLIT if it has several",
            remedies=(Remedy("hf datasets ls --search WORD", "searches the Hub"),),
        )
    return _Address(said[1], said[2], said[3], int(said[4] or 0), int(said[5] or 0))


def _with_split(named: _Address, splits: Iterable[str]) -> _Address:
    """The address with a split: the one given, `train`, or the only one."""
    there = list(splits)
    split = named.split or ("train" if "train" in there or len(there) > 1 else there[0])
    if split in there:
        return _Address(named.id, named.config, split)
    config = f"/{named.config}" if named.config else ""
    return _raise_no_such_split(
        f"{named} has no split {split}" if named.split else f"{named} has no split train",
        plural(len(there), "split") + ": " + ", ".join(there[:8]),
        [f"hf://{named.id}{config}@{one}" for one in there],
    )


def _raise_no_such_split(what: str, have: str, lines: list[str]) -> Any:
    raise UsageError(
        what,
        cause=Cause.SOURCE_NOT_FOUND,
        have=have,
        need="one of these",
        remedies=tuple(Remedy(line) for line in lines[:3]),
    )


# ---- the libraries -------------------------------------------------------------------------------


def _require_datasets() -> None:
    from importlib.util import find_spec

    if find_spec("datasets") is None:
        raise UsageError(
            "Hub datasets need a package that is not installed",
            cause=Cause.MISSING_PACKAGE,
            have="no datasets",
            need="headway[hub]",
            remedies=(Remedy("pip install 'headway[hub]'", "datasets and its dependencies"),),
        )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


@functools.lru_cache(maxsize=8)
def _open(name: str, config: str | None, commit: str) -> _Dataset:
    """Open a dataset for streaming, without reading any rows."""
    import datasets
    from huggingface_hub.utils import logging

    datasets.disable_progress_bars()
    # The libraries' warnings contain addresses, which may be signed.
    datasets.logging.set_verbosity_error()
    logging.set_verbosity_error()
    # Retries are counted and shown in one place: base/network/retry.py. For streams the library has
    # no other switch: it reads neither its DownloadConfig nor the environment for these limits.
    limits: Any = importlib.import_module("datasets.config")
    for action in ("READ", "OPEN"):
        setattr(limits, f"STREAMING_{action}_MAX_RETRIES", 1)
        setattr(limits, f"STREAMING_{action}_RETRY_INTERVAL", 0)
    limits.STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL = 0
    limits.STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL = 0
    builder = datasets.load_dataset_builder(name, config, revision=commit)
    return _Dataset(builder.as_streaming_dataset(), dict(builder.config.data_files or {}))


@contextlib.contextmanager
def _translate_errors(
    named: _Address, row: Callable[[], int] | None = None, *, exists: bool = False
) -> Generator[None]:
    """Translate the libraries' errors into `TransientError` or a refusal.

    Args:
        named: the dataset.
        row: returns the number of the current row while rows are read.
        exists: the Hub has said that the dataset exists.
    """
    try:
        yield
    except (Refusal, TransientError, Abandoned):
        raise
    except Exception as error:
        translated = translate_hub_error(error, "dataset", named.id, exists=exists)
        if isinstance(translated, Refusal) and translated.cause is Cause.SOURCE_NOT_FOUND:
            translated = translate_hub_error(
                error, "dataset", named.id, _similar_datasets(named.id)
            )
        if isinstance(translated, Refusal | TransientError):
            raise translated from error
        if row is None and isinstance(error, ValueError):
            # `datasets` has no type of its own for an unknown or missing configuration
            names = _configurations(named.id)
            if named.config not in names if named.config else len(names) > 1:
                raise _no_configuration(named, names) from error
        raise _unreadable(named, error, row() if row else 0) from error


def _similar_datasets(name: str) -> tuple[str, ...]:
    """Datasets with a similar name."""
    with contextlib.suppress(Exception):  # a suggestion only: the refusal is complete without it
        found = _api().list_datasets(search=name.partition("/")[2], limit=3)
        return tuple(f"hf://{one.id}" for one in found)
    return ()


def _configurations(name: str) -> list[str]:
    from datasets import get_dataset_config_names

    with contextlib.suppress(Exception):  # the first error is the one to report
        return list(get_dataset_config_names(name))
    return []


def _no_configuration(named: _Address, names: list[str]) -> UsageError:
    split = f"@{named.split}" if named.split else ""
    return UsageError(
        f"hf://{named.id} has no configuration {named.config}"
        if named.config
        else f"hf://{named.id} has several configurations",
        cause=Cause.SOURCE_NOT_FOUND,
        have=", ".join(names[:8]) + (", ..." if len(names) > 8 else ""),
        need="one of them",
        remedies=tuple(Remedy(f"hf://{named.id}/{one}{split}") for one in names[:3]),
    )


def _unreadable(named: _Address, error: Exception, row: int) -> DataRefused:
    words = re.sub(r"\S+://\S+", "...", str(error).partition("\n")[0])[:200]
    return DataRefused(
        f"cannot read {named}" + (f" at row {count(row)}" if row else ""),
        cause=Cause.SOURCE_UNREADABLE,
        have=f"{type(error).__name__}: {words}",
        need="files that the datasets library can stream",
        remedies=(
            Remedy(
                f"hf download {named.id} --repo-type dataset --local-dir data",
                "then train its files",
            ),
        ),
    )
