"""Bundle: everything about a stall in one file, fit for a bug report, without secrets."""

import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.files import unused_path, write_whole
from headway.diagnose.redaction import hide_secrets

_ARCHIVES = (".tar.gz", ".tgz")
_TEXTS = (".txt", ".log", ".md")
_RULE = "=" * 72


def check_name(path: Path) -> None:
    """Check that a bundle can have this name, before anything is looked at.

    Raises:
        UsageError: the name ends in nothing that is known, or the file exists.
    """
    if not path.name.endswith((*_ARCHIVES, *_TEXTS)):
        raise UsageError(
            f"--bundle {path}: not a kind of file that a bundle can be",
            cause=Cause.INVALID_VALUE,
            have=path.name,
            need="a name that ends in .tar.gz, or in .txt",
            remedies=(Remedy(f"--bundle {path.stem or 'bundle'}.tar.gz"),),
        )
    if path.exists():
        suffix = next(one for one in (*_ARCHIVES, *_TEXTS) if path.name.endswith(one))
        raise UsageError(
            f"--bundle {path}: the file exists",
            cause=Cause.INVALID_VALUE,
            have=str(path),
            need="the name of a new file",
            remedies=(Remedy(f"--bundle {unused_path(path, suffix)}"),),
        )


def write_bundle(path: Path, parts: Mapping[str, str]) -> int:
    """Write a bundle; secrets in the parts are left out.

    Args:
        path: .tar.gz for an archive, .txt for one text.
        parts: texts by the names of their files.

    Returns:
        Its size in bytes.

    Raises:
        MachineError: it cannot be written.
    """
    shown = {name: hide_secrets(text) for name, text in parts.items()}
    data = _archive(path, shown) if path.name.endswith(_ARCHIVES) else _text(shown)
    write_whole(path, data)
    return len(data)


def _archive(path: Path, parts: Mapping[str, str]) -> bytes:
    folder = path.name.removesuffix(".tar.gz").removesuffix(".tgz")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in parts.items():
            data = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime = len(data), int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _text(parts: Mapping[str, str]) -> bytes:
    texts = (f"{_RULE}\n{name}\n{_RULE}\n{text.rstrip()}\n\n" for name, text in parts.items())
    return "".join(texts).encode(errors="replace")
