"""Base model of adapters: where it is now, found by its weights' hash if it was moved."""

from collections.abc import Iterator
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.files import cached_hash
from headway.model.model_config import read_object
from headway.model.safetensors_index import weight_files
from headway.runs.folder import RunFolder, is_run

ADAPTERS = "adapter_config.json"
_LONGEST_CHAIN = 10_000  # runs that continue each other


def weights_hash(path: Path) -> str:
    """One hash over a folder's weight files; the hash of an unchanged file is cached."""
    return joined_hash([cached_hash(file).sha256 for file in weight_files(path)])


def joined_hash(hashes: list[str]) -> str:
    """The hash of several files, from their own."""
    return hashes[0] if len(hashes) == 1 else "+".join(h[:16] for h in hashes)


def find_base_model(adapters: Path, given: Path | None = None) -> Path:
    """The folder of the model that a checkpoint's adapters belong to.

    It is where it was, where a person says that it is, or beside the run as it was before both were
    moved. A folder in another place than the recorded one counts only if its weights are the same.

    Args:
        adapters: a checkpoint folder.
        given: where a person says that it is.

    Raises:
        UsageError: it is not there, or is another model.
    """
    recorded = Path(str(read_object(adapters / ADAPTERS)["base_model_name_or_path"]))
    expected = expected_hash(adapters)
    if given is not None:
        found = weights_hash(given) if given.is_dir() and weight_files(given) else ""
        if not found or (expected and found != expected):
            raise _another_model(adapters, recorded, expected, given, found)
        return given.resolve()
    if recorded.is_dir():
        return recorded
    for path in _moved_along(adapters, recorded):
        if expected and weight_files(path) and weights_hash(path) == expected:
            return path
    raise _missing(adapters, recorded, expected)


def _moved_along(adapters: Path, recorded: Path) -> Iterator[Path]:
    """Folders with the end of the recorded path, next to the folders that the adapters are in."""
    parts = recorded.parts
    for above in adapters.resolve().parents:
        for begin in range(1, len(parts)):
            path = above.joinpath(*parts[begin:])
            if path.is_dir():
                yield path


def expected_hash(adapters: Path) -> str:
    """The hash of the base model's weights, by the first run that trained on it; "" if unknown."""
    run = RunFolder(adapters.resolve().parent)
    for _ in range(_LONGEST_CHAIN):
        plan = run.plan()
        if plan is None:
            return ""
        parent = plan.model.parent
        before = _run_of(parent.run, run) if parent else None
        if before is None or not (before.model / ADAPTERS).is_file():
            return plan.model.weights_sha256  # of the first run: its model is the base
        run = before
    return ""


def _run_of(recorded: str, child: RunFolder) -> RunFolder | None:
    """A run where it was, or next to the one that continues it, if both were moved."""
    for path in (Path(recorded), child.path.parent / Path(recorded).name):
        if is_run(path):
            return RunFolder(path)
    return None


def _wanted(recorded: Path, expected: str) -> str:
    return f"{recorded.name}, weights {expected[:12]}" if expected else str(recorded)


def _missing(adapters: Path, recorded: Path, expected: str) -> UsageError:
    return UsageError(
        f"the base model of {adapters.name} is missing",
        cause=Cause.MODEL_NOT_FOUND,
        have=f"adapters for {recorded}" + (f", weights {expected[:12]}" if expected else ""),
        need="that folder in its place, or where it is now",
        remedies=(
            Remedy("--model DIR", f"the folder of {recorded.name}, wherever it is: known by hash"),
        ),
    )


def _another_model(
    adapters: Path, recorded: Path, expected: str, given: Path, found: str
) -> UsageError:
    files = ", ".join(path.name for path in weight_files(given)[:3]) if given.is_dir() else ""
    return UsageError(
        f"{given} is not the base model of {adapters.name}",
        cause=Cause.MODEL_INVALID,
        have=f"{files}, weights {found[:12]}" if found else "no weights there",
        need=_wanted(recorded, expected),
        remedies=(Remedy("--model DIR", "the folder with the weights that it was trained on"),),
    )
